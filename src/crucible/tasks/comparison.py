"""What verification learns beside the network: how two codes are compared (notes 000, part 12)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.models.contracts import TaskUnit

SMALL = 1e-8  # a denominator of the chi-square form
WINDOW = 100  # batches over which a whitening is about a mean; of fewer it is their mean


class Whitening(nn.Module):
    """Codes in which the pictures of one person vary alike in all directions (Hatch et al., 2006: within-class covariance).

    x' = L^-1 (x - m), where m is the mean code and L L^T = S + s tr(S) / D I, S the covariance of codes around the mean of their
    person. What differs between pictures of one person counts less, what is steady counts more. m and S are means over the batches
    before, without a gradient.

    Args:
        dimensions: D of a code. shrinkage: s > 0; the larger, the nearer to squared distances as they are.
    """

    mean: Tensor
    within: Tensor
    inverse: Tensor
    batches: Tensor

    def __init__(self, dimensions: int, shrinkage: float) -> None:
        super().__init__()
        self._shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("within", torch.zeros(dimensions, dimensions))
        self.register_buffer("inverse", torch.eye(dimensions))
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def update(self, codes: Tensor, label: Tensor) -> None:
        """Take in the codes (B, D) of people (B,); a batch without two pictures of one person tells nothing."""
        same = label[:, None] == label
        people = (same.byte().argmax(dim=1) == torch.arange(len(label), device=label.device)).sum()  # who comes first
        own = same.to(codes.dtype)
        apart = codes - own @ codes / own.sum(dim=1, keepdim=True)
        share = 1 / (self.batches + 1).clamp(max=WINDOW)
        mean = self.mean.lerp(codes.mean(dim=0), share)
        within = self.within.lerp(apart.T @ apart / (len(codes) - people).clamp(min=1), share)
        inverse = self._inverse(within)
        finite = inverse.isfinite().all() & mean.isfinite().all()  # else the loss is not either, and the training ends
        sound = finite & (people < len(label))
        self.batches = self.batches + sound
        self.mean, self.within = torch.where(sound, mean, self.mean), torch.where(sound, within, self.within)
        self.inverse = torch.where(sound, inverse, self.inverse)

    def _inverse(self, within: Tensor) -> Tensor:
        """Return L^-1 (D, D), which is not finite where there is none."""
        exact, unit = within.double(), torch.eye(len(within), dtype=torch.float64, device=within.device)
        floor = self._shrinkage * exact.trace() / len(exact)
        lower, failed = torch.linalg.cholesky_ex(exact + floor.clamp(min=SMALL) * unit)
        inverse: Tensor = torch.linalg.solve_triangular(lower, unit, upper=False)
        return torch.where(failed == 0, inverse, torch.nan).to(within)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (B, D) to whitened ones (B, D)."""
        return (codes - self.mean) @ self.inverse.T


class PairUnit(nn.Module):
    """sigmoid(sum_k w_k |f_i - f_j|_k + b), before the sigmoid; it starts with w = -1: differences speak against one person.

    Args:
        dimensions: numbers of a code. chi_square: over (f_i - f_j)^2 / (|f_i| + |f_j|) instead; 0 where both are 0.
    """

    def __init__(self, dimensions: int, *, chi_square: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(-torch.ones(dimensions)), nn.Parameter(torch.ones(()))
        self._chi_square = chi_square

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map codes (n, D) and (n, D), or one of them (1, D), to logits (n)."""
        apart = (first - second).abs()
        if self._chi_square:
            apart = apart.pow(2) / (first.abs() + second.abs()).clamp(min=SMALL)
        return apart @ self.weight + self.bias


class People(nn.Module):
    """A linear layer from codes to the people of the data.

    Args:
        dimensions: numbers of a code. people: K.
    """

    def __init__(self, dimensions: int, people: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(people, dimensions) / dimensions**0.5)
        self.bias, self.scale = nn.Parameter(torch.zeros(people)), nn.Parameter(torch.tensor(10.0))

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (B, D) to logits (B, K); the scale makes room for codes of length 1."""
        return self.scale * F.linear(codes, self.weight, self.bias)


class Unit(TaskUnit):
    """What hangs on the network; where there is nothing, codes stay as they are.

    Args:
        whitening: of codes. head: what `pair`, `chi_square` or `softmax` learn, of whitened codes.
    """

    def __init__(self, whitening: nn.Module | None = None, head: nn.Module | None = None) -> None:
        super().__init__()
        self.whitening, self.head = whitening or nn.Identity(), head or nn.Identity()

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (B, D) to those that are compared (B, D)."""
        whitened: Tensor = self.whitening(codes)
        return whitened

    def update(self, codes: Tensor, label: Tensor) -> None:
        """Take in the codes (B, D) of people (B,), in training."""
        if self.training and isinstance(self.whitening, Whitening):
            self.whitening.update(codes, label)
