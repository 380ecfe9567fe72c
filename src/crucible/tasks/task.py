"""The three methods by which one loop serves every family of tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from crucible.errors import Refusal

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


MINIMISED = ("loss", "error", "rmse", "nme")  # of these metrics less is better, of all others more


class MonitoredTask(ABC):
    """What every task has: the number that picks the best epoch, and neutral answers where only some tasks have one.

    Args:
        monitor: the number on dev that picks the best epoch. goal: `maximize` or `minimize`, as the number wants.
        tolerance: a part of the gap above it is high. satisficing: bounds on further numbers.
        example: what is monitored usually, for the message.

    Attributes:
        error: the name of the number that bias and variance are measured in. positive: the class that precision and recall
            are of. single: whether a picture holds one object at most. wants_maps: whether the model gives
            (B, channels, rows, columns). anchors: sizes (A, 2) that boxes are learned by. guess: the loss of guessing.

    Raises:
        Refusal: a goal against the number.
    """

    error = "error"
    positive: str | None = None
    single = False
    wants_maps = False
    anchors: Tensor | None = None
    guess: float | None = None

    def __init__(
        self, monitor: str, goal: str, tolerance: float, satisficing: Mapping[Any, str] | None, *, example: str
    ) -> None:
        if (monitor in MINIMISED) != (goal == "minimize"):
            raise Refusal("task.goal", f"{goal} {monitor} makes models worse", example=f"task.monitor={example}")
        self.monitor, self.goal, self.margin, self.satisficing = monitor, goal, tolerance, dict(satisficing or {})

    def guessing(self, counts: list[int]) -> float | None:
        """Return the loss of guessing for such class counts; None: of a loss of several parts nobody knows."""
        return self.guess

    def error_of(self, mean: float) -> float:
        """Return the error that a mean of mistakes amounts to: a share of mistakes is one itself."""
        return mean

    @abstractmethod
    def answers(self, outputs: Tensor) -> Tensor:
        """Return what outputs (B, ...) say, in the terms that predictions are told in."""

    def candidates(self, outputs: Tensor) -> Tensor:
        """Return answers before any suppression, which is a loop: for formats without one."""
        return self.answers(outputs)

    def inside(self, found: Tensor, batch: Batch) -> Tensor:
        """Return answers as they are measured: boxes cut at the edges of their pictures, all else as it is."""
        return found


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
