"""Begin a project of one's own: crucible new FOLDER."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from crucible.app.project import CHECKOUT, IN_CHECKOUT, PACKAGE
from crucible.errors import Refusal
from crucible.report.screen import lined

TEMPLATE = PACKAGE / "app" / "template"
DIGITS = CHECKOUT / "data" / "digits" if IN_CHECKOUT else TEMPLATE / "data" / "digits"
CALLED = {"gitignore": ".gitignore", "dvcignore": ".dvcignore", "pipeline.yaml": "dvc.yaml"}  # in a project
EXAMPLE = "crucible new my_project"


def main(words: list[str]) -> None:
    """Write a project: configuration, pipeline, data, an example of a model; nothing of it needs this repository."""
    folder = _required(words)
    module = f"{re.sub(r'[^a-z0-9]+', '_', folder.resolve().name.lower()).strip('_') or 'project'}_parts"
    module = module if module.isidentifier() else f"project_{module}"
    for path in sorted(each.relative_to(TEMPLATE) for each in TEMPLATE.rglob("*") if each.is_file()):
        if not {"data", "__pycache__"} & set(path.parts):
            _copy(path, folder, module)
    shutil.copytree(DIGITS, folder / "data" / "digits")
    _begin_versions(folder)
    print(lined([("result", f"a project in {folder}: the digits, every choice of crucible, and a model of its own to change"),
                 ("files", f"{folder / 'README.md'}  {folder / 'conf' / 'project.yaml'}  {folder / 'dvc.yaml'}"),
                 ("next", f"cd {folder} && dvc repro")]))  # fmt: skip


def _required(words: list[str]) -> Path:
    """Return the folder that is named.

    Raises:
        Refusal: none or several are, or there are files in it.
    """
    if len(words) != 1 or words[0].startswith("-") or "=" in words[0]:
        raise Refusal("crucible new", f"it takes one folder, not {' '.join(words) or 'nothing'}", example=EXAMPLE)
    folder = Path(words[0]).expanduser()
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= {".git"}):
        raise Refusal(str(folder), "there is something already", allowed="a new or an empty folder", example=EXAMPLE)
    return folder


def _copy(path: Path, folder: Path, module: str) -> None:
    """Write one file of the template, with the names of this project."""
    target = folder.joinpath(*({**CALLED, "parts": module}.get(part, part) for part in path.parts))
    target.parent.mkdir(parents=True, exist_ok=True)
    text = (TEMPLATE / path).read_text(encoding="utf-8").replace("{module}", module)
    target.write_text(text.replace("{name}", module.removesuffix("_parts")), encoding="utf-8")


def _begin_versions(folder: Path) -> None:
    """Let git, where it is there, and DVC watch the project."""
    git = shutil.which("git")
    inside = git is not None and _quietly(folder, git, "rev-parse", "--is-inside-work-tree")
    if git is not None and not inside:
        _quietly(folder, git, "init")
    dvc = (sys.executable, "-m", "dvc")
    _quietly(folder, *dvc, "init", *(["--no-scm"] if git is None else ["--subdir"] if inside else []))
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n[hydra]\n    enabled = true\n", "utf-8")
    _quietly(folder, *dvc, "add", "data")


def _quietly(folder: Path, *command: str) -> bool:
    """Run a program in the folder and return whether it did its work."""
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
