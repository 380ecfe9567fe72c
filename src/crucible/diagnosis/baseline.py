"""What an answer that never looks at the example would reach: the least that a network must beat."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from crucible.data.batches import Batches
from crucible.data.card import Card

SURE = 20.0  # a logit


def trivial_error(task: Any, card: Card, batches: Batches, split: str) -> float:
    """Return the error of always giving the same answer on a split: the one that suits train best."""
    if task.targets == "boxes" and not task.single:
        return 1.0  # no box is ever found
    y = batches.arrays(split)[1]
    row, _ = _constant(task, card)
    metrics = task.metrics()
    metrics.update(row.to(y.device).expand(len(y), -1), {"label": y, **batches.further(split)})
    return float(metrics.compute()["error"])


def trivial_name(task: Any, card: Card) -> str:
    """Return what that answer is called."""
    if task.targets == "boxes":
        return "nothing is ever found"
    return _constant(task, card)[1]


def _constant(task: Any, card: Card) -> tuple[Tensor, str]:
    """Return the outputs (num_outputs,) of the answer, and its name."""
    counts = torch.tensor(card.splits["train"]["class_counts"])
    if task.targets == "classes":
        most = int(counts.argmax())
        row = (
            F.one_hot(torch.tensor(most), len(counts)).double()
            if task.num_outputs > 1
            else torch.tensor([2.0 * most - 1])
        )
        return SURE * row, f"always {card.classes[most]!r}"
    if task.targets == "flags":
        known = torch.tensor(card.splits["train"]["known"])
        return SURE * torch.where(2 * counts > known, 1.0, -1.0), "always the more frequent answer"
    if task.targets == "boxes":
        return torch.full((task.num_outputs,), -SURE), "nothing is ever found"
    row = torch.zeros(task.num_outputs)  # numbers and points are learned as deviations from their mean on train
    if task.targets == "points":
        row[0] = SURE
    return row, "always the mean of train" if task.targets == "numbers" else "always the mean points of train"
