"""The classic networks against the papers and the usual reference counts; declared layers against the notes' examples."""

import numpy as np
import pytest
import torch
from conftest import card_of
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.models.alexnet import AlexNet
from crucible.models.convnet import ConvNet
from crucible.models.hog import Hog
from crucible.models.inception import Inception
from crucible.models.layers import Style, TooSmall, output_size, parse, stack
from crucible.models.lenet5 import SEEN, LeNet5, PartialConv, ScaledTanh, Subsampling
from crucible.models.profile import measure, savings
from crucible.models.resnet import Block, Bottleneck, ResNet
from crucible.models.vgg16 import VGG16
from crucible.tasks.classification import Classification

IMAGENET, CLASSES = [3, 224, 224], 1000
# Counts of torchvision 0.20 (docs, "Number of parameters" of each weights entry) and, for GoogLeNet, of the Caffe model
# bvlc_googlenet (13,378,280 with both heads); AlexNet's is the sum of the paper's layers without its two groups.
COUNTS = {
    "vgg16": (lambda: VGG16(IMAGENET, CLASSES, batch_norm=False, keep_prob=0.5), 138_357_544),
    "vgg16 with batch norm": (lambda: VGG16(IMAGENET, CLASSES, batch_norm=True, keep_prob=0.5), 138_365_992),
    "resnet18": (lambda: resnet(18), 11_689_512),
    "resnet34": (lambda: resnet(34), 21_797_672),
    "resnet50": (lambda: resnet(50), 25_557_032),
    "resnet101": (lambda: resnet(101), 44_549_160),
    "resnet152": (lambda: resnet(152), 60_192_808),
    "googlenet": (lambda: inception(0.0), 6_998_552),
    "googlenet with heads": (lambda: inception(0.3), 13_378_280),
    "alexnet": (lambda: AlexNet([3, 227, 227], CLASSES, keep_prob=0.5, local_response_norm=True), 62_378_344),
    "lenet5": (lambda: LeNet5([1, 32, 32], 10, variant="notes", keep_prob=1.0), 61_706),
    "lenet5 of 1998": (lambda: LeNet5([1, 32, 32], 10, variant=1998, keep_prob=1.0), 60_000 + 85 * 10),  # the paper's, and a linear output
}  # fmt: skip


def resnet(depth: int, **keys) -> ResNet:
    return ResNet(IMAGENET, CLASSES, depth=depth, width=None, keep_prob=1.0, **keys)


def inception(auxiliary: float, shape=IMAGENET, outputs: int = CLASSES) -> Inception:
    return Inception(shape, outputs, batch_norm=False, keep_prob=0.6, auxiliary=auxiliary)


def convnet(shape, layers, **keys) -> ConvNet:
    return ConvNet(shape, 10, layers=layers, **{"activation": "relu", "batch_norm": False, "keep_prob": 1.0} | keys)


def shapes(model: nn.Module, shape, kinds=("Conv", "Pool", "Linear")) -> list[tuple[int, ...]]:
    return [row.shape for row in measure(model, shape) if any(kind in row.kind for kind in kinds)]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_literature(name: str) -> None:
    build, count = COUNTS[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


def test_the_small_form_of_resnet18_is_the_usual_one() -> None:
    """3x3 stem without a pool: 11,173,962 for ten classes (github.com/kuangliu/pytorch-cifar)."""
    model = ResNet([3, 32, 32], 10, depth=18, width=None, keep_prob=1.0)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962


def test_vgg_shapes_and_multiplications_are_the_papers() -> None:
    with torch.device("meta"):
        rows = measure(VGG16(IMAGENET, CLASSES, batch_norm=False, keep_prob=0.5), IMAGENET)
    pools = [row.shape for row in rows if row.kind == "MaxPool2d"]
    assert pools == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]
    assert (
        sum(row.multiplications for row in rows) == 15_470_264_320
    )  # 15.47 billion: fvcore's count of the same network
    assert next(row for row in rows if row.name == "features.max_pool5").receptive_field == (
        212,
        212,
    )  # distill.pub/2019/computing-receptive-fields


