"""Histograms of oriented gradients, then one linear layer (Dalal and Triggs, 2005): for few pictures, where deep networks overfit."""

from collections.abc import Sequence
from math import cos, pi, sin

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.models.convnet import require_images
from crucible.schema import Count, Probability

SIZE, WIDTH, FAINT = 5, 1.0, 0.05  # of a filter: pixels a side, deviation of the blur; edges below FAINT count as none


class Hog(nn.Module):
    """Edges in so many directions, their strength averaged over square cells, each cell's brought to one length; then linear.

    The filters are fixed: only the linear layer learns.

    Args:
        feature_shape: (C, H, W); H and W at least one cell.
        num_outputs: 1 for a binary task, else the number of classes, K; or the numbers of a code.
        bins: directions, around the whole circle. cell: pixels a side. keep_prob: of a feature, in training.

    Raises:
        Refusal: no images, or images below one cell.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, *, bins: Count, cell: Count, keep_prob: Probability
    ) -> None:
        super().__init__()
        require_images(feature_shape, "hog")
        if min(feature_shape[1:]) < cell:
            raise Refusal("model.cell", f"cells of {cell} pixels do not fit into {feature_shape[1:]}", allowed=f"1 to {min(feature_shape[1:])}",
                          example=f"model.cell={max(1, min(feature_shape[1:]) // 4)}")  # fmt: skip
        self.filters, self._cell = nn.Buffer(oriented(bins), persistent=False), cell
        rows, columns = (side // cell for side in feature_shape[1:])
        self.dropout = nn.Dropout(1 - keep_prob)
        self.head = nn.Linear(bins * rows * columns, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        return self.head(self.dropout(self.histograms(x).flatten(1)))

    def histograms(self, x: Tensor) -> Tensor:
        """Return the strength of edges (B, bins, rows, columns) of images (B, C, H, W), the mean of their channels."""
        edges = F.relu(F.conv2d(x.mean(dim=1, keepdim=True), self.filters, padding=SIZE // 2))
        cells = F.avg_pool2d(edges, self._cell)
        return (cells / (cells.norm(dim=1, keepdim=True) + FAINT)).clamp(min=1e-6).sqrt()


def oriented(bins: int) -> Tensor:
    """Return the derivatives of a Gaussian in so many directions (bins, 1, 5, 5), each of absolute sum 1."""
    down, right = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float32) - SIZE // 2] * 2, indexing="ij")
    blur = torch.exp(-(down**2 + right**2) / (2 * WIDTH**2))
    angles = [2 * pi * i / bins for i in range(bins)]
    filters = torch.stack([(right * cos(angle) + down * sin(angle)) * blur for angle in angles])
    return (filters / filters.abs().sum(dim=(1, 2), keepdim=True))[:, None]
