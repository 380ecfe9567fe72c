"""Sliding windows one by one and all at once (notes 000, part 11, section 3)."""

import pytest
import torch

from crucible.errors import Refusal
from crucible.inference.sliding import convolutional, window_by_window
from crucible.models.convnet import ConvNet
from crucible.models.lenet5 import LeNet5

NOTES = [{"conv": 16, "f": 5}, {"max_pool": 2}, "flatten", {"fc": 400}, {"fc": 400}]  # and 4 outputs


def convnet(layers: list, shape: tuple[int, ...] = (3, 14, 14), **more: object) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(
        shape, 4, layers=layers, **({"activation": "relu", "batch_norm": False, "keep_prob": 1.0} | more)
    ).eval()


@pytest.mark.parametrize(("side", "places"), [(14, 1), (16, 2), (28, 8)])
def test_the_notes_shapes_and_the_windows_one_by_one(side: int, places: int) -> None:
    model = convnet(NOTES)
    net = convolutional(model)
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        at_once, one_by_one = net(images), window_by_window(model, images, (14, 14), net.stride)
    assert net.stride == 2 and at_once.shape == one_by_one.shape == (2, 4, places, places)
    assert torch.allclose(at_once, one_by_one, atol=1e-5)
    last = model(images[:, :, side - 14 :, side - 14 :])  # the window in the lower right corner, cut by hand
    assert torch.allclose(at_once[:, :, -1, -1], last, atol=1e-5)


def test_windows_that_reach_beyond_the_picture_are_none() -> None:
    """A window of 15 behind a pool that drops a remainder: 16 pixels hold one, 18 two, 28 seven."""
    model = convnet([{"conv": 4, "f": 5}, {"max_pool": 2}, "flatten"], (3, 15, 15))
    for side, places in ((15, 1), (16, 1), (18, 2), (28, 7)):
        images, net = torch.randn(1, 3, side, side), convolutional(model)
        with torch.inference_mode():
            assert net(images).shape[2:] == (places, places)
            assert torch.allclose(net(images), window_by_window(model, images, (15, 15), net.stride), atol=1e-5)


def test_the_fully_connected_layers_are_the_notes_convolutions() -> None:
    net = convolutional(convnet(NOTES)).net
    shapes = [tuple(m.weight.shape) for m in net if isinstance(m, torch.nn.Conv2d)]
    assert shapes == [(16, 3, 5, 5), (400, 16, 5, 5), (400, 400, 1, 1), (4, 400, 1, 1)]


@pytest.mark.parametrize(
    "layers",
    [
        [{"conv": 6, "f": 3, "s": 2}, {"average_pool": 2}, "flatten", {"fc": 8, "keep_prob": 0.5}],
        [{"conv": 6, "f": 3}, {"conv": 8, "f": 3}, "global_average", {"fc": 8}],
        [{"conv": 6, "f": 3}, {"local_response_norm": 3}, {"max_pool": 3, "s": 1}, "flatten"],
    ],
)
def test_every_layer_that_can_is_the_same_at_once(layers) -> None:
    model = convnet(layers, (2, 12, 10), batch_norm=True)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    net = convolutional(model)
    images = torch.randn(1, 2, 20, 22)
    with torch.inference_mode():
        assert torch.allclose(net(images), window_by_window(model, images, (12, 10), net.stride), atol=1e-5)


def test_what_sees_beyond_its_window_is_refused() -> None:
    with pytest.raises(Refusal, match="frames its window with zeros"):
        convolutional(convnet([{"conv": 6, "f": 3, "p": "same"}, "flatten"]))
    with pytest.raises(Refusal, match="no plain list"):
        convolutional(LeNet5((1, 28, 28), 10, variant="notes", keep_prob=1.0))
    with pytest.raises(Refusal, match="not the same for all places"):
        convolutional(convnet([{"upsample": 2}, "flatten"]))
