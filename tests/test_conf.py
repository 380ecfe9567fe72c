"""Every YAML composes, is admitted, and every configuration is its own shortest command."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, composed
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from crucible.app.compose import quoted, validate
from crucible.app.overrides import changed, overrides_of

CHOICES = [
    f"{path.parent.name}={path.stem}" for path in sorted((ROOT / "conf").glob("*/*.yaml")) if path.stem != "base"
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_is_admitted(choice: str) -> None:
    validate(composed(choice))


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
    cfg = composed(*map(quoted, overrides))
    found = overrides_of(cfg)
    assert composed(*map(quoted, found)) == cfg and len(found) <= len(overrides)


def test_a_changed_choice_takes_its_own_keys_with_it() -> None:
    before = ["model=resnet", "model.width=8", "seed=1"]
    assert changed(before, ("model=mlp",)) == ["seed=1", "model=mlp"]
    assert changed(before, ("model.width=16",)) == ["model=resnet", "seed=1", "model.width=16"]


def test_the_committed_params_are_what_conf_says() -> None:
    assert (ROOT / "params.yaml").read_text(encoding="utf-8") == OmegaConf.to_yaml(OmegaConf.create(composed()))


def test_no_model_holds_a_shape() -> None:
    for path in (ROOT / "conf" / "model").glob("*.yaml"):
        assert not {"feature_shape", "num_outputs", "num_classes"} & set(OmegaConf.load(path))


@pytest.mark.parametrize("pipeline", sorted((ROOT / "pipelines").glob("*/dvc.yaml")), ids=lambda path: path.parent.name)
def test_a_pipeline_depends_on_exactly_the_files_that_hydra_loads_for_it(pipeline: Path) -> None:
    for stage in yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"].values():
        words = [word for word in stage["cmd"].split()[2:] if "=" in word]
        with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
            loader = GlobalHydra.instance().hydra.config_loader
            loaded = loader.compute_defaults_list("config", words, RunMode.RUN).defaults
        files = {f"conf/{each.config_path}.yaml" for each in loaded}
        declared = {each for each in stage["deps"] if each.startswith("conf/")}
        assert declared == {each for each in files if (ROOT / each).exists()}
