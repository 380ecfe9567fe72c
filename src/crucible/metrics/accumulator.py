"""What the metrics of every task have in common."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from crucible.data.batches import Batch


class Accumulator(ABC):
    """Numbers over the batches of a split, with neutral answers where only some metrics have one.

    Attributes:
        minimised: the numbers of which less is better; of all others more is.
    """

    minimised = frozenset({"loss", "error"})

    @abstractmethod
    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the model's outputs for a batch."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return named numbers for everything taken in, `loss` and `error` among them; nothing for nothing."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """Return the confusion table (G, G): rows are labels, columns what was predicted."""

    def mistakes(self) -> Tensor:
        """Return the error (G, G) of each cell of that table: the counts beside its diagonal, unless it is another."""
        counts = self.matrix()
        return counts - torch.diag(counts.diagonal())

    def costs(self) -> list[dict[str, Any]] | None:
        """Return what each kind of mistake costs; None where the confusion matrix tells it."""
        return None

    def evidence(self, size: int) -> tuple[int, float | None]:
        """Return on how many examples the error was measured, and its standard error where it is no rate of mistakes.

        Args:
            size: the examples that were taken in.
        """
        return size, None

    def absent(self) -> list[int]:
        """Return the groups without an example."""
        return []

    def suggested(self) -> dict[str, Any] | None:
        """Return settings that these data suggest."""
        return None


def tally(cells: Tensor, count: int) -> Tensor:
    """Return how often each of so many cells comes among cells (n,), as float64; torch.bincount would wait for the largest."""
    ones = torch.ones(len(cells), dtype=torch.float64, device=cells.device)
    return torch.zeros(count, dtype=torch.float64, device=cells.device).scatter_add_(0, cells, ones)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole of counts; 0 where there is nothing of the whole."""
    return torch.where(whole > 0, part / whole.clamp(min=1), torch.zeros_like(part))
