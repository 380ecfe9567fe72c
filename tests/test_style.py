"""Style transfer: costs against the notes' sums, features against plain convolutions, and a painting from start to report."""

import hashlib
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import card_of, composed
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from crucible.data.readers import pictures
from crucible.errors import Refusal
from crucible.losses import content_cost, gram, style_cost, total_variation
from crucible.models.canvas import Canvas
from crucible.models.contracts import Painter
from crucible.models.features import _spanned, features_of
from crucible.optim.optimizers import lbfgs
from crucible.tasks.style import Style

SMALL = ("experiment=style", "data.reader.size=48", "data.reader.steps=4", "model.levels=2", "model.steps_per_level=4",
         "trainer.total_epochs=4", "trainer.threads=1", "tracking=none")  # fmt: skip
SCALED = {"kind": "scale", "mean": [0.0] * 6, "std": [255.0] * 6}


def painting_card(height: int = 12, width: int = 16):
    return card_of((6, height, width), classes=1, **SCALED)


def style_task(**settings) -> Style:
    given = {"monitor": "loss", "goal": "minimize", "tolerance": 0.02, "features": "random", "content_layer": None,
             "style_layers": None, "style_weights": None, "alpha": 1.0, "beta": 1e4, "variation": 0.0}  # fmt: skip
    return Style(painting_card(), **{**given, **settings})


def test_costs_are_the_sums_of_the_notes() -> None:
    draw = torch.Generator().manual_seed(0)
    painted, other = torch.randn(2, 2, 3, 4, 5, generator=draw, dtype=torch.float64)
    (c, h, w), places = painted.shape[1:], list(product(range(4), range(5)))
    for b in range(2):
        matrix = [
            [[sum(float(maps[b, k, i, j] * maps[b, m, i, j]) for i, j in places) for m in range(c)] for k in range(c)]
            for maps in (painted, other)
        ]
        assert np.allclose(gram(painted)[b], matrix[0], atol=1e-12)
        squares = sum((matrix[0][k][m] - matrix[1][k][m]) ** 2 for k in range(c) for m in range(c))
        assert float(style_cost(painted, gram(other))[b]) == pytest.approx(squares / (2 * h * w * c) ** 2)
        content = sum(float(painted[b, k, i, j] - other[b, k, i, j]) ** 2 for k in range(c) for i, j in places) / 2
        assert float(content_cost(painted, other)[b]) == pytest.approx(content)
        rough = sum(
            (painted[b, k, i + 1, j] - painted[b, k, i, j]) ** 2
            for k in range(c)
            for i in range(h - 1)
            for j in range(w)
        )
        rough += sum(
            (painted[b, k, i, j + 1] - painted[b, k, i, j]) ** 2
            for k in range(c)
            for i in range(h)
            for j in range(w - 1)
        )
        assert float(total_variation(painted)[b]) == pytest.approx(float(rough))


@pytest.mark.parametrize("start", ["content", "noise"])
def test_the_gradient_of_the_picture_is_the_two_sided_difference(start) -> None:
    torch.manual_seed(0)
    task = style_task(variation=0.3, style_weights=[1.0, 0.0, 2.0, 0.5])
    task._features.double()
    model = Canvas((6, 12, 16), 3, start=start, levels=1, steps_per_level=1).double()
    batch = {"x": torch.rand(1, 6, 12, 16, dtype=torch.float64)}
    task.losses(model, batch)["loss"].backward()
    [picture] = model.parameters()
    flat = picture.detach().view(-1)
    for i in range(0, flat.numel(), 97):
        sides = []
        for step in (1e-5, -1e-5):
            flat[i] += step
            sides.append(float(task.losses(model, batch)["loss"]))
            flat[i] -= step
        assert float(picture.grad.view(-1)[i]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-6)


