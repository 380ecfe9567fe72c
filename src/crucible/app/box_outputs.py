"""What an evaluation leaves of tasks that say where: predictions.json, curves, and pictures of what went wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crucible.data.batches import Batches
from crucible.metrics.detection import BOUNDS, RECALLS, curves, matched
from crucible.report import boxes as draw
from crucible.report.leaks import shortened
from crucible.tasks.placed import placed, shown
from crucible.tasks.saved import Saved
from crucible.text import csv_text
from crucible.training.judge import Evaluation

WORST = 12
Array = np.ndarray[Any, Any]


def predictions_json(saved: Saved, found: Evaluation, batches: Batches, split: str) -> str:
    """Return what was found in each picture of a split, in the order of the prepared folder."""
    sizes = batches.further(split)["size"].cpu().numpy()
    rows = [json.dumps(each, ensure_ascii=False) for each in placed(found.answers.numpy(), sizes, saved.card)]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def names_json(names: list[str]) -> str:
    """Return the names of the pictures in the order of predictions.json, whose lists hold what was found alone."""
    return json.dumps(names, indent=0, ensure_ascii=False) + "\n"


def precision_recall(saved: Saved, found: Evaluation, batches: Batches, split: str) -> dict[str, Array]:
    """Return for each class the precision (101,) at recalls 0, 0.01, ... 1 and an overlap of 0.5; nothing without boxes."""
    if saved.card.recipe["targets"] != "boxes":
        return {}
    boxes, labels = batches.further(split)["boxes"].cpu(), found.label
    each = curves(matched(found.answers, boxes, labels, BOUNDS[:1]), len(saved.card.classes))
    return {saved.card.classes[k]: curve[0].numpy() for k, curve in each.items()}


def curves_csv(found: dict[str, Array]) -> str:
    """Return the curves as a table: recall, and a column of precision for each class."""
    rows = zip(RECALLS, zip(*found.values(), strict=True), strict=True)
    return csv_text([["recall", *found], *([f"{r:.2f}", *(f"{p:.6f}" for p in row)] for r, row in rows)])


def pictures(saved: Saved, found: Evaluation, batches: Batches, split: str, home: Path) -> dict[str, Path]:
    """Draw the worst pictures of a split, the curves of each class, and how the anchors fit; return heading -> picture."""
    made = {f"Worst pictures on {split}: what is there (green) and what was found (orange)": home / "worst.png"}
    wrong = mistakes(saved, found, batches, split)
    worst = np.argsort(-wrong, kind="stable")[:WORST]
    truths = [_truth(saved, batches, split, row) for row in worst]
    founds = [shown(each, saved.task.score) for each in _stored(saved, found.answers.numpy()[worst])]
    called = batches.called(split, worst.tolist())
    titles = [f"{shortened(name)}: {wrong[row]:.3g}" for name, row in zip(called, worst, strict=True)]
    draw.compared(list(batches.stored(split)[0][worst]), truths, founds, titles, home / "worst.png")
    if found_curves := precision_recall(saved, found, batches, split):
        draw.precision_recall(found_curves, home / "precision_recall.png")
        made["Precision and recall of each class"] = home / "precision_recall.png"
    anchors = saved.task.anchors
    if anchors is not None and "train" in batches.splits:
        corners, labels = batches.further("train")["boxes"].cpu().numpy(), np.asarray(batches.stored("train")[1])
        sizes = (corners[..., 2:] - corners[..., :2])[labels >= 0]
        draw.anchors((saved.card.objects or {})["anchors"], sizes, anchors.tolist(), home / "anchors.png")
        made["Anchors and the boxes of train"] = home / "anchors.png"
    return made


def mistakes(saved: Saved, found: Evaluation, batches: Batches, split: str) -> Array:
    """Return how wrong each picture (N,) is: boxes missed and made up; of points the mean distance in pixels."""
    if saved.card.recipe["targets"] == "points":
        wanted = batches.further(split)["points"].cpu()
        said = found.answers[:, 1:].reshape(wanted.shape)
        return ((said - wanted).norm(dim=2).mean(dim=1) * (found.label == 1)).numpy()
    boxes = batches.further(split)["boxes"].cpu()
    sure = torch.where(found.answers[..., 4:5] >= saved.task.score, found.answers, 0.0)
    pairs = matched(sure, boxes, found.label, BOUNDS[:1])
    hits, shown_boxes = pairs.hits[0].sum(dim=1), (sure[..., 4] > 0).sum(dim=1)
    return ((found.label >= 0).sum(dim=1) + shown_boxes - 2 * hits).numpy()


def _truth(saved: Saved, batches: Batches, split: str, row: int) -> Any:
    further = {name: values[row].cpu().numpy() for name, values in batches.further(split).items()}
    labels = np.atleast_1d(np.asarray(batches.stored(split)[1][row]))
    if "points" in further:
        return {"points": further["points"].tolist() if labels[0] else []}
    pairs = zip(further["boxes"].tolist(), labels.tolist(), strict=True)
    return [{"box": box, "class": saved.card.classes[k]} for box, k in pairs if k >= 0]


def _stored(saved: Saved, answers: Array) -> list[Any]:
    """Return what was found in stored pixels."""
    sizes = np.tile(saved.card.feature_shape[1:], (len(answers), 1))
    return placed(answers, sizes, saved.card)