def test_alexnet_shapes_are_the_notes() -> None:
    with torch.device("meta"):
        model = AlexNet([3, 227, 227], CLASSES, keep_prob=0.5, local_response_norm=False)
        found = shapes(model, [3, 227, 227])
    maps = [
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
    ]
    assert found == [*maps, (4096,), (4096,), (1000,)]


def test_lenet_shapes_are_the_notes_whatever_frames_the_digit() -> None:
    maps = [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120,), (84,), (10,)]
    for side in (28, 32):
        assert shapes(LeNet5([1, side, side], 10, variant="notes", keep_prob=1.0), [1, side, side]) == maps


def test_inception_shapes_are_table_1() -> None:
    with torch.device("meta"):
        model = inception(0.3)
        model.train()
        assert [tuple(each.shape) for each in model(torch.zeros(2, *IMAGENET))] == [(2, 1000)] * 3
        x, found = model.stem(torch.zeros(1, *IMAGENET)), {}
        for name, stage in model.stages.items():
            x = stage(x)
            found[name] = tuple(x.shape[1:])
    table = {"3a": (256, 28, 28), "3b": (480, 28, 28), "4a": (512, 14, 14), "4d": (528, 14, 14), "4e": (832, 14, 14)}
    assert table | {"5a": (832, 7, 7), "5b": (1024, 7, 7)} == {k: found[k] for k in [*table, "5a", "5b"]}


def test_the_bottleneck_saves_what_the_notes_count() -> None:
    """000, part 10: 120.4 million multiplications, and 12.44 (the notes' 12.04 is a slip); 004, 4.3: 221k weights, 130k."""
    with torch.device("meta"):
        model = inception(0.0)
        found = {each.name: each for each in savings(model, measure(model, IMAGENET))}
    five, three = found["stages.3a.branch5"], found["stages.3a.branch3"]
    assert five.multiplications == (28 * 28 * 16 * 192 + 28 * 28 * 32 * 5 * 5 * 16, 28 * 28 * 32 * 5 * 5 * 192)
    assert five.multiplications == (12_443_648, 120_422_400)
    assert three.parameters == (129_024, 221_184)


@pytest.mark.parametrize(("depth", "blocks"), [(18, 8), (34, 16), (50, 16), (101, 33), (152, 50)])
def test_resnet_stages_halve_and_widen(depth: int, blocks: int) -> None:
    with torch.device("meta"):
        model = resnet(depth)
        x = model.stem(torch.zeros(1, *IMAGENET))
        assert x.shape == (1, 64, 56, 56) and len(model.stages) == blocks
        widest = 2048 if depth >= 50 else 512
        assert model.stages(x).shape == (1, widest, 7, 7)


def test_a_plain_network_has_no_shortcut() -> None:
    plain = ResNet([1, 8, 8], 3, depth=8, width=4, keep_prob=1.0, residual=False)
    assert not any("shortcut" in name for name, _ in plain.named_parameters())
    block, x = plain.stages[0].eval(), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        block.norm2.weight.zero_(), block.norm2.bias.zero_()
    assert torch.equal(block(x), torch.zeros_like(x))


@pytest.mark.parametrize(
    ("build", "smallest"),
    [
        (lambda s: VGG16([3, s, s], 5, batch_norm=False, keep_prob=1.0), 32),
        (lambda s: AlexNet([3, s, s], 5, keep_prob=1.0, local_response_norm=False), 15),
        (lambda s: inception(0.3, [3, s, s], 5), 10),
        (lambda s: ResNet([3, s, s], 5, depth=50, width=8, keep_prob=1.0), 4),
        (lambda s: convnet([1, s, s], [{"conv": 2, "f": 5}, {"max_pool": 3, "s": 2}, {"conv": 2, "f": 3}]), 11),
    ],
)
def test_images_that_are_too_small_are_refused_with_the_smallest_size_that_goes_through(build, smallest) -> None:
    with torch.device("meta"):
        model = build(smallest)
        model.eval()(
            torch.zeros(2, *([1] if isinstance(model, ConvNet) and model.shape[0] == 1 else [3]), smallest, smallest)
        )
        with pytest.raises(Refusal, match=rf"{smallest}"):
            build(smallest - 1)


