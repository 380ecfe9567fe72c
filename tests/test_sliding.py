"""Sliding windows one by one and all at once (notes 000, part 11, section 3)."""

import numpy as np
import pytest
import torch
from conftest import card_of
from PIL import Image

from crucible.errors import Refusal
from crucible.inference.saved_run import Saved
from crucible.inference.sliding import convolutional, window_by_window
from crucible.inference.windows import Windows
from crucible.models.convnet import ConvNet
from crucible.models.lenet5 import LeNet5
from crucible.tasks.classification import Classification

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


def classifier(layers=None) -> Saved:
    """Return a run of windows of 12 x 10 that was never trained; its answers are what random weights say."""
    model = convnet(layers or [{"conv": 6, "f": 3}, {"max_pool": 2}, "flatten", {"fc": 8}], (1, 12, 10))
    card = card_of((1, 12, 10), classes=4, mean=[100.0], std=[50.0])
    task = Classification(card, monitor="f1", goal="maximize", tolerance=0.02)
    return Saved({}, card, task, model)


def by_hand(saved, image: np.ndarray, size: int, step: int) -> dict[tuple[float, ...], np.ndarray]:
    """Return by corners what each window says: the picture resized by Pillow, cut window by window."""
    h, w = (round(side * 12 / size) for side in image.shape[1:])
    small = np.asarray(Image.fromarray(image[0]).resize((w, h), Image.Resampling.BILINEAR)) if size != 12 else image[0]
    found = {}
    for y in range(0, h - 11, step):
        for x in range(0, w - 9, step):
            part = torch.tensor((small[y : y + 12, x : x + 10].astype(np.float32) - 100) / 50)[None, None]
            corners = (
                x * image.shape[2] / w,
                y * image.shape[1] / h,
                (x + 10) * image.shape[2] / w,
                (y + 12) * image.shape[1] / h,
            )
            with torch.no_grad():
                found[tuple(round(c, 3) for c in corners)] = saved.model(part).softmax(1)[0].numpy()
    return found


@pytest.mark.parametrize(
    ("sizes", "step", "at_once"), [((12,), 2, True), ((12, 18, 9), 4, True), ((24,), 3, False), ((), None, True)]
)
def test_windows_of_several_sizes_are_those_that_are_cut_by_hand(sizes, step, at_once) -> None:
    saved = classifier()
    image = np.random.default_rng(0).integers(0, 255, (1, 40, 37)).astype(np.uint8)
    looks = Windows(saved, sizes=sizes, step=step)
    assert looks.at_once is at_once and looks.step == (step or 2)
    wanted = {}
    for size in sizes or (12,):
        wanted |= by_hand(saved, image, size, step or 2)
    found, count = looks.found(image, score=0.0, overlap=1.0)
    assert count == len(wanted) == len(found)
    for each in found:
        shares = wanted[tuple(round(c, 3) for c in each["box"])]
        assert (
            each["score"] == pytest.approx(shares.max(), abs=1e-4)
            and each["class"] == saved.card.classes[shares.argmax()]
        )


def test_the_background_is_not_drawn_and_a_picture_smaller_than_every_window_is_refused() -> None:
    saved = classifier()
    image = np.random.default_rng(0).integers(0, 255, (1, 40, 37)).astype(np.uint8)
    everything, _ = Windows(saved).found(image, score=0.0, overlap=1.0)
    name = everything[0]["class"]
    rest, _ = Windows(saved, background=name).found(image, score=0.0, overlap=1.0)
    assert rest == [each for each in everything if each["class"] != name] and len(rest) < len(everything)
    with pytest.raises(Refusal, match="it is no class"):
        Windows(saved, background="nothing")
    with pytest.raises(Refusal, match="a window is 50"):
        Windows(saved, sizes=[50, 60]).require_room(image, "x.png")
    Windows(saved, sizes=[50, 30]).require_room(image, "x.png")
    padded = classifier(layers=[{"conv": 6, "f": 3, "p": "same"}, "flatten"])
    with pytest.raises(Refusal, match="step=4"):
        Windows(padded)
    assert not Windows(padded, step=4).at_once


def test_the_screen_names_the_windows_that_fit_and_how_to_ask_again(command) -> None:
    assert command("train", "trainer.total_epochs=3", "tracking=none", "trainer.threads=1").code == 0
    Image.fromarray(np.full((30, 30), 90, np.uint8)).save("big.png")
    done = command("slide", "run=latest", "input=big.png", "sizes=8,16,64", "step=4", "score=0.2")
    assert done.code == 0, done.err
    assert "in 40 windows of 8 and 16, 4 pixels apart at their own size" in done.out
    following = next(line for line in done.out.splitlines() if "next" in line).partition("slide.py ")[2].split()
    assert set(following) == {"run=latest", "input=big.png", "sizes=8,16,64", "step=4", "score=0.5"}
    assert command("slide", *following).code == 0


@pytest.mark.parametrize(
    ("words", "says"), [("sizes=12,x", "sizes=3"), ("sizes=1", "from 2"), ("step=0", "from 1"), ("background=", "")]
)
def test_sizes_and_steps_that_are_none_are_refused(command, words, says) -> None:
    done = command("slide", "run=latest", "input=none.png", words)
    assert done.code == 2 and says in done.err
