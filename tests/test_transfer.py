"""What comes from another run, what is frozen, how fast old layers learn, and features that are computed once."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, card_of, composed, toy_npz
from safetensors.torch import load_file, save_file

from crucible.errors import Refusal
from crucible.instantiate import build
from crucible.models.inception import Inception
from crucible.models.lenet5 import LeNet5
from crucible.models.mlp import MLP
from crucible.models.resnet import ResNet
from crucible.models.yolo import Yolo
from crucible.transfer import FromFile, FromRun, blocks, head, pretrained

QUICK = ["model=resnet", "model.width=4", "trainer.total_epochs=4", "tracking=none"]
TOY = ["data=npz", "data.path=data.npz", *QUICK]
LATEST = Path("outputs/latest")


def resnet(outputs: int = 3, width: int = 4) -> ResNet:
    return ResNet([1, 8, 8], outputs, depth=8, width=width, keep_prob=0.5)


def mlp(**keys) -> MLP:
    return MLP([1, 4, 4], 3, layers=[6, 5], activation="relu", keep_prob=1.0, batch_norm=False)


@pytest.fixture
def source(tmp_path):
    """A file of weights without a card, of a network for five classes."""
    torch.manual_seed(1)
    save_file(resnet(5).state_dict(), tmp_path / "old.safetensors")
    return pretrained(tmp_path / "old.safetensors")


def start(source, freeze="all", old_rate=1.0, cache="auto", card=None) -> FromRun:
    return FromRun(source, card or card_of((1, 8, 8)), source="x", freeze=freeze, old_rate=old_rate, cache=cache)


def test_old_layers_come_from_the_source_and_the_head_starts_anew(source) -> None:
    model, old = resnet(), load_file(source.file)
    drawn = {name: p.clone() for name, p in model.state_dict().items() if name.startswith("head")}
    start(source)(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, drawn[name] if name in drawn else old[name]), name


def test_the_head_is_kept_where_the_classes_are_the_same(source, tmp_path) -> None:
    card = card_of((1, 8, 8), classes=5)
    card.write(tmp_path / "card.json")
    old, model = load_file(source.file), resnet(5)
    start(pretrained(tmp_path / "old.safetensors"), card=card)(model)
    assert torch.equal(model.head.weight, old["head.weight"])
    other = card_of((1, 8, 8), classes=5)
    other.classes[0] = "another"
    model = resnet(5)
    start(pretrained(tmp_path / "old.safetensors"), card=other)(model)
    assert not torch.equal(model.head.weight, old["head.weight"])


@pytest.mark.parametrize(
    ("model", "count"),
    [(resnet(), 4), (mlp(), 2), (LeNet5([1, 28, 28], 3, variant="notes", keep_prob=0.5), 4),
     (Inception([1, 16, 16], 3, batch_norm=True, keep_prob=1.0, auxiliary=0.3), 12)],
)  # fmt: skip
def test_blocks_are_layers_with_weights_and_what_follows_them(model, count) -> None:
    found = blocks(model)
    assert len(found) == count  # a stem of one convolution and three blocks; two layers; four; three and nine
    inside = {id(p) for block in found for module in block for p in module.parameters()}
    outside = {name for name, p in model.named_parameters() if id(p) not in inside}
    assert {name.split(".")[0] for name in outside} <= {"head", "heads"} and head(model)[0] == "head"


@pytest.mark.parametrize(("freeze", "still"), [("none", 0), (1, 1), (3, 3), ("all", 4)])
def test_so_many_blocks_are_frozen(source, freeze, still) -> None:
    model = resnet()
    start(source, freeze)(model)
    frozen = [all(not p.requires_grad for m in block for p in m.parameters()) for block in blocks(model)]
    assert frozen == [True] * still + [False] * (4 - still) and model.head.weight.requires_grad


def test_frozen_layers_stay_to_the_bit_batch_norm_and_dropout_too(source) -> None:
    model, x = resnet(), torch.randn(8, 1, 8, 8)
    transfer = start(source)
    transfer(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(transfer.groups(model), lr=0.1)
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        model(x).pow(2).sum().backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) is not name.startswith("head"), name
    assert torch.equal(model(x), model(x))  # no unit is dropped


def test_old_layers_learn_with_their_share_of_the_rate(command, source) -> None:
    model = resnet()
    transfer = start(source, "none", old_rate=0.1)
    transfer(model)
    new, old = transfer.groups(model)
    assert {id(p) for p in new["params"]} == {id(p) for p in model.head.parameters()} and old["share"] == 0.1
    assert len(new["params"]) + len(old["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw"]
)
def test_every_optimizer_takes_groups_with_rates_of_their_own(optimizer) -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    node = composed(f"optimizer={optimizer}")["optimizer"]
    made = build("optimizer", node, [{"params": [a]}, {"params": [b], "share": 0.1}])
    for group in made.param_groups:
        group["lr"] *= group.pop("share", 1.0)
    a.grad, b.grad = torch.full((3, 2), 0.3), torch.full((3, 2), 0.3)
    made.step()
    assert torch.allclose(1 - b, 0.1 * (1 - a), rtol=1e-3)


def test_the_head_trained_on_cached_features_is_the_one_trained_without(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    assert command("train", *QUICK, "trainer.total_epochs=2", "hydra.run.dir=old").code == 0
    found = {}
    for cache in ("auto", "true", "false"):
        own = ["transfer=from_run", "transfer.source=old", f"transfer.cache={cache}", f"hydra.run.dir={cache}"]
        done = command("train", *TOY, *own, "optimizer=adam", "regularizer=l2", "trainer.total_epochs=12")
        assert done.code == 0, done.err
        found[cache] = load_file(tmp_path / cache / "weights.safetensors")
    for name, value in found["false"].items():
        assert torch.allclose(value.float(), found["auto"][name].float(), atol=1e-6), name
    assert all(torch.equal(value, found["true"][name]) for name, value in found["auto"].items())
    reported = [json.loads((tmp_path / cache / "train.json").read_text()) for cache in ("auto", "false")]
    assert reported[0]["dev"]["loss"] == pytest.approx(reported[1]["dev"]["loss"], abs=1e-6)
    assert reported[0]["parameters"] == reported[1]["parameters"]  # the whole network is what was trained


def test_nothing_is_cached_where_images_change(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    command("train", *QUICK, "hydra.run.dir=old")
    own = [*TOY, "transfer=from_run", "transfer.source=old"]
    assert command("train", *own, "augment=light").code == 0
    done = command("train", *own, "augment=light", "transfer.cache=true", "hydra.run.dir=refused")
    assert done.code == 2 and "the features change from step to step" in done.err
    done = command("train", *own, "transfer.freeze=1", "transfer.cache=true")
    assert done.code == 2 and not (tmp_path / "refused").exists()


def test_a_resumed_transfer_gives_the_same_bytes_and_latest_means_what_it_meant(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    command("train", *QUICK)
    own = [
        "transfer=from_run",
        "transfer.source=latest",
        "transfer.freeze=2",
        "transfer.old_rate=0.3",
        "trainer.checkpoint_every=1",
    ]
    assert command("train", *TOY, *own).code == 0
    first, run = (LATEST / "weights.safetensors").read_bytes(), LATEST.resolve()
    events = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    config = (run / "config.yaml").read_text()
    assert "source: latest" not in config
    (run / "journal.jsonl").write_text("".join(e for e in events if json.loads(e)["kind"] != "end"))
    (run / "weights.safetensors").unlink()
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["epoch"] == 4
    itself = command("train", *TOY, *own, f"hydra.run.dir={run}")
    assert itself.code == 2 and "own folder" in itself.err
    done = command("train", f"resume={run}")
    assert done.code == 0, done.err
    assert (run / "weights.safetensors").read_bytes() == first


def test_a_new_rate_keeps_the_share_of_old_layers() -> None:
    from crucible.training.controls import set_starting_rate

    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    optimizer.step()
    schedule.step()
    set_starting_rate(schedule, 0.4)
    assert schedule.get_last_lr() == pytest.approx([0.2, 0.02]) and schedule.base_lrs == pytest.approx([0.4, 0.04])
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.01])


# --- sources


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"hello", "no safetensors file, or damaged"), (b"", "no safetensors file, or damaged"), (None, "does not exist")],
)
def test_a_source_that_is_none_is_refused(command, tmp_path, content, message) -> None:
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    if content is not None:
        (tmp_path / "w.safetensors").write_bytes(content)
    before = {*tmp_path.rglob("*")}
    done = command("train", *TOY, "transfer=from_run", "transfer.source=w.safetensors")
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert {*tmp_path.rglob("*")} == before


def test_a_pickle_is_never_opened(command, tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "run").mkdir, ())

    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    torch.save({"stem.0.weight": Evil()}, tmp_path / "w.pt")
    done = command("train", *TOY, "transfer=from_run", "transfer.source=w.pt")
    assert done.code == 2 and "no safetensors file" in done.err and not (tmp_path / "run").exists()


def test_other_networks_are_refused_with_what_differs(source) -> None:
    with pytest.raises(Refusal, match=r"'stem.0.weight' has shape \[4, 1, 3, 3\] there and \[8, 1, 3, 3\] here"):
        start(source).check(resnet(width=8), fixed=True)
    with pytest.raises(Refusal, match="is only"):
        start(source).check(mlp(), fixed=True)
    with pytest.raises(Refusal, match="before the head there are 4 blocks"):
        start(source, freeze=5).check(resnet(), fixed=True)
    with pytest.raises(Refusal, match="is missing"):
        start(None)


def test_other_channels_name_the_remedy(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 9, 9, 3)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 3)
    command("train", *QUICK, "hydra.run.dir=old")
    done = command("train", *TOY, "transfer=from_run", "transfer.source=old")
    assert done.code == 2 and "data.channels=1 data.image_size=[8,8]" in done.err


def test_a_run_that_has_not_finished_is_no_source(command, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    done = command("train", *QUICK, "transfer=from_run", "transfer.source=empty")
    assert done.code == 2 and "this folder holds no finished run" in done.err


def test_under_dvc_weights_must_stand_where_dvc_sees_them(command, tmp_path, monkeypatch) -> None:
    command("train", *QUICK, "hydra.run.dir=old")
    monkeypatch.setenv("DVC_STAGE", "train")
    done = command("train", *QUICK, "transfer=from_run", "transfer.source=old", "data.path=null")
    assert done.code == 2 and "a path under pretrained/" in done.err


@pytest.mark.slow
def test_a_run_in_mlflow_is_fetched_by_another_process(command, tmp_path) -> None:
    from crucible.tracking.mirror import fetch

    uri = f"sqlite:///{tmp_path}/m.db"
    assert command("train", *QUICK, "hydra.run.dir=old").code == 0
    words = [sys.executable, "-m", "crucible.tracking.mlflow", "old", "--uri", uri]
    assert (
        subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin"}).returncode == 0
    )
    run_id = json.loads((tmp_path / "old" / "mirror.json").read_text())[uri]["run_id"]
    register = f"import mlflow; c = mlflow.MlflowClient({uri!r}); mlflow.set_tracking_uri({uri!r}); v = mlflow.register_model('runs:/{run_id}/model', 'digits'); c.set_registered_model_alias('digits', 'best', v.version)"
    assert subprocess.run([sys.executable, "-c", register], cwd=tmp_path, capture_output=True).returncode == 0
    weights = (tmp_path / "old" / "weights.safetensors").read_bytes()
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    for name, words in (
        ("runs", f"runs:/{run_id}"),
        ("models", "models:/digits@best"),
        ("version", "models:/digits/1"),
    ):
        done = command(
            "train",
            *TOY,
            "transfer=from_run",
            f"transfer.source={words}",
            f"tracking.uri={uri}",
            "tracking=mlflow",
            f"hydra.run.dir={name}",
        )
        assert done.code == 0, done.err
        assert (tmp_path / "artifacts" / "transfer" / run_id / "weights.safetensors").read_bytes() == weights
    with pytest.raises(Refusal, match="no-such"):
        fetch("runs:/no-such", uri, tmp_path / "none")
    with pytest.raises(Refusal, match="there is no store"):
        fetch("runs:/x", f"sqlite:///{tmp_path}/other.db", tmp_path / "none")
    assert not (tmp_path / "other.db").exists()


def test_transfer_helps_where_examples_are_few(command, tmp_path) -> None:
    """Even and odd digits from 40 examples: features learned from all ten classes against a start from nothing."""
    x, y = np.load(ROOT / "data/digits/x.npy"), np.load(ROOT / "data/digits/y.npy")
    rows = np.random.default_rng(0).permutation(len(x))
    few, rest = rows[:60], rows[900:]
    np.savez(tmp_path / "few.npz", x_train=x[few], y_train=y[few] % 2, x_test=x[rest], y_test=y[rest] % 2)
    np.savez(tmp_path / "many.npz", x=x[rows[60:900]], y=y[rows[60:900]])
    command(
        "train",
        "data=npz",
        "data.path=many.npz",
        *QUICK,
        "model.width=8",
        "trainer.total_epochs=15",
        "hydra.run.dir=old",
    )
    own = [
        "data=npz",
        "data.path=few.npz",
        *QUICK,
        "model.width=8",
        "trainer.total_epochs=40",
        "optimizer.lr=0.01",
        "data.split.dev=0.3",
    ]
    scores = {}
    for name, more in (("with", ["transfer=from_run", "transfer.source=old"]), ("without", [])):
        assert command("train", *own, *more, f"hydra.run.dir={name}").code == 0
        command("evaluate", f"run={name}", "report=none")
        scores[name] = json.loads((tmp_path / name / "metrics.json").read_text())["test"]["accuracy"]
    assert scores["with"] > scores["without"] + 0.02


def test_cached_features_do_not_depend_on_how_many_threads_there_were_before(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    command("train", *QUICK, "hydra.run.dir=old")
    weights = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        own = [
            *TOY,
            "transfer=from_run",
            "transfer.source=old",
            "trainer.threads=1",
            "trainer.batch_size=7",
            "hydra.run.dir=run",
        ]
        assert command("train", *own).code == 0
        weights.append((tmp_path / "run" / "weights.safetensors").read_bytes())
    torch.set_num_threads(1)
    assert weights[0] == weights[1]


def test_weights_that_are_not_finite_and_heads_of_other_tasks(source, tmp_path) -> None:
    broken = load_file(source.file)
    broken["stem.0.weight"][0] = float("nan")
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(Refusal, match=r"'stem\.0\.weight' holds NaN"):
        start(pretrained(tmp_path / "nan.safetensors")).check(resnet(), fixed=True)
    card, other = card_of((1, 8, 8), classes=5), card_of((1, 8, 8), classes=5)
    other.recipe["targets"] = "flags"
    other.write(tmp_path / "card.json")
    transfer = start(pretrained(tmp_path / "old.safetensors"), card=card)
    transfer(resnet(5))
    assert "the head anew" in transfer.origin()


@pytest.mark.slow
def test_a_search_and_a_description_pin_latest(command, tmp_path) -> None:
    """Each trial makes itself the latest run: what the search starts from stays what it was when it began."""
    toy_npz(tmp_path / "data.npz", shape=(8, 8))
    command("train", *QUICK)
    run = LATEST.resolve().relative_to(tmp_path)
    own = [*TOY, "transfer=from_run", "transfer.source=latest"]
    assert command("describe", *own).code == 0
    search = [
        "sweep=random",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.default_space=false",
        "hydra.sweeper.n_jobs=1",
        "optimizer.lr=interval(0.001,0.1)",
        "hydra.sweep.dir=search",
    ]
    done = command("train", "-m", *own, *search)
    assert done.code == 0, done.err
    sources = [(each.parent.name, each.read_text()) for each in (tmp_path / "search").rglob("config.yaml")]
    assert sources and all(f"source: {run}" in text for _, text in sources)


class Plain(torch.nn.Module):
    """The residual networks of table 1 in torch alone, every tensor called as in timm and torchvision."""

    def __init__(self, blocks: list[int], width: int, *, bottleneck: bool) -> None:
        super().__init__()
        from torch.nn import BatchNorm2d, Conv2d, Linear, Module, Sequential

        def block(inputs: int, w: int, stride: int) -> Module:
            made, outputs = Module(), w * (4 if bottleneck else 1)
            sides = [(inputs, w, 1), (w, w, 3), (w, outputs, 1)] if bottleneck else [(inputs, w, 3), (w, w, 3)]
            for i, (a, b, k) in enumerate(sides, 1):
                step = stride if i == (2 if bottleneck else 1) else 1
                setattr(made, f"conv{i}", Conv2d(a, b, k, step, k // 2, bias=False))
                setattr(made, f"bn{i}", BatchNorm2d(b))
            if stride > 1 or inputs != outputs:
                made.downsample = Sequential(Conv2d(inputs, outputs, 1, stride, bias=False), BatchNorm2d(outputs))
            return made

        self.conv1, self.bn1, channels = Conv2d(3, width, 7, 2, 3, bias=False), BatchNorm2d(width), width
        for stage, count in enumerate(blocks):
            layer = []
            for i in range(count):
                layer.append(block(channels, width << stage, 2 if stage and not i else 1))
                channels = (width << stage) * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", Sequential(*layer))
        self.fc = Linear(channels, 1000)

    def maps(self, x: torch.Tensor, stages: int) -> torch.Tensor:
        from torch.nn.functional import max_pool2d, relu

        x = max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, stages + 1):
            for block in getattr(self, f"layer{stage}"):
                last = 3 if hasattr(block, "conv3") else 2
                y = x
                for i in range(1, last + 1):
                    y = getattr(block, f"bn{i}")(getattr(block, f"conv{i}")(y))
                    y = relu(y) if i < last else y
                x = relu(y + (block.downsample(x) if hasattr(block, "downsample") else x))
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.maps(x, 4).mean(dim=(2, 3)))


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Give the statistics of batch norm values of their own, too."""
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return model.eval()


