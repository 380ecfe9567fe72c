"""Penalties on the weights: each wraps a task and adds one named term to its losses.

Weights are parameters with two axes or more that learn: biases and batch norm's scales are left alone. The notes divide by the batch
size in part 5; m, the number of train examples, keeps the strength's meaning when the batch size changes.
"""

from typing import Any

from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator
from crucible.schema import Positive
from crucible.tasks.task import Task


def none(task: Task, num_examples: int) -> Task:
    """Return the task itself."""
    return task


class Penalised:
    """A task whose losses have a further term, `penalty`: the penalty is no part of its metrics.

    Args:
        task: the wrapped task.
        factor: what the sum over the weights is multiplied with.
        power: of each absolute weight.
    """

    def __init__(self, task: Task, factor: float, power: int) -> None:
        self._task, self._factor, self._power = task, factor, power

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the task's losses and `penalty`."""
        losses = self._task.losses(model, batch)
        sums = [
            p.abs().sum() if self._power == 1 else p.pow(2).sum()
            for p in model.parameters()
            if p.dim() > 1 and p.requires_grad
        ]
        return {**losses, "penalty": self._factor * sum(sums, start=losses["loss"].new_zeros(()))}

    def weight(self, batch: Batch) -> float | Tensor:
        """Return the task's."""
        return self._task.weight(batch)

    def predict(self, outputs: Any) -> Any:
        """Return the task's predictions."""
        return self._task.predict(outputs)

    def metrics(self) -> Accumulator:
        """Return the task's metrics."""
        return self._task.metrics()


class L1(Penalised):
    """Add strength / m times the sum of |W| (notes 004, 3.3): many weights become 0."""

    def __init__(self, task: Task, num_examples: int, *, strength: Positive) -> None:
        super().__init__(task, strength / num_examples, power=1)


class L2(Penalised):
    """Add strength / (2 m) times the sum of W^2 (notes 000, part 4, section 3): weight decay, gradient strength / m W."""

    def __init__(self, task: Task, num_examples: int, *, strength: Positive) -> None:
        super().__init__(task, strength / (2 * num_examples), power=2)
