"""The data card: what a prepared folder holds, where it came from, and how its values are normalised."""

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from crucible.errors import Refusal
from crucible.integrity import changed


@dataclass(frozen=True)
class Card:
    """The facts about prepared data; every other part reads them from here.

    Attributes:
        key: sha256 over everything that changes the prepared bytes.
        source: raw files by role, each with its sha256.
        splits: per split, its size and class counts.
        classes: names in label order.
        feature_shape: [C, H, W] or [F]; [L] or [L, F] of examples of different lengths.
        normalize: kind, mean and std per channel or feature in the units of the stored arrays, fitted_on, fitted_size.
        duplicates: policy, exact pairs found across splits, near pairs.
        recipe: the settings that the key is made of.
        columns: names of the features of a table, in order.
        objects: of boxes: the most in a picture, what was left out, anchors; of points: how many, their mean and deviation.
        target: of numbers to be predicted, on train: mean, std, and quartiles (three); None where labels are classes.
        arrays: the sha256 of each array by its path in the prepared folder.
        examples: by split, a hash of each example as it came; see crucible.data.seen.
        lengths: of examples of different lengths: shortest, mean, longest; the longest stands in feature_shape.
        table: of a table: its columns and what was fitted on them, those that are left out and why, categories that train lacks.
        notes: what a person should know of how the files were read.
        bayes_error: the least error that anybody can reach, where it is known how the data are made.
        facts: what a kind of label of another package tells of itself.
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
    arrays: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    bayes_error: float | None = None

    @property
    def is_images(self) -> bool:
        """Whether an example is an image (C, H, W) rather than a vector (F)."""
        return len(self.feature_shape) == 3 and not self.is_ragged

    @property
    def is_ragged(self) -> bool:
        """Whether examples have different lengths."""
        return self.lengths is not None

    @property
    def holds_symbols(self) -> bool:
        """Whether examples are symbols (whole numbers from 0, as of words), which are not normalised."""
        return self.is_ragged and self.dtype == "int64"

    @property
    def example_shape(self) -> list[int]:
        """What examples of this run and of other data must have in common: all but the length."""
        return self.feature_shape[1:] if self.is_ragged else self.feature_shape

    @property
    def stored_shape(self) -> list[int]:
        """The shape of an example as it is stored: of a table a number for each column, of which features are made."""
        return [len(self.table["columns"])] if self.table is not None else self.feature_shape

    def size(self, split: str) -> int:
        """Return the number of examples in a split."""
        return int(self.splits[split]["size"])

    def write(self, path: Path) -> None:
        """Write the card, equal bytes for equal facts; its last key is the sha256 of the others."""
        facts = json.loads(json.dumps(asdict(self)))
        path.write_text(json.dumps({**facts, "sha256": _digest(facts)}, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_card(folder: Path) -> Card:
    """Read the card of a prepared folder or of a run.

    Raises:
        Refusal: there is none, it is no card, or it is damaged.
    """
    path = folder / "card.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        digest = facts.pop("sha256", None)
        if digest is not None and digest != _digest(facts):  # None: a card of before
            raise ValueError("it is not as it was written")
        return Card(**facts)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(
            str(path), f"no data card, or damaged: {error}", allowed="a folder made by src/prepare.py"
        ) from None


def require_prepared(folder: Path, card: Card) -> None:
    """Refuse a prepared folder whose arrays are not those that its card was written for.

    Raises:
        Refusal: naming the first array that is missing or damaged.
    """
    if wrong := changed(folder, card.arrays):
        raise Refusal(
            str(folder / wrong[0]), "missing or damaged: its checksum is not the one in card.json",
            allowed="the data prepared again: take the folder away, or in the pipeline dvc repro --force prepare",
        )  # fmt: skip


def _digest(facts: dict[str, Any]) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
