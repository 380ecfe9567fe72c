"""What is searched: each parameter with its range, on the scale on which it matters (notes 000, part 6, section 1).

A learning rate from 0.0001 to 1 is sampled as 10**r, a momentum from 0.9 to 0.999 as 1 - 10**r: log, and one_minus.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from crucible.errors import Refusal

Value = float | int | str
Conditions = tuple[tuple[str, tuple[str, ...]], ...]
EDGE, EXTEND, WIDER = 0.05, 0.5, 0.5  # shares of a range's width on its scale
EXAMPLE = "optimizer.lr=tag(log, interval(1e-4, 1))"


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included.

    Attributes:
        key: of the configuration. low, high: of the number itself, or with `one_minus` of 1 - it.
        log: whether equal factors, not equal steps, are equally likely. integer: whether the numbers are whole.
        when: choices of groups without which the parameter does not exist.
        label: tells it from another parameter of the same key, which exists under other choices.

    Raises:
        Refusal: the range is empty, reversed, not finite, or has no logarithm.
    """

    key: str
    low: float
    high: float
    log: bool = False
    one_minus: bool = False
    integer: bool = False
    when: Conditions = ()
    label: str = ""

    def __post_init__(self) -> None:
        written = f"interval({self.low:g}, {self.high:g})"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise Refusal(self.key, f"{written} is not finite", allowed="two numbers", example=EXAMPLE)
        if self.low >= self.high:
            what = "is empty" if self.low == self.high else "is reversed"
            raise Refusal(self.key, f"{written} {what}", allowed="interval(low, high) with low < high", example=EXAMPLE)
        if self.log and self.low <= 0:
            raise Refusal(
                self.key, f"{written} has no logarithm at {self.low:g}", allowed="log with low > 0", example=EXAMPLE
            )

    @property
    def name(self) -> str:
        """What is sampled, as the storage calls it."""
        return ("1 - " if self.one_minus else "") + _named(self.key, self.label)

    def override(self, value: Value) -> str:
        """Return the override that sets the sampled value."""
        assert not isinstance(value, str)
        return f"{self.key}={float(f'{1 - value:.12g}') if self.one_minus else value!r}"

    def grammar(self) -> str:
        """Return the range as it is typed."""
        inner = f"interval({self.low:.6g}, {self.high:.6g})"
        tags = [tag for tag in ("log", "one_minus") if getattr(self, tag)]
        inner = f"int({inner})" if self.integer else inner
        return f"{self.key}={'tag(' + ', '.join(tags) + f', {inner})' if tags else inner}"

    def narrowed(self, limits: "Range", kept: Sequence[Value], margin: float) -> "Range":
        """Return the range around the kept values, best first.

        A margin, a share of the width, is left on both sides. Where the best lies at an edge of this range that is no
        limit of the user's, the new range goes past it; never past the limits.
        """
        if not kept:
            return self
        places = [self._place(float(value)) for value in kept if not isinstance(value, str)]
        low, high = self._place(self.low), self._place(self.high)
        width = high - low
        left, right = max(low, min(places) - margin * width), min(high, max(places) + margin * width)
        if places[0] - low <= EDGE * width:
            left = low - EXTEND * width
        if high - places[0] <= EDGE * width:
            right = high + EXTEND * width
        ends, numbers = self._ends(left, right), [float(value) for value in kept]
        low = max(limits.low, min(ends[0], *numbers))  # exp(log(x)) is not x to the last bit
        high = min(limits.high, max(ends[1], *numbers))
        return replace(self, low=min(low, high - 1) if self.integer else low, high=high)

    def edge(self, value: Value) -> "Range | None":
        """Return the wider range that is worth trying where the value lies at one of this range's bounds."""
        assert not isinstance(value, str)
        low, high, place = self._place(self.low), self._place(self.high), self._place(float(value))
        width = high - low
        if min(place - low, high - place) > EDGE * width:
            return None
        beyond = WIDER * width
        wider = (low - beyond, high) if place - low <= EDGE * width else (low, high + beyond)
        low, high = self._ends(*wider)
        return replace(self, low=low, high=high) if (low, high) != (self.low, self.high) else None

    def at(self, share: float) -> Value:
        """Return the value at a share from 0 to 1 of the range, on its scale."""
        low, high = (self.low, self.high + 1) if self.integer else (self.low, self.high)
        place = self._place(low) + share * (self._place(high) - self._place(low))
        value = math.exp(place) if self.log else place
        return (
            min(int(self.high), max(int(self.low), math.floor(value)))
            if self.integer
            else min(self.high, max(self.low, value))
        )

    def _place(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _ends(self, low: float, high: float) -> tuple[float, float]:
        ends = (math.exp(low), math.exp(high)) if self.log else (low, high)
        if not self.integer:
            return ends
        least = max(1, math.floor(ends[0])) if self.log else math.floor(ends[0])
        return least, max(math.ceil(ends[1]), least + 1)


@dataclass(frozen=True)
class Choice:
    """One of several values, as they are typed in an override.

    Raises:
        Refusal: there is nothing to choose from.
    """

    key: str
    options: tuple[str, ...]
    when: Conditions = ()
    label: str = ""

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) < len(self.options):
            what = "one option stands twice" if self.options else "there is nothing to choose from"
            raise Refusal(self.key, what, allowed="choice(a, b, ...)", example="optimizer=choice(sgd, adam)")

    @property
    def name(self) -> str:
        """What is sampled, as the storage calls it."""
        return _named(self.key, self.label)

    def override(self, value: Value) -> str:
        """Return the override that sets the option."""
        return f"{self.key}={value}"

    def at(self, share: float) -> Value:
        """Return the option at a share from 0 to 1 of them."""
        return self.options[min(len(self.options) - 1, int(share * len(self.options)))]

    def grammar(self) -> str:
        """Return the choice as it is typed."""
        return f"{self.key}=choice({', '.join(self.options)})"

    def narrowed(self, limits: "Choice", kept: Sequence[Value], margin: float) -> "Choice":
        """Return the choice among the options that were kept."""
        return replace(self, options=tuple(each for each in self.options if each in kept)) if kept else self

    def edge(self, value: Value) -> None:
        """A choice has no edge."""
        return


