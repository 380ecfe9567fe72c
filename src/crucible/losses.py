"""The losses of the notes, from logits: stable where the probability itself would round to 0 or 1."""

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean of -log softmax(logits)[label] (notes 000, part 6).

    Args:
        logits: (B, K). label: (B,) in [0, K).
    """
    return F.cross_entropy(logits.float(), label)


def binary_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean of -y log a - (1 - y) log(1 - a) with a = sigmoid(logits) (notes 000, part 1).

    Args:
        logits: (B, 1). label: (B,) of 0 and 1.
    """
    return F.binary_cross_entropy_with_logits(logits[:, 0].float(), label.float())
