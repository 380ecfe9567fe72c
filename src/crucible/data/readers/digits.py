"""Readers of the digits as something else: what they have in common (several labels), and two of them as a number (one-shot)."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from crucible.data.labels import UNKNOWN
from crucible.data.readers import npz
from crucible.data.readers.source import Array, Pool, Source
from crucible.data.splits import SPLITS
from crucible.schema import Seed

SHARES = (0.6, 0.2, 0.2)  # of the numbers, and of the digits they are made of
Pictures = dict[Literal["train", "dev", "test"], Annotated[int, Field(ge=2, le=10_000)]]
TRAITS = {"even": (0, 2, 4, 6, 8), "above 4": (5, 6, 7, 8, 9), "prime": (2, 3, 5, 7)}


def traits(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    unknown: Annotated[float, Field(ge=0, lt=1)],
    seed: Seed,
) -> Source:
    """Read digits as arrays x and y, and label each image (3,) with 1, 0, or -1 where the label is hidden.

    Args:
        unknown: the share of labels that are hidden, drawn from `seed`.

    Raises:
        Refusal: as the reader of arrays does.
    """
    source, rng, pools = npz.read(path, label, group_by), np.random.default_rng(seed), {}
    for name, pool in source.pools.items():
        flags = np.stack([np.isin(pool.labels, digits) for digits in TRAITS.values()], axis=1).astype(np.int64)
        flags[rng.random(flags.shape) < unknown] = UNKNOWN
        pools[name] = replace(pool, labels=flags)
    return replace(source, pools=pools, classes=list(TRAITS))


def numbers(
    path: Path | None, label: str | None = None, group_by: str | None = None, *, pictures: Pictures, seed: Seed
) -> Source:
    """Put two digits side by side: 100 numbers, of which 60 are in train, 20 others in dev and 20 in test.

    The digits of one split stand in no other. A number that is tested was never seen in training, the digits 0 to 9 were.

    Args:
        pictures: of each number, by split. seed: draws which numbers and which digits.

    Raises:
        Refusal: as the reader of arrays does.
    """
    source, rng, pools = npz.read(path, label), np.random.default_rng(seed), {}
    counts = {str(split): count for split, count in pictures.items()}
    [pool] = source.pools.values()
    images, order = np.concatenate(list(pool.chunks())), rng.permutation(len(pool.labels))
    parts = np.split(order, (np.cumsum(SHARES[:-1]) * len(order)).astype(int))
    whose = np.split(rng.permutation(100), (np.cumsum(SHARES[:-1]) * 100).astype(int))
    for split, rows, own in zip(SPLITS[:3], parts, whose, strict=True):
        labels = np.repeat(np.sort(own), counts[split])
        halves = [_drawn(rows, pool.labels, digits, rng) for digits in (labels // 10, labels % 10)]
        both = np.concatenate([images[half] for half in halves], axis=3)
        names = np.array([f"{number:02d}" for number in labels])
        pools[split] = Pool(labels=names, chunks=lambda both=both: iter([both]), groups=names)  # type: ignore[misc]
    return Source(pools, source.files)


def _drawn(rows: Array, labels: Array, digits: Array, rng: np.random.Generator) -> Array:
    """Return for each digit (n,) one of the rows that show it."""
    of_digit = {digit: rows[labels[rows] == digit] for digit in np.unique(digits)}
    return np.array([rng.choice(of_digit[digit]) for digit in digits])
