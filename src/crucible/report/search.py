"""The pictures of a search, and its page: history, importances, slices, parallel coordinates, and the narrowing itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from crucible.plots.charts import Bar, Bars, Lines, Part, Series, Table
from crucible.plots.figures import BLUE, GREY, ORANGE, RED, save
from crucible.report.web import embedded, rendered
from crucible.search.plan import ranked
from crucible.search.search import CONFIRM, Plan, SearchState
from crucible.search.space import Choice, Parameter, Space
from crucible.search.trials import Trial

COLOURS = (BLUE, ORANGE, "#2f855a", "#805ad5", "#b83280")


def draw(
    plan: Plan,
    standing: SearchState,
    opened: Mapping[str, Mapping[str, Any] | None],
    importances: Mapping[str, float],
    metric: str,
    folder: Path,
) -> dict[str, Path]:
    """Draw every picture that there is something for; return heading -> file.

    Args:
        opened: what each stage was begun with, its ranges among it. importances: by parameter, of the first stage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ended = {name: [each for each in own if each.counts] for name, own in standing.trials.items() if name != CONFIRM}
    shown = [
        each for each in plan.space.parameters if any(each.name in t.values for own in ended.values() for t in own)
    ]
    made = {}
    if any(_value(each) is not None for own in ended.values() for each in own):
        made["History: each trial, and the best so far"] = _history(plan, ended, metric, folder / "history.png")
        made["Slices: each parameter against the value"] = _slices(plan, shown, ended, metric, folder / "slices.png")
        made["Parallel coordinates: the better, the stronger the line"] = _parallel(
            plan, shown, ended, folder / "parallel.png"
        )
    made["The narrowing: what each stage sampled, within its ranges"] = _narrowing(
        shown, ended, opened, folder / "narrowing.png"
    )
    if importances:
        made["Importances: how much of the spread each parameter explains"] = _importances(
            importances, folder / "importances.png"
        )
    return made


def page(title: str, screen: str, best: str, standing: SearchState, metric: str, pictures: Mapping[str, Path],
         importances: Mapping[str, float]) -> str:  # fmt: skip
    """Return the self-contained page."""
    trials = [each for own in standing.trials.values() for each in own]
    columns = ["stage", "trial", "state", metric, "epochs", "parameters", "why"]
    rows = [[each.stage, each.number, each.state, each.value, each.epochs, _point(each), f"{each.facts.get('cause', '')} {each.facts.get('why', '')}".strip()]
            for each in trials]  # fmt: skip
    parts: dict[str, Sequence[Part]] = {
        "charts": _charts(standing, metric, importances),
        "trials": [Table("In the order of their stages", columns, rows)],
    }
    drawn = [
        (heading, path) for heading, path in pictures.items() if not heading.startswith(("History", "Importances"))
    ]
    sections = [("result", "Result"), *([("charts", "History")] if parts["charts"] else []),
                *((f"picture{i + 1}", heading.partition(":")[0]) for i, (heading, _) in enumerate(drawn)), ("trials", "Every trial"), ("best", "best.yaml")]  # fmt: skip
    shown = [(heading, embedded(path)) for heading, path in drawn]
    return rendered("search.html", parts, title=title, sections=sections, screen=screen, best=best, pictures=shown)


def _charts(standing: SearchState, metric: str, importances: Mapping[str, float]) -> list[Part]:
    """Return every trial's value in the order of the search, and how much of the spread each parameter explains."""
    series, start = [], 0
    for name, own in standing.trials.items():
        told = [
            (start + i, _value(each), f"trial {each.number}, {each.state}: {_point(each)}")
            for i, each in enumerate(own)
            if _value(each) is not None
        ]
        series += (
            [Series(name, [x for x, _, _ in told], [y for _, y, _ in told], labels=[label for _, _, label in told])]
            if told
            else []
        )
        start += len(own)
    found: list[Part] = (
        [
            Lines(
                "Every trial",
                series,
                x="trial, in order",
                points=True,
                note=f"dev {metric}; of a trial that was stopped what it had reached.",
            )
        ]
        if series
        else []
    )
    bars = [
        Bar(name, share, f"{100 * share:.0f} %")
        for name, share in sorted(importances.items(), key=lambda pair: -pair[1])
    ]
    return [
        *found,
        *(
            [Bars("Importances", bars, note="The share of the spread in the first stage that each parameter explains.")]
            if bars
            else []
        ),
    ]


def _point(trial: Trial) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in trial.values.items())


def _value(trial: Trial) -> float | None:
    """Return a trial's value, or what a stopped one had reached."""
    return trial.value if trial.value is not None else (list(trial.curve.values())[-1] if trial.curve else None)


def _dots(axis: Axes, points: Sequence[tuple[float, float | None]], size: float, **looks: Any) -> None:
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    axis.scatter(x, y, s=size, **looks)


def _colour(names: Sequence[str], name: str) -> str:
    return COLOURS[names.index(name) % len(COLOURS)]


