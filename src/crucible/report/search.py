"""The pictures of a search, and its page: history, importances, slices, parallel coordinates, and the narrowing itself."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jinja2 import Template
from matplotlib.axes import Axes

from crucible.plots.figures import BLUE, GREY, ORANGE, RED, save
from crucible.search.plan import ranked
from crucible.search.search import CONFIRM, Plan, SearchState
from crucible.search.space import Choice, Parameter, Space
from crucible.search.trials import Trial
from crucible.text import steady

COLOURS = (BLUE, ORANGE, "#2f855a", "#805ad5", "#b83280")
TEMPLATE = Template(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a202c }
 h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem } img { max-width: 100% }
 table { border-collapse: collapse; font-size: .85rem } td, th { padding: .15rem .6rem; border-bottom: 1px solid #e2e8f0; text-align: left }
 pre { background: #f7fafc; padding: .6rem; overflow: auto; font-size: .8rem }
</style>
<h1>{{ title }}</h1><pre>{{ screen }}</pre>
{% for heading, picture in pictures %}<h2>{{ heading }}</h2><img alt="{{ heading }}" src="data:image/png;base64,{{ picture }}">
{% endfor %}
<h2>Every trial</h2>
<table><tr><th>stage</th><th>trial</th><th>state</th><th>{{ metric }}</th><th>epochs</th><th>parameters</th><th>why</th></tr>
{% for each in trials %}<tr><td>{{ each.stage }}</td><td>{{ each.number }}</td><td>{{ each.state }}</td>
<td>{{ "%.4f"|format(each.value) if each.value is not none else "" }}</td><td>{{ each.epochs }}</td>
<td>{{ each.point }}</td><td>{{ each.why }}</td></tr>
{% endfor %}</table>
<h2>best.yaml</h2><pre>{{ best }}</pre>
</html>
""",
    autoescape=True,
    finalize=steady,
)


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


def page(title: str, screen: str, best: str, standing: SearchState, metric: str, pictures: Mapping[str, Path]) -> str:
    """Return the self-contained page."""
    trials = [each for own in standing.trials.values() for each in own]
    rows = [
        {
            "stage": each.stage,
            "number": each.number,
            "state": each.state,
            "value": each.value,
            "epochs": each.epochs,
            "point": ", ".join(f"{name} = {_text(value)}" for name, value in each.values.items()),
            "why": f"{each.facts.get('cause', '')} {each.facts.get('why', '')}".strip(),
        }
        for each in trials
    ]
    encoded = [(heading, base64.b64encode(path.read_bytes()).decode()) for heading, path in pictures.items()]
    return TEMPLATE.render(title=title, screen=screen, best=best, trials=rows, metric=metric, pictures=encoded)


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
