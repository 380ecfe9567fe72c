"""Back-propagation against two-sided differences, on the model and loss that will be trained (notes 004, 3.x).

In float64, on a few examples; dropout draws the same masks in every evaluation, and batch norm sees the same batch.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.errors import Refusal
from crucible.tasks.task import Task, total_of

LIMIT, STEPS = 1e-5, (1e-5, 1e-6)  # the smaller step where a corner lies within the larger
LARGEST, RANDOM = 4, 4  # coordinates of each parameter: those with the largest gradient, and some drawn
KINK = 1e-6  # relative; differences at h and h/2 that disagree more have a corner between them
SHARP = 0.75  # the two sides' slopes differ half as much at h/2 as at h, but at a corner as much
ROUNDING = 1e-14  # of two losses of about 1; divided by h, of their difference


@dataclass(frozen=True)
class Checked:
    """The outcome.

    Attributes:
        difference: by parameter, |numeric - analytic| / (|numeric| + |analytic|) over its coordinates, in the order of
            the layers. compared, skipped: numbers of coordinates; skipped ones lie at a corner.
    """

    difference: dict[str, float]
    compared: int
    skipped: int

    @property
    def worst(self) -> float:
        """The largest difference."""
        return max(self.difference.values(), default=0.0)

    @property
    def culprit(self) -> str | None:
        """The parameter above the limit that back-propagation reaches first: the fault is there or just before."""
        return next((name for name in reversed(self.difference) if self.difference[name] > LIMIT), None)


def gradient_check(model: nn.Module, task: Task, batch: Batch, *, seed: int) -> Checked:
    """Compare the gradients of a copy of the model; the model and the global random numbers stay as they are.

    Args:
        batch: a few examples, normalised. seed: of dropout's masks and of the coordinates.
    """
    twin = copy.deepcopy(model)
    vars(twin).pop("forward", None)  # a precision wrapper would still call the original
    twin = twin.cpu().double().train()
    twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub lacks it
    cpu = {name: value.cpu().double() if value.is_floating_point() else value.cpu() for name, value in batch.items()}
    with torch.random.fork_rng(devices=[]):
        return _check(twin, task, cpu, seed)


def require_right(found: Checked) -> None:
    """Refuse gradients that are not those of the loss.

    Raises:
        Refusal: naming the layer.
    """
    if (culprit := found.culprit) is not None:
        layer, after = _layer(culprit), [_layer(name) for name in found.difference]
        following = next((each for each in after[after.index(layer) :] if each != layer), None)
        raise Refusal(
            "trainer.gradient_check",
            f"the gradient of '{culprit}' is off by {found.difference[culprit]:.1e} (relative): "
            f"the backward pass is wrong in layer '{layer}'"
            + (f", or after it up to and with '{following}'" if following else ", or after it"),
            allowed=f"at most {LIMIT:g} between back-propagation and two-sided differences",
        )


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0] or "model"


def _check(model: nn.Module, task: Task, batch: Batch, seed: int) -> Checked:
    before = {name: value.clone() for name, value in model.named_buffers()}

    def loss() -> Tensor:
        torch.manual_seed(seed)
        model.load_state_dict(before, strict=False)  # what a pass counts or averages has no part in the gradient
        return total_of(task.losses(model, batch))

    order = _order(model, batch)
    loss().backward()
    draw = torch.Generator().manual_seed(seed)
    difference, compared, skipped = {}, 0, 0
    free = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for name, p in sorted(free, key=lambda item: order[item[0]]):
        gradient = torch.zeros_like(p) if p.grad is None else p.grad
        pairs = [(float(gradient.reshape(-1)[i]), _slope(loss, p, i)) for i in _coordinates(gradient, draw)]
        smooth = [pair for pair in pairs if pair[1] is not None]
        skipped += len(pairs) - len(smooth)
        compared += len(smooth)
        difference[name] = _relative(torch.tensor(smooth, dtype=torch.float64).view(-1, 2))
    return Checked(difference, compared, skipped)


def _coordinates(gradient: Tensor, draw: torch.Generator) -> list[int]:
    largest = gradient.abs().reshape(-1).topk(min(LARGEST, gradient.numel())).indices
    drawn = torch.randint(gradient.numel(), (RANDOM,), generator=draw)
    return [int(i) for i in torch.cat([largest, drawn]).unique()]


@torch.no_grad()
def _slope(loss: Callable[[], Tensor], parameter: nn.Parameter, i: int) -> float | None:
    """Return the two-sided difference; None at a corner: where it is another at h / 2, or the sides differ."""
    flat = parameter.view(-1)
    was, middle = float(flat[i]), float(loss())

    def at(offset: float) -> float:
        flat[i] = was + offset
        value = float(loss())
        flat[i] = was
        return value

    for step in STEPS:
        sides = [((at(h) - middle) / h, (middle - at(-h)) / h) for h in (step, step / 2)]
        (slope, half), (bend, half_bend) = zip(*(((up + down) / 2, abs(up - down)) for up, down in sides), strict=True)
        agree = abs(slope - half) <= KINK * (abs(slope) + abs(half)) / 2 + ROUNDING / step
        if agree and half_bend <= SHARP * bend + 2 * ROUNDING / step:
            return float(slope)
    return None


def _relative(pairs: Tensor) -> float:
    apart, size = (pairs[:, 0] - pairs[:, 1]).norm(), pairs[:, 0].norm() + pairs[:, 1].norm()
    return float(apart / size.clamp(min=ROUNDING / STEPS[0] / LIMIT))


def _order(model: nn.Module, batch: Batch) -> Mapping[str, int]:
    """Return the place of each parameter's layer in the forward pass; layers that are never called come first."""
    called: list[nn.Module] = []
    hooks = [m.register_forward_hook(lambda m, inputs, output: called.append(m)) for m in model.modules()]
    model(batch["x"])
    for hook in hooks:
        hook.remove()
    owners = {name: model.get_submodule(name.rpartition(".")[0]) for name, _ in model.named_parameters()}
    return {name: called.index(owner) if owner in called else -1 for name, owner in owners.items()}
