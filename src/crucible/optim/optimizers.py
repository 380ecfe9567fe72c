"""Gradient descent and its relatives; torch's fused step wherever the formula is torch's.

| choice | equal to torch's | else, equal step by step to |
|---|---|---|
| sgd, adam, adamw, adagrad, rmsprop, adadelta | yes | |
| momentum form=averaged | SGD with dampening beta, started from v = 0 | |
| momentum, nesterov form=velocity | only while lr stays the same | the notes 002, 6.2.2: a change of lr leaves v as it is |
| nesterov form=averaged | no | 000, part 5, section 2, with Nesterov's look ahead |
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from crucible.errors import Refusal
from crucible.schema import Count, Decay, NonNegative, Positive

Parameters = Iterable[Any]  # parameters, or groups of them as torch takes them
Form = Literal["averaged", "velocity"]


def sgd(parameters: Parameters, *, lr: Positive) -> Optimizer:
    """w = w - lr g (notes 000, part 1; batch, mini-batch or stochastic by trainer.batch_size)."""
    return torch.optim.SGD(parameters, lr=lr, fused=True)


def momentum(parameters: Parameters, *, lr: Positive, beta: Decay, form: Form) -> Optimizer:
    """Gradient descent with momentum.

    averaged: v = beta v + (1 - beta) g, w = w - lr v (notes 000, part 5, section 2).
    velocity: v = beta v - lr g, w = w + v (notes 002, 6.2.2). At equal lr it goes 1 / (1 - beta) times as far.
    """
    make: Callable[..., Optimizer] = _averaged if form == "averaged" else Velocity
    return make(parameters, lr=lr, beta=beta)


def _averaged(parameters: Parameters, *, lr: float, beta: float) -> Optimizer:
    """torch's dampened momentum, with v = 0 before the first step (torch alone would start from v = g)."""
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=beta, dampening=beta, fused=True)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def nesterov(parameters: Parameters, *, lr: Positive, beta: Decay, form: Form) -> Optimizer:
    """Momentum that looks ahead: the gradient is taken as if where the velocity leads (arXiv:1212.0901, section 3.5).

    velocity: w = w + beta^2 v - (1 + beta) lr g, then v = beta v - lr g (notes 002, 6.2.2: class Nesterov).
    averaged: v = beta v + (1 - beta) g, w = w - lr (beta v + (1 - beta) g). At equal lr velocity goes 1 / (1 - beta)
    times as far.
    """
    return Velocity(parameters, lr=lr, beta=beta, form=form, ahead=True)


def _flat(parameters: Parameters) -> Iterator[nn.Parameter]:
    for each in parameters:
        yield from each["params"] if isinstance(each, dict) else [each]