# --- the 1998 paper


def test_partial_connections_are_a_convolution_with_the_others_at_zero() -> None:
    torch.manual_seed(0)
    layer, x = PartialConv(SEEN, 5), torch.randn(2, 6, 14, 14)
    assert layer.weight.numel() + layer.bias.numel() == 1516  # the paper's count of C3
    found, start = layer(x), 0
    for k, maps in enumerate(SEEN):
        size = len(maps) * 25
        own = layer.weight[start : start + size].view(1, len(maps), 5, 5)
        assert torch.allclose(found[:, k], F.conv2d(x[:, list(maps)], own)[:, 0] + layer.bias[k], atol=1e-5)
        start += size


def test_subsampling_is_a_weighted_sum_of_each_window() -> None:
    layer, x = Subsampling(3), torch.randn(2, 3, 4, 6)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, 1.0, 2.0])), layer.bias.fill_(0.1)
    window = x[1, 2, 2:4, 4:6].sum() * 2.0 + 0.1
    assert torch.allclose(layer(x)[1, 2, 1, 2], 1.7159 * torch.tanh(2 / 3 * window))
    assert torch.allclose(
        ScaledTanh()(torch.tensor(1.0)), torch.tensor(1.0), atol=1e-3
    )  # f(1) = 1: the paper, appendix A


# --- auxiliary heads


def test_the_loss_of_the_heads_is_added_at_their_weight_in_training_and_never_judged() -> None:
    torch.manual_seed(0)
    model, x, label = inception(0.3, [1, 16, 16], 3), torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 0])
    model.dropout.p = 0.0
    for head in model.heads.values():
        head.features[-1].p = 0.0
    task = Classification(card_of((1, 16, 16)), monitor="f1", goal="maximize", tolerance=0.02)
    losses = task.losses(model.train(), {"x": x, "label": label})
    first, *heads = [F.cross_entropy(each, label) for each in model(x)]
    assert torch.allclose(losses["loss"], first) and torch.allclose(losses["auxiliary"], 0.3 * (heads[0] + heads[1]))
    assert isinstance(model.eval()(x), torch.Tensor) and set(task.losses(model, {"x": x, "label": label})) == {"loss"}


def test_without_a_weight_there_are_no_heads() -> None:
    model = inception(0.0, [1, 16, 16], 3).train()
    assert not len(model.heads) and model(torch.zeros(2, 1, 16, 16)).shape == (2, 3)


# --- declared layers


@pytest.mark.parametrize(
    ("n", "f", "s", "p", "out"),
    [(6, 3, 1, 0, 4), (6, 3, 1, 1, 6), (7, 3, 2, 0, 3), (39, 3, 1, 0, 37), (37, 5, 2, 0, 17), (8, 3, 2, 0, 3)],
)
def test_output_sizes_are_the_notes(n: int, f: int, s: int, p: int, out: int) -> None:
    assert (
        output_size(n, f, s, p)
        == out
        == F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, f), stride=s, padding=p).shape[2]
    )


def test_a_window_that_does_not_fit_leaves_nothing() -> None:
    with pytest.raises(TooSmall, match="a window of 5 does not fit into 4"):
        output_size(4, 5)


def test_the_notes_39x39_example() -> None:
    """000, part 8, section 6: 37x37x10, 17x17x20, 7x7x40, 1960 units."""
    model = convnet([3, 39, 39], [{"conv": 10, "f": 3}, {"conv": 20, "f": 5, "s": 2}, {"conv": 40, "f": 5, "s": 2}])
    assert shapes(model, [3, 39, 39]) == [(10, 37, 37), (20, 17, 17), (40, 7, 7), (10,)]
    assert model.head.weight.shape == (10, 1960)


