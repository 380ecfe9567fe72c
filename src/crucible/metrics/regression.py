"""Regression measured: sums accumulated on the device and read once."""

from collections.abc import Callable

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator


class RegressionMetrics(Accumulator):
    """Sums of squares of what is left over, and of the targets; both by group of label and of prediction.

    Args:
        loss: outputs (B, ...) and labels (B,) to their mean loss ().
        predict: outputs to answers (B,) in the labels' unit.
        group: values (B,) to their group (B,) in [0, num_groups).
        num_groups: G.
    """

    NAMES = ("loss", "error", "rmse", "r2")
    minimised = frozenset({"loss", "error", "rmse"})

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        predict: Callable[[Tensor], Tensor],
        group: Callable[[Tensor], Tensor],
        num_groups: int,
    ) -> None:
        self._loss, self._predict, self._group, self._num_groups = loss, predict, group, num_groups
        self._labels: list[Tensor] = []
        self._answers: list[Tensor] = []
        self._total: Tensor | float = 0.0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `label` (B,)."""
        self._labels.append(batch["label"].double())
        self._answers.append(self._predict(outputs).double())
        self._total = self._total + self._loss(outputs, batch["label"]).double() * len(batch["label"])

    def matrix(self) -> Tensor:
        """Return how often (G, G) a label of one group (row) got an answer of another (column)."""
        return self._by_group(torch.ones_like(torch.cat(self._labels)))

    def mistakes(self) -> Tensor:
        """Return the squared error (G, G) by group of label (row) and of answer (column)."""
        return self._by_group((torch.cat(self._answers) - torch.cat(self._labels)).pow(2))

    def evidence(self, size: int) -> tuple[int, float]:
        """Return the number of examples and the standard error of the RMSE, from that of the mean square; of one example the RMSE."""
        squares = (torch.cat(self._labels) - torch.cat(self._answers)).pow(2)
        rmse, size = float(squares.mean().sqrt()), len(squares)
        if size == 1:
            return size, rmse  # one square has no deviation, which is not to say that it is exact
        return size, float(squares.std(correction=0)) / size**0.5 / (2 * rmse) if rmse else 0.0

    def compute(self) -> dict[str, float]:
        """Return loss, error (the RMSE), rmse and r2 (0 for labels that never change); without examples nothing."""
        if not self._labels:
            return {}
        label, answer = torch.cat(self._labels), torch.cat(self._answers)
        left, spread = (label - answer).pow(2).sum(), (label - label.mean()).pow(2).sum()
        rmse = float((left / len(label)).sqrt())
        r2 = 1 - float(left / spread) if spread > 0 else 0.0
        return dict(zip(self.NAMES, (float(self._total) / len(label), rmse, rmse, r2), strict=True))

    def _by_group(self, mass: Tensor) -> Tensor:
        cells = self._group(torch.cat(self._labels)) * self._num_groups + self._group(torch.cat(self._answers))
        sums = torch.zeros(self._num_groups**2, dtype=torch.float64, device=mass.device).index_add_(0, cells, mass)
        return sums.view(self._num_groups, self._num_groups).cpu()
