"""Imports point one way, and each outside service has one door."""

import ast
import re

from conftest import ROOT

PACKAGE = ROOT / "src" / "crucible"
ORDER = [
    "errors", "files", "integrity", "text", "resources", "schema", "targets", "seeds", "boxes", "data", "models", "initializers", "losses", "metrics", "tasks", "export", "transfer", "regularizers",
    "optim", "tracking", "training", "diagnosis", "search", "report", "app",
]  # fmt: skip
DOORS = {
    "mlflow": {"tracking/mlflow.py"},
    "optuna": {"search/stages.py"},
    "onnx": {"export.py"},
    "onnxruntime": {"export.py"},
    "hydra": {"app/compose.py", "app/quoting.py", "app/overrides.py", "app/search/run.py", "app/search/space.py"},
    "omegaconf": {"app/compose.py", "app/overrides.py", "app/search/run.py", "app/commands/compose.py"},
    "dvc": set(),
}


def imports() -> list[tuple[str, str]]:
    """Return (file, imported module) for every import in the package, inside functions too."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{a.name}" for a in node.names]
            found += [(path.relative_to(PACKAGE).as_posix(), name) for name in names]
    return found


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
