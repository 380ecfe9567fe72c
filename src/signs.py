"""What is seen in a finished training besides its errors: curves, layers, units, splits, mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.diagnosis.advice import Signs
from crucible.diagnosis.baseline import trivial_error, trivial_name
from crucible.diagnosis.ceiling import ceilings
from crucible.diagnosis.curves import recognise, still_falls
from crucible.diagnosis.flow import warnings
from crucible.diagnosis.shift import two_samples
from crucible.metrics.detection import FOUND, OBJECTS
from crucible.tracking.journal import NAME, read_events
from crucible.training.judge import Judgement
from crucible.training.probe import dead_units
from crucible.training.run import Run
from wiring import Parts

_SHIFTS: dict[tuple[Any, ...], dict[str, Any]] = {}
LEARNED_MORE = 0.7  # of the chosen epoch's train loss
LEARNED = 0.98  # of the loss of guessing: a train loss that was never below it has not left it


def of_training(run: Run, parts: Parts, found: Mapping[str, Judgement]) -> dict[str, Any]:
    """Return what the diagnosis in train.json tells under `signs`."""
    rows = [
        e["values"] for e in read_events(run.folder / NAME) if e["kind"] == "metrics" and "train/loss" in e["values"]
    ]
    pattern, falling = recognise(rows), still_falls(rows, run.best_epoch)
    guess = parts.task.guessing(parts.batches.drawn_counts())
    pairs = [("train", "dev")] if "dev" in found and is_independent(parts.batches) else []
    return {
        "pattern": pattern.name if pattern else None,
        "curves": pattern.meaning if pattern else None,
        "falling": falling,
        "early": chosen_early(rows, run.best_epoch, found),
        "learning": guess is None or min((row["train/loss"] for row in rows), default=0.0) < LEARNED * guess,
        "loss_of_guessing": guess,
        "dead_units": dead_units(parts.model, parts.batches.judge("train")),
        "flow": warnings(rows[-1]) if rows else [],
        "shifts": {f"{one}, {other}": shift(parts.batches, one, other) for one, other in pairs},
    }


def chosen_early(rows: Sequence[Mapping[str, float]], best_epoch: int, found: Mapping[str, Judgement]) -> bool:
    """Whether later epochs learned train much better and dev, by so many examples, no worse: the choice was luck."""
    dev = found.get("dev")
    if dev is None or not rows or best_epoch >= len(rows) or "dev/error" not in rows[0]:
        return False
    last, best = rows[-1], rows[best_epoch - 1]
    learned_more = last["train/loss"] < LEARNED_MORE * best["train/loss"]
    return learned_more and last["dev/error"] <= dev.error.bounds()[1]


def is_independent(batches: Batches) -> bool:
    """Whether examples are drawn one by one: those of a group are alike, and a test that takes them singly cries wolf."""
    return batches.card.recipe.get("group_by") is None


def shift(batches: Batches, one: str, other: str) -> dict[str, Any]:
    """Return how likely chance makes two splits this different, and whether that is too unlikely."""
    known = (*batches.identity, one, other)
    if known not in _SHIFTS:  # the trials of a search share their data
        (x, y), (x_other, y_other) = (_compared(batches, split) for split in (one, other))
        found = two_samples((x, x_other), (y, y_other))
        _SHIFTS[known] = {"features": found.features, "labels": found.labels, "differs": found.differs}
    return dict(_SHIFTS[known])


def _compared(batches: Batches, split: str) -> tuple[Any, Any]:
    """Return the examples of a split and their labels; of pictures with boxes how many there are."""
    x, y = batches.stored(split)
    return x, (y >= 0).sum(axis=1) if batches.card.recipe.get("targets") == "boxes" else y


def read(told: Mapping[str, Any]) -> Signs:
    """Return what a diagnosis tells of signs and bounds as the advice takes it."""
    missed = tuple(name for name, row in told["satisficing"].items() if not row["met"])
    costs = told["error_analysis"]
    told = told["signs"]
    return Signs(
        pattern=told["pattern"],
        learning=told["learning"],
        dead_units=max(told["dead_units"].values(), default=0.0),
        flow=tuple(told["flow"]),
        shifts=tuple(pair for pair, each in told["shifts"].items() if each["differs"]),
        missed=missed,
        falling=told.get("falling", False),
        early=told.get("early", False),
        below_baseline=told.get("below_baseline", False),
        costliest=costs[0]["predicted"] if costs and costs[0]["label"] in (OBJECTS, FOUND) else "",
    )


def error_analysis(task: Any, found: Judgement) -> list[dict[str, Any]]:
    """Return the costliest kinds of mistake."""
    if found.costs is not None:
        return found.costs
    return ceilings(found.mistakes, found.confusion, task.groups, task.error_of)


def baseline(task: Any, card: Card, batches: Batches, splits: Sequence[str]) -> dict[str, Any]:
    """Return the error of the best answer that never looks, by split, and its name; nothing without these splits."""
    there = [split for split in splits if split in batches.splits]
    errors = {split: trivial_error(task, card, batches, split) for split in there}
    return {"name": trivial_name(task, card), **errors} if errors else {}


def against(trivial: Mapping[str, Any], found: Mapping[str, Judgement]) -> dict[str, bool]:
    """Return whether a result on a split that was not trained on is worse than the trivial one, beyond chance."""
    return {
        "below_baseline": any(found[split].error.bounds()[0] > trivial[split] for split in trivial if split in found)
    }
