"""The leak gate: the same example on both sides of a split, exactly or nearly.

Exact copies are found by a hash of the stored values. Near copies of images are looked for among the pairs that a perceptual
signature (a small grey version without brightness and contrast) finds most alike, are distinguished from look-alikes by their edges
(crucible.data.likeness), and reported, not dropped: only a person can judge them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from crucible.data.likeness import grey
from crucible.data.readers.source import Array
from crucible.data.splits import DROPPED, SPLITS
from crucible.errors import Refusal

GRID = 8
ALIKE = 0.95  # correlation of signatures from which a pair is looked at; a copy cropped by 4 % has 0.97 and more
BLOCK, SLAB = 512, 4096  # examples compared at a time
MOST_LOOKED_AT = 4000  # pairs: of 70,000 handwritten digits 700,000 are that alike, and the copies among the first
MOST_REPORTED = 1000
SHOWN = 5
MOST_COMPARED = (
    1_000_000  # examples: time grows with the square; of more of them a random part of the largest splits is compared
)
SAMPLE = 3000  # examples from whose pairs the number of pairs is estimated
RANK = np.array([SPLITS.index(split) for split in ("train", "train_dev", "dev", "test")]).argsort()  # who keeps a copy


def hashes(chunk: Iterable[Array]) -> Array:
    """Return a 128-bit hash of each example as (n,) byte strings."""
    if isinstance(chunk, np.ndarray):
        rows: Iterable[Array] = np.ascontiguousarray(chunk).reshape(len(chunk), -1).view(np.uint8)
    else:
        rows = (np.ascontiguousarray(row).reshape(-1).view(np.uint8) for row in chunk)
    digests = b"".join(blake2b(row.data, digest_size=16).digest() for row in rows)
    return np.frombuffer(digests, dtype="S16")


def signatures(chunk: Array) -> Array:
    """Return images (n, C, H, W) as (n, 64) float16: grey on at most 8 x 8 cells, zero mean, unit length.

    The product of two is their correlation; an image without contrast is all zeros, and like nothing.
    """
    small = grey(chunk, GRID)
    cells = np.zeros((len(small), GRID * GRID), np.float32)
    cells[:, : small[0].size] = small.reshape(len(small), -1)
    cells[:, : small[0].size] -= cells[:, : small[0].size].mean(axis=1, keepdims=True)
    return (cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6)).astype(np.float16)


def deduplicate(
    split_of: Mapping[str, Array],
    digests: Mapping[str, Array],
    policy: str,
    names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Apply the policy to exact copies that stand in two official splits; drop in place; return the pairs.

    The copy leaves train, or dev where its twin is in test.

    Args:
        split_of: per pool, (N,) split numbers; a dropped example becomes -1.
        digests: per pool, (N,) hashes.
        policy: `refuse`, `drop` or `keep`.
        names: per pool, what its examples are called; nothing: by pool and row.

    Raises:
        Refusal: the policy is `refuse` and there is a pair.
    """
    pools, starts = list(split_of), np.cumsum([0, *(len(part) for part in split_of.values())])
    split, digest = np.concatenate(list(split_of.values())), np.concatenate([digests[pool] for pool in split_of])
    _, inverse, counts = np.unique(digest, return_inverse=True, return_counts=True)
    pairs: list[dict[str, Any]] = []
    last: dict[int, int] = {}
    repeated = np.flatnonzero(counts[inverse] > 1)
    for i in repeated[np.argsort(-RANK[split[repeated]], kind="stable")].tolist():  # test first, train last
        kept = last.setdefault(int(inverse[i]), i)
        if split[kept] == split[i]:
            continue
        (pool, row), (twin, twin_row) = (_place(j, starts, pools) for j in (i, kept))
        copy = f"{pool}/{row}"
        called = {"names": [names[twin][twin_row], names[pool][row]]} if names else {}
        dropped = copy if policy == "drop" else None
        pairs.append({"kept": f"{twin}/{twin_row}", "copy": copy, "dropped": dropped, **called})
        if policy == "drop":
            split_of[pool][row] = DROPPED
    if pairs and policy == "refuse":
        raise _refused(pairs)
    return pairs


def _refused(pairs: Sequence[Mapping[str, Any]]) -> Refusal:
    shown = [" = ".join(each.get("names", (each["kept"], each["copy"]))) for each in pairs[:SHOWN]]
    more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return Refusal(
        "data.duplicates",
        f"{len(pairs)} exact copies stand in two splits: {'; '.join(shown)}{more}; "
        "what is tested would have been learned",
        allowed="drop (the copy leaves train, or dev where the twin is in test), keep",
        example="data.duplicates=drop",
    )


def _place(i: int, starts: Array, pools: list[str]) -> tuple[str, int]:
    """Return the pool and the row in it of example i of all pools."""
    number = int(np.searchsorted(starts, i, side="right")) - 1
    return pools[number], i - int(starts[number])


Pairs = tuple[Array, Array, Array]
Confirm = Callable[[Array, Array], tuple[Array, Array]]


def as_they_are(first: Array, second: Array) -> tuple[Array, Array]:
    """Confirm every pair that the signatures find, without a look at the images."""
    return np.full(len(first), np.nan), np.ones(len(first), bool)