def photographs(channels: int = 3, size: int = 64, mean=MEAN, std=STD, dtype: str = "uint8"):
    largest = 255 if dtype == "uint8" else 1
    told = {"kind": "standard", "mean": [largest * each for each in mean], "std": [largest * each for each in std]}
    return replace(card_of((channels, size, size)), normalize=told, dtype=dtype)


def from_file(path: Path, card, **keys) -> FromFile:
    keys = {
        "source": "x",
        "freeze": "none",
        "old_rate": 1.0,
        "cache": "auto",
        "mean": MEAN,
        "std": STD,
        "largest": None,
    } | keys
    return FromFile(pretrained(path), card, **keys)


@pytest.mark.parametrize(("depth", "blocks", "tensors"), [(18, [2, 2, 2, 2], 122), (50, [3, 4, 6, 3], 320)])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_in_the_names_of_timm_give_what_they_gave_there(tmp_path, depth, blocks, tensors, suffix) -> None:
    """122 and 320 tensors: those of timm's resnet18 and resnet50, which torchvision calls the same."""
    torch.manual_seed(0)
    there = shaken(Plain(blocks, 8, bottleneck=depth == 50))
    assert len(there.state_dict()) == tensors
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save(
            {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in there.state_dict().items()}}, path
        )
    else:
        save_file({name: value for name, value in there.state_dict().items() if "num_batches" not in name}, path)
    model = ResNet([3, 64, 64], 3, depth=depth, width=8, keep_prob=1.0)
    drawn = model.head.weight.clone()
    from_file(path, photographs())(model)
    assert torch.equal(model.head.weight, drawn)
    there.fc, model.head = torch.nn.Identity(), torch.nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(model.eval()(x), there(x), atol=1e-4)


