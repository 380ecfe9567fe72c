"""What compare.py writes: the table, the page, and pictures: every run, a number against a key, the learning curves."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from statistics import stdev
from typing import Any

from crucible.app.comparison import (
    NEUTRAL,
    Comparison,
    Group,
    Settings,
    conclusion,
    following,
    short_names,
    value_of,
    within,
)
from crucible.app.prepared import task_class
from crucible.app.reporting import recorded
from crucible.data.card import read_card
from crucible.errors import Refusal, as_called
from crucible.files import CURVES
from crucible.instantiate import build
from crucible.plots.charts import Lines
from crucible.report.compare import Mark, against, compare_page, overlaid
from crucible.schema import nearest
from crucible.tasks.task import MonitoredTask
from crucible.text import spreadsheet_safe
from crucible.tracking.curves import read_curves
from crucible.tracking.folder import write_atomic

ABSENT = "no such key"


def write(found: Comparison, settings: Settings) -> list[str]:
    """Write compare.html, compare.csv and the pictures; return their paths.

    Raises:
        Refusal: a key that no run has, before anything is written.
    """
    from crucible.plots import figures  # matplotlib

    charts = dict(_charts(found, settings))
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"out={out}", f"cannot be written: {error}", allowed="a folder that can") from None
    names = short_names(found)[1]
    rows = [_row(each, place == found.chosen, found.metric) for place, each in enumerate(found.groups)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "values": " ".join(map(repr, row["values"]))} for row in rows)
    write_atomic(out / "compare.csv", buffer.getvalue().encode())
    shown = [{**row, "name": name} for row, name in zip(rows, names, strict=True)]
    figures.compared(shown, f"{found.metric} on {found.split}", out / "compare.png")
    for name, parts in charts.items():
        figures.lines(parts, out / name)
    pictures = {"Runs, means and intervals": out / "compare.png", **_story(found, names, out)}
    html = compare_page(
        f"{found.metric} on {found.split}, {len(found.groups)} configuration(s)",
        conclusion(found),
        as_called(following(found)),
        shown,
        [part for parts in charts.values() for part in parts],
        pictures,
    )
    write_atomic(out / "compare.html", html.encode())
    files = ["compare.html", "compare.csv", "compare.png", *charts, *(each.name for each in pictures.values())]
    return [str(out / name) for name in dict.fromkeys(files)]


def _charts(found: Comparison, settings: Settings) -> Iterator[tuple[str, list[Lines]]]:
    """Give what was asked for beside the table, by the name of its picture."""
    if settings.x is not None:
        yield "compare_x.png", [_against(found, settings.x)]
    if settings.curves:
        runs = [[read_curves(folder / CURVES) for folder in each.folders] for each in found.groups]
        overlaps = [each.overlap for each in found.groups]
        yield "compare_curves.png", overlaid(short_names(found)[1], runs, overlaps, found.metric)


def _against(found: Comparison, key: str) -> Lines:
    """Return the number against a key: a line for each configuration of all the other keys."""
    if key.startswith(NEUTRAL):
        raise Refusal(f"x={key}", "runs that differ in it alone are one configuration: there is one mean of them all",
                      allowed="a key that tells configurations apart", example="x=model.layers")  # fmt: skip
    values = [value_of(each.config, key, absent=ABSENT) for each in found.groups]
    if ABSENT in values:
        known = sorted({name for each in found.groups for name in _keys(each.config)})
        raise Refusal(f"x={key}", "not every run has this key", nearest=nearest(key, known), example="x=model.layers")
    names = short_names(found, (f"{key}=", f"{key}."))[1]
    if len(set(zip(map(str, values), names, strict=True))) < len(names):  # what the same choice was given differs
        names = short_names(found, (f"{key}=",))[1]
    names = names if len(set(names)) > 1 else [""] * len(names)
    lines: dict[str, list[Mark]] = {}
    for each, value, name in zip(found.groups, values, names, strict=True):
        lines.setdefault(name, []).append(Mark(_single(value), within(each, found.metric), len(each.values)))
    return against(key, lines, f"{found.metric} on {found.split}")


def _single(value: Any) -> Any:
    """Return the one value of a list or a mapping: the width of one layer, the examples of a class."""
    if value is None:
        return "null"
    inner = list(value.values()) if isinstance(value, dict) else value
    return inner[0] if isinstance(inner, list) and len(inner) == 1 else value


def _keys(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")


def _story(found: Comparison, names: list[str], out: Path) -> dict[str, Path]:
    """Draw how the trainings went where their task has its own picture of it: the first run of each configuration."""
    config, folder = found.groups[0].config, found.groups[0].folders[0]
    if task_class(config).story is MonitoredTask.story:
        return {}
    task: MonitoredTask = build("task", config["task"], read_card(folder))
    runs = {name: recorded(each.folders[0]) for name, each in zip(names, found.groups, strict=True)}
    return task.story(runs, out)


def _row(each: Group, chosen: bool, metric: str) -> dict[str, Any]:
    own, apart = within(each, metric), each.against
    assert apart is not None
    return {
        "name": spreadsheet_safe(each.name),
        "runs": len(each.values),
        "mean": own.mean,
        "sd": stdev(each.values) if len(each.values) > 1 else 0.0,
        "low": own.low,
        "high": own.high,
        "difference": apart.mean,
        "difference_low": apart.low,
        "difference_high": apart.high,
        "bounds_met": each.bounds_met,
        "chosen": chosen,
        "values": each.values,
    }
