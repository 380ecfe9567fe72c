"""Optimizers against torch to the last bit where the formula is torch's, and against the notes' own rule step by step."""

import numpy as np
import pytest
import torch
from conftest import ROOT, composed
from torch import nn

from crucible.instantiate import build
from crucible.optim import optimizers, schedules
from crucible.optim.guard import GuardedOptimizer

OPTIMIZERS = sorted(path.stem for path in (ROOT / "conf" / "optimizer").glob("*.yaml"))
GRADIENTS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def steps_of(make, lrs: list[float] | None = None) -> list[np.ndarray]:
    """Return the parameter after each of eight prescribed gradients."""
    p = nn.Parameter(torch.ones(3))
    optimizer = make([p])
    seen = []
    for i, g in enumerate(GRADIENTS):
        if lrs:
            optimizer.param_groups[0]["lr"] = lrs[i]
        p.grad = torch.tensor(g)
        optimizer.step()
        seen.append(p.detach().numpy().copy())
    return seen


def by_hand(rule, lrs: list[float]) -> list[np.ndarray]:
    w, state, seen = np.ones(3), {}, []
    for t, (g, lr) in enumerate(zip(GRADIENTS.astype(np.float64), lrs, strict=True), 1):
        w = rule(w, g, lr, t, state)
        seen.append(w)
    return seen


def averaged(w, g, lr, t, s):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g
    return w - lr * s["v"]


def velocity(w, g, lr, t, s):
    s["v"] = 0.9 * s.get("v", 0) - lr * g
    return w + s["v"]


def adam(w, g, lr, t, s):
    s["v"], s["s"] = 0.9 * s.get("v", 0) + 0.1 * g, 0.999 * s.get("s", 0) + 0.001 * g**2
    return w - lr * (s["v"] / (1 - 0.9**t)) / (np.sqrt(s["s"] / (1 - 0.999**t)) + 1e-8)


def nesterov_velocity(w, g, lr, t, s):
    """The notes' class Nesterov, line by line."""
    v = s.get("v", np.zeros(3))
    w = w + 0.9 * 0.9 * v
    w = w - (1 + 0.9) * lr * g
    s["v"] = 0.9 * v - lr * g
    return w


def nesterov_averaged(w, g, lr, t, s):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g
    return w - lr * (0.9 * s["v"] + 0.1 * g)


def adagrad(w, g, lr, t, s):
    s["h"] = s.get("h", 0) + g * g
    return w - lr * g / (np.sqrt(s["h"]) + 1e-7)


def adadelta(w, g, lr, t, s):
    s["s"] = 0.9 * s.get("s", 0) + 0.1 * g * g
    step = np.sqrt(s.get("d", 0) + 1e-6) / np.sqrt(s["s"] + 1e-6) * g
    s["d"] = 0.9 * s.get("d", 0) + 0.1 * step * step
    return w - lr * step


def rmsprop(w, g, lr, t, s):
    s["h"] = 0.9 * s.get("h", 0) + 0.1 * g * g
    return w - lr * g / (np.sqrt(s["h"]) + 1e-8)


def adamw(w, g, lr, t, s):
    return adam(w * (1 - lr * 0.1), g, lr, t, s)


CONSTANT, FALLING = [0.1] * 8, [0.1, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.01]


@pytest.mark.parametrize("lrs", [CONSTANT, FALLING])
@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda p: optimizers.sgd(p, lr=0.1), lambda w, g, lr, t, s: w - lr * g),
        (lambda p: optimizers.momentum(p, lr=0.1, beta=0.9, form="averaged"), averaged),
        (lambda p: optimizers.momentum(p, lr=0.1, beta=0.9, form="velocity"), velocity),
        (lambda p: optimizers.adam(p, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8), adam),
        (lambda p: optimizers.nesterov(p, lr=0.1, beta=0.9, form="velocity"), nesterov_velocity),
        (lambda p: optimizers.nesterov(p, lr=0.1, beta=0.9, form="averaged"), nesterov_averaged),
        (lambda p: optimizers.adagrad(p, lr=0.1, eps=1e-7), adagrad),
        (lambda p: optimizers.adadelta(p, lr=0.1, beta=0.9, eps=1e-6), adadelta),
        (lambda p: optimizers.rmsprop(p, lr=0.1, beta=0.9, eps=1e-8), rmsprop),
        (lambda p: optimizers.adamw(p, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1), adamw),
    ],
)
def test_each_step_is_the_notes_rule(make, rule, lrs) -> None:
    assert np.allclose(steps_of(make, lrs), by_hand(rule, lrs), atol=1e-5)


def test_adam_is_torchs_to_the_last_bit() -> None:
    ours = steps_of(lambda p: optimizers.adam(p, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8))
    theirs = steps_of(lambda p: torch.optim.Adam(p, lr=0.1, fused=True))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: optimizers.sgd(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (lambda p: optimizers.adagrad(p, lr=0.1, eps=1e-7), lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-7)),
        (lambda p: optimizers.adadelta(p, lr=0.5, beta=0.9, eps=1e-6), lambda p: torch.optim.Adadelta(p, lr=0.5)),
        (
            lambda p: optimizers.rmsprop(p, lr=0.1, beta=0.99, eps=1e-8),
            lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.99),
        ),
        (
            lambda p: optimizers.adamw(p, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.3),
            lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3, fused=True),
        ),
        (
            lambda p: optimizers.nesterov(p, lr=0.1, beta=0.9, form="velocity"),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        ),
    ],
)
def test_where_the_formula_is_torchs_so_are_the_numbers(ours, theirs) -> None:
    assert np.allclose(steps_of(ours), steps_of(theirs), atol=1e-6)


