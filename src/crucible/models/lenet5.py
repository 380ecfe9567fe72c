"""LeNet-5: two convolutions, each pooled, then three fully connected layers (LeCun et al., 1998; notes 000, part 8)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.models.contracts import OwnFanIn
from crucible.models.convnet import ConvNet, require_images
from crucible.schema import Probability

SIDE = 32  # smaller images are framed with zeros, as the paper frames its digits of 28
LAYERS: list[str | dict[str, object]] = [
    {"conv": 6, "f": 5},  # 32 -> 28
    {"max_pool": 2},  # 14
    {"conv": 16, "f": 5},  # 10
    {"max_pool": 2},  # 5
    "flatten",  # 400
    {"fc": 120},
    {"fc": 84},
]
# Table I of the paper: which of the 6 maps of S2 each of the 16 maps of C3 sees.
SEEN = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5),
    (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5), (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class LeNet5(ConvNet):
    """The notes' version (ReLU, max pooling): 61,706 parameters for 32x32x1 and ten classes; or the paper's.

    The paper's (`variant: 1998`): tanh, trainable subsampling, the partial connections of its table I: 60,000
    parameters before the output. Its output units, radial basis functions of drawn digits, are a linear layer here.

    Args:
        feature_shape: (C, H, W); below 32x32 framed with zeros, above it the flattened map is larger.
        num_outputs: 1 for a binary task, else the number of classes, K.
        variant: `notes` or 1998. keep_prob: of the fully connected units, in training.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, *, variant: Literal["notes", 1998], keep_prob: Probability
    ) -> None:
        require_images(feature_shape, "lenet5")
        c, *sides = feature_shape
        padded = [max(SIDE, side) for side in sides]
        super().__init__(
            [c, *padded], num_outputs, layers=LAYERS, activation="relu", batch_norm=False, keep_prob=keep_prob
        )
        self.frame = [part for side in reversed(sides) for part in _frame(max(SIDE, side) - side)]
        if variant == 1998:
            self._as_in_1998()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        return super().forward(F.pad(x, self.frame))

    def _as_in_1998(self) -> None:
        for name, layer in list(self.features.named_children()):
            if isinstance(layer, nn.ReLU):
                setattr(self.features, name, ScaledTanh())
            if isinstance(layer, nn.MaxPool2d):
                setattr(self.features, name, Subsampling(6 if name == "max_pool1" else 16))
        self.features.conv2 = PartialConv(SEEN, 5)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 a) (the paper, appendix A)."""

    def forward(self, a: Tensor) -> Tensor:
        """Map any shape to the same."""
        return 1.7159 * torch.tanh(2 / 3 * a)


class Subsampling(nn.Module):
    """The sum of each 2x2 window times a coefficient plus a bias, two numbers a map (the paper, section II-B); then tanh.

    Args:
        channels: number of maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient, self.bias = (nn.Parameter(torch.full((channels,), 0.25)), nn.Parameter(torch.zeros(channels)))
        self.activation = ScaledTanh()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H/2, W/2)."""
        return self.activation(4 * F.avg_pool2d(x, 2) * self.coefficient.view(-1, 1, 1) + self.bias.view(-1, 1, 1))


class PartialConv(OwnFanIn):
    """A convolution whose every filter sees only some of the input maps.

    Args:
        seen: for each filter the input maps. size: of the filters.
    """

    def __init__(self, seen: Sequence[Sequence[int]], size: int) -> None:
        super().__init__()
        inputs = 1 + max(each for row in seen for each in row)
        mask = torch.zeros(len(seen), inputs, 1, 1, device="cpu")
        for row, maps in zip(mask, seen, strict=True):
            row[list(maps)] = 1
        picked = mask.bool().expand(-1, -1, size, size)
        self.picked = nn.Buffer(picked.flatten().nonzero()[:, 0], persistent=False)
        self.shape = tuple(picked.shape)
        limits = torch.cat([torch.full((len(row) * size**2,), (len(row) * size**2) ** -0.5) for row in seen])
        self.weight = nn.Parameter(
            ((2 * torch.rand(len(limits)) - 1) * limits)[:, None]
        )  # a column: weights, not biases
        self.n_in = len(limits) // len(seen)
        self.bias = nn.Parameter(torch.zeros(len(seen)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, filters, H - size + 1, W - size + 1)."""
        kernels = torch.zeros(self.shape, dtype=self.weight.dtype, device=self.weight.device)
        return F.conv2d(x, kernels.view(-1).index_put((self.picked,), self.weight[:, 0]).view(self.shape), self.bias)


def _frame(missing: int) -> tuple[int, int]:
    """Return the zeros before and after."""
    return missing // 2, missing - missing // 2
