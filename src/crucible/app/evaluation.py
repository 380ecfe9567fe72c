"""The steps of one evaluation: the run, its data, metrics.json, tables, figures, the report, the last screen."""

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crucible.app.build import seen_policy
from crucible.app.compatibility import require_classes
from crucible.app.compose import Job
from crucible.app.diagnosis import against_baseline, diagnosed, is_independent, shift, trivial_baseline
from crucible.app.overrides import choices_of
from crucible.app.prepared import prepared, task_class
from crucible.app.project import home, in_pipeline, write_json
from crucible.app.reporting import report_page, worst_named, worst_of
from crucible.data.batches import Batches
from crucible.data.card import Card, read_card
from crucible.data.seen import Seen, read_seen, report, require_unseen, unknown
from crucible.diagnosis.bounds import check
from crucible.errors import Refusal
from crucible.files import CARD, SCORES, WEIGHTS
from crucible.inference.saved_run import Saved, build_calibrated, read_summary
from crucible.instantiate import build
from crucible.integrity import sha256_of
from crucible.labels.kind import Kind
from crucible.report.leaks import near_copies
from crucible.report.screen import judged as judged_splits
from crucible.report.screen import screen
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, Journal, read_events
from crucible.tracking.looks import count_look, read_looks
from crucible.training.evaluation import Evaluation, confusion_csv, summary_of

NO_TEST = "there is no test split: these are the numbers of dev"
CHOSE = ", which chose among the weights, so they flatter"


def own_folder(job: Job, card: Card) -> Job:
    """Return the job with a folder for these data alone: NAME, or NAME-2, ... where other data have been judged as NAME."""
    if not job.new_folder:
        return job
    home, taken = job.folder, 1
    while job.folder.exists() and not _holds(job.folder, card.key):
        taken += 1
        job = replace(job, folder=home.with_name(f"{home.name}-{taken}"))
    return job


def _holds(folder: Path, key: str) -> bool:
    with suppress(Refusal):
        return read_card(folder).key == key
    return False


def require_run(job: Job) -> Path:
    """Return the run folder that the job names.

    Raises:
        Refusal: it names none.
    """
    if job.cfg["run"] is None:
        raise Refusal(
            "run", "is missing", allowed="a run folder, or latest", example="python src/evaluate.py run=latest"
        )
    return Path(job.cfg["run"])


def with_bounds(job: Job, saved: Saved) -> Saved:
    """Return the run with the tolerance and the bounds that the job asks for."""
    trainer = {**job.cfg["trainer"], **saved.config["trainer"]}  # a run of before some key takes the key's default
    config = {**job.cfg, **saved.config, "trainer": trainer}
    task = build_calibrated(require_run(job), job.cfg["task"], saved.card)
    task.attach(saved.model)
    require_classes(job.cfg["data"], saved.card, task)
    return replace(saved, config=config, task=task)


def evaluation_data(job: Job, own: Card) -> tuple[Path, Card]:
    """Return the prepared folder to judge a finished run on: its own data, or other data in its image shape.

    Raises:
        Refusal: the data are not those the run was trained on, or other data have another shape.
    """

    def accept(card: Card) -> None:
        if not job.other_data and card.key != own.key:
            raise Refusal(
                "the data",
                f"they are not those of this run: their key is {card.key[:16]}, its is {own.key[:16]}",
                allowed="the same data, or other data named as such",
                example=f"python src/evaluate.py run={shlex.quote(job.cfg['run'])} data={choices_of(job.cfg)['data']} data.path=...",
            )
        if card.example_shape != own.example_shape:
            raise Refusal("the data", f"an example has shape {card.feature_shape}, the run's have {own.feature_shape}")
        _require_same_objects(job, card.objects or {}, own.objects or {})
        if job.other_data:
            require_unseen(seen_by_run(job), card, seen_policy(job.cfg), "this run")

    return prepared(job, accept, judge=own if job.other_data else None)


def _require_same_objects(job: Job, found: dict[str, Any], own: dict[str, Any]) -> None:
    if found.get("points") != own.get("points"):
        raise Refusal("the data", f"they have {found.get('points')} points", allowed=f"the run's {own.get('points')}")
    if task_class(job.cfg).single and found["most"] > 1:
        raise Refusal("the data", f"a picture holds up to {found['most']} objects", allowed="one at most, as the run's")


def seen_by_run(job: Job) -> Seen:
    """Return what the evaluated run has seen before these data: on its own data what its source has, on others all of it."""
    seen = read_seen(Path(job.cfg["run"])) or unknown()
    return seen.all() if job.other_data else seen


def seen_report(job: Job, batches: Batches) -> dict[str, Any]:
    """Return what a summary says about examples of other data that the evaluated run has seen."""
    return report(seen_by_run(job), batches.own, seen_policy(job.cfg))


def require_records(job: Job) -> None:
    """Refuse to evaluate where the look could not be recorded: the run's journal, or the record of looks, is damaged."""
    read_looks()
    list(read_events(require_run(job) / NAME))


def same_threads(job: Job) -> None:
    """Compute with as many threads as the training did."""
    torch.set_num_threads(read_summary(Path(job.cfg["run"]))["threads"])


