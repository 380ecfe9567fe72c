"""Judging a finished model on one split: metrics, every prediction, and how long one example takes."""

import csv
import io
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batches

WARM_UP, REPEATS = 10, 50


@dataclass(frozen=True)
class Judgement:
    """What a model says about a split.

    Attributes:
        scores: named numbers. confusion: counts (K, K), rows are labels. label, predicted: (N,).
        probabilities: (N, K).
    """

    scores: dict[str, float]
    confusion: Tensor
    label: Tensor
    predicted: Tensor
    probabilities: Tensor


def judge(model: nn.Module, task: Any, batches: Batches, split: str) -> Judgement:
    """Run the model over a split once, in evaluation mode."""
    metrics, labels, predicted, probabilities = task.metrics(), [], [], []
    model.eval()
    with torch.inference_mode():
        for batch in batches.judge(split):
            outputs = model(batch["x"])
            metrics.update(outputs, batch)
            labels.append(batch["label"].cpu())
            predicted.append(task.predict(outputs).cpu())
            probabilities.append(task.probabilities(outputs).cpu())
    parts = (torch.cat(each) for each in (labels, predicted, probabilities))
    return Judgement(metrics.compute(), metrics.matrix().long(), *parts)


def latency_ms(model: nn.Module, batches: Batches, split: str) -> float:
    """Return the median time of one example alone, from stored values to outputs, in milliseconds."""
    example = batches.arrays(split)[0][:1].to(batches.device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            model(batches.normalize(example)).cpu()
            times.append(time.perf_counter() - start)
    return 1000 * median(times[WARM_UP:])


def predictions_csv(found: Judgement, classes: list[str]) -> str:
    """Return a table: index, label, predicted, one probability for each class."""
    rows = zip(found.label.tolist(), found.predicted.tolist(), found.probabilities.tolist(), strict=True)
    table = [[i, classes[y], classes[p], *(f"{q:.6f}" for q in qs)] for i, (y, p, qs) in enumerate(rows)]
    return _table([["index", "label", "predicted", *classes], *table])


def confusion_csv(found: Judgement, classes: list[str]) -> str:
    """Return the confusion matrix as a table: a row for each label, a column for each prediction."""
    rows = [[name, *counts] for name, counts in zip(classes, found.confusion.tolist(), strict=True)]
    return _table([["label", *classes], *rows])


def _table(rows: list[list[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
