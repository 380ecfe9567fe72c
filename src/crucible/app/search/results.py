"""What a search leaves: best.yaml, the page and its pictures, the first and the last screen, and how to promote the winner."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from crucible.app.overrides import overrides_of, train_command
from crucible.app.quoting import quoted
from crucible.app.search.spec import SearchSpec
from crucible.diagnosis.compare import Interval, possible, together
from crucible.errors import Refusal
from crucible.files import BEST, SUMMARY
from crucible.report.screen import gap, lined, verdict
from crucible.search.plan import allotted
from crucible.search.search import CONFIRM, Plan, SearchState, candidates, confirmed, repeats
from crucible.search.stages import Studies, shown
from crucible.search.trials import Trial
from crucible.tracking.folder import write_atomic
from crucible.training.device import choose_device
from crucible.training.fingerprint import fingerprint

PAGE, FIGURES = "search.html", "figures"


@dataclass(frozen=True)
class Candidate:
    """One of the best trials, over its seeds.

    Attributes:
        values: by seed. interval: of their mean; infinitely wide where nothing was repeated.
    """

    trial: Trial
    values: dict[int, float]
    interval: Interval


def judged(plan: Plan, standing: SearchState) -> list[Candidate]:
    """Return the candidates, the winner first: the best mean among those that have run with every seed."""
    found = [(each, confirmed(plan, standing.trials, each)) for each in candidates(plan, standing.trials)]
    whole = [pair for pair in found if len(pair[1]) == plan.confirm.seeds] or [pair for pair in found if pair[1]]
    spread = together([list(values.values()) for _, values in whole])
    sign = -1 if plan.goal == "maximize" else 1
    ranked = sorted(zip(whole, spread, strict=True), key=lambda each: sign * mean(each[0][1].values()))
    return [Candidate(each, values, interval) for (each, values), interval in ranked]


def opening(spec: SearchSpec, studies: Studies, other_code: bool) -> str:
    """Return the first screen."""
    plan = spec.plan
    begun = {name: found["trials"] for name in plan.stages if (found := studies.opened(name))}
    counts = allotted(plan.stages, plan.n_trials, begun)
    stages = [
        f"{name}: {counts[name]} {stage.sampler} trials of {plan.epochs(name)} epochs"
        for name, stage in plan.stages.items()
    ]
    if plan.confirm.seeds > 1:
        stages.append(f"{CONFIRM}: the best {plan.confirm.best} with {plan.confirm.seeds} seeds")
    lines = [
        ("search", f"{spec.card.name} for dev {spec.base.monitor}: {plan.n_trials} trials, {plan.n_jobs} worker(s)")
    ]
    lines += [
        ("space" if not i else "", each.grammar() + _condition(each)) for i, each in enumerate(plan.space.parameters)
    ]
    lines += [("stages", "; ".join(stages)), ("study", f"{spec.name} in {shown(spec.storage)}")]
    note = "part of this study was run with other code" if other_code else ""
    return lined([*lines, ("note", note)]) + "\nif it is interrupted: the same command goes on"


def _condition(parameter: Any) -> str:
    return "".join(f"  where {group}={'|'.join(options)}" for group, options in parameter.when)


def leave(spec: SearchSpec, studies: Studies, standing: SearchState, folder: Path) -> list[str]:
    """Write best.yaml, and the page with its pictures where something has changed; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(summary(spec, standing), sort_keys=False, allow_unicode=True, width=10_000).encode()
    same = (folder / BEST).exists() and (folder / BEST).read_bytes() == text and (folder / PAGE).exists()
    write_atomic(folder / BEST, text)
    if not same:
        from crucible.report import search as pictures  # matplotlib: only where something is drawn

        importances = _importances(studies, standing)
        made = pictures.draw(spec.plan, standing, {name: studies.opened(name) for name in spec.plan.stages},
                             importances, spec.base.monitor, folder / FIGURES)  # fmt: skip
        text_of_screen = screen(spec, standing, folder)
        html = pictures.page(
            f"Search: {spec.name}", text_of_screen, text.decode(), standing, spec.base.monitor, made, importances
        )
        write_atomic(folder / PAGE, html.encode())
    return [str(folder / name) for name in (BEST, PAGE)]


