"""What `_target_` may not name is refused by the identity of what it resolves to, before any call, group by group."""

import sys

import pytest
import yaml
from conftest import composed

from crucible.app.compose import CONF
from crucible.errors import Refusal
from crucible.instantiate import PARTS, build, check_node, resolve

ATTACKS = [
    "torch.utils.collect_env.run",
    "torch.hub.load",
    "torch.load",
    "torch.utils.cpp_extension.load_inline",
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "importlib.import_module",
    "pathlib.Path",
    "crucible.tracking.checkpoint.torch.load",
    "crucible.inference.saved_run.yaml.safe_load",
    "crucible.tracking.mirror.subprocess.Popen",
    "crucible.tracking.mirror.os.system",
    "crucible.tracking.checkpoint.write_atomic.__globals__",
    "crucible.tracking.folder._unmake",
    "crucible.data.prepare.shutil.rmtree",
    "crucible.tracking.mlflow.main",
    "crucible.errors.Refusal",
    "crucible.data.card.read_card",
    "crucible.transfer.pretrained",
    "crucible.models.resnet.first_width",
    "crucible.models.layers.TooSmall",
    "crucible.models.resnet.Block",
    "crucible.tasks.task.Task",
    "crucible.transfer.NoTransfer",
    "crucible.regularizers.Penalised",
    "torch.nn.init.zeros_",
    "torch.nn.Module",
    "torch.optim.Optimizer",
    "torch.optim.swa_utils.update_bn",
    "crucible",
    "crucible.models",
    "",
    "a b",
]
CHOICES = sorted(
    (group, yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"])
    for group in PARTS
    if group != "data.reader"
    for path in (CONF / group).glob("*.yaml")
)
READERS = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "base")


@pytest.mark.parametrize("group", PARTS)
@pytest.mark.parametrize("path", ATTACKS)
def test_attacks_are_refused(path: str, group: str) -> None:
    with pytest.raises(Refusal):
        resolve(path, group)


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("init", "crucible.tracking.mlflow.main"),  # ran a command line
        ("regularizer", "crucible.errors.Refusal"),  # trained into an AttributeError
        ("augment", "crucible.data.card.read_card"),  # read files
    ],
)
def test_a_function_of_the_package_outside_of_its_group_is_refused(command, tmp_path, group: str, path: str) -> None:
    done = command("train", f"{group}._target_={path}", "tracking=none")
    assert done.code == 2 and f"{group}._target_" in done.err and "may not be named here" in done.err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("group", PARTS)
def test_a_choice_is_admitted_in_its_own_group_alone(group: str) -> None:
    for own, path in CHOICES:
        if own == group:
            assert callable(resolve(path, group))
        else:
            with pytest.raises(Refusal, match="may not be named here"):
                resolve(path, group)


@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_admitted_as_one(name: str) -> None:
    node = composed(f"data={name}")["data"]["reader"]
    check_node(node, "data.reader")
    with pytest.raises(Refusal, match="may not be named here"):
        resolve(node["_target_"], "model")


def test_a_helper_of_the_readers_is_no_reader() -> None:
    for name in ("source.require_path", "image_folder.decode", "annotated.text_of", "source.Source"):
        with pytest.raises(Refusal, match="may not be named here"):
            resolve(f"crucible.data.readers.{name}", "data.reader")


def test_an_alias_planted_in_an_allowed_module_is_refused(monkeypatch) -> None:
    import os

    import crucible.models.mlp as allowed

    monkeypatch.setattr(allowed, "Harmless", os.system, raising=False)
    with pytest.raises(Refusal, match="may not be named here"):
        resolve("crucible.models.mlp.Harmless", "model")


def test_a_function_that_pretends_to_be_ours_is_refused(monkeypatch) -> None:
    import crucible.models.mlp as allowed

    def evil() -> None:
        raise AssertionError("it was called")

    evil.__module__, evil.__qualname__ = "crucible.models.mlp", "MLP"
    monkeypatch.setattr(allowed, "Evil", evil, raising=False)
    with pytest.raises(Refusal):
        build("model", {"_target_": "crucible.models.mlp.Evil"})


