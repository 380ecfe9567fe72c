"""One class for each example."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.labels import encode
from crucible.data.readers.source import Array, Source
from crucible.data.splits import require_classes
from crucible.labels.kind import OF_EACH, WORST, Kind, Mistake, Predictions, table_of
from crucible.metrics.thresholds import BINS, Curve, calibration, precision_recall, roc
from crucible.plots.charts import Lines, Part, Series, Table, thinned

SURE = 20.0  # a logit
MOST_SHOWN = 60  # mistakes on a page
MOST_CURVES = 10  # classes with a curve


class Classes(Kind):
    """A class number; its name stands in the card."""

    name = "classes"
    fills_a_plane = True
    one_class = drawable = True
    pictures = ("data=image_folder", "data.path=FOLDER")

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return class numbers (N,); a stratified split keeps the classes alike."""
        classes, labels = encode(
            {pool: each.labels for pool, each in source.pools.items()}, source.classes, judge=judge
        )
        return Encoded(classes, labels, labels)

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse a split that lacks a class."""
        require_classes(split_of, labels, classes, expected)

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor, str]:
        """Always the most frequent class."""
        return self.always(card, int(np.argmax(card.splits["train"]["class_counts"])), num_outputs)

    def always(self, card: Card, k: int, num_outputs: int) -> tuple[Tensor, str]:
        """Return the outputs (num_outputs,) that say one class, and what that answer is called."""
        name = f"always {card.classes[k]!r}"
        if num_outputs == 1:
            return SURE * torch.tensor([2.0 * k - 1]), name
        return SURE * F.one_hot(torch.tensor(k), len(card.classes)).double(), name

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the likeliest class."""
        rows = (dict(zip(card.classes, row, strict=True)) for row in answers.tolist())
        return [(card.classes[best], shares) for best, shares in zip(answers.argmax(dim=1).tolist(), rows, strict=True)]

    def caption(self, label: Any, card: Card) -> str:
        """Return the class."""
        return card.classes[int(label)]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return label, predicted class, and the probability of each class."""
        names, triples = (
            card.classes,
            zip(found.label.tolist(), found.predicted.tolist(), found.answers.tolist(), strict=True),
        )
        cells = [[names[y], names[p], *(f"{q:.6f}" for q in qs)] for y, p, qs in triples]
        return table_of(found, ["label", "predicted", *names], cells)

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the wrong examples whose label was given the least probability."""
        label, predicted, answers = (each.numpy() for each in (found.label, found.predicted, found.answers))
        wrong = np.flatnonzero(label != predicted)
        order = wrong[np.argsort(answers[wrong, label[wrong]], kind="stable")]
        names, mistakes, shown = card.classes, list[Mistake](), Counter[tuple[int, int]]()
        for rank, row in enumerate(order.tolist()):
            pair = int(label[row]), int(predicted[row])
            shown[pair] += 1
            if rank >= WORST and (shown[pair] > OF_EACH or len(mistakes) >= MOST_SHOWN):
                continue
            what = f"predicted {names[pair[1]]}"
            sure = float(answers[row, pair[1]])
            title = f"{names[pair[0]]}, {what}\n{sure:.2f}"
            mistakes.append(Mistake(row, what, title, label=names[pair[0]], predicted=names[pair[1]], score=sure))
        return mistakes

    def charts(self, found: Predictions, card: Card) -> list[Part]:
        """Return precision, recall and F1 of each class, ROC, precision over recall, and calibration."""
        label, predicted, answers = (each.numpy() for each in (found.label, found.predicted, found.answers))
        return [by_class(label, predicted, card.classes), *over_thresholds(label[:, None] == np.arange(len(card.classes)), answers, card.classes),
                calibrated(answers.max(axis=1), label == predicted)]  # fmt: skip


def by_class(label: Array, predicted: Array, names: Sequence[str]) -> Table:
    """Return precision, recall and F1 of each class as a table."""
    rows: list[list[Any]] = []
    for k, name in enumerate(names):
        hit, said, there = (
            int(((label == k) & (predicted == k)).sum()),
            int((predicted == k).sum()),
            int((label == k).sum()),
        )
        precision, recall = hit / said if said else None, hit / there if there else None
        f1 = 2 * hit / (said + there) if said + there else None
        rows.append([name, precision, recall, f1, there, said])
    return Table(
        "Each class",
        ["class", "precision", "recall", "F1", "examples", "predicted"],
        rows,
        note="Click a column to sort by it.",
    )


def over_thresholds(label: Array, score: Array, names: Sequence[str], *, one_class: bool = True) -> list[Part]:
    """Return ROC and precision over recall of each class against the rest, of many classes the most frequent.

    Args:
        label: (N, K) whether each is of the class; below 0 where nobody knows. score: (N, K). one_class: of two classes the curves of the
            second say all.
    """
    if score.shape[1] != len(names):
        return []
    most = [
        k for k in np.argsort(-(label == 1).sum(axis=0), kind="stable").tolist() if {0, 1} <= set(label[:, k].tolist())
    ]
    kept = [1] if one_class and len(names) == 2 and most else sorted(most[:MOST_CURVES])
    curves = {
        k: [of(label[known, k] == 1, score[known, k]) for of in (roc, precision_recall)]
        for k in kept
        for known in [label[:, k] >= 0]
    }
    few = f" The {MOST_CURVES} most frequent of {len(names)} classes are drawn." if len(most) > MOST_CURVES else ""
    titles = (("ROC", "area", "false positive rate", True, "How many of a class are found against how many others are taken for it, at every threshold; the diagonal is chance."),
              ("Precision and recall", "average precision", "recall", False, "Of what is taken for the class, how much is; at every threshold."))  # fmt: skip
    return [
        Lines(
            title,
            [_series(f"{names[k]}: {what} {curves[k][i].area:.4f}", curves[k][i]) for k in kept],
            x=x,
            range=(0, 1),
            diagonal=diagonal,
            note=note + few,
        )
        for i, (title, what, x, diagonal, note) in enumerate(titles)
    ]


def _series(name: str, curve: Curve) -> Series:
    kept = thinned(len(curve.x))
    return Series(name, curve.x[kept].round(5).tolist(), curve.y[kept].round(5).tolist())


def calibrated(confidence: Array, right: Array) -> Lines:
    """Return how often answers of each confidence are right."""
    found = calibration(confidence, right.astype(np.float64))
    labels = [f"{count:,} answers" for count in found.counts.tolist()]
    series = Series("answers", found.confidence.round(5).tolist(), found.right.round(5).tolist(), labels=labels)
    return Lines(f"Calibration: ECE {found.error:.4f}", [series], x="confidence", range=(0, 1), diagonal=True,
                 note="How often answers of each confidence are right: on the diagonal a network is as sure as it should be, below it too sure. ECE is the "
                 f"mean distance, over {BINS} bins of confidence.")  # fmt: skip
