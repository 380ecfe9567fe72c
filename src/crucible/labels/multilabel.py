"""Several yes-or-no labels for each example, some of them unknown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.labels import flags
from crucible.data.readers.source import Array, Source
from crucible.data.splits import SPLITS
from crucible.errors import Refusal
from crucible.labels.classes import SURE, over_thresholds
from crucible.labels.kind import Kind, Predictions, table_of
from crucible.plots.charts import Part

MARKS = {1: "1", 0: "0", -1: "?"}


class Multilabel(Kind):
    """T labels of 1, 0 and -1 for unknown; their names stand in the card as classes."""

    name = "flags"

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the labels (N, T); a stratified split keeps alike how many are yes."""
        names, known = flags({pool: each.labels for pool, each in source.pools.items()}, source.classes, judge=judge)
        return Encoded(names, known, {pool: (array == 1).sum(axis=1) for pool, array in known.items()})

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse a label that in train is never yes, or never no."""
        train = np.concatenate([labels[pool][split_of[pool] == SPLITS.index("train")] for pool in split_of])
        for name, column in zip(classes, train.T, strict=True):
            if not {0, 1} <= set(column.tolist()):
                raise Refusal(
                    "the train split", f"no example in it has {'yes' if 1 not in column else 'no'} for the label {name!r}",
                    allowed="both answers for every label: more examples, or leave the label away",
                )  # fmt: skip

    def counts(self, labels: Array, num_classes: int) -> dict[str, Any]:
        """Return how often each label is yes, and how often it is known."""
        return {"class_counts": (labels == 1).sum(axis=0).tolist(), "known": (labels >= 0).sum(axis=0).tolist()}

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor, str]:
        """Always the more frequent answer to each label."""
        yes, known = (torch.tensor(card.splits["train"][key]) for key in ("class_counts", "known"))
        return SURE * torch.where(2 * yes > known, 1.0, -1.0), "always the more frequent answer"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the labels that apply."""
        rows = [dict(zip(card.classes, row, strict=True)) for row in answers.tolist()]
        return [([name for name, share in shares.items() if share > 0.5], shares) for shares in rows]

    def in_words(self, predicted: list[str]) -> str:
        """Return the labels that apply: red+round."""
        return "+".join(predicted)

    def caption(self, label: Any, card: Card) -> str:
        """Return the labels that apply."""
        return self.in_words([name for name, value in zip(card.classes, label, strict=True) if value == 1])

    def charts(self, found: Predictions, card: Card) -> list[Part]:
        """Return ROC, and precision over recall, of each label where it is known."""
        return over_thresholds(found.label.numpy(), found.answers.numpy(), card.classes, one_class=False)

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return 1, 0 or ? for each label in order, as it is and as predicted, and the probability of each."""
        triples = zip(found.label.tolist(), found.predicted.tolist(), found.answers.tolist(), strict=True)
        cells = [
            [*("".join(MARKS[v] for v in row) for row in (ys, ps)), *(f"{q:.6f}" for q in qs)] for ys, ps, qs in triples
        ]
        return table_of(found, ["label", "predicted", *card.classes], cells)
