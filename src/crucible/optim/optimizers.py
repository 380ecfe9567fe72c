"""Gradient descent and its relatives; torch's fused step wherever the formula is torch's."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from crucible.schema import Decay, Positive

Parameters = Iterable[nn.Parameter]


def sgd(parameters: Parameters, *, lr: Positive) -> Optimizer:
    """w = w - lr g (notes 000, part 1; batch, mini-batch or stochastic by trainer.batch_size)."""
    return torch.optim.SGD(parameters, lr=lr, fused=True)


def momentum(parameters: Parameters, *, lr: Positive, beta: Decay, form: Literal["averaged", "velocity"]) -> Optimizer:
    """Gradient descent with momentum.

    averaged: v = beta v + (1 - beta) g, w = w - lr v (notes 000, part 5, section 2).
    velocity: v = beta v - lr g, w = w + v (notes 002, 6.2.2). At equal lr it goes 1 / (1 - beta) times as far.
    """
    return {"averaged": _averaged, "velocity": Velocity}[form](parameters, lr=lr, beta=beta)


def _averaged(parameters: Parameters, *, lr: float, beta: float) -> Optimizer:
    """torch's dampened momentum, with v = 0 before the first step (torch alone would start from v = g)."""
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=beta, dampening=beta, fused=True)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _with_gradients(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Give each group that has something to move, and the parameters of it that have a gradient."""
    for group in optimizer.param_groups:
        if parameters := [p for p in group["params"] if p.grad is not None]:
            yield group, parameters


class Velocity(Optimizer):
    """v = beta v - lr g, w = w + v: unlike torch's, a change of lr does not rescale the velocity gathered so far."""

    def __init__(self, params: Parameters, *, lr: float, beta: float) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure
        """Take one step on every parameter that has a gradient."""
        for group, parameters in _with_gradients(self):
            for p in parameters:
                self.state[p].setdefault("velocity", torch.zeros_like(p))
            velocities: list[Tensor] = [self.state[p]["velocity"] for p in parameters]
            torch._foreach_mul_(velocities, group["beta"])
            torch._foreach_add_(velocities, [p.grad for p in parameters], alpha=-group["lr"])
            torch._foreach_add_(parameters, velocities)


def adam(parameters: Parameters, *, lr: Positive, beta1: Decay, beta2: Decay, eps: Positive) -> Optimizer:
    """Adam with bias correction (notes 000, part 5, section 4; Kingma and Ba, 2015, arXiv:1412.6980)."""
    return FusedAdam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, fused=True)


class FusedAdam(torch.optim.Adam):
    """torch's Adam and its fused kernel, without the per-step checks that cost a small network a tenth of its time.

    Equal to torch's to the last bit (a test holds that); `found_inf` is torch's protocol for skipping a step.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure
        """Take one step on every parameter that has a gradient."""
        for group, parameters in _with_gradients(self):
            states = [self.state[p] or self._start(p) for p in parameters]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1.0 if self.found_inf is None else 1.0 - self.found_inf)
            torch._fused_adam_(
                parameters,
                [p.grad for p in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                found_inf=self.found_inf,
            )

    def _start(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        self.state[parameter] |= {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        return self.state[parameter]