def _with_gradients(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Give each group that has something to move, and the parameters of it that have a gradient."""
    for group in optimizer.param_groups:
        if parameters := [p for p in group["params"] if p.grad is not None]:
            yield group, parameters


class Velocity(Optimizer):
    """v = beta v - lr g, w = w + v: unlike torch's, a change of lr does not rescale the velocity gathered so far.

    `found_inf` is torch's protocol for skipping a step: 1 (), and the weights stay where they are.

    Args:
        params: what moves.
        lr, beta: of the rule.
        form: `averaged`: v = beta v + (1 - beta) g, w = w - lr v.
        ahead: Nesterov's: in the change of w, the new v is taken times beta, and what this gradient adds once more.
    """

    found_inf: Tensor | None = None

    def __init__(
        self, params: Parameters, *, lr: float, beta: float, form: Form = "velocity", ahead: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})
        self._averaged, self._ahead = form == "averaged", ahead

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure
        """Take one step on every parameter that has a gradient."""
        for group, parameters in _with_gradients(self):
            for p in parameters:
                self.state[p].setdefault("velocity", torch.zeros_like(p))
            velocities: list[Tensor] = [self.state[p]["velocity"] for p in parameters]
            beta, gradients = group["beta"], [p.grad for p in parameters]
            push, scale = (1 - beta, -group["lr"]) if self._averaged else (-group["lr"], 1.0)
            torch._foreach_mul_(velocities, beta)
            torch._foreach_add_(velocities, gradients, alpha=push)
            moves = velocities if self.found_inf is None else torch._foreach_mul(velocities, 1 - self.found_inf)
            torch._foreach_add_(parameters, moves, alpha=scale * (beta if self._ahead else 1))
            if self._ahead:
                torch._foreach_add_(parameters, gradients, alpha=scale * push)


def adagrad(parameters: Parameters, *, lr: Positive, eps: Positive) -> Optimizer:
    """h = h + g^2, w = w - lr g / (sqrt(h) + eps) (notes 002, 6.2.3; Duchi et al., 2011): the rate only ever falls."""
    parameters = list(parameters)
    on_cpu = all(p.device.type == "cpu" for p in _flat(parameters))
    return torch.optim.Adagrad(parameters, lr=lr, eps=eps, fused=on_cpu, foreach=not on_cpu)


def adadelta(parameters: Parameters, *, lr: Positive, beta: Decay, eps: Positive) -> Optimizer:
    """Adagrad that forgets, each step scaled by the steps before it (Zeiler, 2012, arXiv:1212.5701; notes 002, 6.2.3).

    s = beta s + (1 - beta) g^2, step = sqrt(d + eps) / sqrt(s + eps) g, d = beta d + (1 - beta) step^2, w = w - lr step.
    """
    return torch.optim.Adadelta(parameters, lr=lr, rho=beta, eps=eps, foreach=True)


def rmsprop(parameters: Parameters, *, lr: Positive, beta: Decay, eps: Positive) -> Optimizer:
    """s = beta s + (1 - beta) g^2, w = w - lr g / (sqrt(s) + eps) (notes 000, part 5, section 3)."""
    return torch.optim.RMSprop(parameters, lr=lr, alpha=beta, eps=eps, foreach=True)


def adam(parameters: Parameters, *, lr: Positive, beta1: Decay, beta2: Decay, eps: Positive) -> Optimizer:
    """Adam with bias correction (notes 000, part 5, section 4; Kingma and Ba, 2015, arXiv:1412.6980)."""
    return FusedAdam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, fused=True)


def adamw(
    parameters: Parameters, *, lr: Positive, beta1: Decay, beta2: Decay, eps: Positive, weight_decay: NonNegative
) -> Optimizer:
    """Adam, and apart from it w = w - lr weight_decay w, on every parameter (Loshchilov and Hutter, arXiv:1711.05101)."""
    return FusedAdam(
        parameters,
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        decoupled_weight_decay=True,
        fused=True,
    )


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
            fused = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            fused(
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


def lbfgs(parameters: Parameters, *, lr: Positive, history: Count) -> Optimizer:
    """Limited-memory BFGS (Liu and Nocedal, 1989): a direction from the last gradients, which must be of one and the same loss.

    Without a line search: one gradient a step, lr times the direction. For a picture that is painted, or trainer.batch_size=null.

    Args:
        history: gradients that are remembered.

    Raises:
        Refusal: layers that learn at different rates.
    """
    return Lbfgs(parameters, lr=lr, history_size=history)


class Lbfgs(torch.optim.LBFGS):
    """torch's, that takes the gradient which is there as every other optimizer does."""

    def __init__(self, parameters: Parameters, *, lr: float, history_size: int) -> None:
        groups = list(parameters)
        if len(groups) > 1 and isinstance(groups[0], dict):
            raise Refusal("optimizer=lbfgs", "its direction is one for all parameters: layers cannot learn at different rates",
                          example="optimizer=adam")  # fmt: skip
        super().__init__(groups, lr=lr, max_iter=1, history_size=history_size, tolerance_grad=0.0, tolerance_change=0.0)

    def step(self, closure: Any = None) -> Any:
        """Move by one step; torch's own takes gradients in one form of memory alone, filters may have another."""
        for parameter in _flat(self.param_groups):
            if parameter.grad is not None:
                parameter.grad = parameter.grad.contiguous()
        self._forget_other_losses()
        return super().step(lambda: torch.zeros(()))  # type: ignore[no-untyped-call]

    def _forget_other_losses(self) -> None:
        """Begin anew where other parameters have a gradient than before: what was remembered is of another loss."""
        parameters = list(_flat(self.param_groups))
        learning = [each.grad is not None for each in parameters]
        if self.state[parameters[0]].get("learning", learning) != learning:
            self.state.clear()
        self.state[parameters[0]]["learning"] = learning
