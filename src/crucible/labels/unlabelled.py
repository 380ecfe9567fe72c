"""No label at all: something is optimised, nothing is learned about others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import Encoded
from crucible.data.readers.source import Array, Source
from crucible.labels.kind import Kind, Predictions


class Unlabelled(Kind):
    """A point is moved over a surface; the error is how far above the lowest point it is."""

    name = "unlabelled"
    is_rate = False
    has_classes = False
    no_gap = "mean nothing here: a point is moved over a surface, nothing is learned about others"

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return zeros: there is nothing to be told."""
        nothing = {pool: np.zeros(len(each.labels), np.int64) for pool, each in source.pools.items()}
        return Encoded([], nothing, nothing)

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor | None, str]:
        """Return none, without a name: every answer is a point, and none is trivial."""
        return None, ""

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the coordinates."""
        return [([float(value) for value in row], {}) for row in answers]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return none: the point is among the numbers."""
        return {}