def near(
    split: Array, signs: Array, digests: Array, confirm: Confirm = as_they_are, name: Callable[[int], str] | None = None
) -> list[dict[str, Any]]:
    """Return pairs of nearly equal images in different splits, most alike first, at most 1000; see `compared_rows`.

    Args:
        split: (N,) split numbers. signs: (N, 64) signatures. digests: (N,) exact hashes; equal ones are not near.
        confirm: takes the rows of pairs and gives their likeness, NaN for that of the signatures, and which are copies.
        name: gives what the example in a row is called.
    """
    rows = compared_rows(split)
    first, second, likeness = _candidates(split[rows], signs[rows], digests[rows])
    first, second = rows[first], rows[second]
    own, real = confirm(first, second)
    likeness = np.where(np.isnan(own), likeness, own)
    order = [k for k in np.lexsort((second, first, -likeness)).tolist() if real[k]][:MOST_REPORTED]
    found = []
    for k in order:
        a, b = int(first[k]), int(second[k])
        called = {"names": [name(a), name(b)]} if name is not None else {}
        places = {"a": _position(split, a), "b": _position(split, b)}
        found.append({**places, "correlation": round(float(likeness[k]), 4), **called})
    return found


def compared_rows(split: Array) -> Array:
    """Return the rows of the examples that are looked at for near copies: all, or of more than MOST_COMPARED a random part.

    Small splits are compared whole, and of the others as many of each as there is room for; always the same ones.
    """
    sizes = {number: int((split == number).sum()) for number in np.unique(split[split != DROPPED]).tolist()}
    if sum(sizes.values()) <= MOST_COMPARED:
        return np.flatnonzero(split != DROPPED)
    room, shares = MOST_COMPARED, dict[int, int]()
    for left, number in zip(range(len(sizes), 0, -1), sorted(sizes, key=sizes.__getitem__), strict=True):
        shares[number] = min(sizes[number], room // left)
        room -= shares[number]
    draw = np.random.default_rng(0)
    parts = [draw.choice(np.flatnonzero(split == number), shares[number], replace=False) for number in sorted(sizes)]
    return np.sort(np.concatenate(parts))


def _candidates(split: Array, signs: Array, digests: Array) -> Pairs:
    """Return the rows (P,) of the pairs across splits whose signatures are most alike, and how alike they are."""
    found: Pairs = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    bound = _bound(signs)
    for first, second in combinations(np.unique(split[split != DROPPED]), 2):
        for pairs in _alike(signs, np.flatnonzero(split == first), np.flatnonzero(split == second), bound):
            differ = digests[pairs[0]] != digests[pairs[1]]
            a, b, c = (np.concatenate([old, new[differ]]) for old, new in zip(found, pairs, strict=True))
            found = _most_alike((a, b, c)) if len(a) > 2 * MOST_LOOKED_AT else (a, b, c)
    return _most_alike(found)


def _most_alike(pairs: Pairs) -> Pairs:
    first, second, likeness = pairs
    order = np.lexsort((second, first, -likeness))[:MOST_LOOKED_AT]
    return first[order], second[order], likeness[order]


def _bound(signs: Array) -> float:
    """Return the correlation that about as many pairs reach as can be looked at, estimated from some; ALIKE at least."""
    some = signs[:: max(1, len(signs) // SAMPLE)].astype(np.float32)
    share = 2 * MOST_LOOKED_AT / max(1, len(signs)) ** 2
    count = int(share * len(some) ** 2)
    likeness = np.triu(some @ some.T, 1).ravel()
    if count >= len(likeness) // 2:
        return ALIKE
    return max(ALIKE, float(np.partition(likeness, -1 - count)[-1 - count]))


def _alike(signs: Array, a: Array, b: Array, bound: float) -> Iterator[Pairs]:
    """Give all pairs (rows of a, rows of b, correlation) that are at least `bound` alike.

    Unit vectors with that correlation are closer than `reach`, and so are their projections on any axis: along the two axes
    of largest spread each block meets only what is within reach, and nothing is missed.
    """
    reach = np.sqrt(max(0, 2 - 2 * bound)) + 0.01  # float16 rounds
    sample = signs[:: max(1, len(signs) // 10_000)].astype(np.float32)
    axes = np.linalg.eigh(sample.T @ sample)[1][:, :-3:-1]
    b = b[np.argsort(signs[b].astype(np.float32) @ axes[:, 0], kind="stable")]
    places = signs[b].astype(np.float32) @ axes
    for rows in _blocks(a, signs[a].astype(np.float32) @ axes):
        own = signs[rows].astype(np.float32)
        low, high = (own @ axes).min(axis=0) - reach, (own @ axes).max(axis=0) + reach
        part = slice(*np.searchsorted(places[:, 0], (low[0], high[0])).tolist())
        others = b[part][(places[part, 1] >= low[1]) & (places[part, 1] <= high[1])]
        for start in range(0, len(others), SLAB):
            likeness = own @ signs[others[start : start + SLAB]].astype(np.float32).T
            i, j = np.nonzero(likeness >= bound)
            yield rows[i], others[start + j], likeness[i, j]


def _blocks(rows: Array, places: Array) -> Iterator[Array]:
    """Give rows in blocks of neighbours: slabs along the first axis of `places` (N, 2), cut along the second."""
    order = np.argsort(places[:, 0], kind="stable")
    for start in range(0, len(rows), SLAB):
        slab = order[start : start + SLAB]
        slab = slab[np.argsort(places[slab, 1], kind="stable")]
        yield from (rows[slab[first : first + BLOCK]] for first in range(0, len(slab), BLOCK))


def _position(split: Array, i: int) -> str:
    """Name an example by its split and its row in the prepared arrays."""
    return f"{SPLITS[split[i]]}/{int((split[:i] == split[i]).sum())}"
