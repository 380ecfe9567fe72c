"""Several yes-or-no labels measured: counts for each, unknown ones left out, accumulated on the device and read once."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator, ratio


class MultilabelMetrics(Accumulator):
    """Counts of (label, predicted) for each of T labels, and the mean loss.

    Args:
        names: of the labels. loss: outputs (B, T) and labels (B, T) to their mean loss () over the known.
        predict: outputs to answers (B, T).
    """

    NAMES = ("loss", "error", "accuracy", "precision", "recall", "f1")

    def __init__(
        self, names: Sequence[str], loss: Callable[[Tensor, Tensor], Tensor], predict: Callable[[Tensor], Tensor]
    ) -> None:
        self._names, self._loss, self._predict = names, loss, predict
        self._counts: Tensor | float = 0.0  # (T, 2, 2): label, predicted
        self._total: Tensor | float = 0.0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `label` (B, T) of 1, 0 and -1 for unknown."""
        label, predicted = batch["label"], self._predict(outputs)
        cells = torch.stack([(label == y) & (predicted == p) for y in (0, 1) for p in (0, 1)], dim=2)
        self._counts = self._counts + cells.sum(dim=0).double().view(-1, 2, 2)
        self._total = self._total + self._loss(outputs, label).double() * (label >= 0).sum()

    def matrix(self) -> Tensor:
        """Return the counts (2 T, 2 T), a block for each label: rows no and yes are labels, columns predictions."""
        return torch.block_diag(*torch.as_tensor(self._counts).cpu())

    def absent(self) -> list[int]:
        """Return the places in the matrix of a yes that is no example's."""
        yes = torch.as_tensor(self._counts).cpu()[:, 1].sum(dim=1)
        return [2 * t + 1 for t, count in enumerate(yes.tolist()) if not count]

    def compute(self) -> dict[str, float]:
        """Return loss, error, accuracy; precision, recall, f1, of yes, as means over the labels; accuracy and f1 of each.

        A label that is known of no example has no accuracy, one that is yes for none no precision, recall and f1.
        """
        if isinstance(self._counts, float):
            return {}
        counts = self._counts.cpu()
        known, hits = counts.sum(dim=(1, 2)), counts[:, 0, 0] + counts[:, 1, 1]
        yes, predicted = counts[:, 1].sum(dim=1), counts[:, :, 1].sum(dim=1)
        both, size = counts[:, 1, 1], max(1.0, float(known.sum()))
        precision, recall, f1 = ratio(both, predicted), ratio(both, yes), ratio(2 * both, yes + predicted)
        right = float(hits.sum()) / size
        there = yes > 0
        means = (float(each[there].mean()) if bool(there.any()) else 0.0 for each in (precision, recall, f1))
        found = dict(zip(self.NAMES, (float(self._total) / size, 1 - right, right, *means), strict=True))
        for name, share, score, *has in zip(self._names, ratio(hits, known), f1, known > 0, there, strict=True):
            found |= {f"accuracy/{_plain(name)}": float(share)} if has[0] else {}
            found |= {f"f1/{_plain(name)}": float(score)} if has[1] else {}
        return found


def _plain(name: str) -> str:
    """Return a name that a tracking store takes."""
    return re.sub(r"[^\w.\- ]", "_", name)
