"""One box in a picture measured: is it the right class, and how far does it overlap."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crucible.boxes import MATCHED, iou
from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator


class LocalizationMetrics(Accumulator):
    """Predictions for each picture, accumulated on the device and read once.

    Args:
        num_classes: K. loss: outputs and batch to their mean loss (). find: outputs to the predicted box (B, 1, 6).
        score: from which an object is predicted to be there.
        within: predicted boxes (B, 1, 6) and their batch to the boxes within each picture; the stored picture is all of it.
    """

    NAMES = ("loss", "error", "accuracy", "mean_iou")

    def __init__(
        self,
        num_classes: int,
        loss: Callable[[Any, Batch], Tensor],
        find: Callable[[Any], Tensor],
        *,
        score: float,
        within: Callable[[Tensor, Batch], Tensor] = lambda found, batch: found,
    ) -> None:
        self._within = within
        self._num_classes, self._loss, self._find, self._score = num_classes, loss, find, score
        self._open: list[tuple[Tensor, Batch]] = []
        self._rows: list[Tensor] = []
        self._total: Tensor | float = 0.0

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the outputs for a batch with `boxes` (B, 1, 4) and `label` (B, 1)."""
        self._open.append((self._find(outputs), {name: value for name, value in batch.items() if name != "x"}))
        self._total = self._total + self._loss(outputs, batch).double() * len(batch["label"])

    def _settled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return label, predicted and overlap (N,) of everything taken in, on the host; this alone reads the device."""
        for answer, batch in self._open:
            found, label = self._within(answer, batch)[:, 0], batch["label"][:, 0]
            label = torch.where(label >= 0, label, self._num_classes)
            predicted = torch.where(found[:, 4] >= self._score, found[:, 5].long(), self._num_classes)
            overlap = iou(found[:, :4], batch["boxes"][:, 0].to(found.dtype))
            self._rows.append(torch.stack([label.double(), predicted.double(), overlap.double()]).cpu())
        self._open.clear()
        label, predicted, overlap = torch.cat(self._rows, dim=1)
        return label, predicted, overlap

    def matrix(self) -> Tensor:
        """Return the counts (K + 1, K + 1): rows are labels, columns what was predicted; the last is background."""
        return self._counts(torch.ones(0))

    def mistakes(self) -> Tensor:
        """Return the counts (K + 1, K + 1) of what was wrong: another class, or the right one in the wrong place."""
        label, predicted, overlap = self._settled()
        return self._counts(((label != predicted) | ((label < self._num_classes) & (overlap < MATCHED))).double())

    def compute(self) -> dict[str, float]:
        """Return loss; error, the share without the right class at IoU 0.5; accuracy of the class, none is one too; mean_iou.

        mean_iou is over the pictures that hold an object.
        """
        if not self._open and not self._rows:
            return {}
        label, predicted, overlap = self._settled()
        there = label < self._num_classes
        right = label == predicted
        wrong = ~right | (there & (overlap < MATCHED))
        mean = float(overlap[there].mean()) if bool(there.any()) else 0.0
        numbers = (float(self._total) / len(label), float(wrong.double().mean()), float(right.double().mean()), mean)
        return dict(zip(self.NAMES, numbers, strict=True))

    def _counts(self, mass: Tensor) -> Tensor:
        label, predicted, _ = self._settled()
        k = self._num_classes + 1
        weights = mass if len(mass) else torch.ones_like(label)
        return torch.bincount((label * k + predicted).long(), weights, minlength=k * k).view(k, k)
