"""Satisficing metrics: bounds that must hold; what is left is judged by one number (notes 000, part 7, section 2)."""

import operator
import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


def met(bound: str, value: float) -> bool:
    """Whether a value keeps a bound such as "<= 1"."""
    found = re.fullmatch(r"\s*(<=|>=|<|>)\s*(\S+)\s*", bound)
    assert found is not None, bound
    return COMPARE[found[1]](value, float(found[2]))


def violation(bound: str, value: float | None) -> float:
    """Return by how much a value breaks a bound: above 0 where it does, infinite where there is no value."""
    sign, edge = bound.split("=")[0].strip()[:1], float(bound.strip().lstrip("<>= "))
    if value is None:
        return inf
    beyond = value - edge if sign == "<" else edge - value
    return min(0.0, beyond) if met(bound, value) else max(beyond, 5e-324)


def check(bounds: Mapping[str, str], values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return for each bound its text, the value, and whether it is met; a value that is missing does not meet it."""
    return {
        name: {"bound": bound, "value": values.get(name), "met": name in values and met(bound, values[name])}
        for name, bound in bounds.items()
    }


def choose(candidates: Sequence[Mapping[str, Any]], monitor: str, goal: str, bounds: Mapping[str, str]) -> int | None:
    """Return the place of the best candidate that meets every bound, the first of equals; None where none does.

    The notes' example: A 90 % in 80 ms, B 92 % in 95 ms, C 95 % in 1500 ms; with at most 1000 ms B is chosen.
    """
    sign = 1 if goal == "maximize" else -1
    fit = [i for i, each in enumerate(candidates) if all(row["met"] for row in check(bounds, each).values())]
    return max(fit, key=lambda i: sign * candidates[i][monitor], default=None)
