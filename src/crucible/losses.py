"""The losses of the notes, from logits: stable where the probability itself would round to 0 or 1.

Each is a mean over the batch. `weight` counts an example of class k weight[k] times; `smoothing` moves that share of the
label's probability to all classes alike (Szegedy et al., 2016, arXiv:1512.00567, section 7).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean of -log softmax(logits)[label] (notes 000, part 6).

    Args:
        logits: (B, K). label: (B,) in [0, K). weight: (K,).
    """
    found = F.cross_entropy(precise(logits), label, reduction=_reduction(weight), label_smoothing=smoothing)
    return _weighted(found, label, weight)


def binary_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean of -y log a - (1 - y) log(1 - a) with a = sigmoid(logits) (notes 000, part 1).

    Args:
        logits: (B, 1). label: (B,) of 0 and 1. weight: (2,).
    """
    z = precise(logits[:, 0])
    target = label.to(z.dtype) * (1 - smoothing) + smoothing / 2
    return _weighted(F.binary_cross_entropy_with_logits(z, target, reduction=_reduction(weight)), label, weight)


def masked_binary_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean of -y log a - (1 - y) log(1 - a) over the labels that are known; 0 where none is.

    Args:
        logits: (B, T). label: (B, T) of 1, 0, and below 0 for unknown, which has no gradient.
    """
    z, known = precise(logits), label >= 0
    each = F.binary_cross_entropy_with_logits(z, label.clamp(min=0).to(z.dtype), reduction="none")
    return torch.where(known, each, torch.zeros_like(each)).sum() / known.sum().clamp(min=1)


def squared_probabilities(
    probabilities: Tensor, label: Tensor, weight: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return the mean squared distance of probabilities from the one-hot label (notes 002, 4.2 and chapter 5).

    Args:
        probabilities: (B, K). label: (B,) in [0, K). weight: (K,).
    """
    k = probabilities.shape[1]
    target = F.one_hot(label, k).to(probabilities.dtype) * (1 - smoothing) + smoothing / k
    return _weighted(F.mse_loss(probabilities, target, reduction=_reduction(weight)), label, weight)


def mean_squared_error(outputs: Tensor, target: Tensor) -> Tensor:
    """Return the mean of (output - target)^2 (notes 002, 4.2).

    Args:
        outputs: (B, 1). target: (B,).
    """
    z = precise(outputs[:, 0])
    return F.mse_loss(z, target.to(z.dtype))


def precise(values: Tensor) -> Tensor:
    """Return values as float32 at least: bfloat16 sums lose what a loss is about."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _reduction(weight: Tensor | None) -> str:
    return "mean" if weight is None else "none"


def _weighted(found: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
    """Return what is a mean already, or the mean of one number (B, ...) an example, each counted by its class."""
    if weight is None:
        return found
    return (found.flatten(1).mean(dim=1) if found.dim() > 1 else found).mul(weight.to(found.dtype)[label]).mean()
