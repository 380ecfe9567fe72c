"""The three methods by which one loop serves every family of tasks."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

Batch = dict[str, Tensor]
Measured = Literal["latency_ms_per_example", "parameters"]  # numbers of every model that a bound may be about


def loss_terms(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return `loss` () of the model's outputs, and `auxiliary` where in training it gives those of further heads too.

    Args:
        model: gives outputs, or (outputs, those of each further head) and then has their weight as `auxiliary`.
        x: (B, ...). loss: of outputs.
    """
    outputs = model(x)
    if isinstance(outputs, Tensor):
        return {"loss": loss(outputs)}
    first, *further = outputs
    weight: Any = model.auxiliary
    return {"loss": loss(first), "auxiliary": weight * sum((loss(each) for each in further), start=first.new_zeros(()))}


class Metrics(Protocol):
    """An accumulator over the batches of a split."""

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the model's outputs for a batch."""

    def compute(self) -> dict[str, float]:
        """Return named numbers for everything taken in."""


@runtime_checkable
class Task(Protocol):
    """What a batch means: `x` is what the model takes, every other name belongs to the task."""

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars; their sum is minimised, and `loss` is the data's own."""

    def predict(self, outputs: Any) -> Any:
        """Return what the outputs say, in the terms of the label."""

    def metrics(self) -> Metrics:
        """Return an empty accumulator."""
