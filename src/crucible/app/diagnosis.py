"""From what a run shows to its diagnosis: symptoms, gap, and advice as commands that fit its configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from crucible.app.build import Parts
from crucible.app.compatibility import least_error
from crucible.app.compose import Job
from crucible.app.overrides import choices_of, train_command
from crucible.app.previous import PreviousRuns, overrides_without_paths, previous_runs
from crucible.app.project import Config, in_pipeline
from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.diagnosis.advice import Advice, RunContext, Symptoms, advise
from crucible.diagnosis.baseline import trivial_error, trivial_name
from crucible.diagnosis.ceiling import ceilings
from crucible.diagnosis.curves import recognise, still_falls
from crucible.diagnosis.flow import warnings
from crucible.diagnosis.gap import Diagnosis, diagnose, errors, in_practice, not_applicable
from crucible.diagnosis.shift import two_samples
from crucible.labels.kind import Kind
from crucible.metrics.detection import FOUND, OBJECTS
from crucible.tasks.task import MonitoredTask
from crucible.tracking.journal import NAME, read_events
from crucible.training.evaluation import Evaluation
from crucible.training.probe import dead_units
from crucible.training.run import Run

NOTHING_SEEN = Symptoms()


def run_context(
    cfg: Config, card: Card, *, stopped_early: bool, symptoms: Symptoms = NOTHING_SEEN, outputs: int | None = None
) -> RunContext:
    """Return the facts that advice depends on."""
    chosen = choices_of(cfg)
    return RunContext(
        model=chosen["model"],
        settings={key: value for key, value in cfg["model"].items() if key != "_target_"},
        init=chosen["init"],
        optimizer=chosen["optimizer"],
        regularizer=chosen["regularizer"],
        augment=chosen["augment"],
        lr=cfg["optimizer"].get("lr", 0.001),
        batch_size=cfg["trainer"]["batch_size"],
        dev_share=0.0 if cfg["data"]["split"].get("fold") else cfg["data"]["split"]["dev"],
        train_dev_share=cfg["data"]["split"]["train_dev"],
        feature_shape=card.feature_shape,
        class_counts=card.splits["train"]["class_counts"] if "class_weights" in cfg["task"] else [],
        class_weights=cfg["task"].get("class_weights", "none"),
        sampling=cfg["data"]["sampling"],
        max_norm=min(cfg["trainer"]["max_norm"], cfg["model"].get("max_norm", inf)),
        total_epochs=cfg["trainer"]["total_epochs"],
        stopped_early=stopped_early,
        train_size=card.size("train"),
        seed=cfg["seed"],
        symptoms=symptoms,
        flip_keeps_label=cfg["data"]["flip_keeps_label"],
        freeze=cfg["transfer"].get("freeze"),
        cached=cfg["transfer"].get("cache") is True,
        task=cfg["task"],
        outputs=outputs,
    )


def diagnosed(
    job: Job,
    cfg: dict[str, Any],
    card: Any,
    task: MonitoredTask,
    scores: dict[str, Any],
    seen: dict[str, Any],
    *,
    stopped_early: bool,
) -> dict[str, Any]:
    """Return human level, gap and diagnosis with advice as commands that fit this configuration.

    Args:
        cfg: what was trained: the advice changes it. seen: what else the diagnosis says: signs, error_analysis, satisficing, controls, evidence (size and
            spread of the error by split), baseline, progress (how the training went), seen (examples seen before).
    """
    human, read = job.cfg["data"]["human_error"], read_symptoms(seen)
    bayes = bayes_error(job, card, task)
    apart = (scores.get("train_dev") or {}).get("error")
    known = {"human": human, "bayes": bayes, "train_dev": apart, "evidence": seen["evidence"], "early": read.early}
    found = diagnose(*errors(scores), **known, tolerance=task.tolerance, is_rate=task.kind.is_rate)
    found = not_applicable() if task.kind.no_gap else in_practice(found) if job.other_data else found
    words, by_hand = overrides_without_paths(cfg), not in_pipeline(job.folder) and job.tell is None
    runs = previous_runs(seen["progress"].get("key", ""), job.folder) if by_hand else PreviousRuns()
    now = run_context(cfg, card, stopped_early=stopped_early, symptoms=read, outputs=task.num_outputs)
    now = replace(
        _with_gap(now, found, seen, human if bayes is None else bayes, task), seeds_tried=runs.other_seeds(words)
    )
    own = {"monitor": {"name": task.monitor, "goal": task.goal}, "dev": scores.get("dev"), "train": scores["train"]}
    advice = runs.left(advise("no_gap" if task.kind.no_gap else found.verdict, found.reasons, now), own, words)
    reasons, worse = read.reasons(), int(read.below_baseline)
    return {
        **({"positive_class": task.positive} if task.positive is not None else {}),
        "human": _human(job, human, bayes),
        **(
            {"bayes": {"error": bayes, "computed": job.cfg["data"].get("bayes_error") is None}}
            if bayes is not None
            else {}
        ),
        "gap": found.gap,
        "diagnosis": {
            "verdict": found.verdict,
            "error": {"name": task.error, "is_rate": task.kind.is_rate},
            "reasons": [*reasons[:worse], *found.reasons, *reasons[worse:]],
            "unclear": {part: task.kind.no_gap or _why_unclear(part, now, found) for part in found.unclear},
            "advice": [{"why": each.why, "command": _command(job, cfg, each)} for each in advice],
            **seen,
        },
    }


def _human(job: Job, human: float | None, bayes: float | None) -> dict[str, Any]:
    """Return the human error, whether it is assumed, and where it is the crowd's that the best are better."""
    crowd = human is not None and job.cfg["data"].get("human_of") == "crowd"
    return {
        "error": human or bayes or 0.0,
        "assumed": human is None and bayes is None,
        **({"crowd": True} if crowd else {}),
    }


