"""Which examples a network has seen: a transfer, and an evaluation on other data, must not be tested on them.

An example counts as the same when its values, as the reader gave them, are equal to the last bit: other sizes or channels of
the prepared copy do not hide it, another file format or compression does.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from crucible.data.card import Card
from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.files import SEEN

BYTES = 8  # of a hash: among a million examples and a million others one pair in 10^7 is alike by chance


def _nothing() -> Array:
    return np.zeros((0, BYTES), np.uint8)


def _known() -> Array:
    return np.zeros(1, np.uint8)


@dataclass(frozen=True)
class Seen:
    """Hashes (n, 8) of examples: those the weights were learned from, and those that chose among weights.

    Attributes:
        learned, chosen: of this run alone: train; dev and train_dev. before_learned, before_chosen: of the runs that its
            weights come from. unknown: [1] where one of those has no record, else [0].
    """

    learned: Array = field(default_factory=_nothing)
    chosen: Array = field(default_factory=_nothing)
    before_learned: Array = field(default_factory=_nothing)
    before_chosen: Array = field(default_factory=_nothing)
    unknown: Array = field(default_factory=_known)

    def all(self) -> "Seen":
        """Return the same examples, as the past of a run that starts from this one."""
        learned, chosen = _union(self.learned, self.before_learned), _union(self.chosen, self.before_chosen)
        return Seen(before_learned=learned, before_chosen=chosen, unknown=self.unknown)

    def rows(self, card: Card) -> dict[str, Array]:
        """Return the rows of dev, train_dev and test that the runs before have seen.

        What is dev now must not have been learned from; what is test now must not have chosen among weights either.
        """
        both = _union(self.before_learned, self.before_chosen)
        known = {"dev": self.before_learned, "train_dev": self.before_learned, "test": both}
        return {
            split: np.flatnonzero(np.isin(_keys(digests_of(card, split)), _keys(known[split])))
            for split in card.splits
            if split in known
        }

    def packed(self) -> bytes:
        """Return the bytes of a file, equal for equal sets."""
        sets = {each.name: _union(getattr(self, each.name)) for each in fields(self) if each.name != "unknown"}
        return save({**sets, "unknown": self.unknown})


def seen_in(card: Card, before: Seen, left_out: Mapping[str, Array]) -> Seen:
    """Return what a training on the data of a card has seen; `left_out` are the rows of a split that it did not use."""
    own = {split: np.delete(digests_of(card, split), left_out.get(split, []), axis=0) for split in card.splits}
    chosen = _union(*(own[split] for split in ("dev", "train_dev") if split in own))
    return Seen(_union(own["train"]), chosen, before.before_learned, before.before_chosen, before.unknown)


def read_seen(folder: Path) -> Seen | None:
    """Return what a run has seen; None for a run that has no record of it.

    Raises:
        Refusal: the file is damaged.
    """
    if not (folder / SEEN).is_file():
        return None
    try:
        return Seen(**load_file(folder / SEEN))
    except (SafetensorError, OSError, TypeError) as error:
        raise Refusal(str(folder / SEEN), f"damaged: {error}", allowed="the file that the run wrote") from None


def require_unseen(seen: Seen, card: Card, policy: str, by: str) -> None:
    """Refuse examples to be judged on that the weights have seen, and a split of which nothing would be left.

    Raises:
        Refusal: with how many of each split, and the remedies.
    """
    rows = seen.rows(card)
    counts = " and ".join(f"{len(own):,} of {card.size(split):,} {split}" for split, own in rows.items() if len(own))
    gone = [split for split, own in rows.items() if 0 < len(own) == card.size(split)]
    if counts and (policy == "refuse" or (policy == "drop" and gone)):
        raise Refusal(
            "transfer.seen", f"{by} has seen {counts} examples: what is judged would have been learned",
            allowed="the same data.split.seed as the source's, other data; keep, or drop (they leave dev and test) where some are left",
            example=f"transfer.seen={'keep' if gone else 'drop'}",
        )  # fmt: skip


def unknown() -> Seen:
    """Return what is known of weights that have no record: nothing."""
    return Seen(unknown=np.ones(1, np.uint8))


def report(before: Seen, card: Card, policy: str) -> dict[str, Any]:
    """Return what a summary says about examples that were seen before: the policy, and how many of each split.

    Nothing where there are none; without a record of what was seen the policy is `unknown`.
    """
    counts = {split: len(rows) for split, rows in before.rows(card).items() if len(rows)}
    sizes = {split: card.size(split) for split in counts}
    if counts:
        return {"policy": policy, "counts": counts, "sizes": sizes}
    return {"policy": "unknown"} if before.unknown.any() else {}


def packed(digests: Array) -> str:
    """Return hashes (N, 8 or more), of which the first 8 bytes count, as the text that a card holds."""
    return b64encode(np.ascontiguousarray(digests[:, :BYTES]).tobytes()).decode()


def digests_of(card: Card, split: str) -> Array:
    """Return the hash of each example of a split (N, 8), in its stored order; none from a card of before."""
    return np.frombuffer(b64decode(card.examples.get(split, "")), np.uint8).reshape(-1, BYTES)


def _union(*parts: Array) -> Array:
    return np.unique(np.concatenate([_nothing(), *parts]), axis=0)


def _keys(digests: Array) -> Array:
    """Return hashes (n, 8) as n numbers."""
    return np.ascontiguousarray(digests).view(np.uint64)[:, 0]
