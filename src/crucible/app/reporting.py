"""What the report of an evaluation shows: charts of the predictions, the worst mistakes, the facts of the run, figures."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crucible.app.compose import Job
from crucible.app.identity import config_text
from crucible.app.previous import previous_runs
from crucible.app.project import in_pipeline
from crucible.data.augment import Identity
from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.errors import as_called
from crucible.files import CURVES, frames_of
from crucible.inference.saved_run import Predictor, Saved, input_dtype, read_summary
from crucible.labels.kind import WORST, Mistake, Predictions
from crucible.plots.charts import Part
from crucible.report.leaks import shortened
from crucible.report.page import gallery_of, matrix, page, progress, spreads
from crucible.report.screen import base
from crucible.report.screen import judged as judged_splits
from crucible.text import clock
from crucible.tracking.curves import read_curves, read_spread
from crucible.tracking.journal import NAME, read_events, working_seconds
from crucible.training.evaluation import Evaluation, evaluate_split, judged_split

NAMED = 3  # of the worst mistakes, on the last screen


@dataclass(frozen=True)
class Worst:
    """The split whose worst mistakes are shown, the worst first: dev, unless there is none, or other data are judged."""

    split: str
    card: Card
    found: Evaluation
    mistakes: list[Mistake]

    @property
    def predictions(self) -> Predictions:
        """Every prediction on the split."""
        assert self.found.predictions is not None  # they were wanted
        return self.found.predictions


def worst_of(job: Job, saved: Saved, card: Card, found: Evaluation, batches: Batches) -> Worst:
    """Return what is shown of the mistakes."""
    split = "test" if job.other_data or "dev" not in batches.splits else "dev"
    looked = found if split == judged_split(batches) else evaluate_split(saved.model, saved.task, batches, split)
    assert looked.predictions is not None  # they were wanted
    return Worst(split, card, looked, saved.task.kind.worst(looked.predictions, card, saved.task.score))


def report_page(
    job: Job, saved: Saved, found: Evaluation, numbers: dict[str, Any], batches: Batches, looked: Worst, looks: str
) -> str:  # fmt: skip
    """Return the report."""
    run, kind = Path(job.cfg["run"]), saved.task.kind
    pictures = _figures(job, saved, found, numbers, batches, looked)
    opens = any(each.label for each in looked.mistakes)
    judged = {looked.split: looked.found, judged_split(batches): found}
    splits = (
        {}
        if kind.no_gap
        else {
            split: _charts(saved, looked.card, own, split, opens=opens and split == looked.split)
            for split, own in judged.items()
        }
    )
    rows = [each.row for each in looked.mistakes]
    images = batches.stored(looked.split)[0][rows] if saved.card.is_images and rows else None
    gallery = gallery_of(
        looked.mistakes, batches.called(looked.split, rows), images, saved.task.score if kind.scored else None
    )
    further = {"spreads": spreads(read_spread(run))}
    further |= {} if kind.no_gap or in_pipeline(run) else {"progress": progress(_tried(run, saved), numbers)}
    return page(
        numbers, asdict(looked.card), config_text(job.cfg), looks, _facts(job, saved), read_curves(run / CURVES), read_summary(run)["best_epoch"],
        saved.task.tolerance, splits, gallery, looked.split, pictures, further,
    )  # fmt: skip


def _tried(run: Path, saved: Saved) -> list[tuple[str, float]]:
    """Return folder and error on dev of every run on these data up to this one, the first first."""
    own = read_summary(run)
    before = previous_runs(saved.card.key, run).errors_on_dev(own)
    return [*before, (str(run), own["dev"]["error"])] if own.get("dev") else []


def _charts(saved: Saved, card: Card, found: Evaluation, split: str, *, opens: bool) -> list[Part]:
    """Return the charts of the predictions on a split, the confusion matrix first."""
    own = saved.task.kind.charts(found.predictions, card) if found.predictions is not None else []
    return [matrix(found.confusion.numpy(), saved.task.confusion_labels, split, opens=opens), *own]


def _facts(job: Job, saved: Saved) -> list[str]:
    """Return when, how and on what the run was trained; of a pipeline's run what its files alone tell."""
    card, run = saved.card, Path(job.cfg["run"])
    sizes = ", ".join(f"{split} {card.size(split):,}" for split in card.splits)
    known = [f"data {card.name} ({sizes})", f"key {card.key[:12]}", f"seed {saved.config['seed']}"]
    if in_pipeline(run):
        return known
    events = list(read_events(run / NAME))
    start, end = (next((event for event in events if event["kind"] == kind), None) for kind in ("start", "end"))
    if start is None or end is None:
        return known
    tags = start.get("tags", {})
    trained = [
        f"trained {datetime.fromtimestamp(start['time']):%Y-%m-%d %H:%M}",
        f"in {clock(working_seconds(events))}",
    ]
    command = as_called(f"python src/train.py {tags.get('hydra.overrides', '')}".strip())
    return [*trained, command, *([f"commit {tags['git.commit'][:10]}"] if tags.get("git.commit") else []), *known]


