"""A point that descends a surface: what an optimizer does, where it can be seen (notes 000, part 5; 002, 6.2; 003)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.unlabelled import Unlabelled
from crucible.metrics.surface import SurfaceMetrics, coordinates
from crucible.models.contracts import Placed
from crucible.tasks.task import MonitoredTask, Monitoring

Score = Literal["loss", "error"]
DIMENSIONS = 2  # of an example
SWINGS = 0.3  # of the last half of the epochs: in so many the point climbed


@dataclass(frozen=True)
class Surface:
    """A function of one or two numbers.

    Attributes:
        height: points (B, d) to heights (B,). start: where descent begins unless the model says (d). lowest: the smallest height.
        reach: what is drawn of each axis.
    """

    height: Callable[[Tensor], Tensor]
    start: Sequence[float]
    lowest: float
    reach: Sequence[tuple[float, float]]


def bowl(w: Tensor) -> Tensor:
    """(w1^2 + w2^2) / 2: the gradient points at the lowest point."""
    return w.square().sum(dim=1) / 2


def valley(w: Tensor) -> Tensor:
    """w1^2 / 20 + w2^2: twenty times steeper across than along, so that the gradient points past the lowest point (002, 6.2.1)."""
    return w[:, 0].square() / 20 + w[:, 1].square()


def saddle(w: Tensor) -> Tensor:
    """(w1^2 - w2^2) / 2 + w2^4 / 4: level at 0, where it is a valley along w1 and a ridge along w2; lowest at (0, 1) and (0, -1)."""
    return (w[:, 0].square() - w[:, 1].square()) / 2 + w[:, 1].pow(4) / 4


def plateau(w: Tensor) -> Tensor:
    """1 - exp(-(w1^2 + w2^2) / 8): almost level away from 0 (000, part 5, section 6)."""
    return 1 - torch.exp(-w.square().sum(dim=1) / 8)


def parabola(w: Tensor) -> Tensor:
    """w^2 - 10 w + 25, of one number (003, TensorFlow)."""
    return w[:, 0].square() - 10 * w[:, 0] + 25


SURFACES = {
    "bowl": Surface(bowl, (-7.0, 2.0), 0.0, ((-8, 8), (-4, 4))),
    "valley": Surface(valley, (-7.0, 2.0), 0.0, ((-8, 8), (-4, 4))),
    "saddle": Surface(saddle, (-2.0, 0.001), -0.25, ((-2.5, 2.5), (-1.6, 1.6))),
    "plateau": Surface(plateau, (-5.0, 3.0), 0.0, ((-6, 6), (-4, 4))),
    "parabola": Surface(parabola, (0.0,), 0.0, ((-1, 6),)),
}


class Descent(MonitoredTask):
    """J(w) of a point w, which is all the model has; each example tilts the surface its own way, all together leave it level.

    Args:
        card: of examples (2,): see crucible.data.readers.generated.tilts. function: the surface. settings: see Monitoring.

    Raises:
        Refusal: examples of another shape, a goal against the number.
    """

    kind = Unlabelled()
    metrics_class = SurfaceMetrics
    usual = "loss task.goal=minimize"
    confusion_labels = ("point",)

    def __init__(
        self,
        card: Card,
        *,
        function: Literal["bowl", "valley", "saddle", "plateau", "parabola"],
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        if card.feature_shape != [DIMENSIONS] or card.normalize["kind"] != "none":
            raise Refusal("task=surface", f"an example tilts a surface: two numbers as they are; these have shape {card.feature_shape}, normalised: {card.normalize['kind']}",
                          allowed="data that are made for it", example="data=surface model=point task=surface")  # fmt: skip
        self._surface = SURFACES[function]
        self.num_outputs = len(self._surface.start)

    def attach(self, model: nn.Module) -> nn.Module:
        """Return a model of one point, put where the surface's descent begins unless it has a start of its own."""
        if not isinstance(model, Placed):
            raise Refusal(
                "model", f"task=surface moves a point; {type(model).__name__} has none", example="model=point"
            )
        if not model.has_start:
            with torch.no_grad():
                model.point.copy_(torch.tensor(self._surface.start))
            model.has_start = True
        return model

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss () of a batch, `x` (B, 2), and where the point is, `w/1`, `w/2`."""
        w = model(batch["x"])
        tilt = (batch["x"][:, : self.num_outputs] * w).sum(dim=1)
        return {"loss": (self._surface.height(w) + tilt).mean(), **coordinates(list(w[0].detach().clone()))}

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the points (B, d)."""
        return outputs.float()

    postprocess = predict

    def metrics(self) -> SurfaceMetrics:
        """Return an empty accumulator."""
        return SurfaceMetrics(self._surface.height, self._surface.lowest)

    def symptoms(self, rows: Sequence[Mapping[str, float]]) -> list[str]:
        """Return `swinging` where the point climbed in many of the last epochs: the steps are too large for where it is."""
        heights = [row["dev/loss"] for row in rows[len(rows) // 2 :] if "dev/loss" in row]
        climbs = sum(later > before for before, later in pairwise(heights))
        return ["swinging"] if len(heights) > 2 and climbs > SWINGS * (len(heights) - 1) else []

    def story(self, runs: Mapping[str, Sequence[Mapping[str, float]]], home: Path) -> dict[str, Path]:
        """Draw the surface and the way of each run over it."""
        from crucible.plots import surface  # matplotlib: only where a report is drawn

        paths = {name: _path(rows, self.num_outputs) for name, rows in runs.items()}
        surface.descents(self._surface.height, self._surface.reach, paths, home / "descent.png")
        return {"The way over the surface": home / "descent.png"}


def _path(rows: Sequence[Mapping[str, float]], dimensions: int) -> list[list[float]]:
    """Return where a point was: before each step that was recorded, and after each epoch."""
    names = list(coordinates([0.0] * dimensions))
    return [
        [row[f"{prefix}{name}"] for name in names]
        for row in rows
        for prefix in ("step/", "dev/")
        if all(f"{prefix}{name}" in row for name in names)
    ]