def test_the_notes_digits_example_with_its_table() -> None:
    """32x32x3, six filters of 5 (the course's own table counts biases in, and 120 x 400 weights for FC3)."""
    layers = [
        {"conv": 6, "f": 5},
        {"max_pool": 2},
        {"conv": 16, "f": 5},
        {"max_pool": 2},
        "flatten",
        {"fc": 120},
        {"fc": 84},
    ]
    rows = measure(convnet([3, 32, 32], layers), [3, 32, 32])
    found = [(row.shape, row.size, row.parameters) for row in rows if row.kind not in ("ReLU", "Flatten")]
    assert found == [
        ((6, 28, 28), 4704, 456), ((6, 14, 14), 1176, 0), ((16, 10, 10), 1600, 2416), ((16, 5, 5), 400, 0),
        ((120,), 120, 48_120), ((84,), 84, 10_164), ((10,), 10, 850),
    ]  # fmt: skip


def test_signals_and_volumes_as_in_the_notes() -> None:
    """000, part 12: 14 with 16 filters of 5 gives 10 x 16; the course's volume 14x14x14x1 with 16 filters of 5: 10x10x10x16."""
    assert shapes(convnet([14], [{"conv": 16, "f": 5}]), [14])[0] == (16, 10)
    volume = [{"conv": 16, "f": 5}, {"conv": 32, "f": 5}]
    assert shapes(convnet([1, 14, 14, 14], volume), [1, 14, 14, 14])[:2] == [(16, 10, 10, 10), (32, 6, 6, 6)]


def test_growing_layers_grow_as_declared() -> None:
    layers = [
        {"conv": 4, "f": 3, "p": "same"},
        {"max_pool": 2},
        {"upsample": 3},
        {"transposed": 5, "f": 2, "s": 2},
        {"upsample": 2, "mode": "linear"},
    ]
    found = [
        row.shape
        for row in measure(convnet([1, 8, 8], layers), [1, 8, 8])
        if row.kind in ("Upsample", "ConvTranspose2d")
    ]
    assert found == [(4, 12, 12), (5, 24, 24), (5, 48, 48)]


def test_unpooling_puts_each_maximum_back_where_it_was() -> None:
    model = convnet([2, 6, 6], [{"max_pool": 2}, {"unpool": 2}])
    x = torch.rand(3, 2, 6, 6) + 0.1
    kept = model.features[:2](x)
    assert torch.equal(kept[kept != 0], x[kept != 0]) and int((kept != 0).sum()) == 3 * 2 * 9
    assert torch.equal(F.max_pool2d(kept, 2), F.max_pool2d(x, 2))


def test_hand_set_filters_see_what_the_notes_say() -> None:
    """000, part 8, section 1: bright left, dark right gives 30 in the middle, for one channel."""
    image = torch.zeros(1, 1, 6, 6)
    image[..., :3] = 10
    names = ["vertical", "horizontal", "sobel", "scharr"]
    layer = {"conv": 4, "f": 3, "filters": names, "activation": "identity"}
    found = convnet([1, 6, 6], [layer]).features[0](image)[0]
    assert [float(each[1, 1]) for each in found] == [30, 0, 40, 160] and found[0].tolist() == [[0, 30, 30, 0]] * 4
    turned = convnet([1, 6, 6], [layer]).features[0](image.transpose(2, 3))[0]
    assert float(turned[1, 1, 1]) == 30 and float(turned[0, 1, 1]) == 0


def test_the_notes_more_complicated_image_has_10_and_minus_10_between() -> None:
    """000, part 8, section 1: bright and dark change places half way down: the small picture has a transition of +-10."""
    image = torch.zeros(1, 1, 6, 6)
    image[..., :3, :3], image[..., 3:, 3:] = 10, 10
    model = convnet([1, 6, 6], [{"conv": 1, "f": 3, "filters": ["horizontal"], "activation": "identity"}])
    across = [[0, 0, 0, 0], [30, 10, -10, -30], [30, 10, -10, -30], [0, 0, 0, 0]]
    assert model.features[0](image)[0, 0].tolist() == across
    either = convnet([1, 6, 6], [{"conv": 1, "f": 3, "filters": ["horizontal"], "activation": "absolute"}])
    assert either.features[:2](image)[0, 0].tolist() == [[abs(value) for value in row] for row in across]


