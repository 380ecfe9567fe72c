"""The rules, measured: the deviation they promise, and the scale they keep through a deep network."""

from math import sqrt

import pytest
import torch
from torch import nn

from crucible import initializers


@pytest.mark.parametrize(
    ("rule", "deviation"),
    [
        (initializers.zeros(), lambda n: 0.0),
        (initializers.normal(std=0.01), lambda n: 0.01),
        (initializers.inverse(), lambda n: sqrt(1 / n)),
        (initializers.xavier(), lambda n: sqrt(1 / n)),
        (initializers.he(), lambda n: sqrt(2 / n)),
    ],
)
def test_weights_have_the_declared_deviation_and_biases_are_zero(rule, deviation) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 500), nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64))
    rule(model)
    for layer, n in ((model[0], 400), (model[1], 16 * 9)):
        assert layer.weight.std().item() == pytest.approx(deviation(n), rel=0.03, abs=1e-12)
        assert layer.weight.mean().abs().item() < 0.01 and not layer.bias.any()
    assert torch.equal(model[2].weight, torch.ones(64))


def test_default_changes_nothing() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    initializers.default()(model)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("rule", "activation", "kept"),
    [
        (initializers.he(), nn.ReLU(), True),
        (initializers.xavier(), nn.ReLU(), False),
        (initializers.normal(std=0.01), nn.ReLU(), False),
    ],
)
def test_he_keeps_the_scale_through_twenty_relu_layers_and_the_others_lose_it(rule, activation, kept) -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(20) for part in (nn.Linear(256, 256), activation)]
    model = nn.Sequential(*layers)
    rule(model)
    x = torch.randn(256, 256)
    ratio = (model(x).pow(2).mean() / x.pow(2).mean()).sqrt().item()
    assert (0.3 < ratio < 3) if kept else ratio < 0.01


@pytest.mark.parametrize(
    ("rule", "activation", "forward", "backward"),
    [
        (initializers.he(), nn.ReLU, 1.0, 1.0),
        (initializers.xavier(), nn.Identity, 1.0, 1.0),
        (initializers.inverse(), nn.ReLU, sqrt(1 / 2), sqrt(1 / 2)),
        (initializers.normal(std=0.01), nn.ReLU, 0.01 * sqrt(512 / 2), 0.01 * sqrt(512 / 2)),
        (initializers.normal(std=0.2), nn.Identity, 0.2 * sqrt(512), 0.2 * sqrt(512)),
    ],
)
def test_each_layer_scales_signals_and_gradients_by_what_the_rule_says(rule, activation, forward, backward) -> None:
    """Root mean square after a layer over before, sqrt(n var / 2) with relu; seven layers of 512 units."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(512, 512), activation()) for _ in range(7)]
    rule(nn.Sequential(*layers))
    signals = [torch.randn(512, 512, requires_grad=True)]
    for layer in layers:
        signals.append(layer[1](layer[0](signals[-1])))
        signals[-1].retain_grad()
    signals[-1].backward(torch.randn(512, 512))

    def size(values: torch.Tensor) -> float:
        return values.pow(2).mean().sqrt().item()

    for i in range(1, 7):  # after the first layer: what relu lets through has another mean than what came in
        assert size(signals[i + 1]) / size(signals[i]) == pytest.approx(forward, rel=0.15)
        assert size(signals[i - 1].grad) / size(signals[i].grad) == pytest.approx(backward, rel=0.15)


def test_orthogonal_weights_keep_lengths_and_angles() -> None:
    model = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4))
    initializers.orthogonal()(model)
    x = torch.randn(5, 6)
    assert torch.allclose(model[0](x) @ model[0](x).T, x @ x.T, atol=1e-5)
    assert torch.allclose(model[1].weight @ model[1].weight.T, torch.eye(4), atol=1e-6) and not model[0].bias.any()


def test_zeros_leave_hidden_units_equal_after_a_step() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    initializers.zeros()(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.randn(8, 4)) - 1).pow(2).mean().backward()
        optimizer.step()
    assert torch.equal(model[0].weight[0], model[0].weight[1])