def _importances(studies: Studies, standing: SearchState) -> dict[str, float]:
    """Return what explains the values in the first stage, which looked everywhere."""
    return studies.importances(next(iter(standing.trials)))


def summary(spec: SearchSpec, standing: SearchState) -> dict[str, Any]:
    """Return what best.yaml holds."""
    plan, found = spec.plan, judged(spec.plan, standing)
    counts = {state: standing.count(state) for state in ("complete", "pruned", "failed")}
    trained = {name: trained_epochs(own) for name, own in standing.trials.items()}
    facts = {
        "monitor": {"name": spec.base.monitor, "goal": plan.goal},
        "epochs": {
            "searching": sum(epochs for name, epochs in trained.items() if name != CONFIRM),
            "confirming": trained.get(CONFIRM, 0),
            "full_runs": plan.n_trials * plan.total_epochs,
        },
        "failures": _failures(standing, [name for name in standing.trials if name != CONFIRM]),
        "unconfirmed": _failures(standing, [CONFIRM]),
        "study": spec.name,
        "storage": shown(spec.storage),
    }
    if not found:
        return {"overrides": None, "value": None, "interval": None, "trials": counts, "commands": [], **facts}
    winner, cfg = found[0], _composed(spec, found[0].trial)
    own = possible(winner.interval, spec.base.monitor)
    run = repeats(plan, standing.trials, winner.trial).get(plan.seed, winner.trial)  # in full, with the same seed
    return {
        "overrides": overrides_of(cfg),
        "value": winner.interval.mean,
        "interval": None if len(winner.values) < 2 else [own.low, own.high],
        "trials": counts,
        "commands": [train_command(cfg, dvc=True), train_command(cfg)],
        "seeds": dict(winner.values),
        "trial": {"stage": run.stage, "number": run.number, "folder": str(short(Path(run.facts["folder"])))},
        "wider": _wider(spec, winner.trial),
        "candidates": [_candidate(plan, standing, each) for each in found],
        **facts,
    }


def _candidate(plan: Plan, standing: SearchState, each: Candidate) -> dict[str, Any]:
    """Return what best.yaml tells of a candidate: `runs` are the folders that src/compare.py reads."""
    runs = repeats(plan, standing.trials, each.trial)
    return {
        "trial": f"{each.trial.stage} {each.trial.number}",
        "mean": each.interval.mean,
        "seeds": each.values,
        "runs": {seed: str(short(Path(runs[seed].facts["folder"]))) for seed in each.values},
    }


def trained_epochs(trials: Sequence[Trial]) -> int:
    """Return the epochs of trials; an attempt that was killed is tried again, and counted then."""
    return sum(each.epochs for each in trials if each.state != "killed")


def _failures(standing: SearchState, stages: Sequence[str]) -> dict[str, int]:
    trials = [each for name in stages for each in standing.trials.get(name, ())]
    causes = [str(each.facts["cause"]) for each in trials if each.state == "failed"]
    return {cause: causes.count(cause) for cause in sorted(set(causes))}


def _composed(spec: SearchSpec, winner: Trial) -> dict[str, Any]:
    """Return the configuration that trains the winner again, in full, with as many threads: the same bits."""
    cfg = spec.base.composed(spec.plan.space.overrides(winner.values))
    return {**cfg, "trainer": {**cfg["trainer"], "threads": winner.facts["threads"]}}


def machine_of(cfg: Mapping[str, Any], threads: int) -> dict[str, str]:
    """Return what the bits of a training with this configuration depend on here."""
    return fingerprint(choose_device(cfg["trainer"]["device"]), threads)


