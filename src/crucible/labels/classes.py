"""One class for each example."""

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
from crucible.labels.kind import WORST, Kind, Mistake, Predictions, table_of

SURE = 20.0  # a logit


class Classes(Kind):
    """A class number; its name stands in the card."""

    name = "classes"
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
        counts = torch.tensor(card.splits["train"]["class_counts"])
        most = int(counts.argmax())
        name = f"always {card.classes[most]!r}"
        if num_outputs == 1:
            return SURE * torch.tensor([2.0 * most - 1]), name
        return SURE * F.one_hot(torch.tensor(most), len(counts)).double(), name

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the likeliest class."""
        rows = (dict(zip(card.classes, row, strict=True)) for row in answers.tolist())
        return [(card.classes[best], shares) for best, shares in zip(answers.argmax(dim=1).tolist(), rows, strict=True)]

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
        order = np.argsort(answers[wrong, label[wrong]], kind="stable")[:WORST]
        names, mistakes = card.classes, []
        for row in wrong[order].tolist():
            what = f"predicted {names[predicted[row]]}"
            title = f"{names[label[row]]}, {what}\n{answers[row, predicted[row]]:.2f}"
            mistakes.append(Mistake(row, what, title))
        return mistakes
