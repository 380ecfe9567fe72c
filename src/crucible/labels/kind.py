"""What every kind of label does, with the answers of those that have nothing special to say."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.objects import Objects, Resize
from crucible.data.readers.source import Array, Source
from crucible.plots.charts import Part
from crucible.text import csv_text

WORST = 12  # mistakes that are drawn
OF_EACH = 4  # further mistakes of each kind that a page shows


@dataclass(frozen=True)
class Predictions:
    """Every prediction on a split.

    Attributes:
        label, predicted: (N,), or (N, T) of several labels, or (N, M) and boxes. answers: (N, K) probabilities, (N, 1)
            numbers, boxes (N, D, 6) or points (N, 1 + 2 P). further: what else is known of each example. rows: the places of
            the examples in the prepared arrays. names: their files, where they are known.
    """

    label: Tensor
    predicted: Tensor
    answers: Tensor
    further: Mapping[str, Tensor]
    rows: list[int]
    names: list[str] | None


@dataclass(frozen=True)
class Answer:
    """What a run says of one example.

    Attributes:
        name: file or row. predicted: the class, the labels that apply, the number, or what stands where. shares: the probability
            of each class or label; nothing for a number.
    """

    name: str
    predicted: Any
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Mistake:
    """One of the worst mistakes.

    Attributes:
        row: the example's place in its split. what: what was wrong, in a few words. title: what stands above its picture.
        truth, found: what is drawn on the picture, boxes or points in stored pixels; nothing where labels have no place.
        label, predicted: classes, by which mistakes are chosen. score: how sure the answer was. unsure: all boxes that were found,
            those below the score from which they are shown, too.
    """

    row: int
    what: str
    title: str
    truth: Any = ()
    found: Any = ()
    label: str = ""
    predicted: str = ""
    score: float | None = None
    unsure: Any = ()


class Kind(ABC):
    """A kind of label.

    Attributes:
        name: in the card and in refusals. is_rate: whether the error is a share of mistakes, which chance bounds.
        one_class: whether each example has one class of those that are told apart. drawable: whether each has one label, by
            which examples can be drawn: equally often, or several of one label.
        has_classes: whether labels have names. where: whether answers stand in pictures.
        no_mirror: why a mirrored picture cannot keep its label; None where it can.
        no_gap: why bias and variance have no meaning; None where they have.
        pictures: the data of a folder of pictures with such labels, where there is a reader of them.
        scored: whether what is found in a picture has a score each, from which it is shown.
        fills_a_plane: whether an answer is drawn at every point of the plane, where there are two features.
        worst_picture: the file in which the worst mistakes are drawn.
    """

    name: str
    is_rate = True
    one_class = False
    drawable = False
    has_classes = True
    where = False
    no_mirror: str | None = None
    no_gap: str | None = None
    pictures: tuple[str, ...] = ()
    scored = False
    fills_a_plane = False
    worst_picture = "mistakes.png"

    @abstractmethod
    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the labels as numbers: see crucible.data.kind."""

    def place(
        self, source: Source, labels: ByPool, sizes: ByPool, shape: Sequence[int], resize: Resize
    ) -> dict[str, Objects]:
        """Return nothing: labels are all there is."""
        return {}

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse nothing."""
        return

    def counts(self, labels: Array, num_classes: int) -> dict[str, Any]:
        """Return the examples of each class."""
        return {"class_counts": np.bincount(labels, minlength=num_classes).tolist() if num_classes else []}

    def facts(self, found: Mapping[str, Objects], train: Array, labels: Array, shape: Sequence[int]) -> dict[str, Any]:
        """Return no further fields."""
        return {}

    def comparable(self, labels: Array) -> Array:
        """Return a number (N,) for each example by which the labels of two splits are compared."""
        return labels

    @abstractmethod
    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor | None, str]:
        """Return the outputs (num_outputs,) of the answer that never looks and suits train best, and its name.

        None: it answers nothing, and is always wrong.

        Args:
            single: whether a picture holds one object at most.
        """

    def trivial_error(self, card: Card, split: str) -> float:
        """Return the error on a split of an answer that never looks, where `constant` gives none: always wrong."""
        return 1.0

    @abstractmethod
    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return what answers (n, ...) say, and the probability of each class or label.

        Args:
            sizes: (n, 2), height and width of the pictures as they came.
        """

    def with_tokens(self, predicted: Any, tokens: Sequence[str]) -> Any:
        """Return one answer about a text, with its tokens where it names them by their places."""
        return predicted

    def shown(self, predicted: Any, score: float) -> Any:
        """Return what is sure enough to be shown of one answer."""
        return predicted

    def in_words(self, predicted: Any) -> str:
        """Return one answer in a few words."""
        return str(predicted)

    def caption(self, label: Any, card: Card) -> str:
        """Return what is written below a picture with this label; nothing where it is drawn."""
        return ""

    def columns(self, answers: Sequence[Answer]) -> list[str]:
        """Return the columns of a table of answers."""
        return ["input", "predicted", *(answers[0].shares if answers else ())]

    def cells(self, answer: Answer) -> list[list[object]]:
        """Return the rows of one answer in that table."""
        return [[answer.name, self.in_words(answer.predicted), *(f"{share:.6f}" for share in answer.shares.values())]]

    @abstractmethod
    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return the tables of every prediction, by file name."""

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the worst mistakes, the worst first, and some more of each kind; none where they are not drawn.

        Args:
            score: from which a box is shown.
        """
        return []

    def charts(self, found: Predictions, card: Card) -> list[Part]:
        """Return charts and tables of the predictions on a split."""
        return []

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw what only this kind of label has into a folder; return heading -> picture.

        Args:
            images: (N, ...) as they are stored.
        """
        return {}


def table_of(found: Predictions, header: Sequence[str], cells: Sequence[Sequence[Any]]) -> dict[str, str]:
    """Return predictions.csv: the place of each example, its cells, and its name where it has one."""
    rows = [[row, *own] for row, own in zip(found.rows, cells, strict=True)]
    if found.names is None:
        return {"predictions.csv": csv_text([["index", *header], *rows])}
    named = [[*row, name] for row, name in zip(rows, found.names, strict=True)]
    return {"predictions.csv": csv_text([["index", *header, "name"], *named])}
