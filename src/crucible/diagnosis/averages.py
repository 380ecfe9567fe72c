"""Exponentially weighted averages (notes 000, part 5, section 2)."""

from collections.abc import Iterable, Iterator

from crucible.schema import Decay


def averages(values: Iterable[float], beta: Decay, *, corrected: bool) -> Iterator[float]:
    """Give v_t = beta v_(t-1) + (1 - beta) theta_t with v_0 = 0: about the mean of the last 1 / (1 - beta) values.

    Args:
        values: theta_1, theta_2, ...
        corrected: divide by 1 - beta^t, so that the first averages do not start from 0 (bias correction).
    """
    v, left = 0.0, 1.0
    for value in values:
        v, left = beta * v + (1 - beta) * value, left * beta
        yield v / (1 - left) if corrected else v
