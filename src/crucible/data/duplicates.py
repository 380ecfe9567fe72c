"""The leak gate: the same example on both sides of a split, exactly or nearly.

Exact copies are found by a hash of the stored values. Near copies of images are found by a perceptual signature (a small
grey version without brightness and contrast), and reported, not dropped: only a person can judge them.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import combinations

import numpy as np

from crucible.data.readers.source import Array
from crucible.data.splits import DROPPED, SPLITS
from crucible.errors import Refusal

GRID = 8
ALIKE = 0.998  # correlation: one photograph saved twice has more, of two photographs or two handwritten digits few do
BLOCK = 2048
MOST_REPORTED = 1000
RANK = np.array([SPLITS.index(split) for split in ("train", "train_dev", "dev", "test")]).argsort()  # who keeps a copy


def hashes(chunk: Array) -> Array:
    """Return a 128-bit hash of each example as (n,) byte strings."""
    rows = np.ascontiguousarray(chunk).reshape(len(chunk), -1).view(np.uint8)
    digests = b"".join(blake2b(row.data, digest_size=16).digest() for row in rows)
    return np.frombuffer(digests, dtype="S16")


def signatures(chunk: Array) -> Array:
    """Return images (n, C, H, W) as (n, 64) float16: grey on at most 8 x 8 cells, zero mean, unit length.

    The product of two is their correlation; an image without contrast is all zeros, and like nothing.
    """
    grey = chunk.mean(axis=1, dtype=np.float32)
    for axis in (1, 2):
        size = grey.shape[axis]
        edges = np.arange(min(GRID, size)) * size // min(GRID, size)
        widths = np.diff(np.append(edges, size)).astype(np.float32)
        grey = np.add.reduceat(grey, edges, axis=axis) / widths.reshape(-1, *([1] * (2 - axis)))
    cells = np.zeros((len(grey), GRID * GRID), np.float32)
    cells[:, : grey[0].size] = grey.reshape(len(grey), -1)
    cells[:, : grey[0].size] -= cells[:, : grey[0].size].mean(axis=1, keepdims=True)
    return (cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6)).astype(np.float16)


def gate(split_of: Mapping[str, Array], digests: Mapping[str, Array], policy: str) -> list[dict[str, str | None]]:
    """Apply the policy to exact copies that stand in two official splits; drop in place; return the pairs.

    The copy leaves train, or dev where its twin is in test.

    Args:
        split_of: per pool, (N,) split numbers; a dropped example becomes -1.
        digests: per pool, (N,) hashes.
        policy: `refuse`, `drop` or `keep`.

    Raises:
        Refusal: the policy is `refuse` and there is a pair.
    """
    pools, starts = list(split_of), np.cumsum([0, *(len(part) for part in split_of.values())])
    split, digest = np.concatenate(list(split_of.values())), np.concatenate([digests[pool] for pool in split_of])
    _, inverse, counts = np.unique(digest, return_inverse=True, return_counts=True)
    pairs: list[dict[str, str | None]] = []
    last: dict[int, int] = {}
    repeated = np.flatnonzero(counts[inverse] > 1)
    for i in repeated[np.argsort(-RANK[split[repeated]], kind="stable")].tolist():  # test first, train last
        kept = last.setdefault(int(inverse[i]), i)
        if split[kept] == split[i]:
            continue
        (pool, row), (twin, twin_row) = (_place(j, starts, pools) for j in (i, kept))
        copy = f"{pool}/{row}"
        pairs.append({"kept": f"{twin}/{twin_row}", "copy": copy, "dropped": copy if policy == "drop" else None})
        if policy == "drop":
            split_of[pool][row] = DROPPED
    if pairs and policy == "refuse":
        raise Refusal(
            "data.duplicates",
            f"{len(pairs)} exact copies stand in two splits, the first: {pairs[0]['kept']} = {pairs[0]['copy']}; "
            "what is tested would have been learned",
            allowed="drop (the copy leaves train, or dev where the twin is in test), keep",
            example="data.duplicates=drop",
        )
    return pairs


def _place(i: int, starts: Array, pools: list[str]) -> tuple[str, int]:
    """Return the pool and the row in it of example i of all pools."""
    number = int(np.searchsorted(starts, i, side="right")) - 1
    return pools[number], i - int(starts[number])


def near(split: Array, signs: Array, digests: Array) -> list[dict[str, str | float]]:
    """Return pairs of nearly equal images in different splits, most alike first, at most 1000.

    Args:
        split: (N,) split numbers. signs: (N, 64) signatures. digests: (N,) exact hashes; equal ones are not near.
    """
    found: list[tuple[float, int, int]] = []
    for first, second in combinations(np.unique(split[split != DROPPED]), 2):
        for a, b, likeness in _alike(signs, np.flatnonzero(split == first), np.flatnonzero(split == second)):
            differ = digests[a] != digests[b]
            found += list(zip(likeness[differ].tolist(), a[differ].tolist(), b[differ].tolist(), strict=True))
            found = sorted(found, key=_most_alike)[:MOST_REPORTED]
    position = _positions(split)
    return [{"a": position[a], "b": position[b], "correlation": round(likeness, 4)} for likeness, a, b in found]


def _most_alike(pair: tuple[float, int, int]) -> tuple[float, int, int]:
    return -pair[0], pair[1], pair[2]


def _alike(signs: Array, a: Array, b: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Give all pairs (rows of a, rows of b, correlation) at least ALIKE.

    Unit vectors with that correlation are closer than `reach`, and so are their projections on any axis: along the axis
    of largest spread each block meets only what is within reach, and nothing is missed.
    """
    reach = np.sqrt(2 - 2 * ALIKE) + 0.01  # float16 rounds
    sample = signs[:: max(1, len(signs) // 10_000)].astype(np.float32)
    axis = np.linalg.eigh(sample.T @ sample)[1][:, -1]
    a, b = (rows[np.argsort(signs[rows].astype(np.float32) @ axis, kind="stable")] for rows in (a, b))
    place_a, place_b = signs[a].astype(np.float32) @ axis, signs[b].astype(np.float32) @ axis
    for start in range(0, len(a), BLOCK):
        rows = a[start : start + BLOCK]
        low = np.searchsorted(place_b, place_a[start] - reach)
        high = np.searchsorted(place_b, place_a[min(start + BLOCK, len(a)) - 1] + reach)
        for column in range(low, high, BLOCK):
            others = b[column : min(column + BLOCK, high)]
            likeness = signs[rows].astype(np.float32) @ signs[others].astype(np.float32).T
            i, j = np.nonzero(likeness >= ALIKE)
            if len(i) > 2 * MOST_REPORTED:  # more could not be reported anyway
                best = np.argsort(-likeness[i, j], kind="stable")[: 2 * MOST_REPORTED]
                i, j = i[best], j[best]
            yield rows[i], others[j], likeness[i, j]


def _positions(split: Array) -> list[str]:
    """Name each example by its split and its row in the prepared arrays."""
    rows = np.zeros(len(split), dtype=np.int64)
    for number in range(len(SPLITS)):
        rows[split == number] = np.arange((split == number).sum())
    return [f"{SPLITS[s]}/{row}" for s, row in zip(split, rows, strict=True)]