def bayes_error(job: Job, card: Card, task: MonitoredTask) -> float | None:
    """Return the least error that is possible on the data that were trained on, as far as it is known."""
    declared: float | None = job.cfg["data"].get("bayes_error")
    return declared if job.other_data else least_error(declared, card, task)


def _with_gap(
    now: RunContext, found: Diagnosis, seen: dict[str, Any], base: float | None, task: MonitoredTask
) -> RunContext:
    """Return the facts about a run with those of its gap, and of how its training went."""
    return replace(
        now,
        bias=found.gap["avoidable_bias"] or 0.0,
        variance=found.gap["variance"] or 0.0,
        unclear=tuple(found.unclear),
        tolerance=task.tolerance,
        dev_size=int((seen["evidence"].get("dev") or {"size": 0})["size"]),
        human_missing=base is None and not task.kind.is_rate,
        **{key: value for key, value in seen["progress"].items() if key not in ("overrides", "key")},
    )


def _why_unclear(part: str, now: RunContext, found: Diagnosis) -> str:
    if found.gap[part] is None:
        return "unknown: there is no split to judge on"
    if part == "avoidable_bias" and now.human_missing:
        return "unknown without data.human_error"
    if part == "avoidable_bias" and now.symptoms.early:
        return "not decided: few dev examples chose an early epoch"
    return "not decided by this many examples"


def _command(job: Job, cfg: dict[str, Any], advice: Advice) -> str | None:
    if not advice.overrides:
        return None
    if advice.sweep and not in_pipeline(job.folder):
        return train_command(cfg, advice.sweep, swept=True)
    return train_command(cfg, advice.overrides, dvc=in_pipeline(job.folder))


_SHIFTS: dict[tuple[Any, ...], dict[str, Any]] = {}
LEARNED_MORE = 0.7  # of the chosen epoch's train loss
LEARNED = 0.98  # of the loss of guessing: a train loss that was never below it has not left it