@pytest.mark.parametrize("kind", ["sobel", "scharr"])
@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 135])
def test_a_turned_filter_answers_most_to_an_edge_of_its_own_direction(kind, degrees) -> None:
    angles = list(range(0, 180, 5))
    layer = {"conv": len(angles), "f": 3, "filters": [f"{kind}_{angle}" for angle in angles], "activation": "identity"}
    y, x = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    towards = np.cos(np.radians(degrees)) * -x + np.sin(np.radians(degrees)) * -y  # brighter to the left, and above
    found = convnet([1, 3, 3], [layer]).features[0](towards[None, None].float())[0, :, 0, 0]
    assert angles[int(found.argmax())] == degrees
    strength = 8 if kind == "sobel" else 32
    assert float(found.max()) == pytest.approx(strength, rel=1e-5)
    assert float(found[angles.index((degrees + 90) % 180)].abs()) < 1e-4


def test_sobel_of_90_degrees_is_the_horizontal_one_to_the_last_digit() -> None:
    model = convnet(
        [1, 6, 6], [{"conv": 3, "f": 3, "filters": ["sobel_90", "sobel_0", "sobel"], "activation": "identity"}]
    )
    turned, plain, same = model.features.conv1.weight[:, 0].tolist()
    assert turned == [[1, 2, 1], [0, 0, 0], [-1, -2, -1]] and plain == same == [[1, 0, -1], [2, 0, -2], [1, 0, -1]]


def test_the_red_filter_sees_the_first_channel_alone() -> None:
    model = convnet([3, 6, 6], [{"conv": 1, "f": 3, "filters": ["red"], "activation": "identity"}])
    red, green = torch.zeros(1, 3, 6, 6), torch.zeros(1, 3, 6, 6)
    red[:, 0, :, :3], green[:, 1, :, :3] = 10, 10
    assert float(model.features(red).max()) == 30 and float(model.features(green).abs().max()) == 0


