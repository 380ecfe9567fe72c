"""A number for each example: identity output and squared error (notes 000, introduction: house prices; 002, 3.4, 4.2)."""

from collections.abc import Callable, Mapping
from math import log, sqrt
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.numbers import Numbers
from crucible.losses import mean_squared_error, precise
from crucible.metrics.regression import RegressionMetrics
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "rmse", "r2"]
Output = Literal["identity", "relu", "sigmoid"]
UNITS: dict[Output, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}
SMALLEST = 1e-12  # of a share whose logit is taken


class Regression(MonitoredTask):
    """One unit that answers in the target's unit. `rmse`, the error that bias and variance are measured in, is in it, too.

    | output | answer for the unit's sum z | what the loss compares |
    |---|---|---|
    | identity | mean + deviation z | z with the target in deviations from its mean: always saying the mean gives 1 |
    | relu | deviation max(0, z): a price is not negative (000, introduction) | max(0, z) with target / deviation |
    | sigmoid | 1 / (1 + e^-z) (002, chapter 5) | it with the target, which is between 0 and 1 |

    Args:
        card: tells the target's mean, deviation and quartiles on train.
        loss: `mean_squared_error`, or half of it, `half_squared_error`: the mean of 1/2 (y - t)^2 (002, chapter 5).
        settings: see Monitoring; the tolerance is a share of the target's deviation.

    Raises:
        Refusal: targets that the output cannot say, or that never change; a goal against the metric.
    """

    kind = Numbers()
    metrics_class = RegressionMetrics
    usual = "rmse task.goal=minimize"
    error = "RMSE"
    num_outputs = 1

    def __init__(
        self,
        card: Card,
        *,
        loss: Literal["mean_squared_error", "half_squared_error"] = "mean_squared_error",
        output: Output = "identity",
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        if card.target is None:
            raise Refusal("task=regression", "these data were prepared with classes", example="prepared=null")
        self._target, self._output = card.target, output
        _require_sayable(card.target, output)
        self._scale = 1.0 if output == "sigmoid" else card.target["std"] or 1.0
        self._offset = card.target["mean"] if output == "identity" else 0.0
        self._factor = 0.5 if loss == "half_squared_error" else 1.0
        self._std = card.target["std"]
        self.tolerance = self.tolerance * self._std
        self._edges = card.target["quartiles"]
        low, middle, high = (f"{edge:.4g}" for edge in self._edges)
        self.confusion_labels = [f"below {low}", f"{low} to {middle}", f"{middle} to {high}", f"above {high}"]

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the squared error of a batch: `x` (B, ...), `label` (B,) in the target's unit."""
        return loss_terms(model, batch["x"], lambda outputs: self.loss(outputs, batch["label"]))

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the squared error () of what outputs (B, 1) say, both scaled as the table above says."""
        said = UNITS[self._output](precise(outputs))
        return self._factor * mean_squared_error(said, (label - self._offset) / self._scale)

    def chance_loss(self, counts: list[int]) -> float | None:
        """Return the loss of always saying the mean: 1 where the target is in deviations, or half of it; None: it never changes."""
        return float(self._factor * (self._std / self._scale) ** 2) if self._std else None

    def constant(self, card: Card) -> tuple[Tensor, str]:
        """Return the output that says the mean of train, and its name."""
        share = (self._target["mean"] - self._offset) / self._scale
        if self._output == "sigmoid":
            share = min(max(share, SMALLEST), 1 - SMALLEST)
            share = log(share / (1 - share))
        return torch.full((1,), share), "always the mean of train"

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the answer (B,) in the target's unit."""
        return self.postprocess(outputs)[:, 0]

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the answer (B, 1) in the target's unit."""
        return torch.add(UNITS[self._output](outputs.double()) * self._scale, self._offset)

    def group(self, values: Tensor) -> Tensor:
        """Return which quarter of the train targets each value (B,) is in."""
        return torch.bucketize(values, torch.tensor(self._edges, dtype=values.dtype, device=values.device), right=True)

    def error_of(self, mean: float) -> float:
        """Return the error that a mean squared error amounts to: its root."""
        return sqrt(mean)

    def metrics(self) -> RegressionMetrics:
        """Return an empty accumulator."""
        return RegressionMetrics(self.loss, self.predict, self.group, len(self.confusion_labels))


def _require_sayable(target: Mapping[str, Any], output: Output) -> None:
    """Refuse targets that an output cannot say: none of a ReLU is negative, all of a sigmoid are between 0 and 1.

    The card knows the smallest and the largest of train; of a card of before there are quartiles alone.
    """
    low, high = (target.get(name, target["quartiles"][at]) for name, at in (("smallest", 0), ("largest", -1)))
    if output == "identity" and target["std"] == 0:
        raise Refusal("the labels", f"every target in train is {target['mean']}", allowed="numbers that differ")
    if (output == "relu" and low < 0) or (output == "sigmoid" and not 0 <= low <= high <= 1):
        span = "0 and 1" if output == "sigmoid" else "0 and infinity"
        raise Refusal("task.output", f"the targets of train go from {low:g} to {high:g}, {output} answers between {span}",
                      allowed="identity", example="task.output=identity")  # fmt: skip
