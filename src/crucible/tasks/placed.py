"""What a run says about places in pictures, in the pixels of the pictures as they came."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.objects import frames, to_original
from crucible.data.readers.source import Array
from crucible.tasks.task import Batch

PLACES = ("boxes", "points")  # targets of the tasks that say where


def cut(found: Tensor, batch: Batch, card: Card) -> Tensor:
    """Return boxes found (B, D, 6) cut at the edges of their pictures: what predictions.json holds is what is measured.

    In a letterbox a picture ends before the stored one does; a batch that holds no `size` (B, 2) has stored ones only.
    """
    if "size" not in batch:
        return found
    own = frames(batch["size"].cpu().numpy(), card.feature_shape, card.recipe.get("resize", "stretch"))
    low = torch.from_numpy(own[:, 2:]).to(found)
    high = low + torch.from_numpy(own[:, :2]).to(found) * batch["size"].flip(1)
    corners = found[..., :4].unflatten(-1, (2, 2)).clamp(low[:, None, None], high[:, None, None])
    return torch.cat([corners.flatten(-2), found[..., 4:]], dim=-1)


def placed(answers: Array, sizes: Array, card: Card) -> list[Any]:
    """Return for each picture what predictions.json tells.

    Boxes (N, D, 6) become a list of {box: [x0, y0, x1, y1], score, class}, the highest score first; points (N, 1 + 2 P)
    become {score, points: [[x, y], ...]}.

    Args:
        answers: of the task, in stored pixels. sizes: (N, 2), height and width of the pictures as they came.
    """
    own = frames(sizes, card.feature_shape, card.recipe.get("resize", "stretch"))
    if card.recipe["targets"] == "points":
        points = to_original(answers[:, 1:].reshape(len(answers), -1, 2), own)
        return [
            {"score": _rounded(row[0], 6), "points": _listed(some)} for row, some in zip(answers, points, strict=True)
        ]
    corners = to_original(answers[..., :4].reshape(len(answers), -1, 2, 2), own)
    edge = sizes[:, None, None, ::-1]
    corners = np.clip(corners, 0, edge).reshape(*answers.shape[:2], 4)
    return [
        [
            {"box": _listed(box), "score": _rounded(row[4], 6), "class": card.classes[int(row[5])]}
            for box, row in zip(boxes, rows, strict=True)
            if row[4] > 0
        ]
        for boxes, rows in zip(corners, answers, strict=True)
    ]


def shown(said: Any, score: float) -> Any:
    """Return the boxes of one picture that are sure enough to be shown; points are where they are."""
    return [each for each in said if each["score"] >= score] if isinstance(said, list) else said


def _listed(values: Array) -> list[Any]:
    return np.round(values.astype(np.float64), 2).tolist()


def _rounded(value: Any, digits: int) -> float:
    return round(float(value), digits)


def counted(said: Any) -> str:
    """Return in words what was found in one picture: 3 RBC, 1 WBC."""
    if not isinstance(said, list):
        return f"{len(said['points'])} points ({said['score']:.2f})"
    names = sorted({each["class"] for each in said})
    return ", ".join(f"{sum(each['class'] == name for each in said)} {name}" for name in names) or "nothing"
