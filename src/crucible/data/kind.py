"""What preparing data asks of a kind of label; `crucible.labels` holds the kinds, a task names its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from crucible.data.objects import Objects, Resize
from crucible.data.readers.source import Array, Source

ByPool = Mapping[str, Array]


@dataclass(frozen=True)
class Encoded:
    """The labels of every pool as numbers.

    Attributes:
        classes: their names in label order; none where labels are no classes. labels: by pool, what y.npy holds, but for
            boxes that are left out. strata: by pool (N,), what a stratified split keeps alike.
    """

    classes: list[str]
    labels: dict[str, Array]
    strata: dict[str, Array]


class LabelKind(Protocol):
    """A kind of label, as far as a prepared folder is concerned; `name` stands in the card.

    `drawable`: whether each example has one label, by which examples can be counted and drawn.
    """

    name: str
    drawable: bool

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the labels as numbers.

        Args:
            judge: the classes of the run that evaluates the data; None where they are for training.

        Raises:
            Refusal: a label that this kind does not know.
        """

    def place(
        self, source: Source, labels: ByPool, sizes: ByPool, shape: Sequence[int], resize: Resize
    ) -> dict[str, Objects]:
        """Return by pool what stands where in the stored pictures; nothing where labels are all there is.

        Args:
            sizes: by pool (N, 2), height and width of the pictures as they came. shape: of a stored example.
        """

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse splits from which something cannot be learned.

        Args:
            split_of: by pool, the split (N,) of each example. expected: the splits that must hold every class.

        Raises:
            Refusal: naming what is missing, and where.
        """

    def counts(self, labels: Array, num_classes: int) -> dict[str, Any]:
        """Return what the card tells of the labels of one split."""

    def facts(self, found: Mapping[str, Objects], train: Array, labels: Array, shape: Sequence[int]) -> dict[str, Any]:
        """Return further fields of the card, learned from train alone.

        Args:
            train: (N,), which examples of all pools are in train. labels: of all pools.
        """
