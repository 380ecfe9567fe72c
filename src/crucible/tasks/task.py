"""The contracts of a task: what the loop calls, and what evaluates and explains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Generic, Literal, NotRequired, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.data.columns import category_sizes, columns_of, plain_features
from crucible.errors import Refusal
from crucible.instantiate import build
from crucible.labels.kind import Kind
from crucible.metrics.accumulator import Accumulator
from crucible.models.contracts import EmbedsCategories
from crucible.schema import Bound, NonNegative

Measured = Literal["latency_ms_per_example", "parameters"]  # numbers of every model that a bound may be about
Score = TypeVar("Score", bound=str)  # a task's own: the names of its numbers


class Monitoring(TypedDict, Generic[Score]):
    """What is declared for every task.

    monitor: the number on dev that picks the best epoch. goal: `maximize` or `minimize`, as the number wants.
    tolerance: a part of the gap above it is high. satisficing: bounds, as in {latency_ms_per_example: "<= 1"}.
    """

    monitor: Score
    goal: Literal["maximize", "minimize"]
    tolerance: NonNegative
    satisficing: NotRequired[Mapping[Measured | Score, Bound] | None]


@runtime_checkable
class Task(Protocol):
    """What the loop calls; of a batch `x` is what the model takes, every other name belongs to the task."""

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars (): `loss` is the data's own, `loss/PART` a part of it; see `total_of`."""

    def weight(self, batch: Batch) -> float | Tensor:
        """Return what a batch counts where the losses of several are averaged: of how much its loss is the mean."""

    def predict(self, outputs: Any) -> Any:
        """Return what the outputs say, in the terms of the label."""

    def metrics(self) -> Accumulator:
        """Return an empty accumulator."""


class MonitoredTask(ABC):
    """A task with all that evaluates and explains it, and neutral answers where only some tasks have one.

    Args:
        settings: see Monitoring; a task says as Monitoring[...] which numbers it has.

    Attributes:
        kind: of its labels. metrics_class: of what `metrics` returns. num_outputs: of the model. confusion_labels: of the rows and columns of the confusion table.
        error: what the number is called that bias and variance are measured in. positive: the class that precision and recall
            are of. single: whether a picture holds one object at most. wants_maps: whether the model gives
            (B, channels, rows, columns). score: from which a box or a point is shown. usual: what is monitored, for a message.

    Raises:
        Refusal: a goal against the number.
    """

    kind: Kind
    metrics_class: type[Accumulator]
    num_outputs: int
    confusion_labels: Sequence[str]
    usual: str
    error = "error"
    positive: str | None = None
    single = False
    wants_maps = False
    score = 0.5

    def __init__(self, card: Card, **settings: Unpack[Monitoring[Any]]) -> None:
        self.monitor, self.goal, self.tolerance = settings["monitor"], settings["goal"], settings["tolerance"]
        self.satisficing = dict(settings.get("satisficing") or {})
        if (self.monitor in self.metrics_class.minimised) != (self.goal == "minimize"):
            what = f"{self.goal} {self.monitor} makes models worse"
            raise Refusal("task.goal", what, example=f"task.monitor={self.usual}")

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return named scalars (): `loss` is the data's own, `loss/PART` a part of it; see `total_of`."""

    def weight(self, batch: Batch) -> float | Tensor:
        """Return what a batch counts where the losses of several are averaged: its examples, unless the loss is a mean of something else."""
        return len(batch["x"])

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

    def attach(self, model: nn.Module) -> nn.Module:
        """Return a network with what this task itself learns hung on it (TaskUnit), or taken from it where it is there."""
        return model

    def calibrate(self, scores: Mapping[str, float]) -> None:
        """Take over what was chosen on dev, from the scores there, before other splits are measured: nothing."""
        return

    def symptoms(self, rows: Sequence[Mapping[str, float]]) -> list[str]:
        """Return names for what went wrong in a way that only this task knows.

        Args:
            rows: of each epoch its numbers, as `dev/error`.
        """
        return []

    def multiplications(self, feature_shape: Sequence[int]) -> int:
        """Return those that the loss of an example takes beside the model's own: none that count."""
        return 0

    def sketch(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """Return a picture (3, H, W) from 0 to 1 of how far the training is; None: there is nothing to be seen.

        Args:
            batch: `x` (1, ...), the first example of train.
        """
        return None

    def story(self, runs: Mapping[str, Sequence[Mapping[str, float]]], home: Path) -> dict[str, Path]:
        """Draw how trainings went in a way that only this task knows into a folder; return heading -> picture.

        Args:
            runs: by name, of each epoch its numbers, as `dev/loss`, and of each step that was recorded, as `step/loss`.
        """
        return {}

    def chance_loss(self, counts: list[int]) -> float | None:
        """Return the loss of guessing for such class counts; None: of a loss of several parts nobody knows."""
        return None

    def constant(self, card: Card) -> tuple[Tensor | None, str]:
        """Return the outputs (num_outputs,) of the answer that never looks and suits train best, and its name; see Kind.constant."""
        return self.kind.constant(card, self.num_outputs, single=self.single)

    def error_of(self, mean: float) -> float:
        """Return the error that a mean of mistakes amounts to: a share of mistakes is one itself."""
        return mean

    def figures(self, train: Batch, facts: Mapping[str, Any], home: Path) -> dict[str, Path]:
        """Draw what only this task learns by into a folder; return heading -> picture.

        Args:
            train: `label` and all else that is known of the train examples. facts: the card's, of objects.
        """
        return {}


def build_network(node: Mapping[str, Any], card: Card, task: MonitoredTask) -> nn.Module:
    """Return the network that a configuration names, for these examples and this task, with what the task itself learns."""
    network = build("model", node, card.feature_shape, task.num_outputs)
    if isinstance(network, EmbedsCategories):
        columns = columns_of(card.table)
        network.embed_categories(plain_features(columns), category_sizes(columns))
    return task.attach(network)


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
