"""What `_target_` may not name is refused by the identity of what it resolves to, before any call."""

import pytest

from crucible.errors import Refusal
from crucible.targets import build, check_node, resolve

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
    "crucible.training.checkpoint.torch.load",
    "crucible.tasks.saved.yaml.safe_load",
    "crucible.tracking.mirror.subprocess.Popen",
    "crucible.tracking.mirror.os.system",
    "crucible.training.checkpoint.write_atomic.__globals__",
    "crucible.tracking.folder._unmake",
    "crucible.data.prepare.shutil.rmtree",
    "torch.nn.init.zeros_",
    "torch.optim.swa_utils.update_bn",
    "crucible",
    "crucible.models",
    "",
    "a b",
]


@pytest.mark.parametrize("path", ATTACKS)
def test_attacks_are_refused(path: str) -> None:
    with pytest.raises(Refusal):
        resolve(path)


def test_an_alias_planted_in_an_allowed_module_is_refused(monkeypatch) -> None:
    import os

    import crucible.models.mlp as allowed

    monkeypatch.setattr(allowed, "Harmless", os.system, raising=False)
    with pytest.raises(Refusal, match="may not be named here"):
        resolve("crucible.models.mlp.Harmless")


def test_a_function_that_pretends_to_be_ours_is_refused(monkeypatch) -> None:
    import crucible.models.mlp as allowed

    def evil() -> None:
        raise AssertionError("it was called")

    evil.__module__, evil.__qualname__ = "crucible.models.mlp", "MLP"
    monkeypatch.setattr(allowed, "Evil", evil, raising=False)
    with pytest.raises(Refusal):
        build({"_target_": "crucible.models.mlp.Evil"})


@pytest.mark.parametrize("path", ["torch.nn.Linear", "torch.optim.NAdam", "torch.optim.lr_scheduler.StepLR"])
def test_torchs_own_parts_may_be_named(path: str) -> None:
    import torch  # noqa: F401

    assert resolve(path).__name__ == path.split(".")[-1]


def test_a_misspelt_target_names_the_nearest() -> None:
    with pytest.raises(Refusal, match=r"nearest: crucible\.models\.mlp\.MLP"):
        resolve("crucible.models.mlp.MPL")


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
