"""A picture as the parameters of a model: gradient descent paints it (notes 000, part 12; Gatys et al., 2016, section 2)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.models.contracts import Painter
from crucible.schema import Count

SMALLEST = 8  # pixels of the shorter side of the coarsest level


class Canvas(Painter):
    """A picture G = start + P_1 + ... + P_k, P_i of size 1 / 2^(levels - i) enlarged: a Laplacian pyramid that learns.

    In training the first `steps_per_level` steps see and paint the coarsest level alone, at its size, which costs least; then the
    next one too (coarse to fine). In evaluation the picture has its full size, and what is beyond black and white is cut off.

    Args:
        feature_shape: (6, H, W): content and style. num_outputs: 3 colours.
        start: `content`, or `noise`: uniform, drawn by the seed, of the coarsest level. levels: 1: the full size from the first step.
        steps_per_level: of each level but the last.

    Raises:
        Refusal: examples that are no two pictures, or too small for so many levels.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        start: Literal["content", "noise"],
        levels: Count,
        steps_per_level: Count,
    ) -> None:
        super().__init__()
        if len(feature_shape) != 3 or feature_shape[0] != 6 or num_outputs != 3:
            raise Refusal("model", f"canvas paints from two pictures, an example has shape {list(feature_shape)}",
                          example="data=style_pair task=style model=canvas")  # fmt: skip
        height, width = feature_shape[1:]
        if min(height, width) < SMALLEST:
            raise Refusal("data.reader.size", f"the content becomes {height} x {width}", allowed=f"{SMALLEST} pixels a side or more",
                          example="data.reader.size=256, or a content that is less narrow")  # fmt: skip
        if min(height, width) >> (levels - 1) < SMALLEST:
            most = max(1, (min(height, width) // SMALLEST).bit_length())
            raise Refusal("model.levels", f"the coarsest of {levels} levels of {height} x {width} has less than {SMALLEST} pixels a side",
                          allowed=f"1 to {most}", example=f"model.levels={most}")  # fmt: skip
        self._sizes = [(height >> i, width >> i) for i in reversed(range(levels))]
        self.smallest = self._sizes[0]
        self._content, self._steps_per_level = start == "content", steps_per_level
        self.levels = nn.ParameterList([torch.zeros(1, 3, *size) for size in self._sizes])
        if start == "noise":
            nn.init.uniform_(self.levels[0], -0.5, 0.5)
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Map content and style (B, 6, H, W) in [0, 1] to the picture (B, 3, h, w), in training of the size of its level."""
        level = len(self._sizes) - 1
        if self.training:
            level = min(int(self.steps) // self._steps_per_level, level)
            self.steps.add_(1)
        for i, each in enumerate(self.levels):  # what is not painted yet is not penalised either
            each.requires_grad_(i <= level)
        size = self._sizes[level]
        painted: Tensor = self.levels[0]
        for i in range(1, level + 1):
            painted = resized(painted, self._sizes[i]) + self.levels[i]
        picture = painted + (resized(x[:, :3], size) if self._content else torch.full_like(x[:, :3, :1, :1], 0.5))
        return picture if self.training else picture.clamp(0, 1)


def resized(pictures: Tensor, size: Sequence[int]) -> Tensor:
    """Return pictures (B, C, h, w) of another size, without jagged edges where they become smaller."""
    if pictures.shape[2:] == torch.Size(size):
        return pictures
    smaller = (
        pictures.shape[2] > size[0]
    )  # only enlarging has a gradient, and with antialiasing a GPU would not repeat it to the bit
    return F.interpolate(pictures, tuple(size), mode="bilinear", align_corners=False, antialias=smaller)
