"""Who it is, among people of whom others are met later: faces, or anything else that is told apart without a class of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.labels import encode
from crucible.data.readers.source import Array, Pool, Source
from crucible.data.splits import SPLITS
from crucible.errors import Refusal
from crucible.labels.kind import WORST, Answer, Kind, Mistake, Predictions, table_of
from crucible.metrics.verification import Compare, Pairs, nearest, pairs_of, squared_distances
from crucible.text import csv_text

DECIMALS = 6


class Identities(Kind):
    """The number of a person; the people of one split are in no other, so a split is judged on people never seen.

    Args:
        compare: codes (n, D) and (m, D) to how different they are (n, m); squared distances unless a task has its own.
    """

    name = "identities"
    drawable = True
    pictures = ("data=pairs_folder", "data.path=FOLDER")

    def __init__(self, compare: Compare = squared_distances) -> None:
        self.compare = compare

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the person's number (N,), each person whole in one group; other data have people of their own."""
        people, labels = encode({name: pool.labels for name, pool in source.pools.items()}, source.classes)
        for name, pool in source.pools.items():
            if judge is None:
                _require_whole(name, pool, labels[name], people)
            elif len(np.unique(labels[name])) in (1, len(labels[name])):
                raise Refusal("the data", f"{name} holds no two pictures of one person, or one person alone: there is nothing to verify",
                              allowed="two people or more, and two pictures of one of them")  # fmt: skip
        return Encoded(people, labels, {name: np.zeros(len(array), np.int64) for name, array in labels.items()})

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse a split of fewer than two people, and people of whom there is one picture where pairs are learned."""
        split, label = (np.concatenate([part[pool] for pool in split_of]) for part in (split_of, labels))
        for number in expected:
            counts = np.bincount(label[split == number], minlength=len(classes))
            if (counts > 0).sum() < 2:
                raise Refusal(f"the {SPLITS[number]} split", f"it holds {(counts > 0).sum()} of {len(classes)} people",
                              allowed="two people or more in every split", example="data.split.train=6 data.split.dev=2 data.split.test=2")  # fmt: skip
            alone = np.flatnonzero(counts == 1)
            if (number == 0 and len(alone)) or not (counts > 1).any():
                who = classes[alone[0]] if len(alone) else "nobody"
                raise Refusal(f"the {SPLITS[number]} split", f"there is one picture of {who!r}: what two of them have in common cannot be learned",
                              allowed="two pictures or more of everybody in train; once it is trained, one is enough (src/faces.py)")  # fmt: skip

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor, str]:
        """The same code for everybody: all are the same person, or none are."""
        return torch.zeros(num_outputs), "the same code for everybody"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the code."""
        return [([round(value, DECIMALS) for value in row], {}) for row in answers.tolist()]

    def in_words(self, predicted: list[float]) -> str:
        """Return how many numbers the code has."""
        return f"a code of {len(predicted)} numbers"

    def columns(self, answers: Sequence[Answer]) -> list[str]:
        """Return a column for each number of a code."""
        return ["input", *(f"code{i}" for i in range(len(answers[0].predicted) if answers else 0))]

    def cells(self, answer: Answer) -> list[list[object]]:
        """Return the code."""
        return [[answer.name, *answer.predicted]]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return of each picture whose picture is nearest and how far off it is; and the ROC curve of all pairs."""
        names, label, roc = card.classes, found.label.tolist(), self._pairs(found).roc()
        near = zip(label, nearest(found.answers, self.compare), strict=True)
        cells = [[names[y], names[label[row]], f"{distance:.6f}"] for y, (distance, row) in near]
        rows = zip(*(part.tolist() for part in (roc.threshold, roc.false_accept, roc.true_accept)), strict=True)
        curve = [["threshold", "false_accept", "true_accept"], *([f"{each:.6f}" for each in row] for row in rows)]
        return table_of(found, ["label", "predicted", "distance"], cells) | {"roc.csv": csv_text(curve)}

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the pictures of different people that are most alike, each beside what it was taken for."""
        pairs, label, mistakes = self._pairs(found), found.label.tolist(), []
        for i, j, distance in pairs.hardest(WORST, same=False):
            other = found.names[j] if found.names is not None else f"row {found.rows[j]}"
            who = card.classes[label[j]]
            mistakes.append(Mistake(i, f"near {other}", f"{card.classes[label[i]]}, near {who}\n{distance:.3f}"))
        return mistakes

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw the ROC curve, the distances, the hardest pairs, the map of the codes, and recognition among ever more people."""
        from crucible.plots import verification as draw  # matplotlib: only where a report is drawn

        pairs = self._pairs(found)
        roc = pairs.roc()
        made = {name: home / f"{name}.png" for name in ("roc", "distances", "codes", "recognition", "pairs")}
        draw.roc(roc.false_accept, roc.true_accept, roc.equal_error(), made["roc"])
        draw.distances(*pairs.by_sameness(), made["distances"])
        draw.codes(found.answers.numpy(), found.label.numpy(), card.classes, made["codes"])
        draw.recognition(pairs.one_shot_errors(), made["recognition"])
        shown = {"ROC: true against false accepts over all pairs": made["roc"], "Distances of pairs": made["distances"],
                 "The codes (principal components)": made["codes"],
                 "One-shot recognition: the error among ever more people": made["recognition"]}  # fmt: skip
        if card.is_images:
            hard = {same: pairs.hardest(WORST // 2, same=same) for same in (True, False)}
            draw.pairs(images, hard, made["pairs"])
            shown["The hardest pairs: one person far apart, two people close together"] = made["pairs"]
        return shown

    def _pairs(self, found: Predictions) -> Pairs:
        return pairs_of(found.answers, found.label, self.compare)


def _require_whole(name: str, pool: Pool, labels: Array, people: Sequence[str]) -> None:
    """Refuse data whose groups do not say what must stay in one split: each person, whole."""
    if pool.groups is None:
        raise Refusal("data.group_by", "it does not say which pictures are of one person: people must not stand in two splits",
                      allowed="in folders of people '^([^/]+)/'; of arrays the name of the labels",
                      example="data.group_by='^([^/]+)/'")  # fmt: skip
    groups = np.unique(np.asarray(pool.groups).astype(str), return_inverse=True)[1]
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    torn = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    if len(torn):
        raise Refusal("data.group_by", f"the pictures of {people[torn[0]]!r} in {name} are in several groups, which may come into two splits",
                      allowed="groups that hold whole people", example="data.group_by='^([^/]+)/'")  # fmt: skip
