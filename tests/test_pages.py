"""Every command of docs/notes.md and docs/recipes.md runs: with fewer epochs, seeds and values, so that no page can lie for long.

README's commands run as written: test_readme; those of the tutorials: test_docs.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

pytestmark = pytest.mark.slow
DATASETS = Path(os.environ.get("CRUCIBLE_DATASETS", ROOT.parents[1] / "shared" / "datasets"))
SHORT = {"T": "python src/train.py", "E": "python src/evaluate.py run=latest", "D": "python src/describe.py"}
EPOCHS, VALUES = 2, 2  # at most
LONG = {"experiment=detection": ["data.reader.scenes={train: 40, dev: 10, test: 10}", "model.settings.width=8"],
        "experiment=localization": ["data.reader.scenes={train: 60, dev: 20, test: 20}"], "experiment=landmarks": ["data.reader.scenes={train: 60, dev: 20, test: 20}"],
        "data=dates": ["data.reader.train_size=60", "data.reader.dev_size=20", "data.reader.test_size=20"], "data=mnist": ["data.split.keep=0.01"], "data=fashion_mnist": ["data.split.keep=0.01"],
        "experiment=fashion_resnet": ["data.split.keep=0.01"], "experiment=mnist_sigmoid": ["data.split.keep=0.01"], "experiment=faces": ["trainer.batch_size=64"],
        "experiment=language": ["model.hidden=8"], "experiment=tagging": ["model.hidden=8"], "experiment=sequence": ["model.hidden=8"],
        "experiment=verification": ["model.width=4"]}  # fmt: skip


def cells(page: str) -> list[tuple[str, list[str]]]:
    """Return the section and the commands of each row of the notes' tables."""
    rows = re.findall(r"^\| (.*) \|$", page, re.MULTILINE)
    parts = [re.split(r" (?<!\\)\| ", row) for row in rows]
    return [
        (part[0], re.findall(r"`([^`]*)`", part[3]))
        for part in parts
        if len(part) == 5 and not part[3].startswith(("命令", "-"))
    ]


def blocks(page: str) -> list[tuple[str, list[str]]]:
    """Return heading and commands of each section of the recipes."""
    found = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        fenced = re.findall(r"```(text|)\n(.*?)```", section, re.DOTALL)
        lines = [line for kind, block in fenced if not kind for line in block.strip().splitlines()]
        lines += [line for line in re.findall(r"`(python src/[^`]*)`", section) if line not in lines]
        found.append((section.splitlines()[0], lines))
    return found


NOTES = cells((ROOT / "docs/notes.md").read_text(encoding="utf-8"))
RECIPES = blocks((ROOT / "docs/recipes.md").read_text(encoding="utf-8"))


def shortened(command: str) -> str:
    """Return a command with short trainings, few seeds and few values of a sweep."""
    first, _, rest = command.partition(" ")
    command = f"{SHORT[first]} {rest}".strip() if first in SHORT else command
    if "src/train.py" not in command:
        return command
    words = shlex.split(command)
    swept = "-m" in words and not any(word.startswith("sweep=") for word in words)
    words = [_few(word) if swept and not word.startswith("hydra.") else word for word in words]
    limit = next((int(word.partition("=")[2]) for word in words if word.startswith("trainer.total_epochs=")), EPOCHS)
    words = [word for word in words if not word.startswith("trainer.total_epochs=")]
    more = [
        each
        for word in words
        for each in LONG.get(word, ())
        if not any(own.partition("=")[0] == each.partition("=")[0] for own in words)
    ]
    return shlex.join(
        [*words, f"trainer.total_epochs={min(EPOCHS, limit)}", "trainer.threads=1", "tracking=none", *more]
    )


def _few(word: str) -> str:
    key, _, value = word.partition("=")
    depth, cut, count = 0, len(value), 1
    for i, letter in enumerate(value):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth:
            count += 1
            if count > VALUES:
                cut = i
                break
    return f"{key}={value[:cut]}" if value else word


@pytest.fixture
def run(command, tmp_path, monkeypatch) -> Callable[[list[str]], None]:
    """Run commands one after the other in a folder of their own; those of data that are not here are passed over."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    x = np.load(ROOT / "data/digits/x.npy")[:16].reshape(4, 4, 8, 8)
    Image.fromarray((np.concatenate(np.concatenate(x, axis=1), axis=1) * 15).astype(np.uint8)).save(
        tmp_path / "picture.png"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))

    def run_all(lines: list[str]) -> None:
        for data in {each for line in lines for each in re.findall(r"~/([\w-]+)", line)}:
            if not (DATASETS / data).exists():
                pytest.skip(f"no {data} here: the course's own data are not in the repository")
        for line in lines:
            short = shortened(line.replace("~/", f"{DATASETS}/"))
            name = re.match(r"python src/(\w+)\.py", short)
            if name and not re.search(r"[*;|]", line):
                done = command(name[1], *shlex.split(short)[2:])
                assert done.code == 0, f"{line}\n{short}\n{done.out[-500:]}\n{done.err[-2000:]}"
                continue
            short = short.replace("python src/", f"{sys.executable} {ROOT}/src/")
            short = short.replace("python benchmarks/", f"{sys.executable} benchmarks/")
            short += " --repeats 1" if "vectorisation" in short else ""
            made = subprocess.run(["bash", "-c", short], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert made.returncode == 0, f"{line}\n{short}\n{made.stdout[-500:]}\n{made.stderr[-2000:]}"

    return run_all


@pytest.mark.parametrize(("section", "lines"), NOTES, ids=[section for section, _ in NOTES])
def test_every_row_of_the_notes_has_commands_and_they_run(run, section, lines) -> None:
    assert lines and all(re.match(r"([TED]\b|python (src|benchmarks)/)", line) for line in lines), section
    run([line for line in lines if "control.py" not in line])  # what steers a running training: test_control


@pytest.mark.parametrize(("section", "lines"), RECIPES, ids=[section for section, _ in RECIPES])
def test_every_command_of_a_recipe_runs(run, section, lines) -> None:
    run(lines)


def test_a_cut_command_is_still_that_command() -> None:
    cut = shortened(
        "T -m experiment=x 'model.layers=[24],[12,12],[8,8,8]' seed=0,1,2 trainer.total_epochs=500 hydra.sweep.dir=a,b"
    )
    assert (
        "'model.layers=[24],[12,12]'" in cut and "seed=0,1 " in cut and "trainer.total_epochs=2" in cut and "a,b" in cut
    )
    assert shortened("E report=full") == "python src/evaluate.py run=latest report=full"
    assert "trainer.total_epochs=1" in shortened("T experiment=x trainer.total_epochs=1")
    assert "{per_class: 5},{per_class: 20}" in shortened(
        "T -m 'data.split.keep={per_class: 5},{per_class: 20},{per_class: 50}'"
    )
