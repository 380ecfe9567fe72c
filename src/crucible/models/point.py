"""A point as the parameters of a model: gradient descent moves it over a surface (notes 000, part 5; 002, 6.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.contracts import Placed


class Point(Placed):
    """A point w of d numbers; what it is given is looked at by the task alone.

    Args:
        feature_shape: (F,) of an example. num_outputs: d. start: where it begins (d); None: where the task says.

    Raises:
        Refusal: a start of another length.
    """

    def __init__(self, feature_shape: Sequence[int], num_outputs: int, *, start: list[float] | None) -> None:
        super().__init__()
        if start is not None and len(start) != num_outputs:
            example = f"model.start=[{','.join(['1.0'] * num_outputs)}]"
            raise Refusal("model.start", f"{len(start)} numbers for a point of {num_outputs}", example=example)
        self.point = nn.Parameter(torch.zeros(num_outputs) if start is None else torch.tensor(start))
        self.has_start = start is not None

    def forward(self, x: Tensor) -> Tensor:
        """Return the point (B, d) for a batch (B, F)."""
        return self.point.expand(len(x), -1)
