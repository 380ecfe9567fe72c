"""A direction for each example: 359 degrees and 1 degree are 2 apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import Encoded
from crucible.data.objects import Objects
from crucible.data.readers.source import Array, Source
from crucible.errors import Refusal
from crucible.labels.kind import Kind, Mistake, Predictions, table_of


def apart(one: Any, other: Any) -> Any:
    """Return how many degrees lie between directions, 180 at most."""
    return abs((one - other + 180) % 360 - 180)


class Directions(Kind):
    """Degrees (N,) from 0 to 360."""

    name = "directions"
    is_rate = False
    has_classes = False

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the degrees; a stratified split keeps the quarters of the compass alike."""
        degrees = {pool: each.labels.astype(np.float64) for pool, each in source.pools.items()}
        if wrong := [value for values in degrees.values() for value in values.tolist() if not 0 <= value < 360]:
            raise Refusal("the labels", f"{wrong[0]} is no direction", allowed="degrees, 0 <= x < 360")
        return Encoded([], degrees, {pool: (values // 90).astype(int) for pool, values in degrees.items()})

    def facts(self, found: Mapping[str, Objects], train: Array, labels: Array, shape: Sequence[int]) -> dict[str, Any]:
        """Return the mean direction of train, as a point (x, y)."""
        points = np.exp(1j * np.deg2rad(labels[train])) if train.any() else np.ones(1)
        return {"facts": {"mean": [float(points.mean().real), float(points.mean().imag)]}}

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor, str]:
        """Always the mean direction."""
        return torch.tensor(card.facts["mean"]), "always the mean direction of train"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[float, dict[str, float]]]:
        """Return the degrees."""
        return [(float(row[0]), {}) for row in answers]

    def in_words(self, predicted: float) -> str:
        """Return them with their quarter."""
        return f"{predicted:.1f} ({'NESW'[round(predicted / 90) % 4]})"

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return predictions.csv: direction and prediction."""
        pairs = zip(found.label.tolist(), found.predicted.tolist(), strict=True)
        return table_of(found, ["label", "predicted"], [[repr(y), f"{p:.6g}"] for y, p in pairs])

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the directions that are the farthest off."""
        off = apart(found.label, found.predicted).numpy()
        return [Mistake(row, f"{off[row]:.0f} degrees off", "") for row in np.argsort(-off)[:3].tolist()]