def _figures(
    job: Job, saved: Saved, found: Evaluation, numbers: dict[str, Any], batches: Batches, looked: Worst
) -> dict[str, Path]:
    from crucible.plots import figures  # matplotlib: only where a report is drawn

    run, home_of, kind = Path(job.cfg["run"]), job.folder / "figures", saved.task.kind
    steps = [base(numbers)[:2]]
    steps += [(split, scores["error"]) for split, scores in judged_splits(numbers).items()]
    made = {name: home_of / f"{name}.png" for name in ("curves", "gap", "flow", "back", "ceiling", "confusion")}
    rows = read_curves(run / CURVES)
    best = read_summary(run)["best_epoch"]
    figures.curves(rows, numbers["monitor"]["name"], best, numbers["diagnosis"]["signs"]["curves"], made["curves"])
    if not kind.no_gap:
        figures.gap(steps, saved.task.tolerance, saved.task.error, made["gap"], is_rate=kind.is_rate)
        figures.confusion(found.confusion.numpy(), saved.task.confusion_labels, made["confusion"])
    if rows:
        figures.flow(rows, made["flow"])
    figures.back(rows, made["back"])
    if costly := numbers["diagnosis"]["error_analysis"]:
        figures.ceiling(costly, made["ceiling"])
    shown = _worst_drawn(job, saved, batches, looked, home_of)
    if job.cfg["report"] == "full":
        from crucible.app import interpretation

        shown |= interpretation.pictures(saved, batches, home_of)
    if frames := frames_of(run):
        figures.filmstrip(frames, home_of / "filmstrip.png")
        shown["How it came to be"] = home_of / "filmstrip.png"
    shown |= saved.task.story({"": recorded(run)}, home_of)
    if saved.card.is_images and not isinstance(batches.augment, Identity) and "train" in batches.splits:
        from crucible.app import interpretation

        shown |= interpretation.augmented(batches, home_of)
    if kind.fills_a_plane and saved.card.feature_shape == saved.card.stored_shape == [2]:
        shown |= _boundary(saved, batches, looked.split, home_of)
    if "train" in batches.splits:
        train = {"label": batches.arrays("train")[1], **batches.further("train")}
        shown |= saved.task.figures(train, saved.card.objects or {}, home_of)
    return shown


def _boundary(saved: Saved, batches: Batches, split: str, home: Path) -> dict[str, Path]:
    """Draw what is answered everywhere in the plane of two features."""
    from crucible.plots.boundary import boundary

    predictor, dtype = Predictor(saved), input_dtype(saved.card)
    shown = [(name, *batches.stored(name)) for name in dict.fromkeys(["train", split]) if name in batches.splits]
    features = saved.card.columns or ["feature 1", "feature 2"]
    with torch.inference_mode():
        boundary(lambda x: predictor(x.to(dtype)), shown, saved.card.classes, features, home / "boundary.png")
    return {"The answer at every point": home / "boundary.png"}


def recorded(run: Path) -> list[dict[str, float]]:
    """Return the numbers of each epoch and of each step that a run recorded, in order; of a pipeline's run those of epochs alone."""
    if in_pipeline(run):
        return read_curves(run / CURVES)
    return [event["values"] for event in read_events(run / NAME) if event["kind"] == "metrics"]


def _worst_drawn(job: Job, saved: Saved, batches: Batches, looked: Worst, home: Path) -> dict[str, Path]:
    """Draw the worst mistakes, which the page shows in its own way, and what only this kind of label has to show."""
    from crucible.plots import boxes, figures

    kind, split, images = saved.task.kind, looked.split, batches.stored(looked.split)[0]
    shown: dict[str, Path] = {}
    worst = looked.mistakes[:WORST] if saved.card.is_images else []
    rows = [each.row for each in worst]
    named = zip(worst, batches.called(split, rows), strict=True)
    titles = [f"{each.title} ({shortened(name)})" for each, name in named]
    path = home / kind.worst_picture
    if worst and kind.where:
        truths, found = [each.truth for each in worst], [each.found for each in worst]
        boxes.compared(list(images[rows]), truths, found, titles, path)
    elif worst:
        figures.mistakes(images[rows], titles, path)
    if worst and kind.one_class and job.cfg["report"] == "full":
        from crucible.app import interpretation

        predicted = looked.predictions.predicted[rows]
        shown |= interpretation.maps(saved, batches, split, np.array(rows), predicted, titles, home)
    return shown | kind.figures(looked.predictions, images, looked.card, home)


def worst_named(looked: Worst, batches: Batches) -> str:
    """Return the first of the worst mistakes by their files; empty where there are none, or only rows are known."""
    worst = looked.mistakes[:NAMED]
    if not worst or batches.names(looked.split) is None:
        return ""
    names = batches.called(looked.split, [each.row for each in worst])
    named = [f"{name} ({each.what})" for name, each in zip(names, worst, strict=True)]
    return f"worst mistakes on {looked.split}: {', '.join(named)}"