@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (1, "uint8"), (3, "float32")])
def test_the_first_convolution_takes_in_how_pictures_are_normalised(tmp_path, channels, dtype) -> None:
    torch.manual_seed(0)
    there = shaken(Plain([2, 2, 2, 2], 8, bottleneck=False))
    save_file(there.state_dict(), tmp_path / "w.safetensors")
    own = {"mean": [0.3, 0.5, 0.7][:channels], "std": [0.1, 0.4, 0.2][:channels]}
    model = ResNet([channels, 64, 64], 3, depth=18, width=8, keep_prob=1.0).eval()
    from_file(tmp_path / "w.safetensors", photographs(channels, dtype=dtype, **own))(model)
    pixels = torch.rand(2, channels, 64, 64)  # as shares of the largest
    wanted = there.bn1(
        there.conv1((pixels.expand(-1, 3, -1, -1) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    )
    ours = (pixels - torch.tensor(own["mean"]).view(-1, 1, 1)) / torch.tensor(own["std"]).view(-1, 1, 1)
    assert torch.allclose(model.stem[:2](ours)[:, :, 2:-2, 2:-2], wanted[:, :, 2:-2, 2:-2], atol=1e-4)


@pytest.mark.parametrize("context", [True, False])
def test_a_detector_takes_the_backbone_of_a_file(tmp_path, context) -> None:
    torch.manual_seed(0)
    there = shaken(Plain([2, 2, 2, 2], 8, bottleneck=False))
    save_file(there.state_dict(), tmp_path / "w.safetensors")
    own = {"depth": 18, "width": 8, "keep_prob": 1.0}
    model = Yolo((3, 64, 64), 16, backbone="resnet", settings=own, stride=8, width=None, context=context).eval()
    part = from_file(tmp_path / "w.safetensors", photographs(), freeze="none")
    part.check(model, fixed=True)
    part(model)
    x = torch.randn(2, 3, 64, 64)
    wanted = there.maps(x, 2)
    found = x
    for unit in model.backbone.units()[: len(model.backbone.stem) + 4]:
        found = unit(found)
    assert torch.allclose(found, wanted, atol=1e-4)
    save_file(Plain([3, 4, 6, 3], 8, bottleneck=False).state_dict(), tmp_path / "deeper.safetensors")
    with pytest.raises(Refusal, match="is only there"):
        from_file(tmp_path / "deeper.safetensors", photographs()).check(model, fixed=True)


@pytest.mark.parametrize(
    ("dtype", "mean", "std", "largest"),
    [("uint8", 120.0, 60.0, 255.0), ("float32", 0.4, 0.2, 1.0), ("float32", 120.0, 60.0, None), ("float32", 0.0, 1.0, None), ("int32", 32850.0, 9000.0, None)],
)  # fmt: skip
def test_the_largest_pixel_is_known_or_asked_for(tmp_path, dtype, mean, std, largest) -> None:
    save_file(Plain([2, 2, 2, 2], 8, bottleneck=False).state_dict(), tmp_path / "w.safetensors")
    card = replace(card_of((3, 64, 64), mean=[mean] * 3, std=[std] * 3), dtype=dtype)
    if largest is None:
        with pytest.raises(Refusal, match="65535 of pictures of 16 bits"):
            from_file(tmp_path / "w.safetensors", card)
    else:
        assert from_file(tmp_path / "w.safetensors", card)._largest == largest
    assert from_file(tmp_path / "w.safetensors", card, largest=65535)._largest == 65535


def test_a_file_that_does_not_fit_says_why(tmp_path) -> None:
    there = Plain([2, 2, 2, 2], 8, bottleneck=False).state_dict()
    save_file(there, tmp_path / "w.safetensors")
    card, path = photographs(), tmp_path / "w.safetensors"
    with pytest.raises(Refusal, match="timm has no network like ResNet as it is here"):
        from_file(path, card).check(ResNet([3, 64, 64], 3, depth=9, width=8, keep_prob=1.0), fixed=True)
    with pytest.raises(Refusal, match=r"'layer1.0.conv3.weight' is only|is only (here|there)"):
        from_file(path, card).check(ResNet([3, 64, 64], 3, depth=50, width=8, keep_prob=1.0), fixed=True)
    with pytest.raises(Refusal, match=r"its first filters are \[7, 7\] pixels, here \[3, 3\]"):
        from_file(path, photographs(size=32)).check(
            ResNet([3, 32, 32], 3, depth=18, width=8, keep_prob=1.0), fixed=True
        )
    save_file(there | {"layer1.0.se.fc.weight": torch.ones(2)}, path)
    with pytest.raises(Refusal, match=r"'layer1.0.se.fc.weight' is only there"):
        from_file(path, card).check(ResNet([3, 64, 64], 3, depth=18, width=8, keep_prob=1.0), fixed=True)
    with pytest.raises(Refusal, match="in the names of timm"):
        FromFile(None, card, source=None, freeze="none", old_rate=1.0, cache="auto", mean=MEAN, std=STD, largest=None)
    with pytest.raises(Refusal, match="2 and 3 numbers"):
        from_file(path, card, mean=[0.1, 0.2])
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(Refusal, match="something else than tensors"):
        from_file(tmp_path / "w.pth", card).check(ResNet([3, 64, 64], 3, depth=18, width=8, keep_prob=1.0), fixed=True)


def test_nothing_in_a_pth_is_ever_run(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "made").mkdir, ())

    torch.save({"conv1.weight": Evil()}, tmp_path / "w.pth")
    with pytest.raises(Refusal, match="no tensors by name"):
        from_file(tmp_path / "w.pth", photographs()).check(
            ResNet([3, 64, 64], 3, depth=18, width=8, keep_prob=1.0), fixed=True
        )
    assert not (tmp_path / "made").exists()


def test_a_training_starts_from_a_file(command, tmp_path) -> None:
    torch.manual_seed(0)
    save_file(shaken(Plain([2, 2, 2, 2], 4, bottleneck=False)).state_dict(), tmp_path / "w.safetensors")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, 64, 64, 3)).astype(np.uint8), np.arange(60) % 2
    np.savez(tmp_path / "data.npz", x=x, y=y)
    words = ["data=npz", "data.path=data.npz", "model=resnet", "model.depth=18", "model.width=4", "trainer.total_epochs=1", "tracking=none",
             "transfer=from_file", "hydra.run.dir=run"]  # fmt: skip
    done = command("train", *words, "transfer.source=w.safetensors")
    assert done.code == 0 and "from  w.safetensors: " in done.out, done.err
    kept, old = load_file("run/weights.safetensors"), load_file("w.safetensors")
    assert torch.equal(kept["stages.3.conv1.weight"], old["layer2.1.conv1.weight"])  # frozen
    assert "is missing" in command("train", *words).err
