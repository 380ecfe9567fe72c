"""The gradient check: what is right passes, a backward pass off by one per cent is refused by the layer's name."""

import numpy as np
import pytest
import torch
from conftest import ROOT, card_of, composed
from torch import nn

from crucible.errors import Refusal
from crucible.instantiate import build
from crucible.training.gradient_check import LIMIT, STEPS, _slope, gradient_check, require_right

LARGE = ("alexnet", "vgg16", "inception", "yolo")  # minutes each, of the layers that the others are made of
MODELS = sorted(
    {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")} - {*LARGE, "canvas", "encoder_decoder", "point"}
)  # a canvas and a point tell no classes: test_style, test_surface; an encoder reads text: test_language


class Scaled(torch.autograd.Function):
    """The identity whose gradient is too large, by 1 % unless reported otherwise."""

    factor = 1.01

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return Scaled.factor * gradient


class Wrong(nn.Linear):
    """A linear layer whose weight gets 1 % more gradient than it should."""

    def forward(self, x):
        return nn.functional.linear(x, Scaled.apply(self.weight), self.bias)


def batch_of(shape: tuple[int, ...], classes: int, size: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {"x": torch.randn(size, *shape), "label": torch.arange(size) % classes}


def penalised(name: str, task: str, classes: int, *more: str):
    cfg = composed(f"regularizer={name}", f"task={task}", *more)
    card = card_of((1, 12, 12), classes=classes)
    return build("regularizer", cfg["regularizer"], build("task", cfg["task"], card), 10)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ["classification", "binary"])
@pytest.mark.parametrize("regularizer", ["none", "l1", "l2"])
def test_every_model_and_loss_passes(model, task, regularizer) -> None:
    torch.manual_seed(0)
    classes = 2 if task == "binary" else 3
    net = build("model", composed(f"model={model}")["model"], [1, 12, 12], 1 if task == "binary" else 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    batch = batch_of((1, 12, 12), classes)
    state = torch.random.get_rng_state()
    found = gradient_check(net, penalised(regularizer, task, classes), batch, seed=0)
    assert found.worst < LIMIT and found.compared >= 4 * len(found.difference)
    require_right(found)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "more", [["task.loss=mean_squared_error"], ["task.label_smoothing=0.2"], ["task.class_weights=[1.0,2.0,0.5]"]]
)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "identity"])
def test_every_knob_of_the_loss_and_every_activation_passes(activation, more) -> None:
    cfg = composed(
        "model.layers=[9,7]", f"model.activation={activation}", "model.keep_prob=0.6", "model.batch_norm=true"
    )
    torch.manual_seed(0)
    net = build("model", cfg["model"], [1, 12, 12], 3)
    found = gradient_check(net, penalised("l2", "classification", 3, *more), batch_of((1, 12, 12), 3), seed=0)
    assert (
        found.worst < LIMIT and found.skipped < found.compared / 10
    )  # frozen masks: nearly nothing looks like a corner


def test_regression_passes() -> None:
    from test_regression import task_of

    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    batch = {"x": torch.randn(6, 3), "label": torch.linspace(100, 300, 6, dtype=torch.float64)}
    assert gradient_check(net, task_of(np.linspace(50, 350, 9)), batch, seed=0).worst < LIMIT


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_backward_off_by_one_per_cent_is_refused_and_its_layer_named(place) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
    layers[place].__class__ = Wrong
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.ReLU(), layers[2])
    found = gradient_check(net, penalised("none", "classification", 3), batch_of((4,), 3), seed=0)
    assert found.culprit == f"{2 * place}.weight"
    assert found.difference[found.culprit] == pytest.approx(0.01 / 2.01, rel=0.01)
    with pytest.raises(Refusal, match=f"layer '{2 * place}'"):
        require_right(found)


@pytest.mark.parametrize(("factor", "refused"), [(1.00003, True), (1.000015, False)])
def test_the_limit_is_a_relative_difference_of_a_hundred_thousandth(factor, refused, monkeypatch) -> None:
    monkeypatch.setattr(Scaled, "factor", factor)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), Wrong(8, 3))
    found = gradient_check(net, penalised("none", "classification", 3), batch_of((4,), 3), seed=0)
    assert found.difference["2.weight"] == pytest.approx((factor - 1) / 2, rel=0.05)
    assert (found.culprit is not None) == refused


@pytest.mark.parametrize(("place", "found"), [(0.9 * STEPS[0], 1.0), (0.9 * STEPS[1], None), (0.0, None)])
def test_a_corner_is_stepped_around_or_seen(place, found) -> None:
    """Within the larger step it would add 5 % of its sharpness: the smaller step gets past it, or nothing does."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    slope = _slope(lambda: (p + 0.004 * (p - place).relu()).sum(), p, 0)
    assert slope == (found if found is None else pytest.approx(found, abs=1e-7))


@pytest.mark.parametrize("seed", [0, 1, 14, 21])
def test_a_residual_network_stored_channels_last_passes_with_any_seed(seed) -> None:
    from crucible import initializers
    from crucible.inference.saved_run import on_device

    torch.manual_seed(seed)
    net = build("model", composed("model=resnet")["model"], [3, 8, 8], 3)
    initializers.he()(net)
    net = on_device(net, torch.device("cpu"), channels_last=True)
    batch = {"x": torch.randn(8, 3, 8, 8), "label": torch.arange(8) % 3}
    assert gradient_check(net, penalised("none", "classification", 3), batch, seed=0).worst < LIMIT / 10


def test_an_input_gradient_that_is_wrong_is_laid_between_two_layers() -> None:
    class OffBelow(nn.Linear):
        def forward(self, x):
            return super().forward(Scaled.apply(x))

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), OffBelow(8, 8), nn.Tanh(), nn.Linear(8, 3))
    found = gradient_check(net, penalised("none", "classification", 3), batch_of((4,), 3), seed=0)
    with pytest.raises(Refusal, match="in layer '0', or after it up to and with '2'"):
        require_right(found)


def test_a_wrong_activation_is_laid_to_the_weights_before_it() -> None:
    class Off(nn.Module):
        def forward(self, x):
            return Scaled.apply(torch.tanh(x))

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), Off(), nn.Linear(8, 3))
    found = gradient_check(net, penalised("none", "classification", 3), batch_of((4,), 3), seed=0)
    assert found.culprit == "2.bias" and found.difference["4.weight"] < LIMIT and found.difference["0.weight"] > LIMIT


def test_corners_are_skipped_and_counted() -> None:
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 3))
    with torch.no_grad():
        net[0].weight.zero_()
    found = gradient_check(
        net, penalised("none", "classification", 3), {"x": torch.ones(2, 2), "label": torch.tensor([0, 1])}, seed=0
    )
    assert found.skipped > 0 and found.worst < LIMIT


def test_the_command_prints_it_and_refuses_before_anything_is_written(command, monkeypatch, tmp_path) -> None:
    done = command("train", "trainer.gradient_check=true", "trainer.total_epochs=1", "tracking=none", "model=logistic")
    assert done.code == 0 and "gradient check: largest relative difference" in done.out
    done = command("train", "trainer.gradient_check=true", "trainer.total_epochs=1", "tracking=none", "model=resnet")
    assert done.code == 0, done.err
    from crucible.models import logistic

    monkeypatch.setattr(logistic.nn, "Linear", Wrong)
    before = sorted(tmp_path.rglob("*"))
    done = command("train", "trainer.gradient_check=true", "tracking=none", "model=logistic", "hydra.run.dir=elsewhere")
    assert done.code == 2 and "layer 'linear'" in done.err
    assert sorted(tmp_path.rglob("*")) == before
