"""Points of one object: the corners of the eyes, the line of the chin (notes 000, part 11, section 2)."""

from typing import Annotated, Literal, Unpack

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.constants import Constant
from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.points import Points
from crucible.losses import precise
from crucible.metrics.landmarks import LandmarkMetrics
from crucible.schema import Positive, Whole
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "nme"]
Place = Whole


class Landmarks(MonitoredTask):
    """1 + 2 P outputs (64 points: 129): whether there is a face, then x and y of each point.

    A point is learned as its deviation from the mean point of train, in deviations of train, as shares of the picture.

    Args:
        card: tells the points and the images' size.
        distance: what errors are divided by: `outer_eyes`, the distance of the outer corners of the eyes, or `diagonal`, that
            of the box around the points.
        eyes: the places of these two corners among the points, from 0; 36 and 45 of the usual 68.
        failure: the normalised mean error above which a face counts as an error. settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric, eyes that are no points.
    """

    kind = Points()
    metrics_class = LandmarkMetrics
    usual = "nme task.goal=minimize"
    confusion_labels = ("there", "not there")

    def __init__(
        self,
        card: Card,
        *,
        distance: Literal["outer_eyes", "diagonal"],
        eyes: Annotated[list[Place], Field(min_length=2, max_length=2)],
        failure: Positive,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        facts = card.objects or {"points": 0, "mean": [], "deviation": 1.0}
        if distance == "outer_eyes" and max(eyes) >= facts["points"]:
            raise Refusal("task.eyes", f"{eyes} are asked for, there are {facts['points']} points", allowed=f"0 to {facts['points'] - 1}",
                          example="task.distance=diagonal")  # fmt: skip
        super().__init__(card, **settings)
        self.num_outputs = 1 + 2 * facts["points"]
        self._size = Constant(torch.tensor([float(n) for n in card.feature_shape[:0:-1]]))
        self._mean, self._deviation = Constant(torch.tensor(facts["mean"])), facts["deviation"]
        self._eyes, self._failure = eyes if distance == "outer_eyes" else None, failure

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch: `x` (B, C, H, W), `points` (B, P, 2) in pixels, `label` (B,), 1 where there are any."""
        return loss_terms(model, batch["x"], lambda outputs: self.loss(outputs, batch))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss () of outputs (B, 1 + 2 P): log loss of the first, mean squared deviation of the points."""
        z = precise(outputs)
        there = batch["label"].to(z.dtype)
        wanted = (batch["points"].to(z) / self._size.like(z) - self._mean.like(z)) / self._deviation
        far: Tensor = ((z[:, 1:].unflatten(1, (-1, 2)) - wanted) ** 2).mean(dim=(1, 2))
        return (F.binary_cross_entropy_with_logits(z[:, 0], there, reduction="none") + there * far).mean()

    def predict(self, outputs: Tensor) -> Tensor:
        """Return 1 (B,) where there are points."""
        return (outputs[:, 0] > 0).long()

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return (B, 1 + 2 P): how likely there is a face, then x and y of each point in stored pixels."""
        z = precise(outputs)
        points = (z[:, 1:].unflatten(1, (-1, 2)) * self._deviation + self._mean.like(z)) * self._size.like(z)
        return torch.cat([z[:, :1].sigmoid(), points.flatten(1)], dim=1)

    def metrics(self) -> LandmarkMetrics:
        """Return an empty accumulator."""
        return LandmarkMetrics(self.loss, self.postprocess, eyes=self._eyes, failure=self._failure)