Parameter = Range | Choice


@dataclass(frozen=True)
class Space:
    """The parameters, those that others depend on first."""

    parameters: tuple[Parameter, ...]

    def sample(self, pick: Callable[[Parameter], Value]) -> dict[str, Value]:
        """Return a value for each parameter that exists, by name; `pick` is asked in order."""
        values: dict[str, Value] = {}
        for each in self.parameters:
            if self._exists(each, values):
                values[each.name] = pick(each)
        return values

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Return values as overrides."""
        return [each.override(values[each.name]) for each in self.parameters if each.name in values]

    def narrowed(self, limits: "Space", kept: Sequence[Mapping[str, Value]], margin: float) -> "Space":
        """Return the space around the kept points, best first, within the user's limits."""
        pairs = zip(self.parameters, limits.parameters, strict=True)
        return Space(
            tuple(
                each.narrowed(limit, [point[each.name] for point in kept if each.name in point], margin)  # type: ignore[arg-type]
                for each, limit in pairs
            )
        )

    def wider(self, values: Mapping[str, Value]) -> list[Range]:
        """Return wider ranges for the parameters whose value lies at the user's own bound."""
        edges = [each.edge(values[each.name]) for each in self.parameters if each.name in values]
        return [edge for edge in edges if edge is not None]

    def plain(self) -> list[dict[str, Any]]:
        """Return the space as data."""
        return [asdict(each) for each in self.parameters]

    @classmethod
    def from_plain(cls, rows: Sequence[Mapping[str, Any]]) -> "Space":
        """Return the space that `plain` gave, from JSON too."""
        return cls(tuple(_parameter(row) for row in rows))

    @staticmethod
    def _exists(parameter: Parameter, values: Mapping[str, Value]) -> bool:
        return all(values.get(group) in options for group, options in parameter.when)


def _named(key: str, label: str) -> str:
    return f"{key} ({label})" if label else key


def _parameter(row: Mapping[str, Any]) -> Parameter:
    when = tuple((group, tuple(options)) for group, options in row["when"])
    if "options" in row:
        return Choice(**{**row, "options": tuple(row["options"]), "when": when})
    return Range(**{**row, "when": when})
