"""Classification measured from the confusion matrix, accumulated on the device and read once."""

from collections.abc import Callable

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator, ratio


class ConfusionMatrix(Accumulator):
    """Counts of (label, predicted), and the mean loss.

    Args:
        num_classes: K; with two classes precision, recall and F1 are those of class 1, with more their macro averages over the
            classes that have examples.
        loss: outputs (B, ...) and labels (B,) to their mean loss ().
        predict: outputs to classes (B,).
    """

    NAMES = ("loss", "error", "accuracy", "precision", "recall", "f1")

    def __init__(
        self, num_classes: int, loss: Callable[[Tensor, Tensor], Tensor], predict: Callable[[Tensor], Tensor]
    ) -> None:
        self.num_classes, self._loss, self._predict = num_classes, loss, predict
        self._counts: Tensor | float = 0.0
        self._total: Tensor | float = 0.0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `label` (B,)."""
        k, label = self.num_classes, batch["label"]
        self._counts = self._counts + torch.bincount(label * k + self._predict(outputs), minlength=k * k).double()
        self._total = self._total + self._loss(outputs, label).double() * len(label)

    def matrix(self) -> Tensor:
        """Return the counts (K, K): rows are labels, columns predictions."""
        return torch.as_tensor(self._counts).view(self.num_classes, self.num_classes).cpu()

    def absent(self) -> list[int]:
        """Return the classes without an example."""
        return (self.matrix().sum(1) == 0).nonzero()[:, 0].tolist()

    def compute(self) -> dict[str, float]:
        """Return loss, error, accuracy, precision, recall, f1; a ratio over nothing is 0; without examples nothing."""
        if isinstance(self._counts, float):
            return {}
        counts = self.matrix()
        hits, labels, predictions = counts.diagonal(), counts.sum(1), counts.sum(0)
        chosen = torch.arange(self.num_classes) == 1 if self.num_classes == 2 else labels > 0
        ratios = (ratio(hits, predictions), ratio(hits, labels), ratio(2 * hits, labels + predictions))
        size = float(counts.sum())
        values = (float(self._total) / size, 1 - float(hits.sum()) / size, float(hits.sum()) / size)
        return dict(zip(self.NAMES, (*values, *(float(ratio[chosen].mean()) for ratio in ratios)), strict=True))