def training_symptoms(run: Run, parts: Parts, found: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return what the diagnosis in train.json tells under `signs`."""
    rows = [
        e["values"] for e in read_events(run.folder / NAME) if e["kind"] == "metrics" and "train/loss" in e["values"]
    ]
    pattern = None if parts.task.kind.no_gap else recognise(rows)  # a painting that is done is level, as it should be
    falling = still_falls(rows, run.best.epoch)
    guess = parts.task.chance_loss(parts.batches.drawn_counts())
    own = parts.task.symptoms(rows)
    pairs = [("train", "dev")] if "dev" in found and is_independent(parts.batches) else []
    return {
        "pattern": pattern.name if pattern else None,
        "curves": pattern.meaning if pattern else None,
        "falling": falling,
        "early": chosen_early(rows, run.best.epoch, found),
        "learning": guess is None or min((row["train/loss"] for row in rows), default=0.0) < LEARNED * guess,
        "loss_of_guessing": guess,
        **({"own": own} if own else {}),
        "dead_units": dead_units(parts.model, parts.batches.evaluation("train")),
        "flow": warnings(rows[-1]) if rows else [],
        "shifts": {f"{one}, {other}": shift(parts.batches, parts.task.kind, one, other) for one, other in pairs},
    }


def chosen_early(rows: Sequence[Mapping[str, float]], best_epoch: int, found: Mapping[str, Evaluation]) -> bool:
    """Whether later epochs learned train much better and dev, by so many examples, no worse: the choice was luck."""
    dev = found.get("dev")
    if dev is None or not rows or best_epoch >= len(rows) or "dev/error" not in rows[0]:
        return False
    last, best = rows[-1], rows[best_epoch - 1]
    learned_more = last["train/loss"] < LEARNED_MORE * best["train/loss"]
    return learned_more and last["dev/error"] <= dev.error.bounds()[1]


def is_independent(batches: Batches) -> bool:
    """Whether examples are drawn one by one: those of a group, or of one text, are alike, and a test that takes them singly cries wolf."""
    return batches.card.recipe.get("group_by") is None and not (batches.card.lengths or {}).get("of_one_text")


def shift(batches: Batches, kind: Kind, one: str, other: str) -> dict[str, Any]:
    """Return how likely chance makes two splits this different, and whether that is too unlikely."""
    known = (*batches.identity, one, other)
    if known not in _SHIFTS:  # the trials of a search share their data
        (x, y), (x_other, y_other) = (_compared(batches, kind, split) for split in (one, other))
        found = two_samples((x, x_other), (y, y_other))
        _SHIFTS[known] = {"features": found.features, "labels": found.labels, "differs": found.differs}
    return dict(_SHIFTS[known])


def _compared(batches: Batches, kind: Kind, split: str) -> tuple[Any, Any]:
    """Return the examples of a split and their labels as numbers."""
    x, y = batches.stored(split)
    return x, kind.comparable(y)


def read_symptoms(diagnosis: Mapping[str, Any]) -> Symptoms:
    """Return the symptoms in a diagnosis as the advice takes them."""
    missed = tuple(name for name, row in diagnosis["satisficing"].items() if not row["met"])
    costs = diagnosis["error_analysis"]
    signs = diagnosis["signs"]
    return Symptoms(
        pattern=signs["pattern"],
        learning=signs["learning"],
        dead_units=max(signs["dead_units"].values(), default=0.0),
        flow=tuple(signs["flow"]),
        shifts=tuple(pair for pair, each in signs["shifts"].items() if each["differs"]),
        missed=missed,
        own=tuple(signs.get("own", ())),
        falling=signs.get("falling", False),
        early=signs.get("early", False),
        below_baseline=signs.get("below_baseline", False),
        costliest=costs[0]["predicted"] if costs and costs[0]["label"] in (OBJECTS, FOUND) else "",
    )


def error_analysis(task: MonitoredTask, found: Evaluation) -> list[dict[str, Any]]:
    """Return the costliest kinds of mistake."""
    if found.costs is not None:
        return found.costs
    return ceilings(found.mistakes, found.confusion, task.confusion_labels, task.error_of)


def trivial_baseline(task: MonitoredTask, card: Card, batches: Batches, splits: Sequence[str]) -> dict[str, Any]:
    """Return the error of the best answer that never looks, by split, and its name; nothing without these splits, or where no answer is trivial."""
    there = [split for split in splits if split in batches.splits]
    if not there or not (name := trivial_name(task, card)):
        return {}
    return {"name": name, **{split: trivial_error(task, card, batches, split) for split in there}}


def against_baseline(trivial: Mapping[str, Any], found: Mapping[str, Evaluation]) -> dict[str, bool]:
    """Return whether a result on a split that was not trained on is worse than the trivial one, beyond chance."""
    return {
        "below_baseline": any(found[split].error.bounds()[0] > trivial[split] for split in trivial if split in found)
    }
