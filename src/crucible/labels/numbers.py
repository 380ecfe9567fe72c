"""A number for each example."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import Encoded
from crucible.data.labels import numbers, strata
from crucible.data.objects import Objects
from crucible.data.readers.source import Array, Source
from crucible.labels.kind import Kind, Predictions, table_of
from crucible.plots.charts import Lines, Part, Series, thinned

MOST_DRAWN = 2000  # examples


class Numbers(Kind):
    """A number in a unit of its own; errors are in that unit, and no shares."""

    name = "numbers"
    fills_a_plane = True
    is_rate = False
    has_classes = False

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the numbers (N,); a stratified split keeps the quarters alike."""
        values = numbers({pool: each.labels for pool, each in source.pools.items()})
        return Encoded([], values, {pool: strata(array) for pool, array in values.items()})

    def facts(self, found: Mapping[str, Objects], train: Array, labels: Array, shape: Sequence[int]) -> dict[str, Any]:
        """Return `target`: mean, deviation, quartiles, smallest and largest of train; nothing where there is no train."""
        values = labels[train]
        if len(values) == 0:
            return {"target": {}}
        quartiles = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        edges = {"smallest": float(values.min()), "largest": float(values.max())}
        return {"target": {"mean": float(values.mean()), "std": float(values.std()), "quartiles": quartiles, **edges}}

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor, str]:
        """Always the mean: numbers are learned as deviations from it."""
        return torch.zeros(num_outputs), "always the mean of train"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the number."""
        return [(float(row[0]), {}) for row in answers]

    def in_words(self, predicted: float) -> str:
        """Return six digits of it."""
        return f"{predicted:.6g}"

    def caption(self, label: Any, card: Card) -> str:
        """Return the number."""
        return f"{float(label):.4g}"

    def charts(self, found: Predictions, card: Card) -> list[Part]:
        """Return what was predicted against what is, and what is left over."""
        label, predicted = found.label.numpy().astype(float), found.predicted.numpy().astype(float)
        kept = thinned(len(label), MOST_DRAWN)
        few = f" {MOST_DRAWN:,} of {len(label):,} examples are drawn." if len(kept) < len(label) else ""
        y, p = label[kept], predicted[kept]
        return [
            Lines("Predicted against actual", [Series("examples", y.tolist(), p.tolist())], x="actual", points=True, diagonal=True,
                  note="On the diagonal the prediction is right." + few),
            Lines("Residuals", [Series("actual - predicted", p.tolist(), (y - p).tolist())], x="predicted", points=True,
                  note="A pattern in them is something that the network has not learned." + few),
        ]  # fmt: skip

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return the number and what was predicted."""
        pairs = zip(found.label.tolist(), found.predicted.tolist(), strict=True)
        return table_of(found, ["label", "predicted"], [[repr(y), f"{p:.6g}"] for y, p in pairs])
