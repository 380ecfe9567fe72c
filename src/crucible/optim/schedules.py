"""How the learning rate changes over the epochs; `epoch` counts completed epochs, so that the first runs at lr."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from crucible.schema import NonNegative


def constant(optimizer: Optimizer, *, warmup_epochs: NonNegative) -> LRScheduler:
    """lr0 throughout, after a linear warm-up."""
    return LambdaLR(optimizer, lambda epoch: _warmup(epoch, warmup_epochs))


def inverse_time(optimizer: Optimizer, *, decay_rate: NonNegative, warmup_epochs: NonNegative) -> LRScheduler:
    """lr0 / (1 + decay_rate * epoch) (notes 000, part 5, section 5), after a linear warm-up."""
    return LambdaLR(optimizer, lambda epoch: _warmup(epoch, warmup_epochs) / (1 + decay_rate * epoch))


def _warmup(epoch: int, length: float) -> float:
    """Grow linearly to 1 over `length` epochs: length 0 is none, 1 runs the first epoch at half, 2 at a third, 2/3."""
    return min(1.0, (epoch + 1) / (length + 1))