def test_hand_set_filters_stay_through_initialisation_and_learn_only_if_told() -> None:
    from crucible.initializers import he

    for learn in (False, True):
        model = convnet([1, 6, 6], [{"conv": 1, "f": 3, "filters": ["sobel"], "learn": learn}])
        he()(model)
        assert model.features.conv1.weight[0, 0, 1].tolist() == [2, 0, -2]
        assert model.features.conv1.weight.requires_grad is learn


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"cnov": 4, "f": 3}], "there is no layer 'cnov'"),
        ([{"conv": 4, "f": 3, "stride": 2}], "there is no key 'stride'"),
        ([{"conv": 4}], r"model.layers.0.f\n +what: is missing"),
        ([{"conv": 0, "f": 3}], "greater than or equal to 1"),
        ([{"conv": 4, "f": 4, "p": "same"}], "same padding of f=4 is no whole number"),
        ([{"fc": 4}], r"fc takes a vector, not \[1, 8, 8\]"),
        (["flatten", {"conv": 4, "f": 3}], r"conv takes maps .*not \[64\]"),
        ([{"unpool": 2}], "no max_pool before it"),
        ([{"conv": 2, "f": 3, "p": "same"}, {"max_pool": 3}, {"unpool": 3}], "no max_pool before it"),
        ([{"conv": 2, "f": 3, "filters": ["sobel"]}], "1 hand-set filters of 3x3 for a layer of"),
        ([{"conv": 9, "f": 9}], "sides of 9 or more"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_say_why(layers, message) -> None:
    with pytest.raises(Refusal, match=message):
        convnet([1, 8, 8], layers)


def test_local_response_normalisation_is_the_papers_formula() -> None:
    """b = a / (2 + 1e-4 sum a^2)^0.75 over five neighbouring channels (Krizhevsky et al., 2012, section 3.3)."""
    torch.manual_seed(0)
    a = 100 * torch.randn(1, 8, 2, 2, dtype=torch.float64)
    net = stack(parse([{"local_response_norm": 5}]), (8, 2, 2), Style())
    sums = [(a[:, max(0, i - 2) : i + 3] ** 2).sum(dim=1) for i in range(8)]
    assert torch.allclose(net(a), a / (2 + 1e-4 * torch.stack(sums, dim=1)) ** 0.75)


def test_a_transposed_convolution_starts_at_the_scale_of_its_inputs() -> None:
    from crucible.initializers import inverse

    torch.manual_seed(0)
    model = convnet([64, 8, 8], [{"transposed": 64, "f": 4, "s": 2, "p": 1, "activation": "identity"}])
    inverse()(model)
    assert abs(float(model.features[:1](torch.randn(16, 64, 8, 8))[:, :, 2:-2, 2:-2].std()) - 1) < 0.05


# --- storage order, compiled code


@pytest.mark.parametrize("name", ["lenet5", "resnet", "inception", "convnet", "vgg16"])
def test_channels_last_computes_the_same(name: str) -> None:
    from conftest import composed

    from crucible.inference.saved_run import on_device
    from crucible.instantiate import build

    x, label = torch.randn(8, 1, 32, 32), torch.arange(8) % 3
    task = Classification(card_of((1, 32, 32)), monitor="f1", goal="maximize", tolerance=0.02)
    found = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        model = on_device(
            build("model", composed(f"model={name}")["model"], [1, 32, 32], 3),
            torch.device("cpu"),
            channels_last=channels_last,
        )
        assert (
            any(
                p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in model.parameters()
            )
            is channels_last
        )
        torch.manual_seed(1)
        losses = task.losses(model.train(), {"x": x, "label": label})
        sum(losses.values()).backward()
        found.append((losses, model.head.weight.grad))
    for one, other in zip(found[0][0].values(), found[1][0].values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_training_gives_the_same_numbers_within_rounding(command) -> None:
    import json
    from pathlib import Path

    found = {}
    for compiled in ("true", "false"):
        own = [
            "model=lenet5",
            "trainer.total_epochs=2",
            "tracking=none",
            f"trainer.compile={compiled}",
            f"hydra.run.dir={compiled}",
        ]
        done = command("train", *own)
        assert done.code == 0, done.err
        found[compiled] = json.loads(Path(compiled, "train.json").read_text())
    for split in ("train", "dev"):
        assert found["true"][split]["loss"] == pytest.approx(found["false"][split]["loss"], rel=1e-4)
    header = Path("true", "curves.csv").read_text().splitlines()[0]
    assert header == Path("false", "curves.csv").read_text().splitlines()[0]  # the layers are still looked at


def test_without_a_compiler_compiling_is_refused(command, monkeypatch) -> None:
    monkeypatch.setattr("crucible.training.device.shutil.which", lambda name: None)
    done = command("train", "trainer.compile=true", "tracking=none")
    assert done.code == 2 and "there is no C++ compiler" in done.err


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("{max_pool: 2, p: 2}", "padding of 2 is more than half"),
        ("flatten, {local_response_norm: 5}", "local_response_norm takes maps"),
        ("{max_pool: 3, s: 2, p: 1}, {unpool: 2}", "only a max_pool without overlap"),
    ],
)  # fmt: skip
def test_layers_that_torch_would_not_run_are_refused_before_anything_is_kept(command, layers, message) -> None:
    from pathlib import Path

    done = command("train", "model=convnet", f"model.layers=[{layers}]", "tracking=none")
    assert done.code == 2 and message in done.err and not [*Path().iterdir()], done.err


