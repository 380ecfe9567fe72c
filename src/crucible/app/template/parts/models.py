"""A model of this project's own: one class and one YAML file, conf/model/wide.yaml."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from crucible.schema import Count


class Wide(nn.Module):
    """One wide hidden layer.

    Args:
        feature_shape, num_outputs: given by Crucible: the shape of an example, and what the task needs.
        width: units of the hidden layer; declared in conf/model/wide.yaml, its range is checked before any work.
    """

    def __init__(self, feature_shape: Sequence[int], num_outputs: int, *, width: Count) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(prod(feature_shape), width), nn.ReLU(), nn.Linear(width, num_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map examples (B, ...) to outputs (B, num_outputs)."""
        outputs: Tensor = self.layers(x)
        return outputs
