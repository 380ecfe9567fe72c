"""README's commands, one after the other and as written, in a fresh copy: `make` apart, which sets up what stands here already."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, sh, working_copy
from PIL import Image
from test_docs import README, commands

pytestmark = pytest.mark.slow
SET_UP = ("make ", ". ", "pip ")


def pictures(folder: Path, count: int, classes: tuple[str, ...]) -> None:
    """Write pictures of the digits, as many of each class."""
    x, y = np.load(ROOT / "data/digits/x.npy"), np.load(ROOT / "data/digits/y.npy")
    for k, name in enumerate(classes):
        for i, image in enumerate(x[y == k][:count]):
            file = folder / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).resize((24, 24)).save(file)


def served(home: Path, line: str) -> list[str]:
    """Start a server as a command says, on a free port, and return the experiments that its page shows."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "MLFLOW_PORT": str(port)}
    server = subprocess.Popen(
        line,
        shell=True,
        cwd=home,
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    asked = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search?max_results=10"
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    return [each["name"] for each in json.load(answer)["experiments"]]
            except OSError:
                continue
        raise AssertionError("no server has answered within a minute")
    finally:
        os.killpg(server.pid, signal.SIGKILL)


def test_every_command_of_the_readme_works_as_written(tmp_path) -> None:
    home, person = working_copy(tmp_path / "crucible"), tmp_path / "person"
    pictures(person / "pictures", 30, ("zero", "one"))
    pictures(person / "new_pictures", 3, ("unknown",))
    # a remote store or the runs of this machine are none of its business
    env = {"HOME": str(person), "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    sh(home, "dvc", "repro", **env)  # make repro, its environment apart
    printed: dict[str, str] = {}
    for line in commands(README):
        if line.startswith("mlflow ui"):
            assert "crucible" in served(home, line)
        elif not line.startswith(SET_UP):
            printed[line] = sh(home, "bash", "-c", line, **env)
    assert len(printed) > 15
    assert (
        "Everything is up to date" in re.sub(r"\s+", " ", printed["dvc repro"])
        or "didn't change" in printed["dvc repro"]
    )
    assert re.search(r"test 0\.\d{4}", printed["python src/evaluate.py run=latest"])
    assert len((home / "answers.csv").read_text().splitlines()) == 4
    compared = printed["python src/compare.py multirun/mine curves=true x=optimizer"]
    assert dict(re.findall(r"optimizer=(\w+) +(\d+) ", compared)) == {"adam": "3", "sgd": "3"}  # six runs, by seed
