"""Points of one object, or none."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.objects import Objects, Resize, point_facts, points_of, with_points
from crucible.data.readers.source import Array, Source
from crucible.labels.classes import SURE
from crucible.labels.kind import WORST, Answer, Mistake, Predictions
from crucible.labels.located import Located, in_original, listed


class Points(Located):
    """1 or 0 (N,), whether there are points, and the points (N, P, 2)."""

    name = "points"
    no_mirror = "a mirrored left eye is a right one: points cannot be mirrored"
    has_classes = False

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return whether each picture has points; a stratified split keeps alike how many have."""
        there = {name: with_points(pool) for name, pool in source.pools.items()}
        return Encoded([], there, there)

    def place(
        self, source: Source, labels: ByPool, sizes: ByPool, shape: Sequence[int], resize: Resize
    ) -> dict[str, Objects]:
        """Return the points in stored pixels."""
        self.require_images(shape)
        return {name: points_of(source.pools[name], own, shape, resize) for name, own in sizes.items()}

    def facts(self, found: Mapping[str, Objects], train: Array, labels: Array, shape: Sequence[int]) -> dict[str, Any]:
        """Return `objects`: how many points, their mean on train, and their deviation from it."""
        points = np.concatenate([each.arrays["points"] for each in found.values()])
        return {"objects": point_facts(points[train], labels[train], shape)}

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor, str]:
        """Always the mean points: points are learned as deviations from them."""
        row = torch.zeros(num_outputs)
        row[0] = SURE
        return row, "always the mean points of train"

    def in_words(self, predicted: dict[str, Any]) -> str:
        """Return how many points there are, and how likely."""
        return f"{len(predicted['points'])} points ({predicted['score']:.2f})"

    def columns(self, answers: Sequence[Answer]) -> list[str]:
        """Return those of one object."""
        places = range(len(answers[0].predicted["points"]) if answers else 0)
        return ["input", "score", *(f"{axis}{i}" for i in places for axis in "xy")]

    def cells(self, answer: Answer) -> list[list[object]]:
        """Return one row."""
        return [[answer.name, answer.predicted["score"], *chain(*answer.predicted["points"])]]

    def in_pixels(self, answers: Array, sizes: Array, card: Card) -> list[Any]:
        """Return of points (N, 1 + 2 P) {score, points: [[x, y], ...]} for each picture."""
        points = in_original(answers[:, 1:].reshape(len(answers), -1, 2), sizes, card)
        return [
            {"score": round(float(row[0]), 6), "points": listed(some)}
            for row, some in zip(answers, points, strict=True)
        ]

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the pictures whose points are the farthest off, by the mean distance in pixels."""
        wanted = found.further["points"].cpu()
        predicted = found.answers[:, 1:].reshape(wanted.shape)
        wrong = ((predicted - wanted).norm(dim=2).mean(dim=1) * (found.label == 1)).numpy()
        rows = np.argsort(-wrong, kind="stable")[:WORST]
        rows = rows[wrong[rows] > 0]
        own = self.stored(found.answers.numpy()[rows], card)
        words = [f"{wrong[row]:.3g} pixels off" for row in rows]
        truths = [{"points": wanted[row].tolist() if found.label[row] else []} for row in rows.tolist()]
        return [
            Mistake(row, what, what, *both) for row, what, *both in zip(rows.tolist(), words, truths, own, strict=True)
        ]