def test_the_loss_is_alpha_content_and_beta_style_over_layers_and_the_content_as_it_is_costs_style_alone() -> None:
    x, painted = torch.rand(1, 6, 12, 16), torch.rand(1, 3, 12, 16)
    one = [style_task(style_layers=[name]).costs(painted, x)["style"] for name in ("conv1_1", "conv3_1")]
    both = style_task(style_layers=["conv1_1", "conv3_1"], style_weights=[0.5, 2.0], alpha=3.0, beta=7.0, variation=0.1)
    found = both.costs(painted, x)
    assert float(found["style"]) == pytest.approx(float(0.5 * one[0] + 2 * one[1]), rel=1e-5)
    wanted = 3 * found["content"] + 7 * found["style"] + 0.1 * found["variation"]
    assert float(found["loss"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(both.untouched(x)) == pytest.approx(float(both.costs(x[:, :3], x)["loss"]), rel=1e-5)
    assert float(both.costs(x[:, :3], x)["content"]) == 0
    assert float(both.untouched(torch.cat([x[:, 3:], x[:, 3:]], dim=1))) == pytest.approx(
        0.1 * float(total_variation(x[:, 3:])), rel=1e-4
    )


def test_other_pictures_of_the_same_size_have_targets_of_their_own() -> None:
    task, first, second, painted = (
        style_task(),
        torch.rand(1, 6, 12, 16),
        torch.rand(1, 6, 12, 16),
        torch.rand(1, 3, 12, 16),
    )
    before = task.costs(painted, second)["loss"]
    task.costs(painted, first)
    assert torch.equal(task.costs(painted, second)["loss"], before)
    assert not torch.equal(task.costs(painted, first)["loss"], before)


VGG_16 = (64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512)
VGG_19 = (64, 64, "P", 128, 128, "P", 256, 256, 256, 256, "P", 512, 512, 512, 512, "P", 512, 512, 512, 512)


@pytest.mark.parametrize("layout", [VGG_16, VGG_19])
def test_a_file_of_vgg_weights_is_read_under_the_usual_names(tmp_path, layout) -> None:
    layers, channels = [], 3
    for each in layout:
        layers += [nn.AvgPool2d(2, 2)] if each == "P" else [nn.Conv2d(channels, each, 3, padding=1), nn.ReLU()]
        channels = channels if each == "P" else each
    plain = nn.Sequential(*layers)
    weights = {f"features.{name}": value.half() for name, value in plain.state_dict().items()}
    save_file({**weights, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.safetensors")
    plain.load_state_dict({name: value.half().float() for name, value in plain.state_dict().items()})
    found = features_of(str(tmp_path / "vgg.safetensors"))
    assert found.middle == "conv4_2" and found.usual == [f"conv{i}_1" for i in range(1, 6)]
    picture = torch.rand(1, 3, 32, 40)
    mean, deviation = (
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    )
    x, stage, place, wanted = (picture - mean) / deviation, 1, 0, {}
    for layer in plain:
        x = layer(x)
        if isinstance(layer, nn.AvgPool2d):
            stage, place = stage + 1, 0
        if isinstance(layer, nn.ReLU):
            place += 1
            wanted[f"conv{stage}_{place}"] = x
    assert list(wanted) == found.names
    for name, maps in found(picture, found.names).items():
        assert torch.allclose(maps, wanted[name], atol=1e-5)


def test_what_holds_no_vgg_weights_is_refused(tmp_path) -> None:
    save_file({"features.0.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "small.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x80\x04K\x01.")
    for name, what in (
        ("small", "neither VGG-16 nor VGG-19"),
        ("broken", "no safetensors file"),
        ("none", "there is no"),
    ):
        with pytest.raises(Refusal, match=what):
            features_of(str(tmp_path / f"{name}.safetensors"))


def test_the_layers_of_a_run_are_its_own(command) -> None:
    assert (
        command(
            "train",
            "model=convnet",
            "model.batch_norm=false",
            "tracking=none",
            "trainer.total_epochs=1",
            "hydra.run.dir=run",
        ).code
        == 0
    )
    found, weights = features_of("run"), load_file("run/weights.safetensors")
    card = json.loads(Path("run/card.json").read_text())
    [mean], [std] = card["normalize"]["mean"], card["normalize"]["std"]
    picture = torch.rand(1, 3, 9, 11)
    grey = sum(share * picture[:, i : i + 1] for i, share in enumerate((0.299, 0.587, 0.114)))
    x = (mean - 2 * std + 4 * std * grey - mean) / std  # 0 and 1 are two deviations below and above the mean
    name = next(key for key in weights if key.endswith("weight"))
    first = torch.relu(nn.functional.conv2d(x, weights[name], weights[name.replace("weight", "bias")], padding="same"))
    assert torch.allclose(found(picture, ["unit1"])["unit1"], first, atol=1e-5)
    assert not any(each.requires_grad for each in found.parameters())
    with pytest.raises(Refusal, match="no layer 'conv1_1'"):
        found.require("task.content_layer", ["conv1_1"])


def test_features_of_a_run_are_pinned_by_their_weights(command) -> None:
    small = ("model=convnet", "tracking=none", "trainer.total_epochs=1", "hydra.run.dir=seen")
    assert command("train", *small).code == 0
    Path("outputs").mkdir(exist_ok=True)
    done = command("train", *SMALL, "model.levels=1", "task.features=seen", "hydra.run.dir=run")
    assert done.code == 0, done.err
    named = yaml.safe_load(Path("run/config.yaml").read_text())["task"]["features"]
    assert named == f"seen@{hashlib.sha256(Path('seen/weights.safetensors').read_bytes()).hexdigest()[:12]}"
    assert command("evaluate", "run=run", "report=none").code == 0
    assert command("train", *small, "seed=1").code == 0
    done = command("evaluate", "run=run", "report=none")
    assert done.code == 2 and "its weights are others by now" in done.err, done.err


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("standard", 2 - 2 * 3, 2 + 2 * 3), ("scale", 0, 255), ("none", 0, 255)]
)
def test_black_and_white_are_what_the_run_has_seen(kind, low, high) -> None:
    mean, std = {"standard": ([2.0], [3.0]), "scale": ([0.0], [255.0]), "none": ([0.0], [1.0])}[kind]
    card = replace(card_of((1, 8, 8), kind=kind, mean=mean, std=std), dtype="uint8")
    lowest, span = _spanned(card)
    assert float(lowest) == low and float(lowest + span) == high


def test_pictures_that_are_too_small_for_the_features_are_refused_with_what_helps() -> None:
    task = style_task(content_layer="conv4_2")
    with pytest.raises(Refusal, match="pictures of 6 x 8, the smallest that are painted, are too small for conv4_2"):
        task.attach(Painted((6, 8)))
    assert isinstance(style_task(content_layer="conv1_1", style_layers=["conv1_2"]).attach(Painted((6, 8))), Painted)


class Painted(Painter):
    """Paints nothing, in one size."""

    def __init__(self, smallest: tuple[int, int]) -> None:
        super().__init__()
        self.smallest = smallest


def test_a_training_takes_away_its_own_frames_alone(command) -> None:
    Path("run/progress").mkdir(parents=True)
    for name in ("00099.png", "mine.png", "7.png"):
        Path("run/progress", name).write_bytes(b"")
    assert command("train", "tracking=none", "trainer.total_epochs=1", "hydra.run.dir=run").code == 0
    assert sorted(each.name for each in Path("run/progress").iterdir()) == ["7.png", "mine.png"]


@pytest.mark.parametrize("channels_last", [False, True])
def test_lbfgs_is_torchs_without_a_closure_and_solves_least_squares(channels_last) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(30, 24, generator=draw), torch.randn(30, generator=draw)
    form = torch.channels_last if channels_last else torch.contiguous_format
    ours, theirs = (nn.Parameter(torch.zeros(1, 2, 3, 4).contiguous(memory_format=form)) for _ in range(2))
    first = lbfgs([ours], lr=0.5, history=10)
    second = torch.optim.LBFGS([theirs], lr=0.5, max_iter=1, history_size=10, tolerance_grad=0, tolerance_change=0)

    def loss(w: nn.Parameter) -> torch.Tensor:
        return (a @ w.reshape(-1) - b).pow(2).mean()

    def closure() -> torch.Tensor:
        second.zero_grad()
        value = loss(theirs)
        value.backward()
        theirs.grad = theirs.grad.contiguous()
        return value

    for step in range(150):
        ours.grad = None
        loss(ours).backward()
        first.step()
        second.step(closure)
        if step == 60:  # what is saved goes on as if nothing had happened
            saved, first = first.state_dict(), lbfgs([ours], lr=0.5, history=10)
            first.load_state_dict(saved)
    assert torch.equal(ours, theirs)
    assert torch.allclose(ours.detach().reshape(-1), torch.linalg.lstsq(a, b).solution, atol=1e-3)


def test_lbfgs_begins_anew_where_another_parameter_joins() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(20, 6, generator=draw), torch.randn(20, generator=draw)
    first, later = nn.Parameter(torch.zeros(6)), nn.Parameter(torch.zeros(6))

    def steps(optimizer, learning, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (a @ sum(learning) - b).pow(2).mean().backward()
            optimizer.step()

    ours = lbfgs([first, later], lr=0.5, history=10)
    steps(ours, [first], 5)
    copies = [nn.Parameter(each.detach().clone()) for each in (first, later)]
    steps(ours, [first, later], 5)
    steps(lbfgs(copies, lr=0.5, history=10), copies, 5)
    assert torch.equal(first, copies[0]) and torch.equal(later, copies[1])


def test_lbfgs_has_one_rate() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(2))]}, {"params": [nn.Parameter(torch.zeros(2))]}]
    with pytest.raises(Refusal, match="different rates"):
        lbfgs(groups, lr=1.0, history=10)


def test_a_canvas_starts_as_its_content_or_as_noise_and_grows_level_by_level() -> None:
    x = torch.rand(2, 6, 20, 33)
    model = Canvas((6, 20, 33), 3, start="content", levels=2, steps_per_level=3)
    assert torch.allclose(model.eval()(x), x[:, :3], atol=1 / 250)
    model.train()
    sizes = [tuple(model(x).shape) for _ in range(4)]
    assert sizes == [(2, 3, 10, 16)] * 3 + [(2, 3, 20, 33)]
    torch.manual_seed(0)
    noisy = Canvas((6, 20, 33), 3, start="noise", levels=1, steps_per_level=1).eval()
    assert float(noisy(x).std()) > 0.1 and float(noisy(x).min()) >= 0 and float(noisy(x).max()) <= 1
    with pytest.raises(Refusal, match="coarsest of 3 levels"):
        Canvas((6, 31, 40), 3, start="content", levels=3, steps_per_level=1)


def write(path: Path, width: int, height: int, mode: str = "RGB") -> Path:
    rng = np.random.default_rng(width)
    shape = (height, width) if mode == "L" else (height, width, 3)
    Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(path)
    return path


def test_a_style_of_any_shape_covers_the_content(tmp_path) -> None:
    content = write(tmp_path / "a.png", 256, 171)
    for width, height in ((474, 1616), (1, 1), (999, 3), (171, 256)):
        style = write(tmp_path / "b.png", width, height)
        source = pictures.pair(None, content=str(content), style=str(style), size=256, steps=1)
        assert next(source.pools["dev"].chunks()).shape == (1, 6, 171, 256)


def test_two_pictures_are_brought_to_the_shape_of_the_content(tmp_path) -> None:
    content, style = write(tmp_path / "a.png", 80, 40), write(tmp_path / "b.png", 30, 90, "L")
    source = pictures.pair(None, content=str(content), style=str(style), size=40, steps=3)
    chunks = {name: np.concatenate(list(pool.chunks())) for name, pool in source.pools.items()}
    assert {name: chunk.shape for name, chunk in chunks.items()} == {
        "train": (3, 6, 20, 40), "dev": (1, 6, 20, 40), "test": (1, 6, 20, 40)
    }  # fmt: skip
    middle = Image.open(style).convert("RGB").crop((0, 37, 30, 53))  # 30 x 15 of 30 x 90, to within a pixel
    wanted = np.asarray(middle.resize((40, 20), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert np.abs(chunks["dev"][0, 3:].mean() - wanted.mean()) < 5
    shrunk = np.asarray(Image.open(content).resize((40, 20), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert np.array_equal(chunks["train"][2, :3], shrunk)
    with pytest.raises(Refusal, match="there is no picture style"):
        write(tmp_path / "content.png", 20, 20)
        pictures.pair(tmp_path, content=None, style=None, size=40, steps=3)


def test_a_picture_is_painted_evaluated_and_drawn(command) -> None:
    assert (done := command("train", *SMALL, "hydra.run.dir=run")).code == 0, done.err
    assert "mean nothing here" in done.out and "avoidable bias and variance" in done.out
    assert "Only the eye tells" in done.out or "train longer" in done.out
    assert (done := command("evaluate", "run=run")).code == 0, done.err
    numbers = json.loads(Path("run/metrics.json").read_text())
    for split in ("train", "dev", "test"):
        assert {"loss", "content", "style", "variation", "error"} <= set(numbers[split])
        assert 0 < numbers[split]["error"] < 0.6
    assert numbers["gap"] == {"avoidable_bias": None, "variance": None, "dev_test": None}
    frames = sorted(each.name for each in Path("run/progress").iterdir())
    assert frames == [f"{epoch:05d}.png" for epoch in range(1, 5)]
    assert Image.open("run/progress/00004.png").size == (48, 32)
    assert {"painting.png", "filmstrip.png"} <= {each.name for each in Path("run/figures").iterdir()}
    assert not {"gap.png", "confusion.png"} & {each.name for each in Path("run/figures").iterdir()}
    dev = [
        event["values"]["dev/loss"]
        for event in map(json.loads, Path("run/journal.jsonl").read_text().splitlines())
        if event["kind"] == "metrics"
    ]
    assert dev == sorted(dev, reverse=True)
    done = command("train", *SMALL, "transfer=from_run", "transfer.source=run", "hydra.run.dir=next")
    assert done.code == 2 and "no linear layer" in done.err, done.err
    done = command("train", *SMALL, "trainer.gradient_check=true", "regularizer=l2", "hydra.run.dir=checked")
    assert done.code == 0 and "gradient check: largest relative difference" in done.out, done.err


@pytest.mark.parametrize("words", [(), ("optimizer=adam", "optimizer.lr=0.05", "model.start=noise")])
def test_killed_between_two_epochs_and_resumed_it_has_the_same_bits(command, train_until_killed, words) -> None:
    words = (*SMALL, *words, "trainer.checkpoint_every=1")
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    train_until_killed(*words, "hydra.run.dir=part")
    assert command("train", "resume=part").code == 0
    for name in ("weights.safetensors", "progress/00004.png"):
        assert Path("whole", name).read_bytes() == Path("part", name).read_bytes()
    assert command("train", *words, "seed=1", "hydra.run.dir=other").code == 0
    same = Path("other/weights.safetensors").read_bytes() == Path("whole/weights.safetensors").read_bytes()
    assert same == ("model.start=noise" not in words)  # from the content nothing is drawn


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("task.content_layer=conv9_9",), "no layer 'conv9_9'"),
        (("task.style_layers=[conv1_1,conv1_7]",), "no layer 'conv1_7'"),
        (("task.style_weights=[1,2]",), "2 weights of 4 layers"),
        (("task.style_layers=[]",), "no layer to compare the style by"),
        (("data.normalize=standard",), "values from 0 to 1"),
        (("task.features=nowhere",), "there is no nowhere"),
        (("data.reader.content=nowhere.png",), "does not exist"),
        (("augment=light",), "must stay as they are"),
        (("model.levels=9",), "coarsest of 9 levels"),
        (("task.goal=maximize",), "makes models worse"),
    ],
)
def test_what_cannot_be_painted_is_refused(command, words, what) -> None:
    done = command("train", *SMALL, *words, "hydra.run.dir=run")
    assert done.code == 2 and what in done.err, done.err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("model=canvas",), "canvas paints from two pictures"),
        (("task=style", "model=canvas"), "content and style"),
        (("data=style_pair", "data.reader.size=32", "task=style"), "model=canvas"),
    ],
)
def test_a_canvas_a_style_and_two_pictures_belong_together(command, words, what) -> None:
    done = command("train", *words, "tracking=none", "hydra.run.dir=run")
    assert done.code == 2 and what in done.err, done.err


def test_the_choices_are_declared() -> None:
    cfg = composed("experiment=style")
    assert cfg["task"]["_target_"].endswith("Style") and cfg["model"]["_target_"].endswith("Canvas")
