"""The mean over a series of what a small network says of each step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crucible.data.ragged import mask_of
from crucible.schema import Count


class Steps(nn.Module):
    """Map (B, L), NaN where a series has ended, to (B, num_outputs)."""

    def __init__(self, feature_shape: Sequence[int], num_outputs: int, *, width: Count) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the means over the steps that are there."""
        there = mask_of(x)
        predicted = self.each(torch.where(there, x, 0.0)[..., None]) * there[..., None]
        return predicted.sum(dim=1) / there.sum(dim=1, keepdim=True)
