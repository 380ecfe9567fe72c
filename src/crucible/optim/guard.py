"""The optimiser step that a non-finite loss or gradient cannot pass, found out without waiting for the device."""

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adadelta, Adagrad, Optimizer, RMSprop

from crucible.optim.optimizers import Velocity

UNREAD = (
    Adadelta,
    Adagrad,
    RMSprop,
    Velocity,
)  # without a gradient they leave a weight where it is; Velocity where the flag is up


class GuardedOptimizer:
    """An optimizer whose step checks, clips and moves.

    The flag stays up once raised: every later step is skipped too, so that when the flag is read, at the end of the
    epoch, the weights are those before the first bad step, and `steps` tells which step that was.

    Args:
        optimizer: any of torch's; those with `fused=True` and those of UNREAD read the flag on the device, others cost a read a step.
        max_norm: the gradient's largest norm over all parameters; infinite: not clipped.

    Attributes:
        flag: () 1.0 once a loss or gradient was not finite. steps: () good steps since `reset`.
    """

    def __init__(self, optimizer: Optimizer, *, max_norm: float = inf) -> None:
        self.optimizer = optimizer
        self.parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        device = self.parameters[0].device
        self.flag, self.steps = torch.zeros((), device=device), torch.zeros((), device=device)
        self._one = torch.ones((), device=device)
        self._max_norm = max_norm
        self._clip = _clip if max_norm < inf else _leave
        self._move = _move_of(optimizer, device)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, loss: Tensor) -> None:
        """Step, unless the loss () or a gradient is not finite or one was before."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._amp_foreach_non_finite_check_and_unscale_([loss.detach().view(1), *gradients], self.flag, self._one)
        self._clip(self.parameters, self._max_norm)
        self._move(self.optimizer, self.flag)
        self.steps += 1 - self.flag

    def reset(self) -> None:
        """Count good steps from here."""
        self.steps.zero_()


def _clip(parameters: list[nn.Parameter], max_norm: float) -> None:
    nn.utils.clip_grad_norm_(parameters, max_norm)


def _leave(parameters: list[nn.Parameter], max_norm: float) -> None:
    """Leave the gradients as they are."""


def _move_of(optimizer: Optimizer, device: torch.device) -> Callable[[Any, Tensor], None]:
    """Return the way to step that does not wait for the device; on the host a read costs less than what avoids it."""
    if all(group.get("fused") for group in optimizer.param_groups):
        return _fused
    return _unread if device.type != "cpu" and isinstance(optimizer, UNREAD) else _plain


def _unread(optimizer: Any, flag: Tensor) -> None:
    """Step, with gradients of 0 once the flag is up: the weights stay, what the optimizer remembers is not used again."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(flag > 0, 0.0)
    if isinstance(optimizer, Velocity):
        optimizer.found_inf = flag
    optimizer.step()


def _fused(optimizer: Any, flag: Tensor) -> None:
    optimizer.found_inf = flag  # torch's protocol for gradient scalers: the kernel itself skips the step
    optimizer.step()


def _plain(optimizer: Any, flag: Tensor) -> None:
    if not flag:
        optimizer.step()
