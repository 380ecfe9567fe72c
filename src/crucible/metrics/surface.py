"""Where a point is on a surface, and how far above the lowest point."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator

Coordinate = TypeVar("Coordinate", float, Tensor)


class SurfaceMetrics(Accumulator):
    """The height of a point, which is the same for every example.

    Args:
        height: points (B, d) to heights (B,). lowest: of the surface.
    """

    def __init__(self, height: Callable[[Tensor], Tensor], lowest: float) -> None:
        self._height, self._lowest = height, lowest
        self._point: Tensor | None = None

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the point, for a batch (B, d) as often as there are examples."""
        self._point = outputs[:1].detach().double()

    def compute(self) -> dict[str, float]:
        """Return loss (the height), error (the height above the lowest point), and each coordinate `w/1`, `w/2`."""
        if self._point is None:
            return {}
        height = float(self._height(self._point)[0])
        return {"loss": height, "error": height - self._lowest, **coordinates(self._point[0].tolist())}

    def matrix(self) -> Tensor:
        """Return one cell: nothing is told apart."""
        return torch.tensor([[float(self._point is not None)]])

    def evidence(self, size: int) -> tuple[int, float]:
        """Return no spread: the height of a point is exact."""
        return size, 0.0


def coordinates(point: Sequence[Coordinate]) -> dict[str, Coordinate]:
    """Return the coordinates of a point (d) by the names under which they are recorded: `w/1`, `w/2`."""
    return {f"w/{i + 1}": value for i, value in enumerate(point)}
