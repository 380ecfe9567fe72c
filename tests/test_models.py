"""The contract that every model in conf/model keeps, and the counts of the papers."""

import numpy as np
import pytest
import torch
from conftest import ROOT, composed
from torch import Tensor
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.instantiate import build
from crucible.models.mlp import MLP
from crucible.models.resnet import ResNet

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
SHAPES = {
    "resnet": [[1, 8, 8], [3, 64, 64], [1, 28, 28]],
    "lenet5": [[1, 8, 8], [1, 28, 28], [3, 40, 36]],
    "alexnet": [[1, 15, 17]],
    "vgg16": [[3, 32, 32]],
    "inception": [[1, 10, 12], [3, 32, 32]],
    "convnet": [[9], [1, 8, 8], [1, 6, 6, 6]],
    "hog": [[1, 8, 8], [3, 12, 18]],
    "yolo": [[3, 64, 64], [1, 64, 96]],
    "canvas": [],  # it tells no classes: test_style
    "point": [],  # nor does a point: test_surface
    "encoder_decoder": [],  # it reads text: test_language
}


@pytest.fixture(params=[(name, shape) for name in MODELS for shape in SHAPES.get(name, [[7], [3, 6, 5]])], ids=str)
def model_and_shape(request):
    name, shape = request.param
    torch.manual_seed(0)
    return build("model", composed(f"model={name}")["model"], shape, 4), shape


def test_outputs_are_one_logit_for_each_class(model_and_shape) -> None:
    model, shape = model_and_shape
    assert model.eval()(torch.randn(5, *shape)).shape[:2] == (5, 4)  # yolo: for every cell


def test_an_example_is_judged_alone(model_and_shape) -> None:
    model, shape = model_and_shape
    x = torch.randn(4, *shape)
    model.eval()
    assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-4)


def test_every_parameter_gets_a_gradient(model_and_shape) -> None:
    model, shape = model_and_shape
    outputs = model(torch.randn(6, *shape))
    sum(each.pow(2).sum() for each in (outputs if isinstance(outputs, tuple) else [outputs])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_mlp_is_the_notes_forward_pass() -> None:
    model = MLP([1, 2, 3], 2, layers=[4, 3], activation="tanh", keep_prob=1.0, batch_norm=False).double()
    x = np.random.default_rng(0).normal(size=(5, 1, 2, 3))
    w = [p.detach().numpy() for p in model.parameters()]
    a = np.tanh(np.tanh(x.reshape(5, 6) @ w[0].T + w[1]) @ w[2].T + w[3])
    assert np.allclose(model(torch.from_numpy(x)).detach().numpy(), a @ w[4].T + w[5])


def test_mlp_counts_follow_from_the_widths() -> None:
    model = MLP([784], 10, layers=[64, 128, 64], activation="relu", keep_prob=1.0, batch_norm=False)
    assert sum(p.numel() for p in model.parameters()) == 785 * 64 + 65 * 128 + 129 * 64 + 65 * 10


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (8, 11)])
def test_resnet_9_is_that_of_page(size: tuple[int, int]) -> None:
    """Written out in torch's functions, the weights taken in their order."""
    torch.manual_seed(0)
    model = ResNet([3, *size], 10, depth=9, width=None, keep_prob=1.0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("mean", "bias")):
                value.normal_()
            if name.endswith("var"):
                value.uniform_(0.5, 2)
    values = iter(value for value in model.state_dict().values() if value.dim())

    def unit(x: Tensor) -> Tensor:
        x = F.conv2d(x, next(values), padding=1)
        scale, shift, mean, var = (next(values).view(1, -1, 1, 1) for _ in range(4))
        return F.relu(scale * (x - mean) / (var + 1e-5).sqrt() + shift)

    x = images = torch.randn(2, 3, *size)
    x = F.max_pool2d(unit(unit(x)), 2)
    x = x + unit(unit(x))
    x = F.max_pool2d(unit(F.max_pool2d(unit(x), 2)), 2)
    x = x + unit(unit(x))
    wanted = x.flatten(2).max(dim=2).values @ next(values).T + next(values)
    assert torch.allclose(model.eval()(images), wanted, atol=1e-4) and next(values, None) is None
    assert sum(p.numel() for p in model.parameters()) == 27 * 64 + 9 * 64 * 128 + 2 * 9 * 128**2 + 9 * 128 * 256 + 9 * 256 * 512 + 2 * 9 * 512**2 + 2 * (
        64 + 3 * 128 + 256 + 3 * 512) + 5130  # fmt: skip


def test_resnet_9_without_its_shortcuts_is_plain() -> None:
    with_, without = (
        ResNet([3, 16, 16], 2, depth=9, width=4, keep_prob=1.0, residual=each).eval() for each in (True, False)
    )
    without.load_state_dict(with_.state_dict())
    x = torch.randn(2, 8, 8, 8)
    assert torch.allclose(with_.stages[1](x) - without.stages[1](x), x, atol=1e-6)


@pytest.mark.parametrize(("depth", "thousands"), [(20, 270), (32, 460), (44, 660), (56, 850), (110, 1730)])
def test_resnet_counts_are_the_papers(depth: int, thousands: int) -> None:
    """Table 6 of the paper, whose shortcuts have no parameters; our two projections add 2,752."""
    model = ResNet([3, 32, 32], 10, depth=depth, width=16, keep_prob=1.0)
    count = sum(p.numel() for p in model.parameters())
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert abs((count - projections) / 1000 - thousands) <= 5


def test_an_identity_shortcut_adds_the_input() -> None:
    from crucible.models.resnet import Block

    block = Block(4, 4, 1).eval()
    for p in block.norm2.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), torch.relu(x))


def test_dropout_keeps_the_declared_share_and_the_expectation() -> None:
    model = MLP([1], 1, layers=[100_000], activation="relu", keep_prob=0.8, batch_norm=False)
    torch.nn.init.ones_(model.hidden.linear0.weight)
    torch.nn.init.zeros_(model.hidden.linear0.bias)
    units = model.train().hidden(torch.ones(1, 1))
    kept = (units > 0).float().mean().item()
    assert abs(kept - 0.8) < 0.01 and torch.allclose(units[units > 0], torch.tensor(1.25))
    assert torch.equal(model.eval().hidden(torch.ones(1, 1)), torch.ones(1, 100_000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP([4], 2, layers=[3], activation="relu", keep_prob=[0.5, 0.5], batch_norm=False), "2 values for 1"),
        (lambda: ResNet([1, 8, 8], 2, depth=11, width=4, keep_prob=1.0), r"11 is neither in table 1 nor 6n \+ 2"),
        (lambda: ResNet([3, 7, 9], 2, depth=9, width=4, keep_prob=1.0), "needs images of at least 8x8"),
        (lambda: ResNet([64], 2, depth=8, width=4, keep_prob=1.0), "needs images of at least 4x4"),
        (lambda: ResNet([1, 2, 9], 2, depth=8, width=4, keep_prob=1.0), "needs images of at least 4x4"),
    ],
)
def test_impossible_models_say_why(make, message) -> None:
    with pytest.raises(Refusal, match=message):
        make()
