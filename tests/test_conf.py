"""Every YAML composes, is admitted, and every configuration is its own shortest command."""

import pytest
from conftest import ROOT, composed
from omegaconf import OmegaConf

import entry
from overrides import changed, overrides_of

CHOICES = [
    f"{path.parent.name}={path.stem}" for path in sorted((ROOT / "conf").glob("*/*.yaml")) if path.stem != "base"
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_is_admitted(choice: str) -> None:
    entry.validate(composed(choice))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_says_in_its_first_line_what_it_is(choice: str) -> None:
    group, name = choice.split("=")
    assert (ROOT / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model=resnet", "model.width=8", "seed=3"],
        ["data=signs", "data.path=x", "data.split.dev=0.3", "augment=light"],
        ["data=csv", "data.label=y", "model=logistic", "task=binary", "init=normal", "init.std=0.1"],
        ["schedule=cosine", "trainer.total_epochs=20"],
        ["schedule=cosine", "schedule.epochs=7"],
        ["task.satisficing.parameters=< 10", "task.class_weights=balanced"],
        ["model.layers=[32,16]", "model.keep_prob=[0.5,0.9]", "trainer.batch_size=null", "optimizer=momentum"],
    ],
)
def test_the_shortest_command_composes_the_same_configuration(overrides: list[str]) -> None:
    cfg = composed(*map(entry.quoted, overrides))
    found = overrides_of(cfg)
    assert composed(*map(entry.quoted, found)) == cfg and len(found) <= len(overrides)


def test_a_changed_choice_takes_its_own_keys_with_it() -> None:
    before = ["model=resnet", "model.width=8", "seed=1"]
    assert changed(before, ("model=mlp",)) == ["seed=1", "model=mlp"]
    assert changed(before, ("model.width=16",)) == ["model=resnet", "seed=1", "model.width=16"]


def test_the_committed_params_are_what_conf_says() -> None:
    assert (ROOT / "params.yaml").read_text(encoding="utf-8") == OmegaConf.to_yaml(OmegaConf.create(composed()))


def test_no_model_holds_a_shape() -> None:
    for path in (ROOT / "conf" / "model").glob("*.yaml"):
        assert not {"feature_shape", "num_outputs", "num_classes"} & set(OmegaConf.load(path))
