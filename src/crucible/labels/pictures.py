"""No label, but a picture that is wanted: its cost tells how near it is."""

from pathlib import Path
from typing import Any

from torch import Tensor

from crucible.data.card import Card
from crucible.data.readers.source import Array
from crucible.labels.kind import Predictions
from crucible.labels.unlabelled import Unlabelled


class Pictures(Unlabelled):
    """A picture is painted; the error is the share of its cost that is left, 1 of the content as it is."""

    name = "pictures"
    no_gap = "mean nothing here: one picture is painted, nothing is learned about others"

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[None, str]:
        """The content as it is, whose cost is 1 by definition."""
        return None, "the content as it is"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return that there is a picture."""
        return [("a picture", {}) for _ in answers]

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw what was painted, between content and style."""
        from crucible.plots import painting  # matplotlib: only where a report is drawn

        painting.beside(images[0], found.answers[0], home / "painting.png")
        return {"Content, painting, style": home / "painting.png"}
