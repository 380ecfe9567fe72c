"""How the learning rate changes over the epochs; `epoch` counts completed epochs, so that the first runs at lr.

Each is lr0 times a factor, after a linear warm-up that multiplies it: `warmup_epochs` of 0 is none.
"""

from collections.abc import Callable
from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from crucible.schema import Count, NonNegative, Positive, Probability, Share


def constant(optimizer: Optimizer, *, warmup_epochs: NonNegative) -> LRScheduler:
    """lr0 throughout."""
    return _schedule(optimizer, lambda epoch: 1.0, warmup_epochs)


def inverse_time(optimizer: Optimizer, *, decay_rate: NonNegative, warmup_epochs: NonNegative) -> LRScheduler:
    """lr0 / (1 + decay_rate * epoch) (notes 000, part 5, section 5)."""
    return _schedule(optimizer, lambda epoch: 1 / (1 + decay_rate * epoch), warmup_epochs)


def exponential(optimizer: Optimizer, *, decay_rate: Probability, warmup_epochs: NonNegative) -> LRScheduler:
    """lr0 * decay_rate^epoch (the course's other rule: 0.95^epoch)."""
    return _schedule(optimizer, lambda epoch: decay_rate**epoch, warmup_epochs)


def step(optimizer: Optimizer, *, every_epochs: Count, factor: Positive, warmup_epochs: NonNegative) -> LRScheduler:
    """lr0 * factor^(epoch // every_epochs): a staircase."""
    return _schedule(optimizer, lambda epoch: factor ** (epoch // every_epochs), warmup_epochs)


def cosine(optimizer: Optimizer, *, epochs: Count, final_share: Share, warmup_epochs: NonNegative) -> LRScheduler:
    """From lr0 down to final_share * lr0 after `epochs` along half a cosine (Loshchilov and Hutter, arXiv:1608.03983).

    There it stays: a run that is made longer while it trains learns on only with a `final_share` above 0.
    """

    def factor(epoch: int) -> float:
        return final_share + (1 - final_share) * (1 + cos(pi * min(1.0, epoch / epochs))) / 2

    return _schedule(optimizer, factor, warmup_epochs)


def _schedule(optimizer: Optimizer, factor: Callable[[int], float], warmup_epochs: float) -> LRScheduler:
    return LambdaLR(optimizer, lambda epoch: _warmup(epoch, warmup_epochs) * factor(epoch))


def _warmup(epoch: int, length: float) -> float:
    """Grow linearly to 1 over `length` epochs: length 0 is none, 1 runs the first epoch at half, 2 at a third, 2/3."""
    return min(1.0, (epoch + 1) / (length + 1))
