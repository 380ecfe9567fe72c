"""The contracts of a task: what the loop calls, and what evaluates and explains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.errors import Refusal
from crucible.labels.kind import Kind
from crucible.metrics.accumulator import Accumulator

Measured = Literal["latency_ms_per_example", "parameters"]  # numbers of every model that a bound may be about


@runtime_checkable
class Task(Protocol):
    """What the loop calls; of a batch `x` is what the model takes, every other name belongs to the task."""

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars (): `loss` is the data's own, `loss/PART` a part of it; see `total_of`."""

    def predict(self, outputs: Any) -> Any:
        """Return what the outputs say, in the terms of the label."""

    def metrics(self) -> Accumulator:
        """Return an empty accumulator."""


class MonitoredTask(ABC):
    """A task with all that evaluates and explains it, and neutral answers where only some tasks have one.

    Args:
        monitor: the number on dev that picks the best epoch. goal: `maximize` or `minimize`, as the number wants.
        tolerance: a part of the gap above it is high. satisficing: bounds on further numbers.
        example: what is monitored usually, for the message.

    Attributes:
        kind: of its labels. metrics_class: of what `metrics` returns. num_outputs: of the model. confusion_labels: of the rows and columns of the confusion table.
        error: the name of the number that bias and variance are measured in. positive: the class that precision and recall
            are of. single: whether a picture holds one object at most. wants_maps: whether the model gives
            (B, channels, rows, columns). score: from which a box or a point is shown.

    Raises:
        Refusal: a goal against the number.
    """

    kind: Kind
    metrics_class: type[Accumulator]
    num_outputs: int
    confusion_labels: Sequence[str]
    error = "error"
    positive: str | None = None
    single = False
    wants_maps = False
    score = 0.5

    def __init__(
        self, monitor: str, goal: str, tolerance: float, satisficing: Mapping[Any, str] | None, *, example: str
    ) -> None:
        if (monitor in self.metrics_class.minimised) != (goal == "minimize"):
            raise Refusal("task.goal", f"{goal} {monitor} makes models worse", example=f"task.monitor={example}")
        self.monitor, self.goal, self.tolerance, self.satisficing = monitor, goal, tolerance, dict(satisficing or {})

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars (): `loss` is the data's own, `loss/PART` a part of it; see `total_of`."""

    @abstractmethod
    def predict(self, outputs: Any) -> Any:
        """Return what the outputs say, in the terms of the label."""

    @abstractmethod
    def metrics(self) -> Accumulator:
        """Return an empty accumulator."""

    @abstractmethod
    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return what outputs (B, ...) say, in the terms that predictions are written in."""

    def raw_detections(self, outputs: Tensor) -> Tensor:
        """Return answers before any suppression, which is a loop: for formats without one."""
        return self.postprocess(outputs)

    def within(self, found: Tensor, batch: Batch) -> Tensor:
        """Return answers as they are measured: boxes cut at the edges of their pictures, all else as it is."""
        return found

    def chance_loss(self, counts: list[int]) -> float | None:
        """Return the loss of guessing for such class counts; None: of a loss of several parts nobody knows."""
        return None

    def error_of(self, mean: float) -> float:
        """Return the error that a mean of mistakes amounts to: a share of mistakes is one itself."""
        return mean

    def figures(self, train: Batch, facts: Mapping[str, Any], home: Path) -> dict[str, Path]:
        """Draw what only this task learns by into a folder; return heading -> picture.

        Args:
            train: `label` and all else that is known of the train examples. facts: the card's, of objects.
        """
        return {}


def total_of(losses: Mapping[str, Tensor]) -> Tensor:
    """Return what is minimised (): the sum of the terms. `loss/box` is a part of `loss`, recorded and not added again."""
    return reduce(add, (term for name, term in losses.items() if "/" not in name))


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
