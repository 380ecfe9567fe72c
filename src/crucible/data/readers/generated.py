"""Readers of data that are made, not read: the course's toy problems, equal for equal settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from crucible.data.readers.source import Array, Pool, Source
from crucible.data.splits import SPLITS
from crucible.schema import Count, NonNegative, Seed, Share, Whole

Size = Whole  # 0: no dev split
Draw = Callable[[np.random.Generator, Array], Array]
FINE, GRID, ALONG = 20000, 400, 400  # points of a line, of each axis of a plane, and along a half circle
FAR = 1e8  # where the Bessel function is its asymptote to 9 digits
MOST_BLOBS = 100  # on one circle
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
GATES = {"and": [0, 0, 0, 1], "nand": [1, 1, 1, 0], "or": [0, 1, 1, 1], "xor": [0, 1, 1, 0]}


def circles(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    train_size: Count,
    dev_size: Size,
    test_size: Count,
    factor: Share,
    noise: NonNegative,
    seed: Seed,
) -> Source:
    """Make two circles around the origin, radius 1 (class 0) and `factor` (class 1), each point moved by N(0, noise^2).

    Bayes error: half the area below both densities of the distance from the origin, which are Rice's.
    """

    def best() -> float:
        if 20 * noise < 1 - factor:  # ten deviations from each circle to the middle of the gap
            return 0.0
        from scipy.special import ive  # a fifth of a second that only preparing these needs

        r = np.linspace(max(0.0, factor - 10 * noise), 1 + 10 * noise, FINE)

        def density(radius: float) -> Array:
            z = r * radius / noise**2
            bessel = np.where(z < FAR, ive(0, np.minimum(z, FAR)), 1 / np.sqrt(2 * np.pi * np.maximum(z, 1.0)))
            values: Array = r / noise**2 * np.exp(-((r - radius) ** 2) / (2 * noise**2)) * bessel
            return values

        return _shared(np.stack([density(1.0), density(factor)]), float(r[1] - r[0]))

    def draw(rng: np.random.Generator, y: Array) -> Array:
        angle = rng.uniform(0, 2 * np.pi, len(y))
        radius = np.where(y == 1, factor, 1.0)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    return _source((train_size, dev_size, test_size), noise, seed, draw, best=best)


def moons(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    train_size: Count,
    dev_size: Size,
    test_size: Count,
    noise: NonNegative,
    seed: Seed,
) -> Source:
    """Make two half circles that reach into each other, each point moved by N(0, noise^2).

    Bayes error: half the volume below both densities, sums of normal ones along each half circle, on a grid.
    """

    def best() -> float:
        angle = (np.arange(ALONG) + 0.5) * np.pi / ALONG
        axes = [np.linspace(low - 6 * noise, high + 6 * noise, GRID) for low, high in ((-1, 2), (-0.5, 1))]
        cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
        densities = []
        for y in (0, 1):
            sign = 1 - 2 * y
            bells = [
                np.exp(-((axis[:, None] - middle) ** 2) / (2 * noise**2)) / (noise * np.sqrt(2 * np.pi))
                for axis, middle in zip(axes, (y + sign * np.cos(angle), 0.5 * y + sign * np.sin(angle)), strict=True)
            ]
            densities.append(bells[0] @ bells[1].T / ALONG)
        return _shared(np.stack(densities), float(cell))

    def draw(rng: np.random.Generator, y: Array) -> Array:
        angle, sign = rng.uniform(0, np.pi, len(y)), 1 - 2 * y
        return np.stack([y + sign * np.cos(angle), 0.5 * y + sign * np.sin(angle)], axis=1)

    return _source((train_size, dev_size, test_size), noise, seed, draw, best=best)


def worked_example(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    x: Annotated[list[float], Field(min_length=1, max_length=100)],
    target: float,
) -> Source:
    """Make one example, to be followed with pencil and paper; every split is this one."""
    pool = _pool(np.array([x], np.float32), np.array([target]))
    return Source(dict.fromkeys(SPLITS[:3], pool), {})


def blobs(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    train_size: Count,
    dev_size: Size,
    test_size: Count,
    classes: Annotated[Count, Field(ge=2, le=MOST_BLOBS)],
    noise: NonNegative,
    seed: Seed,
) -> Source:
    """Make one cloud of points a class, N(0, noise^2) around its place on the unit circle, the classes in even distances.

    Bayes error: how often a point leaves its sector, as of signals with K phases (Craig, 1991, MILCOM 91, equation 5).
    """

    def best() -> float:
        half = np.pi / classes
        angle = (np.arange(FINE) + 0.5) * (np.pi - half) / FINE
        values = np.exp(-((np.sin(half) / np.sin(angle)) ** 2) / (2 * noise**2))
        return float(values.mean() * (np.pi - half) / np.pi)

    def draw(rng: np.random.Generator, y: Array) -> Array:
        angle = 2 * np.pi * y / classes
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    return _source((train_size, dev_size, test_size), noise, seed, draw, classes, best=best)


def gates(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    gate: Literal["and", "nand", "or", "xor"],
) -> Source:
    """Make the four corners of the unit square with a logic gate's answers; every split is these four."""
    pool = _pool(CORNERS, np.array(GATES[gate]))
    return Source(dict.fromkeys(SPLITS[:3], pool), {}, bayes_error=lambda: 0.0)


def tilts(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    size: Count,
    noise: NonNegative,
    seed: Seed,
) -> Source:
    """Make examples (2,) that tilt a surface, each its own way, N(0, noise^2): of all together it is level.

    A step over few of them goes another way than one over all: the paths of batch, mini-batch and stochastic descent. Dev and test
    are one example that tilts nothing.
    """
    drawn = np.random.default_rng(seed).normal(0, noise, (size, 2))
    tilt, level = (drawn - drawn.mean(axis=0)).astype(np.float32), np.zeros((1, 2), np.float32)
    parts = zip(SPLITS[:3], (tilt, level, level), strict=True)
    return Source({split: _pool(x, np.zeros(len(x), np.int64)) for split, x in parts}, {})


def _pool(x: Array, labels: Array) -> Pool:
    return Pool(labels=labels, chunks=lambda: iter([x]))


def _shared(densities: Array, cell: float) -> float:
    """Return the error of the likeliest of two equally frequent classes: half of what lies below both densities (2, ...)."""
    return float(densities.min(axis=0).sum() * cell / 2)


def _source(
    sizes: tuple[int, int, int], noise: float, seed: int, draw: Draw, classes: int = 2, *, best: Callable[[], float]
) -> Source:
    """Make official splits of classes in turn, each from its own random numbers; `best` computes the Bayes error of noise."""
    pools = {}
    for number, (split, size) in enumerate(zip(SPLITS[:3], sizes, strict=True)):
        rng = np.random.default_rng([seed, number])
        if size == 0:
            continue
        y = np.arange(size) % classes
        pools[split] = _pool((draw(rng, y) + rng.normal(0, noise, (size, 2))).astype(np.float32), y)
    return Source(pools, {}, bayes_error=best if noise > 0 else lambda: 0.0)
