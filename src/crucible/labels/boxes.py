"""Objects in a picture: a class and a box for each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.labels import strata
from crucible.data.objects import Objects, Resize, box_facts, boxes_of, named, require_boxes
from crucible.data.readers.source import Array, Source
from crucible.data.splits import SPLITS
from crucible.errors import Refusal
from crucible.labels.classes import SURE
from crucible.labels.kind import WORST, Answer, Mistake, Predictions
from crucible.labels.located import Located, in_original, listed
from crucible.metrics.detection import BOUNDS, RECALLS, curves, matched
from crucible.plots.charts import Lines, Part, Series
from crucible.text import csv_text

LEAST = 0.05  # the score from which a page can show a box


class Boxes(Located):
    """Classes (N, M), below 0 for none, and corners (N, M, 4)."""

    name = "boxes"
    scored = True
    pictures = ("data=voc", "data.path=FOLDER")

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the class of each object (N, M); a stratified split keeps alike how many there are."""
        require_boxes(source.pools.values())
        names, known = named({pool: each.labels for pool, each in source.pools.items()}, source.classes, judge=judge)
        return Encoded(names, known, {pool: strata((array >= 0).sum(axis=1)) for pool, array in known.items()})

    def place(
        self, source: Source, labels: ByPool, sizes: ByPool, shape: Sequence[int], resize: Resize
    ) -> dict[str, Objects]:
        """Return the boxes in stored pixels, cut at the edges of their pictures; those without area are left out."""
        self.require_images(shape)
        return boxes_of({pool: (source.pools[pool], labels[pool], own) for pool, own in sizes.items()}, shape, resize)

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse a class that no object of train has."""
        train = np.concatenate([labels[pool][split_of[pool] == SPLITS.index("train")].ravel() for pool in split_of])
        if missing := [name for i, name in enumerate(classes) if not (train == i).any()]:
            drawn = list(split_of) == ["all"]
            raise Refusal("the train split", f"no object in it is a {missing[0]!r}", allowed="objects of every class that there is",
                          example="data.split.seed=1" if drawn else "")  # fmt: skip

    def counts(self, labels: Array, num_classes: int) -> dict[str, Any]:
        """Return the objects of each class, and the images without any."""
        counts = np.bincount(labels[labels >= 0], minlength=num_classes).tolist()
        return {"class_counts": counts, "empty": int((labels < 0).all(axis=1).sum())}

    def facts(self, found: Mapping[str, Objects], train: Array, labels: Array, shape: Sequence[int]) -> dict[str, Any]:
        """Return `objects`: the most in a picture, what was left out, and anchors found in the boxes of train."""
        boxes = np.concatenate([each.arrays["boxes"] for each in found.values()])
        return {"objects": box_facts(found, boxes[train], labels[train])}

    def comparable(self, labels: Array) -> Array:
        """Return how many objects each picture holds."""
        return np.asarray((labels >= 0).sum(axis=1))

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor | None, str]:
        """Never any box."""
        return torch.full((num_outputs,), -SURE) if single else None, "nothing is ever found"

    def shown(self, predicted: list[Any], score: float) -> list[Any]:
        """Return the boxes that are sure enough."""
        return [each for each in predicted if each["score"] >= score]

    def in_words(self, predicted: list[Any]) -> str:
        """Return how many of each class there are: 3 RBC, 1 WBC."""
        counts = Counter(each["class"] for each in predicted)
        return ", ".join(f"{counts[name]} {name}" for name in sorted(counts)) or "nothing"

    def columns(self, answers: Sequence[Answer]) -> list[str]:
        """Return those of one box."""
        return ["input", "class", "score", "x0", "y0", "x1", "y1"]

    def cells(self, answer: Answer) -> list[list[object]]:
        """Return a row for each box."""
        return [[answer.name, box["class"], box["score"], *box["box"]] for box in answer.predicted]

    def in_pixels(self, answers: Array, sizes: Array, card: Card) -> list[Any]:
        """Return of boxes (N, D, 6) a list of {box: [x0, y0, x1, y1], score, class} for each picture, the highest score first."""
        corners = in_original(answers[..., :4].reshape(len(answers), -1, 2, 2), sizes, card)
        corners = np.clip(corners, 0, sizes[:, None, None, ::-1]).reshape(*answers.shape[:2], 4)
        return [
            [
                {"box": listed(box), "score": round(float(row[4]), 6), "class": card.classes[int(row[5])]}
                for box, row in zip(boxes, rows, strict=True)
                if row[4] > 0
            ]
            for boxes, rows in zip(corners, answers, strict=True)
        ]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return the curves of precision over recall, too."""
        of_classes = precision_recall(found, card)
        rows = zip(RECALLS, zip(*of_classes.values(), strict=True), strict=True)
        table = csv_text([["recall", *of_classes], *([f"{r:.2f}", *(f"{p:.6f}" for p in row)] for r, row in rows)])
        return super().tables(found, card) | ({"precision_recall.csv": table} if of_classes else {})

    def caption(self, label: Any, card: Card) -> str:
        """Return the classes of what is there."""
        return ", ".join(card.classes[k] for k in label if k >= 0)

    def charts(self, found: Predictions, card: Card) -> list[Part]:
        """Return precision over recall."""
        of_classes = precision_recall(found, card)
        recalls = [round(float(r), 2) for r in RECALLS]
        series = [
            Series(f"{name}: {curve.mean():.4f}", recalls, curve.round(5).tolist())
            for name, curve in of_classes.items()
        ]
        return (
            [
                Lines(
                    "Precision and recall of each class",
                    series,
                    x="recall",
                    range=(0, 1),
                    note="At an overlap of 0.5; beside the name its mean, AP50.",
                )
            ]
            if series
            else []
        )

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the pictures with the most boxes missed and made up."""
        sure = torch.where(found.answers[..., 4:5] >= score, found.answers, 0.0)
        hits = matched(sure, found.further["boxes"].cpu(), found.label, BOUNDS[:1]).hits[0].sum(dim=1)
        wrong = ((found.label >= 0).sum(dim=1) + (sure[..., 4] > 0).sum(dim=1) - 2 * hits).numpy()
        rows = np.argsort(-wrong, kind="stable")[:WORST]
        rows = rows[wrong[rows] > 0]
        everything = self.stored(found.answers.numpy()[rows], card)
        words = [f"{wrong[row]} missed or made up" for row in rows]
        return [
            Mistake(row, what, what, _truth(found, row, card), self.shown(own, score), unsure=self.shown(own, LEAST))
            for row, what, own in zip(rows.tolist(), words, everything, strict=True)
        ]

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw precision over recall, which the page shows in its own way."""
        from crucible.plots import boxes  # matplotlib: only where a report is drawn

        if of_classes := precision_recall(found, card):
            boxes.precision_recall(of_classes, home / "precision_recall.png")
        return {}


def precision_recall(found: Predictions, card: Card) -> dict[str, Array]:
    """Return for each class the precision (101,) at recalls 0, 0.01, ... 1 and an overlap of 0.5."""
    each = curves(matched(found.answers, found.further["boxes"].cpu(), found.label, BOUNDS[:1]), len(card.classes))
    return {card.classes[k]: curve[0].numpy() for k, curve in each.items()}


def _truth(found: Predictions, row: int, card: Card) -> list[dict[str, Any]]:
    pairs = zip(found.further["boxes"][row].tolist(), found.label[row].tolist(), strict=True)
    return [{"box": box, "class": card.classes[k]} for box, k in pairs if k >= 0]
