"""What compare.py does: runs grouped by configuration, their numbers, the table, and what may be concluded."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import yaml

from crucible.app.finished import finished_run
from crucible.app.overrides import choices_of, overrides_of, train_command
from crucible.app.prepared import task_class
from crucible.data.card import Card, read_card
from crucible.data.seen import digests_of
from crucible.diagnosis.bounds import check, choose
from crucible.diagnosis.compare import Interval, difference, interval, paired, possible
from crucible.errors import Refusal, printable
from crucible.files import BEST, CONFIG, SUMMARY
from crucible.inference.saved_run import load_run, read_config, read_summary
from crucible.integrity import require_unchanged
from crucible.schema import Bound, Section, nearest
from crucible.schema import check as check_section
from crucible.training.evaluation import latency_ms

NEUTRAL = ("seed", "data.split.fold", "data.path", "data.human_error", "data.human_of", "data.bayes_error", "task.tolerance", "task.satisficing", "trainer.checkpoint_every",
           "trainer.log_every", "trainer.threads", "trainer.gradient_check")  # fmt: skip
KEYS = {
    "split": "split",
    "out": "out",
    "x": "x",
    "curves": "curves",
    "task.monitor": "monitor",
    "task.satisficing": "satisficing",
}
SAME = {"mistake_costs": "runs whose mistakes cost the same", "function": "runs over the same surface"}
SPLITS = ("dev", "test", "train", "train_dev")
SMALL = 5e-4  # a number below has too few digits with four decimals


@dataclass(frozen=True)
class Settings:
    """What compare.py was given beside the runs; empty: what the runs declare.

    Attributes:
        x: the key against which the number is drawn. curves: whether the learning curves are drawn, one over the other.
    """

    split: str | None = None
    out: str = "outputs/compare"
    x: str | None = None
    curves: bool = False
    monitor: str | None = None
    satisficing: dict[str, str] | None = None


class Bounds(Section):
    """The bounds, as on the command line."""

    satisficing: dict[str, Bound]


@dataclass(frozen=True)
class Group:
    """The runs of one configuration.

    Attributes:
        name: its overrides. values: the metric of each run. numbers: the means that bounds are about.
        config: of the first run. seeds: of all. bounds: checked. against: the difference from the chosen one.
        chance: where 95 % of the metric's values lie by the number of examples alone; None where the runs do not tell.
        folders: of the runs. folds: which fold of its data each was judged on; None: no cross-validation. overlap: what is judged for
            each example trained on, where the runs are folds of the same data; else 0.
    """

    name: str
    values: list[float]
    numbers: dict[str, float]
    config: dict[str, Any]
    seeds: list[int]
    bounds: dict[str, dict[str, Any]]
    against: Interval | None = field(default=None)
    chance: tuple[float, float] | None = None
    folders: tuple[Path, ...] = ()
    folds: tuple[str | None, ...] = ()
    overlap: float = 0.0

    @property
    def repeats(self) -> list[tuple[int, str | None]]:
        """Which seed and fold each run is of."""
        return list(zip(self.seeds, self.folds, strict=True))

    @property
    def interval(self) -> Interval:
        """The mean of the runs, and its interval; infinite for one run."""
        return interval(self.values, self.overlap)

    @property
    def bounds_met(self) -> bool:
        """Whether every bound is met."""
        return all(row["met"] for row in self.bounds.values())


@dataclass(frozen=True)
class Comparison:
    """Groups, best first; the place of the chosen one; what was compared."""

    groups: list[Group]
    chosen: int | None
    metric: str
    split: str


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Return compare.py's own settings from key=value words."""
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise Refusal(key, "compare.py does not take this", allowed=", ".join(KEYS), nearest=nearest(key, KEYS))
        found[KEYS[key]] = _mapping(value) if key in ("task.satisficing", "curves") else value
    if "satisficing" in found:
        check_section(Bounds, {"satisficing": found["satisficing"]}, prefix="task")
    if not isinstance(found.get("curves", False), bool):
        raise Refusal("curves", f"{found['curves']!r} is neither true nor false", example="curves=true")
    if found.get("split", "dev") not in SPLITS:
        raise Refusal("split", f"there is no split '{found['split']}'", allowed=", ".join(SPLITS))
    return found


