"""Tiny data, composed configurations, and commands run inside this process."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crucible.app.cli import run_command
from crucible.app.compose import compose, plain
from crucible.data.card import Card
from crucible.training.run import Run

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)  # on a busy machine a second thread makes small steps slower, not faster

os.environ.setdefault("CRUCIBLE_CACHE", f"{tempfile.gettempdir()}/crucible-tests-{os.getuid()}")  # not a person's own

DATASETS = ROOT.parent / "shared" / "datasets"


@dataclass
class Done:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


def sh(home: Path, *words: str, check: bool = True, **env: str) -> str:
    """Run a command in a folder, as a person would whose environment is active; return all that it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull} | env
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, env=own)
    assert done.returncode == 0 or not check, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def working_copy(home: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Fill a folder with what git would take from this one, as a repository with one commit."""
    for name in sh(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").split():
        if (ROOT / name).is_file() and not name.startswith(without or ("\0",)):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)
    for words in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"], ["add", "-A"]):
        sh(home, "git", *words)
    sh(home, "git", "commit", "-qm", "fresh")
    return home


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Run `python src/NAME.py ARGS` inside this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(name: str, *args: str) -> Done:
        monkeypatch.setattr(sys, "argv", [f"src/{name}.py", *args])
        capsys.readouterr()
        try:
            run_command(name)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def train_until_killed(command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Train with some arguments; the process is interrupted between the second epoch and its record."""
    record = Run.record

    def interrupted(self: Run, dev: dict[str, float]) -> None:
        if self.epoch == 2:
            raise KeyboardInterrupt
        record(self, dev)

    def train(*words: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Run, "record", interrupted)
            assert command("train", *words).code == 130

    return train


def composed(*overrides: str) -> dict[str, Any]:
    """Return the configuration that these overrides compose."""
    from hydra._internal.utils import get_args_parser

    args = get_args_parser().parse_args([])
    return plain(compose(args, list(overrides)))


def card_of(shape: tuple[int, ...], classes: int = 3, train: int = 12, **normalize: Any) -> Card:
    """Return a card without files, for parts that only need its facts."""
    facts = {"kind": "none", "mean": [0.0], "std": [1.0], "fitted_on": "train", "fitted_size": train} | normalize
    counts = {"size": train, "class_counts": [train // classes] * classes}
    names = [str(i) for i in range(classes)]
    return Card("tiny", "0" * 64, {}, {"train": counts, "dev": counts}, names, list(shape), "float32", facts, {}, {})


def write_split(folder: Path, split: str, x: np.ndarray, y: np.ndarray) -> None:
    """Write one split of a prepared folder."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    np.save(folder / split / "x.npy", x)
    np.save(folder / split / "y.npy", y)


def toy_npz(path: Path, *, size: int = 60, shape: tuple[int, ...] = (4, 4), classes: int = 3, **replace: Any) -> Path:
    """Write a learnable data set of distinct images: class k is brighter by k."""
    rng = np.random.default_rng(0)
    y = np.arange(size) % classes
    x = (rng.integers(0, 60, (size, *shape)) + 60 * y.reshape(-1, *[1] * len(shape))).astype(np.uint8)
    np.savez(path, **({"x": x, "y": y} | replace))
    return path
