"""What follows the sum in a unit (notes 000, part 2, section 3; 002, 2.2 and 3.2)."""

from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "identity", "absolute", "step"]


class Step(nn.Module):
    """1 above zero, else 0: the perceptron's (002, 2.2). Its gradient is 0 everywhere: for gates, not for learning."""

    def forward(self, z: Tensor) -> Tensor:
        """Map any shape to 0 and 1 of the same shape and type."""
        return torch.heaviside(z, torch.zeros((), dtype=z.dtype, device=z.device))


class Absolute(nn.Module):
    """|z|: an edge, whichever of its sides is bright (notes 000, part 8, section 1)."""

    def forward(self, z: Tensor) -> Tensor:
        """Map any shape to the absolute values of the same shape and type."""
        return z.abs()


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,  # 1 / (1 + e^-z)
    "tanh": nn.Tanh,  # (e^z - e^-z) / (e^z + e^-z)
    "relu": nn.ReLU,  # max(0, z)
    "leaky_relu": nn.LeakyReLU,  # max(0.01 z, z)
    "identity": nn.Identity,  # z: linear layers on each other are one linear layer
    "absolute": Absolute,
    "step": Step,
}
ACTIVE = tuple({*ACTIVATIONS.values()} - {nn.Identity})  # those that do something
