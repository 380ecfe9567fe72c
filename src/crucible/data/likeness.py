"""Whether two pictures are copies of one: their edges agree, up to a shift, by more than their detail leaves to chance.

Correlation of grey values tells little: any two sevens, or two portraits, have 0.99. Edges (differences of neighbouring
pixels, after a light blur that forgives a new compression) of different photographs have 0.2 to 0.4, of one photograph saved
anew 0.9 and more. Pictures with few edges are alike by chance more often: two handwritten ones agree by 0.99. So the bound
rises from 0.8 towards 1 as the pixels that carry edges become fewer: 0.993 for a digit of MNIST, 0.94 for a hand of `signs`,
0.8 for a photograph of 64 x 64. Across the splits of 70,000 digits no pair is reported, of 70,000 articles of clothing 4 for
10,000; of 200 photographs saved anew at quality 50, 97 % are found, moved by a pixel 98 %. docs/trust.md holds the table.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from crucible.data.readers.source import Array
from crucible.data.splits import SPLITS

PAIRS = 256  # compared at a time
SIDE = 64  # pixels a side at most
SHIFT = 2  # pixels in each direction
LOOSE = 0.2  # what may be missing to 1 where there is detail ...
DETAIL = 700  # ... in so many pixels; with fewer, less: by the power
POWER = 1.75


def grey(images: Array, side: int) -> Array:
    """Return images (n, C, H, W) as (n, h, w) float32: the mean of the channels over at most side x side cells."""
    cells = images.mean(axis=1, dtype=np.float32)
    for axis in (1, 2):
        size = cells.shape[axis]
        edges = np.arange(min(side, size)) * size // min(side, size)
        widths = np.diff(np.append(edges, size)).astype(np.float32)
        cells = np.add.reduceat(cells, edges, axis=axis) / widths.reshape(-1, *([1] * (2 - axis)))
    return cells


def compared(folder: Path, split: Array) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Return what compares pairs of examples, rows (n,) of all, by the images that a prepared folder holds.

    Args:
        split: (N,) the split of every example.
    """
    x = {n: np.load(folder / SPLITS[n] / "x.npy", mmap_mode="r") for n in np.unique(split[split >= 0]).tolist()}
    row = np.zeros(len(split), np.int64)
    for number, images in x.items():
        row[split == number] = np.arange(len(images))

    def likeness(first: Array, second: Array) -> tuple[Array, Array]:
        found = [(np.zeros(0, np.float32), np.zeros(0, bool))]
        for start in range(0, len(first), PAIRS):
            a, b = ([x[split[i]][row[i]] for i in rows[start : start + PAIRS]] for rows in (first, second))
            found.append(copies(np.stack(a), np.stack(b)))
        values, real = zip(*found, strict=True)
        return np.concatenate(values), np.concatenate(real)

    return likeness


def copies(first: Array, second: Array) -> tuple[Array, Array]:
    """Return the likeness (n,) of pairs of images, and whether each pair is of copies.

    Args:
        first, second: (n, C, H, W).
    """
    a, b = grey(first, SIDE), grey(second, SIDE)
    detail = np.minimum(_detail(_edges(a)), _detail(_edges(b)))
    likeness = _aligned(_edges(_blurred(a)), _edges(_blurred(b)))
    return likeness, likeness >= 1 - LOOSE * np.minimum(1, detail / DETAIL) ** POWER


def _edges(cells: Array) -> Array:
    """Return the differences to the neighbours below and to the right (n, 2, h - 1, w - 1)."""
    return np.stack([np.diff(cells, axis=1)[:, :, :-1], np.diff(cells, axis=2)[:, :-1]], axis=1)


def _blurred(cells: Array) -> Array:
    padded = np.pad(cells, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4


def _detail(edges: Array) -> Array:
    """Return how many pixels carry the edges: (sum of e)^2 / sum of e^2 for their energies e, N where all are equal."""
    energy = (edges**2).sum(axis=1).reshape(len(edges), -1)
    return energy.sum(axis=1) ** 2 / np.maximum((energy**2).sum(axis=1), 1e-9)


def _aligned(a: Array, b: Array) -> Array:
    """Return the largest correlation (n,) over shifts by up to SHIFT pixels, each over what both show."""
    best = np.full(len(a), -1.0, np.float32)
    for down in range(-SHIFT, SHIFT + 1):
        for right in range(-SHIFT, SHIFT + 1):
            best = np.maximum(best, _correlation(_moved(a, down, right), _moved(b, -down, -right)))
    return best


def _moved(edges: Array, down: int, right: int) -> Array:
    h, w = edges.shape[2:]
    return edges[:, :, max(0, down) : h + min(0, down), max(0, right) : w + min(0, right)]


def _correlation(a: Array, b: Array) -> Array:
    across, *norms = (np.einsum("ncij,ncij->n", x, y) for x, y in ((a, b), (a, a), (b, b)))
    return across / np.maximum(np.sqrt(norms[0] * norms[1]), 1e-6)