def _history(plan: Plan, ended: Mapping[str, list[Trial]], metric: str, path: Path) -> Path:
    figure, axis = plt.subplots(figsize=(8, 3.4))
    start, names = 0, list(ended)
    better = np.maximum if plan.goal == "maximize" else np.minimum
    for name, own in ended.items():
        colour = _colour(names, name)
        whole = [(start + i, each.value) for i, each in enumerate(own) if each.value is not None]
        cut = [
            (start + i, _value(each))
            for i, each in enumerate(own)
            if each.state == "pruned" and _value(each) is not None
        ]
        _dots(axis, whole, size=16, color=colour, label=f"{name}, {plan.epochs(name)} epochs")
        _dots(axis, cut, size=16, facecolors="none", edgecolors=colour)
        if whole:
            at, values = np.array(whole).T
            axis.step(at, better.accumulate(values), where="post", color=colour, linewidth=1)
        axis.axvline(start - 0.5, color=GREY, linestyle=":", linewidth=1)
        start += len(own)
    axis.set_xlabel("trial (open: stopped early)")
    axis.set_ylabel(f"dev {metric}")
    axis.legend(frameon=False)
    return save(figure, path)


def _slices(plan: Plan, shown: Sequence[Parameter], ended: Mapping[str, list[Trial]], metric: str, path: Path) -> Path:
    figure, axes = _grid(len(shown))
    for axis, each in zip(axes, shown, strict=False):
        for name, own in ended.items():
            points = [
                (_place(each, t.values[each.name]), _value(t))
                for t in own
                if each.name in t.values and _value(t) is not None
            ]
            _dots(axis, points, size=14, color=_colour(list(ended), name), alpha=0.8, label=name)
        _scale(axis, each)
        axis.set_ylabel(f"dev {metric}")
    axes[0].legend(frameon=False)
    return save(figure, path)


def _parallel(plan: Plan, shown: Sequence[Parameter], ended: Mapping[str, list[Trial]], path: Path) -> Path:
    trials = [each for own in ended.values() for each in own if _value(each) is not None]
    order = ranked([float(_value(each) or 0) for each in trials], plan.goal)
    figure, axis = plt.subplots(figsize=(max(6, 1.6 * len(shown)), 3.6))
    for rank, i in reversed(list(enumerate(order))):
        heights = [
            _share(each, trials[i].values[each.name]) if each.name in trials[i].values else np.nan for each in shown
        ]
        strength = 1 - rank / max(1, len(order) - 1)
        axis.plot(range(len(shown)), heights, color=RED if rank == 0 else BLUE, alpha=0.08 + 0.9 * strength**3,
                  linewidth=2.2 if rank == 0 else 1, marker=".")  # fmt: skip
    for at, each in enumerate(shown):
        low, high = (
            (each.options[0], each.options[-1]) if isinstance(each, Choice) else (_text(each.low), _text(each.high))
        )
        axis.text(at, -0.06, low, ha="center", va="top", fontsize=7)
        axis.text(at, 1.04, high, ha="center", fontsize=7)
        axis.axvline(at, color=GREY, linewidth=0.8)
    axis.set_xticks(range(len(shown)), [each.name for each in shown])
    axis.tick_params(axis="x", pad=14)
    axis.set_yticks([])
    axis.set_ylim(-0.03, 1.03)
    return save(figure, path)


def _narrowing(
    shown: Sequence[Parameter],
    ended: Mapping[str, list[Trial]],
    opened: Mapping[str, Mapping[str, Any] | None],
    path: Path,
) -> Path:
    figure, axes = _grid(len(shown))
    names = [name for name, found in opened.items() if found]
    for axis, each in zip(axes, shown, strict=False):
        for row, name in enumerate(names):
            now = next(p for p in Space.from_plain((opened[name] or {})["space"]).parameters if p.name == each.name)
            ends = [_place(each, v) for v in now.options] if isinstance(now, Choice) else [now.low, now.high]
            places = [_place(each, t.values[each.name]) for t in ended.get(name, ()) if each.name in t.values]
            axis.plot(
                [min(ends), max(ends)],
                [-row, -row],
                color=_colour(names, name),
                linewidth=9,
                alpha=0.25,
                solid_capstyle="butt",
            )
            axis.scatter(places, [-row] * len(places), s=14, color=_colour(names, name), zorder=3)
        _scale(axis, each)
        axis.set_yticks([-row for row in range(len(names))], names)
        axis.set_ylim(-len(names) + 0.4, 0.6)
    return save(figure, path)


def _importances(importances: Mapping[str, float], path: Path) -> Path:
    figure, axis = plt.subplots(figsize=(6, 0.5 + 0.4 * len(importances)))
    names = sorted(importances, key=lambda name: importances[name])
    axis.barh(names, [importances[name] for name in names], color=BLUE)
    axis.set_xlabel("share of the spread explained")
    return save(figure, path)


def _grid(count: int) -> tuple[Any, list[Axes]]:
    columns = min(3, max(1, count))
    rows = -(-max(1, count) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat)


def _scale(axis: Axes, parameter: Parameter) -> None:
    axis.set_xlabel(parameter.name)
    if isinstance(parameter, Choice):
        axis.set_xticks(range(len(parameter.options)), parameter.options, rotation=30, ha="right", fontsize=7)
        axis.set_xlim(-0.5, len(parameter.options) - 0.5)
    elif parameter.log:
        axis.set_xscale("log")


def _place(parameter: Parameter, value: Any) -> float:
    return float(parameter.options.index(value)) if isinstance(parameter, Choice) else float(value)


def _share(parameter: Parameter, value: Any) -> float:
    """Return how far up its range a value lies, from 0 to 1, on its scale."""
    if isinstance(parameter, Choice):
        return parameter.options.index(value) / max(1, len(parameter.options) - 1)
    scale = np.log if parameter.log else float
    return float((scale(value) - scale(parameter.low)) / (scale(parameter.high) - scale(parameter.low)))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
