"""Classification measured from the confusion matrix, accumulated on the device and read once."""

from collections.abc import Callable

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator, ratio, tally


class ConfusionMatrix(Accumulator):
    """Counts of (label, predicted), and the mean loss.

    The error is the share of mistakes; with costs c_kj it is the sum of those of the mistakes, of what it could at most be: 0 where
    nothing is wrong, 1 where everything is as wrong as it can be (000, part 7, section 2: an error that prefers what you prefer).

    Args:
        num_classes: K; with two classes precision, recall and F1 are those of class 1, with more their macro averages over the
            classes that have examples.
        loss: outputs (B, ...) and labels (B,) to their mean loss ().
        predict: outputs to classes (B,).
        costs: (K, K) of a label (row) that is taken for another (column), 0 on the diagonal; None: each mistake costs 1.
    """

    NAMES = ("loss", "error", "accuracy", "precision", "recall", "f1")

    def __init__(
        self,
        num_classes: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        predict: Callable[[Tensor], Tensor],
        costs: Tensor | None = None,
    ) -> None:
        self.num_classes, self._loss, self._predict, self._costs = num_classes, loss, predict, costs
        self._counts: Tensor | float = 0.0
        self._total: Tensor | float = 0.0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `label` (B,)."""
        k, label = self.num_classes, batch["label"]
        self._counts = self._counts + tally(label * k + self._predict(outputs), k * k)
        self._total = self._total + self._loss(outputs, label).double() * len(label)

    def matrix(self) -> Tensor:
        """Return the counts (K, K): rows are labels, columns predictions."""
        return torch.as_tensor(self._counts).view(self.num_classes, self.num_classes).cpu()

    def mistakes(self) -> Tensor:
        """Return what the mistakes (K, K) of each kind add to the error, times the number of examples."""
        if self._costs is None:
            return super().mistakes()
        counts = self.matrix()
        return counts * self._costs * (float(counts.sum()) / self._most(counts))

    def evidence(self, size: int) -> tuple[int, float | None]:
        """Return the number of examples; with costs so many of equal weight as tell as much (Kish, 1965, section 11.7)."""
        if self._costs is None:
            return super().evidence(size)
        counts, weights = self.matrix().sum(dim=1), self._costs.amax(dim=1)
        return int(float((counts * weights).sum()) ** 2 / max(float((counts * weights**2).sum()), 1e-300)), None

    def _most(self, counts: Tensor) -> float:
        """Return what such labels could cost at most; 1 where none of them costs anything."""
        assert self._costs is not None
        return float((counts.sum(dim=1) * self._costs.amax(dim=1)).sum()) or 1.0

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
        error = 1 - float(hits.sum()) / size
        if self._costs is not None:
            error = float((counts * self._costs).sum()) / self._most(counts)
        values = (float(self._total) / size, error, float(hits.sum()) / size)
        return dict(zip(self.NAMES, (*values, *(float(ratio[chosen].mean()) for ratio in ratios)), strict=True))
