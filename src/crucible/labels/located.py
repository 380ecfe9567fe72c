"""What boxes and points have in common: they stand in pictures, and are written in the pixels of the pictures as they came."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.objects import frames, to_original
from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.labels.kind import Kind, Predictions


class Located(Kind):
    """A kind of label that says where something is."""

    where = True
    worst_picture = "worst.png"

    def require_images(self, shape: Sequence[int]) -> None:
        """Refuse examples that are no images.

        Raises:
            Refusal: with their shape.
        """
        if len(shape) != 3:
            raise Refusal("task", f"boxes and points stand in images, an example has shape {shape}")

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return what stands where."""
        return [(each, {}) for each in self.in_pixels(answers.numpy(), sizes, card)]

    @abstractmethod
    def in_pixels(self, answers: Array, sizes: Array, card: Card) -> list[Any]:
        """Return for each picture what predictions.json holds; answers (N, ...) are in stored pixels."""

    def stored(self, answers: Array, card: Card) -> list[Any]:
        """Return what answers say, in stored pixels."""
        return self.in_pixels(answers, np.tile(card.feature_shape[1:], (len(answers), 1)), card)

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return what was found in each picture, in the order of the prepared folder, and the names of the pictures."""
        rows = self.in_pixels(found.answers.numpy(), found.further["size"].cpu().numpy(), card)
        lines = [json.dumps(each, ensure_ascii=False) for each in rows]
        names = (
            {"predictions_names.json": json.dumps(found.names, indent=0, ensure_ascii=False) + "\n"}
            if found.names is not None
            else {}
        )
        return {**names, "predictions.json": "[\n" + ",\n".join(lines) + "\n]\n"}


def cut(found: Tensor, sizes: Tensor, card: Card) -> Tensor:
    """Return boxes found (B, D, 6) cut at the edges of their pictures: what predictions.json holds is what is measured.

    In a letterbox a picture ends before the stored one does.

    Args:
        sizes: (B, 2), height and width of the pictures as they came.
    """
    own = frames(sizes.cpu().numpy(), card.feature_shape, card.recipe.get("resize", "stretch"))
    low = torch.from_numpy(own[:, 2:]).to(found)
    high = low + torch.from_numpy(own[:, :2]).to(found) * sizes.flip(1)
    corners = found[..., :4].unflatten(-1, (2, 2)).clamp(low[:, None, None], high[:, None, None])
    return torch.cat([corners.flatten(-2), found[..., 4:]], dim=-1)


def in_original(points: Array, sizes: Array, card: Card) -> Array:
    """Return points (N, ..., 2) of stored pictures in the pixels of the pictures as they came."""
    return to_original(points, frames(sizes, card.feature_shape, card.recipe.get("resize", "stretch")))


def listed(values: Array) -> list[Any]:
    """Return coordinates as a file tells them: a hundredth of a pixel."""
    return list(np.round(values.astype(np.float64), 2).tolist())
