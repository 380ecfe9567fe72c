"""A number for each example: identity output and squared error (notes 000, introduction: house prices; 002, 3.4, 4.2)."""

from math import sqrt
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.numbers import Numbers
from crucible.losses import mean_squared_error
from crucible.metrics.regression import RegressionMetrics
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "rmse", "r2"]


class Regression(MonitoredTask):
    """One linear unit that learns the target in deviations from its mean on train, and answers in the target's unit.

    The loss is the mean squared error of the standardised target: 1 is what always saying the mean gives. `rmse`, the
    error that bias and variance are measured in, is in the target's unit.

    Args:
        card: tells the target's mean, deviation and quartiles on train. loss: the one there is.
        settings: see Monitoring; the tolerance is a share of the target's deviation.

    Raises:
        Refusal: a goal against the metric.
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
        loss: Literal["mean_squared_error"] = "mean_squared_error",
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        if card.target is None:
            raise Refusal("task=regression", "these data were prepared with classes", example="prepared=null")
        self._mean, self._std = card.target["mean"], card.target["std"]
        self.tolerance = self.tolerance * self._std
        self._edges = card.target["quartiles"]
        low, middle, high = (f"{edge:.4g}" for edge in self._edges)
        self.confusion_labels = [f"below {low}", f"{low} to {middle}", f"{middle} to {high}", f"above {high}"]

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the squared error of a batch: `x` (B, ...), `label` (B,) in the target's unit."""
        return loss_terms(model, batch["x"], lambda outputs: self.loss(outputs, batch["label"]))

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean squared error () of outputs (B, 1), both standardised."""
        return mean_squared_error(outputs, (label - self._mean) / self._std)

    def chance_loss(self, counts: list[int]) -> float:
        """Return the loss of always saying the mean: 1."""
        return 1.0

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the answer (B,) in the target's unit."""
        return self.postprocess(outputs)[:, 0]

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the answer (B, 1) in the target's unit."""
        return torch.add(outputs.double() * self._std, self._mean)

    def group(self, values: Tensor) -> Tensor:
        """Return which quarter of the train targets each value (B,) is in."""
        return torch.bucketize(values, torch.tensor(self._edges, dtype=values.dtype, device=values.device), right=True)

    def error_of(self, mean: float) -> float:
        """Return the error that a mean squared error amounts to: its root."""
        return sqrt(mean)

    def metrics(self) -> RegressionMetrics:
        """Return an empty accumulator."""
        return RegressionMetrics(self.loss, self.predict, self.group, len(self.confusion_labels))
