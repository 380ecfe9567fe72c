"""Whether one configuration is better than another, or luckier: means, spreads, and the interval of their difference."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and where the true one lies with 95 % confidence; infinitely wide without repeats."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether it lies on one side of 0: the difference is not noise alone."""
        return not self.low <= 0 <= self.high


def interval(values: Sequence[float], overlap: float = 0.0) -> Interval:
    """Return the mean of repeats and its interval (Student, 1908).

    Args:
        overlap: of folds, examples judged for each one trained on: their trainings share examples, so that their spread alone is too
            small (Nadeau and Bengio, 2003, Machine Learning 52, equation 9).
    """
    n = len(values)
    half = quantile(n - 1) * stdev(values) * sqrt(1 / n + overlap) if n > 1 else inf
    return Interval(mean(values), mean(values) - half, mean(values) + half)


def possible(found: Interval, metric: str) -> Interval:
    """Return an interval without values that a number of this name cannot have: a share is at most 1, a loss at least 0.

    But that of a surface, which may lie below 0.
    """
    is_share = metric not in ("loss", "rmse", "nme", "collisions") and found.mean <= 1  # an error may be an RMSE
    high = 1.0 if is_share else inf
    low = -inf if metric == "r2" or found.mean < 0 else 0.0
    return Interval(found.mean, max(low, found.low), min(high, found.high))


def difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return second - first: Student's interval with a common variance.

    With three runs each Welch's covers 96.7 % where the variances are equal; Student's 95 %, and 93.9 % where one
    deviation is twice the other (simulated, 40,000 pairs each).
    """
    apart = mean(second) - mean(first)
    if len(first) + len(second) < 3:
        return Interval(apart, -inf, inf)
    from scipy.stats import ttest_ind  # half a second that only comparisons need

    with warnings.catch_warnings():  # it remarks on runs that are equal
        warnings.simplefilter("ignore")
        low, high = ttest_ind(second, first).confidence_interval(CONFIDENCE)
    return Interval(apart, float(low), float(high))


def paired(first: Sequence[float], second: Sequence[float], overlap: float) -> Interval:
    """Return second - first of repeats that belong together one by one: of the same folds and seeds."""
    return interval([other - own for own, other in zip(first, second, strict=True)], overlap)


def together(groups: Sequence[Sequence[float]]) -> list[Interval]:
    """Return the mean of each group and its interval, with a variance common to all: a few repeats each are enough."""
    freedom = sum(len(values) - 1 for values in groups)
    if freedom == 0:
        return [Interval(mean(values), -inf, inf) for values in groups]
    common = sqrt(sum((value - mean(values)) ** 2 for values in groups for value in values) / freedom)
    halves = [quantile(freedom) * common / sqrt(len(values)) for values in groups]
    return [Interval(mean(v), mean(v) - half, mean(v) + half) for v, half in zip(groups, halves, strict=True)]


def quantile(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    from scipy.stats import t  # half a second that only comparisons need

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
