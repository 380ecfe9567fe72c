"""What an evaluation leaves: metrics.json, the tables, the figures, the report, and the last screen."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import signs
from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.diagnosis.bounds import check
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
from crucible.tracking.looks import count_look
from crucible.training.curves import read_curves
from crucible.training.judge import Judgement, confusion_csv, judge, predictions_csv, told
from entry import Job
from finish import is_dvc, judged, write_json
from starting import home
from wiring import config_text, seen_report

WORST, TOLD = 12, 3


def summary(job: Job, saved: Saved, found: Judgement, latency: float, batches: Batches) -> dict[str, Any]:
    """Return metrics.json: the run's own numbers on train and dev, and these on test, judged together."""
    own = read_summary(Path(job.cfg["run"]))
    scores = {split: own[split] for split in ("train", "train_dev", "dev") if split in own} | {"test": told(found)}
    measured = {**found.scores, "latency_ms_per_example": latency, "parameters": float(own["parameters"])}
    before = own["diagnosis"]
    trivial = before.get("baseline", {}) | signs.baseline(saved.task, saved.card, batches, ["test"])
    seen = {
        "signs": _signs(before["signs"], batches) | signs.against(trivial, {"test": found}),
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
        **judged(job, saved.config, saved.card, saved.task, scores, seen, stopped_early=early),
    }


def _signs(seen: dict[str, Any], batches: Batches) -> dict[str, Any]:
    """Add to what the training saw whether dev and test are alike."""
    if not ({"dev", "test"} <= set(batches.splits) and signs.is_independent(batches)):
        return seen
    return {**seen, "shifts": {**seen["shifts"], "dev, test": signs.shift(batches, "dev", "test")}}


def write(
    job: Job, saved: Saved, card: Card, found: Judgement, numbers: dict[str, Any], batches: Batches
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


def _tables(saved: Saved, found: Judgement, batches: Batches) -> dict[str, str]:
    """Return the tables of every prediction on test, by file name."""
    names = batches.names("test")
    tables = {"confusion.csv": confusion_csv(found, saved.task.groups)}
    if saved.task.targets not in PLACES:
        return tables | {
            "predictions.csv": predictions_csv(found, saved.card.classes, names, rows=batches.rows("test").tolist())
        }
    import places

    tables |= {"predictions_names.json": places.names_json(names)} if names is not None else {}
    curves = places.precision_recall(saved, found, batches, "test") if saved.task.targets == "boxes" else {}
    tables |= {"precision_recall.csv": places.curves_csv(curves)} if curves else {}
    return tables | {"predictions.json": places.predictions_json(saved, found, batches, "test")}


def _figures(
    job: Job,
    saved: Saved,
    found: Judgement,
    numbers: dict[str, Any],
    batches: Batches,
    looked: Judgement,
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
        import places

        shown |= places.pictures(saved, looked, batches, split, home_of)
    worst = _worst(looked) if saved.card.is_images and saved.task.targets == "classes" else []
    if len(worst):
        titles = _titles(looked, saved, batches.called(split, worst.tolist()), worst)
        figures.mistakes(batches.stored(split)[0][worst], titles, made["mistakes"])
        shown[f"Worst mistakes on {split}"] = made["mistakes"]
        if job.cfg["report"] == "full":
            import lookinside

            shown |= lookinside.maps(saved, batches, split, worst, looked.predicted[worst], titles, home_of)
    if job.cfg["report"] == "full":
        import lookinside

        shown |= lookinside.pictures(saved, batches, home_of)
    return shown


def _worst(found: Judgement) -> np.ndarray[Any, Any]:
    """Return the wrong examples whose label was given the least probability."""
    wrong = np.flatnonzero((found.label != found.predicted).numpy())
    given = found.answers.numpy()[wrong, found.label.numpy()[wrong]]
    return wrong[np.argsort(given, kind="stable")][:WORST]


def _worst_told(found: Judgement, saved: Saved, batches: Batches, split: str) -> str:
    """Return the first of the worst mistakes by their files; empty where there are none, or only rows are known."""
    rows = _worst(found)[:TOLD] if saved.task.targets == "classes" else np.zeros(0, int)
    if not len(rows) or batches.names(split) is None:
        return ""
    titles = zip(batches.called(split, rows.tolist()), rows.tolist(), strict=True)
    names = saved.card.classes
    told_each = [f"{name} (said {names[int(found.predicted[i])]})" for name, i in titles]
    return f"worst mistakes on {split}: {', '.join(told_each)}"


def _titles(found: Judgement, saved: Saved, called: list[str], rows: np.ndarray[Any, Any]) -> list[str]:
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


def announce(job: Job, numbers: dict[str, Any], notes: tuple[str, ...]) -> None:
    """Show the last screen."""
    files = [str(job.folder / "metrics.json")]
    files += [str(job.folder / "report.html")] if job.cfg["report"] != "none" else []
    advice = numbers["diagnosis"]["advice"][0]["command"]
    following = "dvc exp show" if is_dvc(Path(job.cfg["run"])) else advice or "mlflow ui"
    print(screen(numbers, files=files, following=following, notes=notes))
