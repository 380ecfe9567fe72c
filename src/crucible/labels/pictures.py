"""No label at all: what is wanted is a picture, and its cost tells how near it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import Encoded
from crucible.data.readers.source import Array, Source
from crucible.labels.kind import Kind, Predictions


class Pictures(Kind):
    """A picture is painted; the error is the share of its cost that is left, 1 of the content as it is."""

    name = "pictures"
    is_rate = False
    has_classes = False
    no_gap = "mean nothing here: one picture is painted, nothing is learned about others"

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return zeros: there is nothing to be told."""
        nothing = {pool: np.zeros(len(each.labels), np.int64) for pool, each in source.pools.items()}
        return Encoded([], nothing, nothing)

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[None, str]:
        """The content as it is, whose cost is 1 by definition."""
        return None, "the content as it is"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return that there is a picture."""
        return [("a picture", {}) for _ in answers]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return none: a picture is no table."""
        return {}

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw what was painted, between content and style."""
        from crucible.plots import painting  # matplotlib: only where a report is drawn

        painting.beside(images[0], found.answers[0], home / "painting.png")
        return {"Content, painting, style": home / "painting.png"}
