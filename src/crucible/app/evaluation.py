"""The steps of one evaluation: the run, its data, metrics.json, tables, figures, the report, the last screen."""

import shlex
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crucible.app.build import seen_policy
from crucible.app.compatibility import require_classes
from crucible.app.compose import Job
from crucible.app.diagnosis import against_baseline, diagnosed, is_independent, shift, trivial_baseline
from crucible.app.identity import config_text
from crucible.app.overrides import choices_of
from crucible.app.prepared import prepared, task_class
from crucible.app.project import home, in_pipeline, write_json
from crucible.data.batches import Batches
from crucible.data.card import Card, read_card
from crucible.data.seen import Seen, read_seen, report, require_unseen, unknown
from crucible.diagnosis.bounds import check
from crucible.errors import Refusal
from crucible.files import CARD, CURVES, WEIGHTS
from crucible.integrity import sha256_of
from crucible.report.leaks import near_copies, shortened
from crucible.report.page import page
from crucible.report.screen import judged as judged_splits
from crucible.report.screen import screen
from crucible.targets import build
from crucible.tasks.placed import PLACES
from crucible.tasks.saved import Saved, read_summary
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, Journal, read_events
from crucible.tracking.looks import count_look, read_looks
from crucible.training.curves import read_curves
from crucible.training.judge import Evaluation, confusion_csv, judge, predictions_csv, told


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


def as_judged(job: Job, saved: Saved) -> Saved:
    """Return the run with the tolerance and the bounds that the job asks for."""
    require_classes(job.cfg["data"], saved.card)
    trainer = {**job.cfg["trainer"], **saved.config["trainer"]}  # a run of before some key takes the key's default
    config = {**job.cfg, **saved.config, "trainer": trainer}
    return replace(saved, config=config, task=build("task", job.cfg["task"], saved.card))


def judged_data(job: Job, own: Card) -> tuple[Path, Card]:
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
        if card.feature_shape != own.feature_shape:
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


WORST, TOLD = 12, 3


