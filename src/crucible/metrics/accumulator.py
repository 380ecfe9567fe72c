"""What the metrics of every task have in common."""

from abc import ABC, abstractmethod
from typing import Any

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

    @abstractmethod
    def mistakes(self) -> Tensor:
        """Return the error (G, G) of each cell of that table."""

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
