"""Judging a finished model on one split: metrics, every prediction, and how long one example takes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batches
from crucible.metrics.evidence import Measured, interval_of
from crucible.text import csv_text

WARM_UP, REPEATS = 10, 50


@dataclass(frozen=True)
class Evaluation:
    """What a model says about a split.

    Attributes:
        scores: named numbers. confusion: counts (G, G), rows are labels, in the task's groups. mistakes: the error
            (G, G) in the same groups. label, predicted: (N,), or (N, T) of several
            labels. answers: (N, K) probabilities, or (N, 1) numbers, or boxes (N, D, 6).
        costs: what each kind of mistake costs, where the task tells that itself.
        error: with the number of examples it was measured on, and its standard error where it is no rate of mistakes.
        interval: where 95 % of the monitored number's values lie that so many examples may give; None where nothing tells.
        suggested: what would be better than what is set, and how much, where the task tells that.
        absent: groups that precision, recall and F1 leave out, as they have no example.
    """

    scores: dict[str, float]
    confusion: Tensor
    mistakes: Tensor
    label: Tensor
    predicted: Tensor
    answers: Tensor
    costs: list[dict[str, Any]] | None = None
    error: Measured = field(default_factory=lambda: Measured(0.0))
    interval: tuple[float, float] | None = None
    absent: tuple[str, ...] = ()
    suggested: dict[str, Any] | None = None

    def evidence(self) -> dict[str, Any]:
        """Return what a summary says of it."""
        low, high = self.interval or (None, None)
        return {"size": self.error.size, "spread": self.error.spread, "low": low, "high": high}


def judge(model: nn.Module, task: Any, batches: Batches, split: str, *, keep: bool = True) -> Evaluation:
    """Run the model over a split once, in evaluation mode.

    Args:
        keep: whether every prediction is wanted, or the numbers alone: labels, predicted and answers are then empty.
    """
    metrics, labels, predicted, answers = task.metrics(), [torch.zeros(0)], [torch.zeros(0)], [torch.zeros(0, 0)]
    size = 0
    if keep:
        labels, predicted, answers = [], [], []
    model.eval()
    with torch.inference_mode():
        for batch in batches.judge(split):
            outputs = model(batch["x"])
            metrics.update(outputs, batch)
            size += len(batch["label"])
            if keep:
                labels.append(batch["label"].cpu())
                predicted.append(task.predict(outputs).cpu())
                answers.append(task.inside(task.answers(outputs), batch).cpu())
    label, said, answered = (torch.cat(each) for each in (labels, predicted, answers))
    scores, confusion = metrics.compute(), metrics.matrix()
    measured = Measured(scores["error"], *metrics.evidence(size))
    counts = confusion.numpy() if task.targets == "classes" else None
    interval = interval_of(task.monitor, scores[task.monitor], measured, counts)
    absent = tuple(task.groups[k] for k in metrics.absent())
    return Evaluation(
        scores, confusion.long(), metrics.mistakes(), label, said, answered, metrics.costs(), measured, interval, absent,
        metrics.suggested(),
    )  # fmt: skip


def told(found: Evaluation) -> dict[str, Any]:
    """Return the numbers as metrics.json tells them: those of each class under `per_class`, and who is `without_examples`."""
    scores = found.scores
    own = {name.partition("/")[2]: value for name, value in scores.items() if name.startswith("per_class/")}
    rest = {name: value for name, value in scores.items() if not name.startswith("per_class/")}
    absent = {"without_examples": list(found.absent)} if found.absent else {}
    return rest | ({"per_class": own} if own else {}) | absent


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


def predictions_csv(
    found: Evaluation, classes: list[str], names: list[str] | None = None, *, rows: Sequence[int] | None = None
) -> str:
    """Return a table: index, label, predicted, one probability for each class or label; without classes, numbers.

    `rows` are the places of the examples in the prepared arrays, where they are not all of them.

    Where the examples have names, a last column `name` holds them.
    """
    said = zip(found.label.tolist(), found.predicted.tolist(), found.answers.tolist(), strict=True)
    indexed = zip(range(len(found.label)) if rows is None else rows, said, strict=True)
    if found.label.dim() == 2:  # 1, 0 or ? for each label, in order
        signs = {1: "1", 0: "0", -1: "?"}
        table = [
            [i, *("".join(signs[v] for v in row) for row in (ys, ps)), *(f"{q:.6f}" for q in qs)]
            for i, (ys, ps, qs) in indexed
        ]
    elif classes:
        table = [[i, classes[y], classes[p], *(f"{q:.6f}" for q in qs)] for i, (y, p, qs) in indexed]
    else:
        table = [[i, repr(y), f"{p:.6g}"] for i, (y, p, _) in indexed]
    header = ["index", "label", "predicted", *classes]
    if names is None:
        return csv_text([header, *table])
    return csv_text([[*header, "name"], *([*row, name] for row, name in zip(table, names, strict=True))])


def confusion_csv(found: Evaluation, groups: list[str]) -> str:
    """Return the confusion matrix as a table: a row for each label, a column for each prediction."""
    rows = [[name, *counts] for name, counts in zip(groups, found.confusion.tolist(), strict=True)]
    return csv_text([["label", *groups], *rows])
