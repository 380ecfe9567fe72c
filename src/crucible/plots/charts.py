"""Charts and tables as data: a page draws them in the browser, so that they can be read off, zoomed and sorted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

MOST_POINTS = 400  # of a line


@dataclass(frozen=True)
class Series:
    """A line, or points.

    Attributes:
        x, y: (N,); None where there is nothing. colour: its place among the page's colours; None: in turn. labels: of each point.
        low, high: (N,), the edges of a band around it.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    dashed: bool = False
    colour: int | None = None
    labels: Sequence[str] | None = None
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


@dataclass(frozen=True)
class Lines:
    """Lines over x, or points.

    Attributes:
        x: what is on the axis. note: what the chart says, in a sentence. range: of y; None: that of the values. diagonal: whether the line
            y = x is drawn. marker: {x, text} of a vertical line. band: {from, to, text} of a shaded range. ticks: names of x = 0, 1, ...
    """

    title: str
    series: Sequence[Series]
    x: str = ""
    note: str = ""
    log_x: bool = False
    log_y: bool = False
    points: bool = False
    diagonal: bool = False
    range: tuple[float, float] | None = None
    marker: Mapping[str, Any] | None = None
    band: Mapping[str, Any] | None = None
    ticks: Sequence[str] | None = None
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True)
class Bar:
    """A bar and its text; `high`: it is above what is tolerated, `plain`: it is there for comparison."""

    name: str
    value: float
    text: str
    high: bool = False
    plain: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars from 0, one below the other."""

    title: str
    bars: Sequence[Bar]
    note: str = ""
    kind: Literal["bars"] = "bars"


@dataclass(frozen=True)
class Table:
    """Rows of numbers and text, which can be sorted by each column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix; `opens`: a wrong cell shows its pictures in the gallery."""

    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    opens: bool
    note: str = ""
    kind: Literal["matrix"] = "matrix"


Part = Lines | Bars | Table | Matrix


def as_data(part: Part) -> Any:
    """Return a part as JSON takes it: what is no finite number is null."""
    return _plain(asdict(part))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def thinned(size: int, most: int = MOST_POINTS) -> list[int]:
    """Return the places of at most `most` points of a line of `size`, its ends among them."""
    return list(range(size)) if size <= most else sorted({round(i * (size - 1) / (most - 1)) for i in range(most)})
