"""Every YAML composes, is admitted, and every configuration is its own shortest command."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, composed
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from crucible.app import overrides
from crucible.app.compose import quoted, validate
from crucible.app.overrides import changed, choices_of, overrides_of

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


@pytest.mark.parametrize(
    "words",
    [[], ["model=resnet", "model.depth=8"], ["task=binary", "optimizer=nesterov"], ["data=mnist", "data.path=x", "data.normalize=none"],
     ["regularizer=l1", "schedule=cosine", "augment=strong", "augment.crop=0"], ["model=lstm", "data=text", "data.path=x", "task=language"]],
)  # fmt: skip
def test_the_nearest_choice_builds_the_same_and_differs_least(words: list[str]) -> None:
    """By the definition, over all choices: same target (and the reader's), same name, fewest other values, the default where it ties."""
    cfg = composed(*words)
    for group, found in choices_of(cfg).items():

        def key(choice: str, group: str = group) -> tuple[bool, bool, int, bool]:
            known, node = overrides._known(group, choice, cfg), cfg[group]
            other = any(
                (known.get(p) or {}).get("_target_") != (node.get(p) or {}).get("_target_") for p in ("reader",)
            )
            values = len(list(overrides._differences(known, node, group)))
            target = other or known.get("_target_") != node.get("_target_")
            return target, known.get("name") != node.get("name"), values, choice != overrides._defaults()[group]

        assert found == min(overrides._choices(group), key=key), group


def test_choices_are_read_as_omegaconf_reads_them() -> None:
    files = sorted((ROOT / "conf").rglob("*.yaml"))
    assert len(files) > 100
    assert yaml.load("{a: 1e-5, b: 2020-01-01}", Loader=overrides._Loader) == {
        "a": 1e-5,
        "b": "2020-01-01",
    }  # PyYAML: text, and a date
    for file in files:
        read = yaml.load(file.read_bytes(), Loader=overrides._Loader)
        assert repr(read or {}) == repr(OmegaConf.to_container(OmegaConf.load(file)) or {}), file


def test_a_choice_of_another_target_is_never_the_nearest(monkeypatch) -> None:
    cfg = composed()
    choices = {
        "far": {**cfg["model"], "layers": [1], "keep_prob": 0.1},
        "near": {**cfg["model"], "_target_": "crucible.other"},
    }
    monkeypatch.setattr(
        overrides, "_choices", lambda group: choices if group == "model" else {overrides._defaults()[group]: cfg[group]}
    )
    assert choices_of(cfg)["model"] == "far"


def test_what_a_choice_takes_from_elsewhere_is_compared_as_it_is_then(monkeypatch) -> None:
    cfg = composed("run_name=mine")
    named = {**cfg["data"], "name": "mine"}
    choices = {"own": {**named, "name": "${run_name}"}, "other": {**named, "name": "npz"}}
    monkeypatch.setattr(
        overrides, "_choices", lambda group: choices if group == "data" else {overrides._defaults()[group]: cfg[group]}
    )
    assert choices_of({**cfg, "data": named})["data"] == "own"


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
