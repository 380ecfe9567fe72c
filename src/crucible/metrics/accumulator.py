"""What the numbers of a task have in common: what is told besides them, where a task tells it at all."""

from typing import Any


class Accumulator:
    """The neutral answers of an accumulator over the batches of a split; each metric gives its own where it has one."""

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
