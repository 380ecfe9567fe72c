"""Mean and deviation in one pass over chunks (Chan, Golub and LeVeque, 1983: the pairwise update of sums of squares)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crucible.data.readers.source import Array

ROUNDING = 1e-12
Measured = tuple[Array, Array, Any]  # mean, sum of squares around it, and number of the values of a chunk


class Moments:
    """Mean and deviation per channel of images (n, C, H, W) and volumes (n, C, D, H, W), or per feature of vectors (n, F).

    NaN is a value that is not there.
    """

    def __init__(self) -> None:
        self.count = 0
        self._values: Any = 0
        self._mean: Array = np.zeros(1)
        self._squares: Array = np.zeros(1)

    def add(self, chunk: Array) -> None:
        """Take in a chunk, all of whose rows are examples."""
        if len(chunk):
            self.take(measured(chunk), len(chunk))

    def take(self, of_chunk: Measured, examples: int) -> None:
        """Take in what was measured on a chunk of so many examples; chunks come in their order, as no sum of rounded numbers is the same in
        another."""
        mean, squares, values = of_chunk
        total = np.maximum(1, self._values + values)
        delta = mean - self._mean
        self._squares = self._squares + squares + delta**2 * (self._values * values / total)
        self._mean = self._mean + delta * (values / total)
        self._values = self._values + values
        self.count += examples

    def mean_std(self) -> tuple[list[float], list[float]]:
        """Return mean and population deviation; a deviation of 0, or of rounding alone, marks what never changes."""
        std = np.sqrt(self._squares / np.maximum(1, self._values))
        return self._mean.tolist(), np.where(std > ROUNDING * np.abs(self._mean), std, 0.0).tolist()


def measured(chunk: Array, passed_over: Sequence[int] = ()) -> Measured:
    """Return what `Moments` takes in of a chunk that has rows; 8-bit images are counted by value, which is exact.

    Args:
        passed_over: features that are no numbers; their mean and deviation are 0.
    """
    return _of_bytes(chunk) if _is_bytes(chunk) else _of_numbers(chunk, passed_over)


def _is_bytes(chunk: Array) -> bool:
    return chunk.dtype == np.uint8 and chunk.ndim >= 4


def _of_bytes(chunk: Array) -> tuple[Array, Array, int]:
    counts = np.stack([np.bincount(chunk[:, c].reshape(-1), minlength=256) for c in range(chunk.shape[1])])
    values = chunk[:, 0].size
    levels = np.arange(256.0)
    mean = counts @ levels / values
    squares = (counts * (levels - mean[:, None]) ** 2).sum(axis=1)
    return mean, squares, values


def _of_numbers(chunk: Array, passed_over: Sequence[int]) -> tuple[Array, Array, Any]:
    axes = (0, *range(2, chunk.ndim)) if chunk.ndim >= 4 else (0,)
    numbers = chunk.astype(np.float64)
    if passed_over or np.isnan(numbers).any():
        return _of_known(numbers, passed_over)
    mean = numbers.mean(axis=axes, keepdims=True)
    squares = ((numbers - mean) ** 2).sum(axis=axes)
    return mean.reshape(-1), squares, chunk.size // mean.size


def _of_known(numbers: Array, passed_over: Sequence[int]) -> tuple[Array, Array, Array]:
    """Return mean, sum of squares and count of the values of each feature (n, F) that are there."""
    known = ~np.isnan(numbers)
    known[:, list(passed_over)] = False
    count = known.sum(axis=0)
    mean = np.where(known, numbers, 0.0).sum(axis=0) / np.maximum(1, count)
    squares = np.where(known, (numbers - mean) ** 2, 0.0).sum(axis=0)
    return mean, squares, count