def test_a_module_that_cannot_hold_a_choice_is_not_even_imported(monkeypatch) -> None:
    for path in ("antigravity.geohash", "crucible.search.stages.Studies"):
        module = path.rpartition(".")[0]
        monkeypatch.delitem(sys.modules, module, raising=False)  # and put back: other tests hold it
        with pytest.raises(Refusal, match="may not be named here"):
            resolve(path, "model")
        assert module not in sys.modules


@pytest.mark.parametrize(
    ("group", "path"),
    [("model", "torch.nn.Linear"), ("optimizer", "torch.optim.NAdam"), ("schedule", "torch.optim.lr_scheduler.StepLR")],
)
def test_torchs_own_parts_may_be_named_in_their_group(group: str, path: str) -> None:
    assert resolve(path, group).__name__ == path.split(".")[-1]
    for other in set(PARTS) - {group}:
        with pytest.raises(Refusal, match="may not be named here"):
            resolve(path, other)


def test_what_is_made_must_be_what_the_group_needs(monkeypatch) -> None:
    import crucible.initializers as home

    def lies() -> home.Initializer:
        return 3  # type: ignore[return-value]  # the lie

    lies.__module__, lies.__qualname__ = home.__name__, "lies"
    monkeypatch.setattr(home, "lies", lies, raising=False)
    with pytest.raises(Refusal, match=r"gives int, which is no collections\.abc\.Callable"):
        build("init", {"_target_": "crucible.initializers.lies"})


def test_values_that_torch_cannot_take_are_refused() -> None:
    node = {
        "_target_": "crucible.models.mlp.MLP",
        "layers": [2**31 - 1],
        "activation": "relu",
        "keep_prob": 1,
        "batch_norm": False,
    }
    with pytest.raises(Refusal, match="cannot take these values: RuntimeError"):
        build("model", node, [1, 2**30, 2**30], 10)
    with pytest.raises(Refusal, match=r"torch\.nn\.Linear cannot take these values: TypeError"):
        build("model", {"_target_": "torch.nn.Linear"}, [1, 8, 8], 10)


def test_a_whole_number_is_a_real_one_where_that_is_declared() -> None:
    import torch

    node = {"_target_": "crucible.optim.optimizers.adam", "lr": 1, "beta1": 0, "beta2": 0, "eps": 10**30}
    optimizer = build("optimizer", node, [torch.nn.Parameter(torch.zeros(1))])
    assert [optimizer.defaults[key] for key in ("lr", "betas", "eps")] == [1.0, (0.0, 0.0), 1e30]
    assert {type(each) for each in (optimizer.defaults["lr"], *optimizer.defaults["betas"])} == {float}


def test_a_misspelt_target_names_the_nearest() -> None:
    with pytest.raises(Refusal, match=r"nearest: crucible\.models\.mlp\.MLP"):
        resolve("crucible.models.mlp.MPL", "model")


def test_keys_and_ranges_come_from_the_signature() -> None:
    node = {"_target_": "crucible.optim.optimizers.sgd", "lr": 0.1}
    check_node(node, "optimizer")
    with pytest.raises(Refusal, match=r"optimizer\.lr\n.*-1 is refused: input should be greater than 0"):
        check_node({**node, "lr": -1}, "optimizer")
    with pytest.raises(Refusal, match=r"nearest: lr"):
        check_node({"_target_": node["_target_"], "lrr": 0.1}, "optimizer")
    with pytest.raises(Refusal, match=r"optimizer\.lr\n.*is missing"):
        check_node({"_target_": node["_target_"]}, "optimizer")


def test_what_the_pipeline_supplies_cannot_be_declared() -> None:
    with pytest.raises(Refusal, match="no key 'feature_shape'"):
        check_node({"_target_": "crucible.models.logistic.Logistic", "feature_shape": [3]}, "model")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import no_such_package\n", "No module named 'no_such_package'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_a_module_that_breaks_is_not_called_missing(tmp_path, monkeypatch, text, what) -> None:
    (tmp_path / "broken_parts.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_parts", raising=False)
    with pytest.raises(Refusal, match=f"broken_parts cannot be imported: .*{what}"):
        resolve("broken_parts.Model", "model")
    with pytest.raises(Refusal, match=r"there is no broken_part\.Model"):
        resolve("broken_part.Model", "model")
    with pytest.raises(Refusal, match=r"there is no torch\.nn\.Lineal"):
        resolve("torch.nn.Lineal", "model")
