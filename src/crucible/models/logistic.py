"""Logistic regression, and softmax regression for more classes (notes 000, part 1)."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn


class Logistic(nn.Module):
    """One linear layer: the task puts the sigmoid or softmax on top.

    Args:
        feature_shape: (C, H, W) or (F).
        num_outputs: 1 for a binary task, else the number of classes, K.
    """

    def __init__(self, feature_shape: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(feature_shape), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, F) to logits (B, K)."""
        return self.linear(x.flatten(1))