def test_volumes_are_trained_judged_and_deterministic(command, tmp_path) -> None:
    import json

    import numpy as np

    y = np.arange(60) % 2
    x = np.random.default_rng(0).integers(0, 99, (60, 1, 6, 6, 6)) + 90 * y[:, None, None, None, None]
    np.savez(tmp_path / "data.npz", x=x.astype(np.uint8), y=y)
    layers = "model.layers=[{conv: 2, f: 3, p: same}, {max_pool: 2}, {unpool: 2}, {max_pool: 3}]"
    own = [
        "data=npz",
        "data.path=data.npz",
        "model=convnet",
        layers,
        "trainer.total_epochs=40",
        "optimizer.lr=0.03",
        "tracking=none",
    ]
    assert command("train", *own, "trainer.deterministic=true", "hydra.run.dir=run").code == 0
    done = command("evaluate", "run=run", "report=full")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run/metrics.json").read_text())["test"]["accuracy"] > 0.9
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert card["feature_shape"] == [1, 6, 6, 6] and len(card["normalize"]["mean"]) == 1
    torch.use_deterministic_algorithms(False)


def test_the_weights_of_the_1998_network_are_penalised_and_initialised_and_its_biases_not() -> None:
    from crucible.initializers import zeros
    from crucible.regularizers import L2

    model = LeNet5([1, 32, 32], 3, variant=1998, keep_prob=1.0)
    penalised = {name for name, p in model.named_parameters() if p.dim() > 1}
    assert penalised == {
        f"{name}.weight" for name in ("features.conv1", "features.conv2", "features.fc1", "features.fc2", "head")
    }
    zeros()(model)
    task = Classification(card_of((1, 32, 32)), monitor="f1", goal="maximize", tolerance=0.02)
    losses = L2(task, 10, strength=1.0).losses(model, {"x": torch.zeros(2, 1, 32, 32), "label": torch.tensor([0, 1])})
    assert float(losses["penalty"].detach()) == 0


@pytest.mark.parametrize("make", [Block, Bottleneck])
def test_a_residual_block_that_has_learned_nothing_passes_its_input_on(make) -> None:
    """With every filter at zero what is left is the shortcut (He et al., 2016, section 3.1); a plain block gives nothing."""
    x = torch.randn(2, 8, 5, 5)
    for residual in (True, False):
        block = make(8, 8 // make.expansion, 1, residual=residual).eval()
        for conv in (block.conv1, block.conv2, getattr(block, "conv3", block.conv2)):
            nn.init.zeros_(conv.weight)
        assert torch.allclose(block(x), x.relu() if residual else torch.zeros_like(x))


def test_histograms_of_gradients_are_those_of_loops_and_turn_with_the_picture() -> None:
    model = Hog([2, 12, 12], 3, bins=8, cell=6, keep_prob=1.0)
    x = torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    grey = x.mean(dim=1)[0].double().numpy()
    offsets = np.arange(-2, 3)
    wanted = np.zeros((8, 2, 2))
    for k in range(8):
        towards = np.cos(k * np.pi / 4) * offsets[None, :] + np.sin(k * np.pi / 4) * offsets[:, None]
        weights = towards * np.exp(-(offsets[None, :] ** 2 + offsets[:, None] ** 2) / 2)
        edges = np.maximum(ndimage.correlate(grey, weights / np.abs(weights).sum(), mode="constant"), 0)
        wanted[k] = [[edges[i : i + 6, j : j + 6].mean() for j in (0, 6)] for i in (0, 6)]
    wanted = np.sqrt(np.maximum(wanted / (np.sqrt((wanted**2).sum(axis=0)) + 0.05), 1e-6))
    found = model.histograms(x)[0]
    assert found.numpy() == pytest.approx(wanted, abs=1e-5)
    turned = model.histograms(x.rot90(1, dims=(2, 3)))[
        0
    ]  # counter-clockwise: what pointed right points up, two bins back
    assert torch.allclose(turned, found.rot90(1, dims=(1, 2)).roll(-2, dims=0), atol=1e-5)
    assert [name for name, _ in model.named_parameters()] == ["head.weight", "head.bias"]


def test_cells_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refusal, match=r"model\.cell"):
        Hog([1, 8, 5], 3, bins=8, cell=6, keep_prob=1.0)
