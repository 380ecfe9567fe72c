"""Learn a direction as a point of the unit circle."""

from collections.abc import Callable
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from compass.labels import Directions, apart
from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.metrics.accumulator import Accumulator
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "degrees"]
QUARTERS = ("north", "east", "south", "west")


class DirectionMetrics(Accumulator):
    """Degrees between what is and what was predicted."""

    minimised = frozenset({"loss", "error", "degrees"})

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], predict: Callable[[Tensor], Tensor]) -> None:
        self._loss, self._predict = loss, predict
        self._rows: list[Tensor] = []
        self._total = 0.0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in outputs (B, 2)."""
        self._rows.append(torch.stack([batch["label"].double(), self._predict(outputs).double()]).cpu())
        self._total += float(self._loss(outputs, batch["label"])) * len(outputs)

    def compute(self) -> dict[str, float]:
        """Return loss, and the mean of the degrees apart, which is the error, too."""
        if not self._rows:
            return {}
        label, predicted = torch.cat(self._rows, dim=1)
        degrees = float(apart(label, predicted).mean())
        return {"loss": self._total / len(label), "error": degrees, "degrees": degrees}

    def matrix(self) -> Tensor:
        """Return the counts (4, 4) of the quarters."""
        label, predicted = (each.div(90).round().long() % 4 for each in torch.cat(self._rows, dim=1))
        return torch.bincount(label * 4 + predicted, minlength=16).view(4, 4).double()

    def evidence(self, size: int) -> tuple[int, float]:
        """Return the standard error of the mean."""
        label, predicted = torch.cat(self._rows, dim=1)
        return size, float(apart(label, predicted).std(correction=0)) / size**0.5


class Bearing(MonitoredTask):
    """Two outputs: a point that is pulled to that of the direction."""

    kind = Directions()
    metrics_class = DirectionMetrics
    usual = "degrees task.goal=minimize"
    error = "degrees"
    num_outputs = 2
    confusion_labels = QUARTERS

    def __init__(self, card: Card, **settings: Unpack[Monitoring[Score]]) -> None:
        super().__init__(card, **settings)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of series `x` (B, L) with `label` (B,) degrees; `mask` (B, L) says where they are."""
        assert batch["mask"].shape == batch["x"].shape
        return loss_terms(model, batch["x"], lambda outputs: self.loss(outputs, batch["label"]))

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean squared distance () of points (B, 2)."""
        angle = label.deg2rad()
        return ((outputs - torch.stack([angle.cos(), angle.sin()], dim=1)) ** 2).sum(dim=1).mean()

    def predict(self, outputs: Tensor) -> Tensor:
        """Return degrees (B,)."""
        return torch.atan2(outputs[:, 1], outputs[:, 0]).rad2deg() % 360

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return degrees (B, 1)."""
        return self.predict(outputs)[:, None]

    def metrics(self) -> DirectionMetrics:
        """Return an empty accumulator."""
        return DirectionMetrics(self.loss, self.predict)