def _elsewhere(spec: SearchSpec, standing: SearchState) -> str:
    """Return a note where the winner's machine is not like this one; empty where it is, or nobody knows."""
    winner = judged(spec.plan, standing)[0].trial
    facts = repeats(spec.plan, standing.trials, winner).get(spec.plan.seed, winner).facts
    there, here = facts.get("machine", {}), machine_of(spec.cfg, winner.facts["threads"])
    if not (differing := [f"{key} {value}, here {here[key]}" for key, value in there.items() if here[key] != value]):
        return ""
    return f"the best was trained on {facts['host']} ({'; '.join(differing)}): the same command may give other last bits here"


def _wider(spec: SearchSpec, winner: Trial) -> list[str]:
    """Return wider ranges, as overrides, where the winner lies at the user's own bound and beyond it is anything legal."""
    found = []
    words = spec.plan.space.overrides(winner.values)
    for each in spec.plan.space.wider(winner.values):
        for end in (each.low, each.high):
            value = int(end) if each.integer else end
            try:
                spec.base.composed([*words, each.override(value)])
            except Refusal:
                break
        else:
            found.append(each.grammar())
    return found


def screen(spec: SearchSpec, standing: SearchState, folder: Path) -> str:
    """Return the last screen."""
    found = summary(spec, standing)
    counts, plan, name = found["trials"], spec.plan, spec.base.monitor
    tried = f"{sum(counts.values())} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items())
    failures = "; ".join(f"{count} {cause}" for cause, count in found["failures"].items())
    epochs = found["epochs"]
    cost = f"{epochs['searching']:,} epochs, and {epochs['confirming']:,} to confirm"
    cost += f"; {plan.n_trials} full runs would take {epochs['full_runs']:,}"
    files = "  ".join(str(short(folder) / each) for each in (BEST, PAGE))
    again = f"python src/train.py -m ... hydra.sweeper.n_trials={2 * plan.n_trials}"
    if found["overrides"] is None:
        why = f"no trial keeps {' and '.join(_unmet(standing))}" if _unmet(standing) else "no trial is complete"
        return lined(
            [("result", f"{why} ({tried})"), ("failed", failures), ("cost", cost), ("files", files), ("next", again)]
        )
    lines = [("result", f"{spec.card.name}: dev {name} {_with_interval(found)} ({tried})"), ("failed", failures)]
    if found["unconfirmed"]:
        causes = "; ".join(f"{count} {cause}" for cause, count in found["unconfirmed"].items())
        lines.append(("note", f"of the runs with other seeds some failed ({causes}): their candidates were left out"))
    lines += [("best" if not i else "", each) for i, each in enumerate(found["overrides"])]
    lines += [*_diagnosis(Path(found["trial"]["folder"])), ("cost", cost)]
    lines += [("edge", f"the best lies at the bound of the space; wider: {quoted(each)!r}") for each in found["wider"]]
    lines += [("note", _elsewhere(spec, standing))]
    lines += [("files", files), ("next", found["commands"][1]), ("", found["commands"][0])]
    return lined(lines)


def short(path: Path) -> Path:
    """Return a path as a person here would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _with_interval(found: dict[str, Any]) -> str:
    if found["interval"] is None:
        return f"{found['value']:.4f}"
    low, high = found["interval"]
    return f"{found['value']:.4f} [{low:.4f}, {high:.4f}] over {len(found['seeds'])} seeds"


def _unmet(standing: SearchState) -> list[str]:
    return sorted({name for own in standing.trials.values() for each in own for name in each.unmet})


def _diagnosis(folder: Path) -> list[tuple[str, str]]:
    """Return gap, verdict and advice of the winner's own run."""
    if not (folder / SUMMARY).exists():
        return [("note", f"the winner's run is not on this machine: {folder}")]
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    advice = summary["diagnosis"]["advice"][0]
    advised = [("advice", advice["why"]), ("", advice["command"] or "")]
    return [("gap", gap(summary)), ("verdict", verdict(summary["diagnosis"])), *advised]