def _mapping(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # the schema says what it should be


def folders(word: str) -> Iterator[Path]:
    """Give the run folders that a word means: a run, every run below a sweep's folder, or the candidates of a search."""
    if (Path(word) / BEST).exists():
        yield from _confirmed(Path(word))
        return
    below = sorted(path.parent for path in Path(word).glob(f"*/{CONFIG}")) if word != "latest" else []
    yield from sorted(below, key=lambda path: (len(path.name), path.name)) if below else [finished_run(word)]


def _confirmed(search: Path) -> Iterator[Path]:
    """Give the full-length runs, one for each seed, of the trials that a search chose from."""
    try:
        found = yaml.safe_load((search / BEST).read_text(encoding="utf-8"))
        runs = [Path(run) for each in found.get("candidates", ()) for run in each.get("runs", {}).values()]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise Refusal(
            str(search / BEST), f"damaged: {str(error).splitlines()[0]}", allowed="the file that a search left"
        ) from None
    away = next((run for run in runs if not (run / CONFIG).exists()), None)
    if not runs or away is not None:
        why = f"its run {away} is not here" if away is not None else f"its {BEST} names no runs to compare"
        raise Refusal(
            f"run={search}", why, allowed="run folders, or the folder of a search that has ended on this machine"
        )
    yield from runs


def compare(runs: Sequence[Path], settings: Settings) -> Comparison:
    """Group the runs by configuration, seeds and run names apart, and order the groups."""
    summaries = [_read(folder) for folder in dict.fromkeys(path.resolve() for path in runs)]
    first = summaries[0]
    monitor = settings.monitor or first["monitor"]["name"]
    split = settings.split or next(s for s in SPLITS if all(each.get(s) for each in summaries))
    _require_one_question(summaries, split)
    groups = [_group(members, split, monitor, settings) for members in _grouped(summaries)]
    goal = "minimize" if monitor in task_class(first["config"]).metrics_class.minimised else "maximize"
    groups.sort(key=lambda each: mean(each.values), reverse=goal == "maximize")
    asked = settings.satisficing if settings.satisficing is not None else first["config"]["task"].get("satisficing", {})
    candidates = [{**each.numbers, monitor: mean(each.values)} for each in groups]
    chosen = choose(candidates, monitor, goal, asked)
    base = groups[chosen or 0]
    compared = [replace(each, against=_apart(base, each)) for each in groups]
    return Comparison(compared, chosen, monitor, split)


def _apart(base: Group, other: Group) -> Interval:
    """Return other - base: fold by fold where both were judged on the same ones."""
    if not base.overlap and not other.overlap:
        return difference(base.values, other.values)
    mine, its = (dict(zip(each.repeats, each.values, strict=True)) for each in (base, other))
    shared = [each for each in mine if each in its]
    if len(shared) < 2 or _folds(base) != _folds(other):
        return Interval(mean(other.values) - mean(base.values), -inf, inf)
    overlap = max(base.overlap, other.overlap)
    return paired([mine[each] for each in shared], [its[each] for each in shared], overlap)


def _read(folder: Path) -> dict[str, Any]:
    if not (folder / SUMMARY).exists():
        raise Refusal(
            f"run={folder}",
            "this run has not finished",
            example=f"python src/train.py resume={shlex.quote(str(folder))}",
        )
    require_unchanged(folder, editable=[CONFIG])
    summary = read_summary(folder)
    if (folder / "metrics.json").exists():
        judged = _evaluated(folder / "metrics.json")
        summary |= {key: judged[key] for key in ("test", "latency_ms_per_example") if key in judged}
        summary["diagnosis"] = {**summary["diagnosis"], "evidence": judged["diagnosis"].get("evidence", {})}
    evidence = summary["diagnosis"].get("evidence", {})
    return {**summary, "evidence": evidence, "config": read_config(folder), "card": read_card(folder), "folder": folder}


def _evaluated(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {**found, "diagnosis": dict(found["diagnosis"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            str(file), f"damaged: {error!r}", example=f"python src/evaluate.py run={shlex.quote(str(file.parent))}"
        ) from None


def _require_one_question(summaries: Sequence[dict[str, Any]], split: str) -> None:
    """Refuse runs that were not judged by the same number on the same examples.

    They may have been trained on other examples, or on the same ones prepared otherwise, as long as those of the split that
    is compared are the same as they came.
    """
    first = summaries[0]
    for each in summaries:
        if each["monitor"]["name"] != first["monitor"]["name"]:
            raise _other(each, first, "monitor", "runs judged by the same number")
        for key, others in SAME.items():
            if each["config"]["task"].get(key) != first["config"]["task"].get(key):
                raise _other(each, first, f"task.{key}", others)
        alike = each["card"].key == first["card"].key or _folds_of_one(each["card"], first["card"])
        if not alike and not same_examples(each["card"], first["card"], split):
            raise _other(
                each,
                first,
                "data",
                f"runs whose examples of {split} are the same as they came, or other data prepared alike",
            )


def _other(one: dict[str, Any], first: dict[str, Any], what: str, allowed: str) -> Refusal:
    return Refusal(
        f"{one['folder']}",
        f"its {what} is not that of {first['folder']}: their numbers cannot be compared",
        allowed=allowed,
    )


def _folds_of_one(one: Card, other: Card) -> bool:
    """Whether two prepared folders are folds of the same data, or the same fold prepared otherwise."""
    mine, its = ({**each.recipe, "split": {**each.recipe["split"], "fold": ""}} for each in (one, other))
    both = all(each.recipe["split"].get("fold") for each in (one, other))
    return both and mine == its and one.source == other.source


def same_examples(one: Card, other: Card, split: str) -> bool:
    """Whether two prepared folders hold the same examples, as they came, in a split, with labels of the same kind."""
    (mine, its), facts = (digests_of(each, split) for each in (one, other)), ("targets", "label")
    alike = all(one.recipe.get(fact) == other.recipe.get(fact) for fact in facts) and one.classes == other.classes
    return alike and len(mine) > 0 and np.array_equal(np.sort(mine, axis=0), np.sort(its, axis=0))


def _grouped(summaries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in summaries:
        members = groups.setdefault(_name(each), [])
        if _repeat(each) not in map(_repeat, members):  # the same bits again tell nothing
            members.append(each)
    return list(groups.values())


def _repeat(summary: dict[str, Any]) -> tuple[int, str | None]:
    """Return which seed and fold a run is of."""
    return summary["config"]["seed"], summary["config"]["data"]["split"].get("fold")


def _name(summary: dict[str, Any]) -> str:
    words = [word for word in overrides_of(summary["config"]) if not word.lstrip("+").startswith(NEUTRAL)]
    if fold := _repeat(summary)[1]:
        words.append(f"data.split.fold=*/{fold.partition('/')[2]}")
    changes = [
        each for each in summary["diagnosis"].get("controls", []) if each["change"] not in ("checkpoint", "evaluate")
    ]
    controls = [f"{each['change']}@{each['epoch']}" for each in changes]
    return " ".join([*words, *controls])


def short_names(found: Comparison, without: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """Return the words that all configurations share, and how each differs: defaults are spelt out where others differ.

    Args:
        without: how words start that are left out.
    """
    said = [each.name.split(" ") for each in found.groups]
    words = [[word for word in own if not without or not word.lstrip("+").startswith(without)] for own in said]
    common = [word for word in words[0] if word and all(word in other for other in words)] if len(words) > 1 else []
    keys = dict.fromkeys(word.partition("=")[0] for each in words for word in each if word and word not in common)
    shown = [[_as_set(group, own, key) for key in keys] for group, own in zip(found.groups, words, strict=True)]
    return " ".join(common), [" ".join(filter(None, each)) or "defaults" for each in shown]


def _as_set(group: Group, words: list[str], key: str) -> str:
    """Return key=value as the group has it; empty where it has no such key."""
    own = next((word for word in words if word.partition("=")[0] == key), None)
    if own is not None or "@" in key:
        return own or ""
    value = value_of(group.config, key)
    return "" if value is None else f"{key}={value}".replace(" ", "")


def value_of(config: dict[str, Any], key: str, absent: Any = None) -> Any:
    """Return the value of a dotted key, or the choice of a group; `absent` where there is no such key."""
    value: Any = config if "." in key else {**config, **choices_of(config)}
    for part in key.lstrip("+").split("."):
        if not isinstance(value, dict) or part not in value:
            return absent
        value = value[part]
    return value


def _group(members: list[dict[str, Any]], split: str, monitor: str, settings: Settings) -> Group:
    missing = next((each for each in members if not each.get(split) or monitor not in each[split]), None)
    if missing is not None:
        example = f"python src/evaluate.py run={shlex.quote(str(missing['folder']))}" if split == "test" else ""
        raise Refusal(f"{missing['folder']}", f"there is no {monitor} of {split}", example=example)
    config = members[0]["config"]
    asked = settings.satisficing if settings.satisficing is not None else config["task"].get("satisficing", {})
    measured = [*members[0][split], "latency_ms_per_example", "parameters"]
    if unknown := [name for name in asked if name not in measured]:
        raise Refusal(
            f"task.satisficing.{unknown[0]}",
            "it is not measured",
            allowed=", ".join(measured),
            nearest=nearest(unknown[0], measured),
        )
    numeric = [name for name, value in members[0][split].items() if isinstance(value, float)]
    names = [name for name in numeric if all(name in each[split] for each in members)]
    numbers = {name: mean(each[split][name] for each in members) for name in names}
    numbers["parameters"] = float(members[0]["parameters"])
    if "latency_ms_per_example" in asked:
        numbers["latency_ms_per_example"] = mean(_latency(each) for each in members)
    values, seeds = [each[split][monitor] for each in members], [each["config"]["seed"] for each in members]
    chance = _chance(members, split, monitor)
    folders, folds = (tuple(each["folder"] for each in members), tuple(_repeat(each)[1] for each in members))
    overlap = mean(_overlap(each["card"]) for each in members)
    return Group(
        _name(members[0]), values, numbers, config, seeds, check(asked, numbers), chance=chance, folders=folders, folds=folds, overlap=overlap,
    )  # fmt: skip


def _overlap(card: Card) -> float:
    return card.size("dev") / card.size("train") if card.recipe["split"].get("fold") else 0.0


def _chance(members: list[dict[str, Any]], split: str, monitor: str) -> tuple[float, float] | None:
    """Return the mean of the runs' intervals by the number of examples; None where they have none of this number."""
    facts = [each["evidence"].get(split, {}) for each in members]
    if any(each["monitor"]["name"] != monitor for each in members) or any(each.get("low") is None for each in facts):
        return None
    return mean(each["low"] for each in facts), mean(each["high"] for each in facts)


def _latency(summary: dict[str, Any]) -> float:
    """Return what evaluate measured, or measure it now."""
    if "latency_ms_per_example" in summary:
        return float(summary["latency_ms_per_example"])
    saved = load_run(summary["folder"], torch.device("cpu"))
    return latency_ms(saved.model, torch.zeros(1, *saved.card.feature_shape))


def table(found: Comparison) -> str:
    """Return the table for the terminal."""
    rows = [["configuration", "runs", found.metric, "sd", "95 % interval", "difference", "bounds", "by examples"]]
    common, names = short_names(found)
    for place, (each, name) in enumerate(zip(found.groups, names, strict=True)):
        own = within(each, found.metric)
        apart = "" if each.against is None or place == (found.chosen or 0) else _between(each.against, "+")
        bounds = (
            "met" if each.bounds_met else ", ".join(k for k, row in each.bounds.items() if not row["met"]) + " not met"
        )
        mark = "* " if place == found.chosen else "  "
        spread = _number(stdev(each.values)) if len(each.values) > 1 else "-"
        rows.append(
            [
                mark + name,
                str(len(each.values)),
                _number(own.mean),
                spread,
                _between(own),
                apart,
                bounds if each.bounds else "",
                f"[{_number(each.chance[0])}, {_number(each.chance[1])}]" if each.chance else "",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return (f"all: {printable(common)}\n" if common else "") + "\n".join(
        printable("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        for row in rows
    )


def within(group: Group, metric: str) -> Interval:
    """Return the mean and its interval over seeds, without values that the metric cannot have; infinite for one run."""
    return possible(group.interval, metric) if len(group.values) > 1 else group.interval


def _between(found: Interval, sign: str = "") -> str:
    if found.high - found.low == float("inf"):
        return f"{_number(found.mean, sign)} [?]" if sign else "[one run]"
    span = f"[{_number(found.low, sign)}, {_number(found.high, sign)}]"
    return f"{_number(found.mean, sign)} {span}" if sign else span


def _number(value: float, sign: str = "") -> str:
    """Return a number with four decimals; of a small one its first digits."""
    return f"{value:{sign}.2e}" if 0 < abs(value) < SMALL else f"{value:{sign}.4f}"


def conclusion(found: Comparison) -> str:
    """Return the conclusion in one sentence."""
    if found.chosen is None:
        return "no configuration meets every bound"
    best = found.groups[found.chosen]
    noise = [each.name for each in found.groups if each is not best and each.against and not each.against.excludes_zero]
    name = short_names(found)[1][found.chosen]
    of_folds = f", mean of {len(set(best.folds))} folds" if best.overlap else ""
    of_folds += f", {len(best.values)} runs" if best.overlap and len(best.values) > len(set(best.folds)) else ""
    start = f"{name}: {found.metric} {_number(mean(best.values))} on {found.split}{of_folds}"
    if len(found.groups) == 1:
        return start
    return f"{start}; {len(noise)} of {len(found.groups) - 1} others may differ by noise alone"


def following(found: Comparison) -> str:
    """Return the command that would tell more: further folds or seeds of the best."""
    best = found.groups[found.chosen or 0]
    seeds, count = f"seed={','.join(str(max(best.seeds) + i) for i in (1, 2, 3))}", _folds(best)
    every = [f"{i + 1}/{count}" for i in range(count)]
    if left := [fold for fold in every if fold not in best.folds]:
        return train_command(best.config, (f"data.split.fold={','.join(left)}",), swept=True)
    return train_command(best.config, (*([f"data.split.fold={','.join(every)}"] if every else []), seeds), swept=True)


def _folds(group: Group) -> int:
    """Return of how many folds the runs are; 0: no cross-validation."""
    return next((int(each.partition("/")[2]) for each in group.folds if each), 0)
