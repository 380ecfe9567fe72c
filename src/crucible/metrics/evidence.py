"""How sure a measured error is: what so many examples can tell, and what they cannot.

Bounds of a rate are Wilson's (1927), those of a difference of two rates Newcombe's (1998, Statistics in Medicine 17:873, method
10); other errors bring their standard error. Train errors count as measured, too: other examples would have given others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from crucible.data.readers.source import Array

CLAIM = 1.4  # standard errors: each of the two bounds is beyond the truth in 8 % of all samples
SAME = 1e-9
REPORTED = 1.96  # 95 % in between
DRAWS, MOST_CLASSES = 1000, 50


@dataclass(frozen=True)
class Measured:
    """An error, and what it was measured on.

    Attributes:
        error: as measured. size: number of examples. spread: its standard error; None: it is the rate of mistakes among them.
    """

    error: float
    size: float = inf
    spread: float | None = None

    def bounds(self, z: float = CLAIM) -> tuple[float, float]:
        """Return where the error of all such examples lies."""
        if self.spread is not None:
            return self.error - z * self.spread, self.error + z * self.spread
        return wilson(self.error, self.size, z)


def wilson(rate: float, size: float, z: float) -> tuple[float, float]:
    """Return the bounds of a rate among `size` examples, within [0, 1]: 0 of 100 at 1.96 gives 0 and 0.037."""
    if size <= 0:
        return 0.0, 1.0
    share = z * z / size
    middle = (rate + share / 2) / (1 + share)
    half = z / (1 + share) * sqrt(rate * (1 - rate) / size + share / (4 * size))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(first: Measured, second: Measured, z: float = CLAIM) -> tuple[float, float]:
    """Return the bounds of second - first."""
    (low_1, high_1), (low_2, high_2) = first.bounds(z), second.bounds(z)
    apart = second.error - first.error
    below = sqrt((second.error - low_2) ** 2 + (high_1 - first.error) ** 2)
    above = sqrt((high_2 - second.error) ** 2 + (first.error - low_1) ** 2)
    return apart - below, apart + above


def sampled(confusion: Array, name: str) -> tuple[float, float]:
    """Return where 95 % of the values of `precision`, `recall` or `f1` lie that such counts (K, K) may come from.

    Tables are drawn from the Dirichlet posterior of the cells, with a prior of one example over all of them, so that no mistake
    in 50 examples is not taken for none in all. Two classes: of the second; more: macro averages over those with examples.
    """
    classes = len(confusion)
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(confusion.reshape(-1) + 1 / classes**2, DRAWS).reshape(DRAWS, classes, classes)
    hits, labels, predicted = np.einsum("nkk->nk", tables), tables.sum(axis=2), tables.sum(axis=1)
    whole = {"precision": predicted, "recall": labels, "f1": (labels + predicted) / 2}[name]
    chosen = np.arange(classes) == 1 if classes == 2 else confusion.sum(axis=1) > 0
    values = (hits / np.maximum(whole, 1e-300))[:, chosen].mean(axis=1)
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return low, high


def interval_of(name: str, value: float, error: Measured, confusion: Array | None) -> tuple[float, float] | None:
    """Return where 95 % of the values of a number lie that this many examples may give; None where nothing tells.

    Args:
        name, value: of the number. error: of the same split. confusion: counts (K, K) of a classifier.
    """
    of_spans = confusion is None and error.spread is not None and abs(1 - value - error.error) < SAME
    if name == "f1" and of_spans:  # whose error is 1 - f1
        low, high = error.bounds(REPORTED)
        return max(0.0, 1 - high), min(1.0, 1 - low)
    if name in ("precision", "recall", "f1"):
        if confusion is None or len(confusion) > MOST_CLASSES or (len(confusion) == 2 and not confusion[1].any()):
            return None
        low, high = sampled(confusion, name)
        return min(low, value), max(high, value)
    if name == "accuracy" and confusion is not None:  # the error may be one of costs
        low, high = wilson(1 - value, float(confusion.sum()), REPORTED)
        return 1 - high, 1 - low
    low, high = error.bounds(REPORTED)
    if name in ("error", "rmse"):
        return max(0.0, low), high
    if name in ("accuracy", "map50"):
        return max(0.0, 1 - high), min(1.0, 1 - low)
    return None


def jackknife(values: Sequence[float]) -> float:
    """Return the standard error of a number from its values without each of G groups of examples (Miller, 1974)."""
    groups, middle = len(values), sum(values) / len(values)
    return sqrt((groups - 1) / groups * sum((value - middle) ** 2 for value in values))
