"""What comes from another run, what is frozen, how fast old layers learn, and features that are computed once."""

import json
import subprocess
import sys
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
from crucible.transfer import FromRun, blocks, head, pretrained

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