def test_nesterov_is_torchs_only_while_the_rate_stays() -> None:
    ours = steps_of(lambda p: optimizers.nesterov(p, lr=0.1, beta=0.9, form="velocity"), FALLING)
    theirs = steps_of(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), FALLING)
    assert np.allclose(ours[1], theirs[1], atol=1e-6) and not np.allclose(ours[4], theirs[4], atol=1e-3)


def test_the_two_momenta_differ_by_one_over_one_minus_beta() -> None:
    a = steps_of(lambda p: optimizers.momentum(p, lr=1.0, beta=0.9, form="averaged"))
    v = steps_of(lambda p: optimizers.momentum(p, lr=0.1, beta=0.9, form="velocity"))
    assert np.allclose(a, v, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bad_gradient_never_reaches_the_weights_and_the_step_is_counted(name: str) -> None:
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    guarded = GuardedOptimizer(build("optimizer", composed(f"optimizer={name}")["optimizer"], [p, q]))
    seen = []
    for i in range(5):
        p.grad, q.grad = torch.ones(3), torch.full((2,), float("nan") if i == 2 else 1.0)
        guarded.step(torch.tensor(1.0))
        seen.append(torch.cat([p.detach(), q.detach()]).clone())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2]) and torch.equal(seen[1], seen[4])
    assert guarded.flag.item() == 1 and guarded.steps.item() == 2


def test_an_infinite_loss_stops_the_step_even_with_finite_gradients() -> None:
    p = nn.Parameter(torch.ones(2))
    guarded = GuardedOptimizer(optimizers.sgd([p], lr=0.1))
    p.grad = torch.ones(2)
    guarded.step(torch.tensor(float("inf")))
    assert torch.equal(p.detach(), torch.ones(2))


def test_clipping_scales_to_the_norm() -> None:
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    guarded = GuardedOptimizer(optimizers.sgd([p, q], lr=1.0), max_norm=1.0)
    p.grad, q.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    guarded.step(torch.tensor(0.0))
    assert torch.allclose(torch.cat([p.detach(), q.detach()]), torch.tensor([-0.6, 0.0, -0.8]), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: schedules.constant(o, warmup_epochs=0), [1, 1, 1, 1]),
        (lambda o: schedules.constant(o, warmup_epochs=2), [1 / 3, 2 / 3, 1, 1]),
        (lambda o: schedules.inverse_time(o, decay_rate=1.0, warmup_epochs=0), [1, 1 / 2, 1 / 3, 1 / 4]),
        (lambda o: schedules.inverse_time(o, decay_rate=0.5, warmup_epochs=1), [1 / 2, 2 / 3, 1 / 2, 2 / 5]),
        (lambda o: schedules.exponential(o, decay_rate=0.9, warmup_epochs=0), [1, 0.9, 0.81, 0.729]),
        (lambda o: schedules.exponential(o, decay_rate=0.9, warmup_epochs=3), [1 / 4, 0.45, 0.6075, 0.729]),
        (lambda o: schedules.step(o, every_epochs=2, factor=0.1, warmup_epochs=0), [1, 1, 0.1, 0.1]),
        (lambda o: schedules.cosine(o, epochs=3, final_share=0.0, warmup_epochs=0), [1, 0.75, 0.25, 0]),
        (lambda o: schedules.cosine(o, epochs=2, final_share=0.2, warmup_epochs=0), [1, 0.6, 0.2, 0.2]),
    ],
)
def test_schedules_are_their_formulas(make, expected) -> None:
    optimizer = optimizers.sgd([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule, seen = make(optimizer), []
    for _ in range(4):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.2 * each for each in expected])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", sorted(path.stem for path in (ROOT / "conf" / "schedule").glob("*.yaml")))
def test_a_saved_optimizer_and_schedule_go_on_to_the_last_bit(name: str, schedule: str) -> None:
    cfg = composed(f"optimizer={name}", f"schedule={schedule}")

    def parts(p):
        optimizer = build("optimizer", cfg["optimizer"], [p])
        return optimizer, build("schedule", cfg["schedule"], optimizer)

    def steps(p, optimizer, schedule, rows) -> None:
        for g in rows:
            p.grad = torch.tensor(g)
            optimizer.step()
            schedule.step()

    straight, first, second = (nn.Parameter(torch.ones(3)) for _ in range(3))
    steps(straight, *parts(straight), GRADIENTS)
    old = parts(first)
    steps(first, *old, GRADIENTS[:4])
    new = parts(second)
    second.data.copy_(first.data)
    for part, was in zip(new, old, strict=True):
        part.load_state_dict(was.state_dict())
    steps(second, *new, GRADIENTS[4:])
    assert torch.equal(second.data, straight.data)
