"""The perceptron: one unit that fires or not, and the logic gates it can be (notes 002, chapter 2)."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.contracts import leave_as_given


class Perceptron(nn.Module):
    """One linear unit w x + b that says 1 where the sum is above 0: the task's decision is its step.

    AND is 0.5, 0.5, -0.7; NAND -0.5, -0.5, 0.7; OR 0.5, 0.5, -0.2. No weights make it XOR: one line cannot part it.

    Args:
        feature_shape: (C, H, W) or (F).
        num_outputs: 1 for a binary task, else the number of classes, K: one unit for each.
        weights: to start from, one for each feature of each unit; null: what `init` draws.
        bias: of every unit, to start from with `weights`.

    Raises:
        Refusal: another number of weights.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, *, weights: list[float] | None, bias: float
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(feature_shape), num_outputs)
        if weights is not None:
            if len(weights) != self.linear.weight.numel():
                needed = f"{prod(feature_shape)} features and {num_outputs} units"
                raise Refusal(
                    "model.weights", f"{len(weights)} weights for {needed}", example="model.weights=[0.5,0.5]"
                )
            with torch.no_grad():
                self.linear.weight.copy_(torch.tensor(weights).view_as(self.linear.weight))
                self.linear.bias.fill_(bias)
            leave_as_given(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, F) to the sums (B, K)."""
        return self.linear(x.flatten(1))