def evaluation_summary(job: Job, saved: Saved, found: Evaluation, latency: float, batches: Batches) -> dict[str, Any]:
    """Return metrics.json: the run's own numbers on train and dev, and these on test, judged together."""
    own = read_summary(Path(job.cfg["run"]))
    scores = {split: own[split] for split in ("train", "train_dev", "dev") if split in own} | {"test": told(found)}
    measured = {**found.scores, "latency_ms_per_example": latency, "parameters": float(own["parameters"])}
    before = own["diagnosis"]
    trivial = before.get("baseline", {}) | trivial_baseline(saved.task, saved.card, batches, ["test"])
    seen = {
        "signs": _signs(before["signs"], batches) | against_baseline(trivial, {"test": found}),
        "error_analysis": before["error_analysis"],
        "satisficing": check(saved.task.satisficing, measured),
        "controls": before["controls"],
        "evidence": before.get("evidence", {}) | {"test": found.evidence()},
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


def _signs(seen: dict[str, Any], batches: Batches) -> dict[str, Any]:
    """Add to what the training saw whether dev and test are alike."""
    if not ({"dev", "test"} <= set(batches.splits) and is_independent(batches)):
        return seen
    return {**seen, "shifts": {**seen["shifts"], "dev, test": shift(batches, "dev", "test")}}


def write_evaluation(
    job: Job, saved: Saved, card: Card, found: Evaluation, numbers: dict[str, Any], batches: Batches
) -> tuple[str, ...]:
    """Write every file; return what the last screen should mention."""
    out = job.folder
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", numbers)
    for name, text in _tables(saved, found, batches).items():
        write_atomic(out / name, text.encode())
    looks = count_look(batches.examples("test"), sha256_of(Path(job.cfg["run"]) / WEIGHTS))
    note = f"{looks} model(s) have been judged on this test split" + (
        "; its error grows flattering" if looks > 5 else ""
    )
    near, worst = near_copies(card.duplicates), ""
    if job.cfg["report"] != "none":
        split = "test" if job.other_data or "dev" not in batches.splits else "dev"
        looked = found if split == "test" else judge(saved.model, saved.task, batches, split)
        pictures = _figures(job, saved, found, numbers, batches, looked, split)
        worst = _worst_told(looked, saved, batches, split)
        html = page(
            numbers,
            {**asdict(card), "examples": {}},
            config_text(job.cfg),
            "; ".join(each for each in (note, near) if each),
            pictures,
        )
        write_atomic(out / "report.html", html.encode())
    if job.other_data:
        card.write(out / CARD)  # which data these were
    else:
        _journal(job, found.scores)
    return (note, near, worst)


def _tables(saved: Saved, found: Evaluation, batches: Batches) -> dict[str, str]:
    """Return the tables of every prediction on test, by file name."""
    names = batches.names("test")
    tables = {"confusion.csv": confusion_csv(found, saved.task.groups)}
    if saved.task.targets not in PLACES:
        return tables | {
            "predictions.csv": predictions_csv(found, saved.card.classes, names, rows=batches.rows("test").tolist())
        }
    from crucible.app.box_outputs import curves_csv, names_json, precision_recall, predictions_json

    tables |= {"predictions_names.json": names_json(names)} if names is not None else {}
    curves = precision_recall(saved, found, batches, "test") if saved.task.targets == "boxes" else {}
    tables |= {"precision_recall.csv": curves_csv(curves)} if curves else {}
    return tables | {"predictions.json": predictions_json(saved, found, batches, "test")}


def _figures(
    job: Job,
    saved: Saved,
    found: Evaluation,
    numbers: dict[str, Any],
    batches: Batches,
    looked: Evaluation,
    split: str,
) -> dict[str, Path]:
    from crucible.report import figures  # matplotlib: only where a report is drawn

    run, home_of = Path(job.cfg["run"]), job.folder / "figures"
    steps = [("human", numbers["human"]["error"])]
    steps += [(split, scores["error"]) for split, scores in judged_splits(numbers).items()]
    made = {name: home_of / f"{name}.png" for name in ("curves", "gap", "flow", "ceiling", "confusion", "mistakes")}
    rows = read_curves(run / CURVES)
    best = read_summary(run)["best_epoch"]
    figures.curves(rows, numbers["monitor"]["name"], best, numbers["diagnosis"]["signs"]["curves"], made["curves"])
    figures.gap(steps, saved.task.margin, saved.task.error, made["gap"])
    figures.confusion(found.confusion.numpy(), saved.task.groups, made["confusion"])
    shown = {"Learning curves": made["curves"], "The gap": made["gap"], "Confusion matrix": made["confusion"]}
    if rows:
        figures.flow(rows, made["flow"])
        shown["Gradients and activations, layer by layer"] = made["flow"]
    if costly := numbers["diagnosis"]["error_analysis"]:
        figures.ceiling(costly, made["ceiling"])
        shown["The ceiling: what each kind of mistake costs"] = made["ceiling"]
    if saved.task.targets in PLACES:
        from crucible.app import box_outputs

        shown |= box_outputs.pictures(saved, looked, batches, split, home_of)
    worst = _worst(looked) if saved.card.is_images and saved.task.targets == "classes" else np.zeros(0, int)
    if len(worst):
        titles = _titles(looked, saved, batches.called(split, worst.tolist()), worst)
        figures.mistakes(batches.stored(split)[0][worst], titles, made["mistakes"])
        shown[f"Worst mistakes on {split}"] = made["mistakes"]
        if job.cfg["report"] == "full":
            from crucible.app import interpretation

            shown |= interpretation.maps(saved, batches, split, worst, looked.predicted[worst], titles, home_of)
    if job.cfg["report"] == "full":
        from crucible.app import interpretation

        shown |= interpretation.pictures(saved, batches, home_of)
    return shown


def _worst(found: Evaluation) -> np.ndarray[Any, Any]:
    """Return the wrong examples whose label was given the least probability."""
    wrong = np.flatnonzero((found.label != found.predicted).numpy())
    given = found.answers.numpy()[wrong, found.label.numpy()[wrong]]
    return wrong[np.argsort(given, kind="stable")][:WORST]


def _worst_told(found: Evaluation, saved: Saved, batches: Batches, split: str) -> str:
    """Return the first of the worst mistakes by their files; empty where there are none, or only rows are known."""
    rows = _worst(found)[:TOLD] if saved.task.targets == "classes" else np.zeros(0, int)
    if not len(rows) or batches.names(split) is None:
        return ""
    titles = zip(batches.called(split, rows.tolist()), rows.tolist(), strict=True)
    names = saved.card.classes
    told_each = [f"{name} (said {names[int(found.predicted[i])]})" for name, i in titles]
    return f"worst mistakes on {split}: {', '.join(told_each)}"


def _titles(found: Evaluation, saved: Saved, called: list[str], rows: np.ndarray[Any, Any]) -> list[str]:
    names = saved.card.classes
    pairs = [(int(found.label[i]), int(found.predicted[i]), i) for i in rows]
    return [
        f"{names[y]}, said {names[p]}\n{found.answers[i, p]:.2f} ({shortened(name)})"
        for (y, p, i), name in zip(pairs, called, strict=True)
    ]


def _journal(job: Job, scores: dict[str, float]) -> None:
    """Record the look in the run's journal, if these weights are its own, and let the mirror follow."""
    run = Path(job.cfg["run"])
    end = next((event for event in read_events(run / NAME) if event["kind"] == "end"), None)
    if end is None or end["weights"] != sha256_of(run / WEIGHTS):
        return  # DVC restored these weights from its cache: the journal beside them is another training's
    values = {f"test/{name}": value for name, value in scores.items()}
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
