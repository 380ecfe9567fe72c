"""How weights start: one rule, W ~ N(0, gain / n_in), and its named cases (notes 000, parts 2 and 4).

A rule changes the weights of linear and convolutional layers and sets their biases to 0; batch norm keeps its 1 and 0,
and a layer whose weights were `given` keeps those.
"""

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

from torch import Tensor, nn

from crucible.models.contracts import OwnFanIn, is_given
from crucible.schema import Positive

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
Initializer = Callable[[nn.Module], None]


def default() -> Initializer:
    """Leave torch's own start: uniform within sqrt(1 / n_in), biases too."""
    return lambda model: None


def zeros() -> Initializer:
    """W = 0: right for logistic regression; hidden units would all stay the same (notes 000, part 2, section 5)."""
    return _rule(lambda n_in: 0.0)


def normal(*, std: Positive) -> Initializer:
    """W ~ N(0, std^2): for shallow networks (notes 000, part 2, section 5); deep ones get stuck at ln K (part 3)."""
    return _rule(lambda n_in: std)


def inverse() -> Initializer:
    """W ~ N(0, 1 / n_in): the sum of n_in inputs keeps their scale (notes 000, part 4, section 6: its first rule)."""
    return _rule(lambda n_in: sqrt(1 / n_in))


def xavier() -> Initializer:
    """W ~ N(0, 1 / n_in): for tanh (notes 000, part 4, section 6; 002, 6.3). In the notes it is `inverse` by name."""
    return inverse()


def he() -> Initializer:
    """W ~ N(0, 2 / n_in): for ReLU (He et al., 2015, arXiv:1502.01852)."""
    return _rule(lambda n_in: sqrt(2 / n_in))


def orthogonal() -> Initializer:
    """W with orthonormal rows or columns: lengths and angles pass unchanged (Saxe et al., 2014, arXiv:1312.6120)."""
    return _each(lambda layer: nn.init.orthogonal_(layer.weight))


def _rule(std: Callable[[int], float]) -> Initializer:
    return _each(lambda layer: nn.init.normal_(layer.weight, std=std(_inputs(layer))))


def _each(start: Callable[[Any], object]) -> Initializer:
    """Return what starts the weights of every layer that was not given, and its biases at 0."""

    def apply(model: nn.Module) -> None:
        layer: Any
        for layer in model.modules():
            if isinstance(layer, (*LAYERS, OwnFanIn)) and not is_given(layer):
                start(layer)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    return apply


def _inputs(layer: Any) -> int:
    """Inputs of one unit: weight (out, in, ...) has in x kernel of them; a transposed one (in, out, ...) about in."""
    if isinstance(layer, OwnFanIn):
        return layer.n_in
    weight: Tensor = layer.weight
    if isinstance(layer, TRANSPOSED):
        return max(1, weight.shape[0] * weight[0, 0].numel() // prod(layer.stride))
    return weight[0].numel()
