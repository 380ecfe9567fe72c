"""Which examples a network has seen: a transfer, and an evaluation on other data, must not be tested on them.

An example counts as the same when its values, as the reader gave them, are equal to the last bit: other sizes or channels of
the prepared copy do not hide it, another file format or compression does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.files import SEEN

DIGEST = "digest"  # the array of a split that holds one hash (16 bytes) for each example


def _nothing() -> Array:
    return np.zeros((0, 16), np.uint8)


@dataclass(frozen=True)
class Seen:
    """Hashes (n, 16) of examples: those the weights were learned from, and those that chose among weights.

    Attributes:
        learned, chosen: of this run alone: train; dev and train_dev. before_learned, before_chosen: of the runs that its
            weights come from.
    """

    learned: Array = field(default_factory=_nothing)
    chosen: Array = field(default_factory=_nothing)
    before_learned: Array = field(default_factory=_nothing)
    before_chosen: Array = field(default_factory=_nothing)

    def all(self) -> "Seen":
        """Return the same examples, as the past of a run that starts from this one."""
        learned, chosen = _union(self.learned, self.before_learned), _union(self.chosen, self.before_chosen)
        return Seen(before_learned=learned, before_chosen=chosen)

    def rows(self, folder: Path, splits: Sequence[str]) -> dict[str, Array]:
        """Return the rows of dev, train_dev and test that the runs before have seen.

        What is dev now must not have been learned from; what is test now must not have chosen among weights either.
        """
        both = _union(self.before_learned, self.before_chosen)
        known = {"dev": self.before_learned, "train_dev": self.before_learned, "test": both}
        return {
            split: np.flatnonzero(np.isin(_keys(digests_of(folder, split)), _keys(known[split])))
            for split in splits
            if split in known
        }

    def packed(self) -> bytes:
        """Return the bytes of a file, equal for equal sets."""
        return save({each.name: _union(getattr(self, each.name)) for each in fields(self)})


def seen_in(folder: Path, splits: Sequence[str], before: Seen, left_out: Mapping[str, Array]) -> Seen:
    """Return what a training on a prepared folder has seen; `left_out` are the rows of a split that it did not use."""
    own = {split: np.delete(digests_of(folder, split), left_out.get(split, []), axis=0) for split in splits}
    chosen = _union(*(own[split] for split in ("dev", "train_dev") if split in own))
    return Seen(_union(own["train"]), chosen, before.before_learned, before.before_chosen)


def read_seen(folder: Path) -> Seen | None:
    """Return what a run has seen; None for a run that does not tell.

    Raises:
        Refusal: the file is damaged.
    """
    if not (folder / SEEN).is_file():
        return None
    try:
        return Seen(**load_file(folder / SEEN))
    except (SafetensorError, OSError, TypeError) as error:
        raise Refusal(str(folder / SEEN), f"damaged: {error}", allowed="the file that the run wrote") from None


def require_unseen(rows: Mapping[str, Array], sizes: Mapping[str, int], policy: str, by: str) -> None:
    """Refuse examples to be judged on that the weights have seen, and a split of which nothing would be left.

    Raises:
        Refusal: with how many of each split, and the remedies.
    """
    counts = counted(rows, sizes)
    gone = [split for split, own in rows.items() if 0 < len(own) == sizes[split]]
    if counts and (policy == "refuse" or (policy == "drop" and gone)):
        raise Refusal(
            "transfer.seen", f"{by} has seen {counts} examples: what is judged would have been learned",
            allowed="the same data.split.seed as the source's, other data; keep, or drop (they leave dev and test) where some are left",
            example=f"transfer.seen={'keep' if gone else 'drop'}",
        )  # fmt: skip


def report(before: Seen | None, folder: Path, sizes: Mapping[str, int], policy: str) -> dict[str, Any]:
    """Return what a summary says about examples that were seen before: the policy, and how many of each split.

    Nothing where there are none; without a record of what was seen the policy is `unknown`.
    """
    if before is None:
        return {"policy": "unknown"}
    counts = {split: len(rows) for split, rows in before.rows(folder, list(sizes)).items() if len(rows)}
    return {"policy": policy, "counts": counts, "sizes": {split: sizes[split] for split in counts}} if counts else {}


def counted(rows: Mapping[str, Array], sizes: Mapping[str, int]) -> str:
    """Return how many of each split: `210 of 360 dev and 209 of 359 test`; empty where there are none."""
    return " and ".join(f"{len(own):,} of {sizes[split]:,} {split}" for split, own in rows.items() if len(own))


def digests_of(folder: Path, split: str) -> Array:
    """Return the hash of each example of a split (N, 16), in its stored order."""
    return np.load(folder / split / f"{DIGEST}.npy")


def _union(*parts: Array) -> Array:
    return np.unique(np.concatenate([_nothing(), *parts]), axis=0)


def _keys(digests: Array) -> Array:
    """Return hashes (n, 16) as n comparable values."""
    return np.ascontiguousarray(digests).view("S16")[:, 0]
