"""Imports point one way, and each outside service has one door."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

SRC = ROOT / "src"
PACKAGE = SRC / "crucible"
INSTALLED_AS = {"yaml": "pyyaml", "PIL": "pillow", "hydra": "hydra-core"}
SHOWS = (
    "__init__",
    "app/arguments",
    "app/cli",
    "app/cluster",
    "app/compose",
    "app/finished",
    "app/project",
    "app/quoting",
    "errors",
    "files",
    "report",
    "resources",
    "schema",
    "text",
    "tracking",
)  # what refuses, shows and records
BUILT = (
    "initializers",
    "optim",
    "regularizers",
    "nested",
    "seeds",
    "instantiate",
    "transfer",
)  # loaded, because a training builds them
CHANGES_NOTHING = {
    "prepare": (*SHOWS, *BUILT, "app/compatibility", "app/identity", "app/overrides", "app/pretrained", "data/augment", "data/batches", "constants", "losses",
                "metrics", "models", "tasks", "training"),
    "train": SHOWS,
    "evaluate": (*SHOWS, *BUILT),
}  # fmt: skip
ORDER = [
    "errors", "files", "integrity", "text", "resources", "schema", "instantiate", "seeds", "nested", "constants", "boxes", "plots", "data", "models", "initializers", "losses", "metrics", "labels", "tasks", "transfer", "regularizers",
    "optim", "inference", "tracking", "training", "diagnosis", "search", "report", "app",
]  # fmt: skip
DOORS = {
    "mlflow": {"tracking/served_table.py", "tracking/mlflow.py"},
    "optuna": {"search/stages.py"},
    "ray": {"search/ray.py"},
    "onnx": {"inference/onnx.py"},
    "onnxruntime": {"inference/onnx.py"},
    "hydra": {"app/compose.py", "app/quoting.py", "app/finished.py", "app/search/space.py"},
    "omegaconf": {
        "app/compose.py",
        "app/finished.py",
        "app/overrides.py",
        "app/search/run.py",
        "app/search/spec.py",
        "app/commands/compose.py",
    },
    "dvc": set(),
    "polars": {"data/frames.py", "data/cells.py"},
    "pandas": {"app/api.py", "tracking/mlflow.py"},
}


def imported(path: Path) -> set[str]:
    """Return what a file imports, inside functions too: modules, and names as MODULE.NAME."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{each.name}" for each in node.names}
    return found


def imports() -> list[tuple[str, str]]:
    """Return (file, imported module) for every import in the package."""
    return [(path.relative_to(PACKAGE).as_posix(), name) for path in PACKAGE.rglob("*.py") for name in imported(path)]


def test_a_folder_imports_only_from_those_above_it() -> None:
    place = {name: i for i, name in enumerate(ORDER)}
    for file, name in imports():
        if name.startswith("crucible."):
            own, other = (part.split("/")[0].removesuffix(".py") for part in (file, name.split(".")[1]))
            assert place[other] <= place[own], f"{file} imports {name}"


def test_each_outside_service_has_one_door() -> None:
    for file, name in imports():
        service = name.split(".")[0]
        assert service not in DOORS or file in DOORS[service], f"{file} imports {name}"


def test_the_library_never_sees_the_configuration() -> None:
    for path in PACKAGE.rglob("*.py"):
        if "app" in path.relative_to(PACKAGE).parts:
            continue
        assert not re.search(r"\bcfg\b|DictConfig", path.read_text(encoding="utf-8")), path


def test_entry_points_are_thin() -> None:
    for path in (ROOT / "src").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 20, path


def test_no_process_is_ended_by_its_name() -> None:
    """Another person's process may have the same one: a test ends the numbers that it started."""
    words = ("p" + "kill", "kill" + "all")
    for path in [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
    ]:
        assert not any(word in path.read_text(encoding="utf-8") for word in words), path


def graph() -> dict[str, set[str]]:
    """Return for each module of src the modules of src that it imports, inside functions too."""
    modules = {".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path for path in SRC.rglob("*.py")
               if "template" not in path.parts}  # fmt: skip
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = imported(path) | {name.rpartition(".")[0] for name in imported(path)}
        found[module] = (names & set(modules)) - {module}
    return found


def test_imports_go_round_in_no_circle() -> None:
    assert len(list(TopologicalSorter(graph()).static_order())) > 150  # a circle raises CycleError


def test_every_package_that_is_imported_is_a_dependency() -> None:
    """Of the project, or of one of its extras; by the name under which it is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[^\w-]", each)[0].lower() for each in chain(*lists)}
    packages = {name.split(".")[0] for path in SRC.rglob("*.py") for name in imported(path)} - {
        "crucible",
        "hydra_plugins",
    }
    for package in packages - set(sys.stdlib_module_names) - {path.stem for path in SRC.glob("*.py")}:
        assert INSTALLED_AS.get(package, package) in declared, (
            f"{package} is imported and stands in no list of pyproject.toml"
        )


@pytest.mark.parametrize(("stage", "script"), [("prepare", "prepare"), ("train", "train"), ("evaluate", "evaluate")])
@pytest.mark.slow
def test_a_stage_depends_on_the_files_that_it_loads(stage: str, script: str, tmp_path: Path) -> None:
    """Each file of ours that the stage's command loads is among its `deps`, or cannot change what it writes."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    words = {"prepare": [], "train": ["trainer.total_epochs=1"], "evaluate": ["run=latest"]}[stage]
    if stage == "evaluate":
        loaded("train", ["trainer.total_epochs=1"], tmp_path)
    found = loaded(script, [*words, "tracking=none"], tmp_path)
    assert len(found) > 30
    for file in found:
        known = any(file == each or file.startswith(f"{each}/") for each in deps)
        assert known or any(file.startswith(f"src/crucible/{each}") for each in CHANGES_NOTHING[stage]), (
            f"{stage}: {file}"
        )


def loaded(script: str, words: list[str], home: Path) -> list[str]:
    """Return the files of ours, from the project's root, that a command has loaded when it ends."""
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); sys.argv = ['src/{script}.py', *{words!r}]\n"
        f"from crucible.app.cli import run_command; run_command({script!r})\n"
        "print('LOADED', *[m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True)
    files = [Path(each) for each in done.stdout.partition("LOADED\n")[2].splitlines()]
    return sorted(str(each.relative_to(ROOT)) for each in files if each.is_relative_to(PACKAGE) and each.stat().st_size)