def evaluation_summary(
    job: Job, saved: Saved, split: str, found: Evaluation, latency: float, batches: Batches
) -> dict[str, Any]:
    """Return metrics.json: the run's own numbers on train and dev, and these on the split that is judged."""
    own = read_summary(Path(job.cfg["run"]))
    scores = {split: own[split] for split in ("train", "train_dev", "dev") if split in own} | {split: summary_of(found)}
    measured = {**found.scores, "latency_ms_per_example": latency, "parameters": float(own["parameters"])}
    before = own["diagnosis"]
    trivial = before.get("baseline", {}) | trivial_baseline(saved.task, saved.card, batches, [split])
    seen = {
        "signs": _signs(before["signs"], batches, saved.task.kind) | against_baseline(trivial, {split: found}),
        "error_analysis": before["error_analysis"],
        "satisficing": check(saved.task.satisficing, measured),
        "controls": before["controls"],
        "evidence": before.get("evidence", {}) | {split: found.evidence()},
        "baseline": trivial,
        "progress": before.get("progress", {}),
        "seen": seen_report(job, batches) if job.other_data else before.get("seen", {}),
    }
    early = own["epochs"] < job.cfg["trainer"]["total_epochs"]
    return {
        "data": job.cfg["data"]["name"] if job.other_data else own["data"],
        "model": own["model"],
        "monitor": own["monitor"],
        **scores,
        **({"suggested": own["suggested"]} if "suggested" in own else {}),
        "latency_ms_per_example": latency,
        "parameters": own["parameters"],
        **diagnosed(job, saved.config, saved.card, saved.task, scores, seen, stopped_early=early),
    }


def _signs(seen: dict[str, Any], batches: Batches, kind: Kind) -> dict[str, Any]:
    """Add to what the training saw whether dev and test are alike."""
    if not ({"dev", "test"} <= set(batches.splits) and is_independent(batches)):
        return seen
    return {**seen, "shifts": {**seen["shifts"], "dev, test": shift(batches, kind, "dev", "test")}}


def chosen_scores(numbers: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the few numbers that a table of experiments has room for: the monitored one and the error of each split."""
    names = dict.fromkeys([numbers["monitor"]["name"], "error"])
    return {
        split: {name: scores[name] for name in names if name in scores}
        for split, scores in judged_splits(numbers).items()
    }


def _chosen_by_dev(saved: Saved) -> bool:
    trainer = saved.config["trainer"]
    return trainer.get("keep", "best") == "best" or trainer["patience"] is not None


def write_evaluation(
    job: Job, saved: Saved, card: Card, split: str, found: Evaluation, numbers: dict[str, Any], batches: Batches
) -> tuple[str, ...]:
    """Write every file; return what the last screen should mention."""
    out = job.folder
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", numbers)
    write_json(out / SCORES, chosen_scores(numbers))
    tables = saved.task.kind.tables(found.predictions, card) if found.predictions else {}
    for name, text in (tables | {"confusion.csv": confusion_csv(found, saved.task.confusion_labels)}).items():
        write_atomic(out / name, text.encode())
    note = _looks(job, saved.task.kind, batches) if split == "test" else NO_TEST + CHOSE * _chosen_by_dev(saved)
    near, worst = near_copies(card.duplicates), ""
    if job.cfg["report"] != "none":
        shown = worst_of(job, saved, card, found, batches)
        worst = worst_named(shown, batches)
        notes = "; ".join(each for each in (note, near) if each)
        write_atomic(out / "report.html", report_page(job, saved, found, numbers, batches, shown, notes).encode())
    if job.other_data:
        card.write(out / CARD)  # which data these were
    else:
        _journal(job, split, found.scores)
    return (note, near, worst)


def _looks(job: Job, kind: Kind, batches: Batches) -> str:
    """Count this look at test, and say how many there were; nothing where nothing is learned about others."""
    looks = count_look(batches.examples("test"), sha256_of(Path(job.cfg["run"]) / WEIGHTS))
    grown = "; its error grows flattering" if looks > 5 else ""
    return "" if kind.no_gap else f"{looks} model(s) have been judged on this test split{grown}"


def _journal(job: Job, split: str, scores: dict[str, float]) -> None:
    """Record the look in the run's journal, if these weights are its own, and let the mirror follow."""
    run = Path(job.cfg["run"])
    end = next((event for event in read_events(run / NAME) if event["kind"] == "end"), None)
    if end is None or end["weights"] != sha256_of(run / WEIGHTS):
        return  # DVC restored these weights from its cache: the journal beside them is another training's
    values = {f"{split}/{name}": value for name, value in scores.items()}
    journal = Journal(run)
    journal.append(
        "evaluate",
        epoch=end["epoch"],
        step=end["step"],
        values=values,
        folder=str(job.folder.absolute()),
        weights=end["weights"],
    )
    journal.close()
    build("tracking", job.cfg["tracking"], run, home()).refresh()


def show_evaluation(job: Job, numbers: dict[str, Any], notes: tuple[str, ...]) -> None:
    """Show the last screen."""
    files = [str(job.folder / "metrics.json")]
    files += [str(job.folder / "report.html")] if job.cfg["report"] != "none" else []
    advice = numbers["diagnosis"]["advice"][0]["command"]
    following = "dvc exp show" if in_pipeline(Path(job.cfg["run"])) else advice or "mlflow ui"
    print(screen(numbers, files=files, following=following, notes=notes))
