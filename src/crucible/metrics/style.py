"""What a painting costs: the content it lost, the style it lacks, and how rough it is."""

from collections.abc import Callable

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator

Costs = dict[str, Tensor]


class StyleMetrics(Accumulator):
    """Mean costs over the pictures of a split.

    Args:
        costs: painted pictures (B, 3, H, W) and (B, 6, H, W), content and style, to named costs (B,), `loss` among them.
        untouched: (B, 6, H, W) to the loss (B,) of the content as it is.
    """

    minimised = frozenset({"loss", "error", "content", "style", "variation"})

    def __init__(self, costs: Callable[[Tensor, Tensor], Costs], untouched: Callable[[Tensor], Tensor]) -> None:
        self._costs, self._untouched = costs, untouched
        self._found: list[Costs] = []

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in painted pictures for a batch with `x` (B, 6, H, W)."""
        self._found.append({**self._costs(outputs, batch["x"]), "before": self._untouched(batch["x"])})

    def compute(self) -> dict[str, float]:
        """Return loss, error, content, style, variation; the error is the loss as a share of that of the content as it is."""
        if not self._found:
            return {}
        means = {name: float(torch.cat([each[name] for each in self._found]).mean()) for name in self._found[0]}
        loss, before = means.pop("loss"), means.pop("before")
        return {"loss": loss, "error": loss / before if before else float(loss > 0), **means}

    def matrix(self) -> Tensor:
        """Return one cell: nothing is told apart."""
        return torch.tensor([[float(sum(len(each["loss"]) for each in self._found))]])

    def evidence(self, size: int) -> tuple[int, float]:
        """Return no spread: the cost of a picture is exact."""
        return size, 0.0
