"""The data card: what a prepared folder holds, where it came from, and how its values are normalised."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crucible.errors import Refusal


@dataclass(frozen=True)
class Card:
    """The facts about prepared data; every other part reads them from here.

    Attributes:
        key: sha256 over everything that changes the prepared bytes.
        source: raw files by role, each with its sha256.
        splits: per split, its size and class counts.
        classes: names in label order.
        feature_shape: [C, H, W] or [F].
        normalize: kind, mean and std per channel or feature in the units of the stored arrays, fitted_on, fitted_size.
        duplicates: policy, exact pairs found across splits, near pairs.
        recipe: the settings that the key is made of.
        columns: names of the features of a table, in order.
        objects: of boxes: the most in a picture, what was left out, anchors; of points: how many, their mean and deviation.
        target: of numbers to be predicted, on train: mean, std, and quartiles (three); None where labels are classes.
    """

    name: str
    key: str
    source: dict[str, str]
    splits: dict[str, dict[str, Any]]
    classes: list[str]
    feature_shape: list[int]
    dtype: str
    normalize: dict[str, Any]
    duplicates: dict[str, Any]
    recipe: dict[str, Any]
    columns: list[str] | None = None
    target: dict[str, Any] | None = None
    objects: dict[str, Any] | None = None

    @property
    def is_images(self) -> bool:
        """Whether an example is an image (C, H, W) rather than a vector (F)."""
        return len(self.feature_shape) == 3

    def size(self, split: str) -> int:
        """Return the number of examples in a split."""
        return int(self.splits[split]["size"])

    def write(self, path: Path) -> None:
        """Write the card, equal bytes for equal facts."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Read the card of a prepared folder or of a run.

    Raises:
        Refusal: there is none, or it is no card.
    """
    path = folder / "card.json"
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Refusal(str(path), f"no data card: {error}", allowed="a folder made by src/prepare.py") from None
