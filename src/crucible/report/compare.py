"""The page of a comparison: what may be concluded, the configurations as a table, and the charts that were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from crucible.diagnosis.compare import Interval, interval
from crucible.plots.charts import Lines, Series, Table, thinned
from crucible.report.web import embedded, rendered

COLUMNS = {"name": "configuration", "runs": "runs", "mean": "mean", "sd": "deviation", "low": "from", "high": "to", "difference": "difference from the best",
           "difference_low": "from", "difference_high": "to", "bounds_met": "keeps the bounds"}  # fmt: skip
WIDE = 20  # times: numbers that are further apart stand on a logarithmic axis
Curves = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Mark:
    """A mean with its interval at a value of the key that is on the axis."""

    x: Any
    mean: Interval
    runs: int


def compare_page(
    title: str,
    conclusion: str,
    following: str,
    rows: Sequence[Mapping[str, Any]],
    charts: Sequence[Lines],
    pictures: Mapping[str, Path],
) -> str:
    """Return the page.

    Args:
        rows: of compare.csv. charts: what was asked for. pictures: heading -> file.
    """
    cells = [
        [("yes" if row[key] else "no") if isinstance(row[key], bool) else row[key] for key in COLUMNS] for row in rows
    ]
    table = Table(
        "Means with their 95 % intervals",
        list(COLUMNS.values()),
        cells,
        note="A difference whose interval holds 0 may be noise.",
    )
    sections = [("result", "Result"), ("configurations", "Configurations"), *([("charts", "Charts")] if charts else [])]
    sections += [(f"picture{i + 1}", heading.partition(",")[0]) for i, heading in enumerate(pictures)]
    return rendered(
        "compare.html",
        {"table": [table], "charts": charts},
        title=title,
        sections=sections,
        conclusion=conclusion,
        following=following,
        pictures=[(heading, embedded(path)) for heading, path in pictures.items()],
    )


def against(key: str, lines: Mapping[str, Sequence[Mark]], metric: str) -> Lines:
    """Return a number against a key, with bands; values that are no numbers stand side by side.

    Args:
        lines: name -> its marks.
    """
    values = [mark.x for marks in lines.values() for mark in marks]
    ticks, place = None, {}
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
        named = sorted(dict.fromkeys(map(str, values)), key=lambda name: (len(name), name))
        ticks, place = named, {name: i for i, name in enumerate(named)}
    series = []
    for name, marks in lines.items():
        placed = sorted(
            ((place[str(mark.x)] if ticks else mark.x, mark.mean) for mark in marks), key=lambda each: each[0]
        )
        series.append(_banded(name or "all", [x for x, _ in placed], [mean for _, mean in placed]))
    log = ticks is None and min(values) > 0 and max(values) > WIDE * min(values)
    few = "" if all(mark.runs > 1 for marks in lines.values() for mark in marks) else " A value of one run has no band."
    return Lines(f"{metric} against {key}", series, x=key, log_x=log, ticks=ticks, note=f"The band is the 95 % interval of the mean over the runs.{few}")  # fmt: skip


def overlaid(
    names: Sequence[str], runs: Sequence[Sequence[Curves]], overlaps: Sequence[float], monitor: str
) -> list[Lines]:
    """Return the losses and the monitored number over the epochs, a line for each configuration: the mean of its runs, with a band.

    Args:
        names: of the configurations. runs: of each the rows of curves.csv of each run. overlaps: of each, where its runs are folds.
    """
    wanted = dict.fromkeys(["train/loss", "dev/loss", f"dev/{monitor}"])
    there = [name for name in wanted if all(name in curves[0] for own in runs for curves in own if curves)]
    return [
        Lines(name, [_curve(*own, name) for own in zip(names, runs, overlaps, strict=True)], x="epoch",
              note="The mean of the runs, and the 95 % interval of that mean, up to the last epoch that all of them have.")
        for name in there
    ]  # fmt: skip


def _curve(called: str, runs: Sequence[Curves], overlap: float, name: str) -> Series:
    """Return the mean of a number over the runs that a configuration has, epoch by epoch."""
    shared = min(len(rows) for rows in runs)
    rows = [(runs[0][i]["epoch"], [curves[i][name] for curves in runs]) for i in thinned(shared)]
    return _banded(called, [epoch for epoch, _ in rows], [interval(values, overlap) for _, values in rows])


def _banded(name: str, x: Sequence[float], means: Sequence[Interval]) -> Series:
    """Return means over x with their intervals as a band; none around a mean of one run."""
    low, high = (
        [edge if isfinite(edge) else None for edge in edges]
        for edges in zip(*((m.low, m.high) for m in means), strict=True)
    )
    return Series(name, x, [each.mean for each in means], low=low, high=high)
