"""Penalties on the weights: each wraps a task and adds one named term to its losses."""

from typing import Any

from torch import Tensor, nn

from crucible.schema import Positive
from crucible.tasks.task import Batch, Metrics, Task


def none(task: Task, num_examples: int) -> Task:
    """Return the task itself."""
    return task


class L2:
    """Add strength / (2 m) times the sum of squared weights (notes 000, part 4, section 3; gradient strength / m W).

    Weights are parameters with two axes or more: biases and batch norm's scales are left alone. The notes divide by the
    batch size in part 5; m, the number of train examples, keeps the strength's meaning when the batch size changes.

    Args:
        task: the wrapped task.
        num_examples: m.
        strength: the notes' lambda.
    """

    def __init__(self, task: Task, num_examples: int, *, strength: Positive) -> None:
        self._task = task
        self._factor = strength / (2 * num_examples)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the task's losses and `penalty`."""
        squares = [p.pow(2).sum() for p in model.parameters() if p.dim() > 1]
        return {
            **self._task.losses(model, batch),
            "penalty": self._factor * sum(squares, start=squares[0].new_zeros(())),
        }

    def predict(self, outputs: Any) -> Any:
        """Return the task's predictions."""
        return self._task.predict(outputs)

    def metrics(self) -> Metrics:
        """Return the task's metrics: the penalty is no part of them."""
        return self._task.metrics()
