"""The losses of the notes, from logits: stable where the probability itself would round to 0 or 1.

Each is a mean over the batch. `weight` counts an example of class k weight[k] times; `smoothing` moves that share of the
label's probability to all classes alike (Szegedy et al., 2016, arXiv:1512.00567, section 7).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 1 << 24  # triplets of a batch that are looked at at a time
Mining = Literal["random", "semi_hard", "hard"]


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean of -log softmax(logits)[label] (notes 000, part 6).

    Args:
        logits: (B, K). label: (B,) in [0, K). weight: (K,).
    """
    found = F.cross_entropy(precise(logits), label, reduction=_reduction(weight), label_smoothing=smoothing)
    return _weighted(found, label, weight)


def cross_entropies(logits: Tensor, label: Tensor) -> Tensor:
    """Return -log softmax(logits)_y (B, L) of every place; 0 where the label is -100.

    Place by place, as torch has no deterministic kernel on CUDA for maps of classes.

    Args:
        logits: (B, L, K). label: (B, L).
    """
    return F.cross_entropy(precise(logits).flatten(0, 1), label.flatten(), reduction="none").view_as(label)


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


def triplet(distances: Tensor, labels: Tensor, margin: float, mining: Mining) -> tuple[Tensor, Tensor]:
    """Return the mean of max(d(A, P) - d(A, N) + margin, 0) over triplets of a batch, and the share of them above 0.

    Notes 000, part 12: A and P are pictures of one person, N of another. random: for each A and P any N. semi_hard: the nearest
    N that is farther than P, the farthest where none is (Schroff et al., 2015, arXiv:1503.03832). hard: for each A the farthest
    P and the nearest N (Hermans et al., 2017, arXiv:1703.07737).

    Args:
        distances: (B, B). labels: (B,) who is on each picture.
    """
    same = labels[:, None] == labels
    positive, negative = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same
    if mining == "hard":
        near, far = torch.where(negative, distances, torch.inf), torch.where(positive, distances, -torch.inf)
        there = positive.any(dim=1) & negative.any(dim=1)
        apart = far.amax(dim=1) - near.amin(dim=1)
    else:
        there = positive & negative.any(dim=1, keepdim=True)
        apart = distances - (_any_negative if mining == "random" else _semi_hard)(distances, negative)
    terms = torch.where(there, apart, -torch.inf).add(margin).clamp(min=0)
    count = there.sum().clamp(min=1)
    return terms.sum() / count, (terms > 0).sum() / count


def _any_negative(distances: Tensor, negative: Tensor) -> Tensor:
    """Return for each A and P (B, B) the distance of A from any N; of A itself where there is none."""
    shares = negative.float() + ~negative.any(dim=1, keepdim=True)
    return distances.gather(1, torch.multinomial(shares, len(distances), replacement=True))


def _semi_hard(distances: Tensor, negative: Tensor) -> Tensor:
    """Return for each A and P (B, B) the distance of the nearest N that is farther than P, else of the farthest N."""
    found, size = [], max(1, LARGEST // distances.shape[1] ** 2)
    for own, others in zip(distances.split(size), negative.split(size), strict=True):
        far = torch.where(others, own, -torch.inf)[:, None]  # (A, 1, N)
        beyond = torch.where(far > own[:, :, None], far, torch.inf).amin(dim=2)
        found.append(torch.where(beyond < torch.inf, beyond, far.amax(dim=2)))
    return torch.cat(found)


def contrastive(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """Return the mean of d^2 over pairs of one person, and of max(margin - d, 0)^2 over pairs of two (Hadsell et al., 2006).

    Both kinds of pairs count one half, however many there are.

    Args:
        distances: squared ones, d^2, of pairs (P,). same: (P,).
    """
    apart = (margin - distances.clamp(min=1e-12).sqrt()).clamp(min=0).pow(2)
    return _halves(torch.where(same, distances, apart), same)


def pair_cross_entropy(logits: Tensor, same: Tensor) -> Tensor:
    """Return the mean of -log a over pairs of one person, and of -log(1 - a) over pairs of two, a = sigmoid(logits) (P,)."""
    return _halves(F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype), reduction="none"), same)


def _halves(values: Tensor, same: Tensor) -> Tensor:
    """Return half the mean over the pairs of one person, and half that over the others; 0 of pairs that there are not."""
    one, other = ((values * own).sum() / own.sum().clamp(min=1) for own in (same, ~same))
    return (one + other) / 2


def gram(maps: Tensor) -> Tensor:
    """Return the style matrices (B, C, C) of maps (B, C, H, W): G_kk' = sum_ij a_ijk a_ijk' (notes 000, part 12)."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2)


def content_cost(painted: Tensor, content: Tensor) -> Tensor:
    """Return 1/2 ||a_C - a_G||^2 (B,) of maps (B, C, H, W) (notes 000, part 12)."""
    return (painted - content).pow(2).flatten(1).sum(dim=1) / 2


def style_cost(painted: Tensor, style: Tensor) -> Tensor:
    """Return sum_kk' (G_kk' - S_kk')^2 / (2 H W C)^2 (B,) of maps (B, C, H, W) and style matrices S (B, C, C).

    The notes print the sum once without the square, and once as a squared norm (000, part 12): the square is meant.
    """
    return (gram(painted) - style).pow(2).sum(dim=(1, 2)) / (2 * painted[0].numel()) ** 2


def total_variation(pictures: Tensor) -> Tensor:
    """Return the sum of squared differences of neighbours (B,) of pictures (B, C, H, W)."""
    return sum(
        (pictures.diff(dim=axis).pow(2).sum(dim=(1, 2, 3)) for axis in (2, 3)), start=pictures.new_zeros(len(pictures))
    )
