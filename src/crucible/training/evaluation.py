"""Evaluating a model on one split: metrics, every prediction, and how long one example takes."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch, Batches
from crucible.data.ragged import concatenated
from crucible.errors import Refusal
from crucible.labels.kind import Predictions
from crucible.metrics.evidence import Measured, interval_of
from crucible.tasks.task import MonitoredTask
from crucible.text import csv_text

WARM_UP, REPEATS = 10, 50
GROUPS = {"per_class": "per_class", "loss": "loss_parts"}


@dataclass(frozen=True)
class Evaluation:
    """What a model reaches on a split.

    Attributes:
        scores: named numbers. confusion: counts (G, G), rows are labels, in the order of the task's `confusion_labels`.
        mistakes: the error (G, G) in the same order. predictions: all of them; None where only numbers were wanted.
        costs: what each kind of mistake costs, where the task tells that itself.
        error: with the number of examples it was measured on, and its standard error where it is no rate of mistakes.
        interval: where 95 % of the monitored number's values lie that so many examples may give; None where nothing tells.
        absent: confusion labels that precision, recall and F1 leave out, as they have no example.
        suggested: what would be better than what is set, and how much, where the task tells that.
    """

    scores: dict[str, float]
    confusion: Tensor
    mistakes: Tensor
    predictions: Predictions | None = None
    costs: list[dict[str, Any]] | None = None
    error: Measured = field(default_factory=lambda: Measured(0.0))
    interval: tuple[float, float] | None = None
    absent: tuple[str, ...] = ()
    suggested: dict[str, Any] | None = None

    def evidence(self) -> dict[str, Any]:
        """Return what a summary says of it."""
        low, high = self.interval or (None, None)
        return {"size": self.error.size, "spread": self.error.spread, "low": low, "high": high}


@torch.inference_mode()
def outputs_of(model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Any, Batch]]:
    """Give the outputs for each batch, and the batch; the model is in evaluation mode."""
    model.eval()
    for batch in batches:
        yield model(batch["x"]), batch


def judged_split(batches: Batches) -> str:
    """Return the split that is judged: test, or dev where there is no test.

    Raises:
        Refusal: there is neither.
    """
    there = next((split for split in ("test", "dev") if split in batches.splits), None)
    if there is None:
        raise Refusal("the data", "they have neither test nor dev: nothing to judge the run on", allowed="other data: data.path=...",
                      example="python src/evaluate.py run=latest data=npz data.path=FILE")  # fmt: skip
    return there


def evaluate_split(
    model: nn.Module, task: MonitoredTask, batches: Batches, split: str, *, keep: bool = True
) -> Evaluation:
    """Run the model over a split once.

    Args:
        keep: whether every prediction is wanted, or the numbers alone.
    """
    metrics, kept, size = task.metrics(), [], 0
    for outputs, batch in outputs_of(model, batches.evaluation(split)):
        metrics.update(outputs, batch)
        size += len(batch["label"])
        if keep:
            found = (batch["label"], task.predict(outputs), task.within(task.postprocess(outputs), batch))
            kept.append([part.cpu() for part in found])
    predictions = None
    if keep:
        label, predicted, answers = (concatenated(parts) for parts in zip(*kept, strict=True))
        rows = batches.rows(split).tolist()
        predictions = Predictions(label, predicted, answers, batches.further(split), rows, batches.names(split))
    scores, confusion = metrics.compute(), metrics.matrix()
    measured = Measured(scores["error"], *metrics.evidence(size))
    counts = confusion.numpy() if task.kind.one_class else None
    return Evaluation(
        scores,
        confusion.long(),
        metrics.mistakes(),
        predictions,
        costs=metrics.costs(),
        error=measured,
        interval=interval_of(task.monitor, scores[task.monitor], measured, counts),
        absent=tuple(task.confusion_labels[k] for k in metrics.absent()),
        suggested=metrics.suggested(),
    )


def summary_of(found: Evaluation) -> dict[str, Any]:
    """Return the numbers as metrics.json holds them.

    Those of each class stand under `per_class`, what the loss is made of under `loss_parts`, who is `without_examples` last.
    """
    numbers: dict[str, Any] = {}
    for name, value in found.scores.items():
        group, _, own = name.partition("/")
        if own and group in GROUPS:
            numbers.setdefault(GROUPS[group], {})[own] = value
        else:
            numbers[name] = value
    return numbers | ({"without_examples": list(found.absent)} if found.absent else {})


def latency_ms(model: nn.Module, example: Tensor) -> float:
    """Return the median time of one example (1, ...) alone, from normalised values to outputs, in milliseconds."""
    times = []
    model.eval()
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            model(example).cpu()
            times.append(time.perf_counter() - start)
    return 1000 * median(times[WARM_UP:])


def confusion_csv(found: Evaluation, labels: Sequence[str]) -> str:
    """Return the confusion matrix as a table: a row for each label, a column for each prediction."""
    rows = [[name, *counts] for name, counts in zip(labels, found.confusion.tolist(), strict=True)]
    return csv_text([["label", *labels], *rows])
