"""The pipeline as commands in a fresh clone: only what changed runs again, killed goes on, equal bytes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import sh, working_copy
from test_commands import wait_for_epoch

from crucible.tracking.journal import read_events
from tests.attacks.processes import kill, members

pytestmark = pytest.mark.slow
OUTS = ["train/weights.safetensors", "train/curves.csv", "train/train.json"]
OUTS += [f"evaluate/{name}" for name in ("predictions.csv", "confusion.csv")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A fresh clone of what git would take from this folder, with a quick configuration."""
    home = working_copy(tmp_path_factory.mktemp("clone"), without=("artifacts/", "dvc.lock"))
    trainer = home / "conf" / "trainer" / "default.yaml"
    trainer.write_text(trainer.read_text().replace("total_epochs: 50", "total_epochs: 12"))
    (home / "conf" / "config.yaml").write_text(
        (home / "conf" / "config.yaml").read_text().replace("tracking: mlflow", "tracking: none")
    )
    sh(home, "git", "commit", "-qam", "quick")
    return home


def ran(stated: str) -> list[str]:
    return [line.split("'")[1] for line in stated.splitlines() if line.startswith("Running stage")]


def taken(home: Path) -> dict[str, bytes]:
    found = {name: (home / "artifacts" / name).read_bytes() for name in OUTS}
    metrics = json.loads((home / "artifacts/evaluate/metrics.json").read_text())
    metrics.pop("latency_ms_per_example")
    return found | {"metrics": json.dumps(metrics).encode()}


def test_the_pipeline_from_fresh_clone_to_experiment(clone: Path) -> None:
    assert ran(sh(clone, "dvc", "repro")) == ["compose", "prepare", "train", "evaluate"]
    first = taken(clone)
    assert (clone / "artifacts/evaluate/report.html").exists()
    assert ran(sh(clone, "dvc", "repro")) == []

    mlp = clone / "conf" / "model" / "mlp.yaml"
    before = mlp.read_text()
    mlp.write_text(before.replace("[128, 64]", "[32]"))
    assert ran(sh(clone, "dvc", "repro")) == ["compose", "train", "evaluate"]
    assert taken(clone)["train/weights.safetensors"] != first["train/weights.safetensors"]
    mlp.write_text(before)
    assert ran(sh(clone, "dvc", "repro")) == ["compose"]  # the rest comes from the run cache
    assert taken(clone) == first

    sh(clone, "git", "add", "-A")
    sh(clone, "git", "commit", "-qm", "first result")
    stated = sh(clone, "dvc", "exp", "run", "-S", "model=resnet", "-S", "model.width=4", "-S", "optimizer=adam")
    assert "train" in ran(stated) and "prepare" not in ran(stated)
    shown = sh(clone, "dvc", "exp", "show", "--csv")
    assert "resnet" in shown and "mlp" in shown
    assert "test.f1" in sh(clone, "dvc", "metrics", "diff")
    plots = sh(clone, "dvc", "plots", "show")
    assert "index.html" in plots and "failed" not in plots  # no plot of a pipeline that did not run
    assert "index.html" in sh(clone, "dvc", "plots", "diff")

    sh(clone, "git", "checkout", "-q", ".")
    sh(clone, "dvc", "repro", "--force")  # everything anew, nothing from a cache
    assert taken(clone) == first


def test_a_killed_repro_goes_on_and_ends_with_the_same_bytes(clone: Path) -> None:
    trainer = clone / "conf" / "trainer" / "default.yaml"
    trainer.write_text(trainer.read_text().replace("total_epochs: 12", "total_epochs: 300"))
    run = clone / "artifacts" / "train"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    nothing = {"journal": ""}  # where this is the first test of its process, its clone has not been trained yet
    was = next(read_events(run / "journal.jsonl"), nothing)["journal"]
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=clone, env=os.environ | {"PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while next(read_events(run / "journal.jsonl"), nothing)["journal"] in (was, ""):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    wait_for_epoch(run, 60)
    while left := members(process.pid):
        kill(left)
    process.wait()
    assert "train" in ran(sh(clone, "dvc", "repro"))
    resumed = [event["epoch"] for event in read_events(run / "journal.jsonl") if event["kind"] == "resume"]
    assert len(resumed) == 1 and resumed[0] >= 1
    after = taken(clone)
    sh(clone, "dvc", "repro", "--force")
    assert taken(clone) == after


def test_data_that_dvc_would_not_see_change_are_refused(clone: Path, tmp_path: Path) -> None:
    stated = sh(clone, "dvc", "exp", "run", "--temp", "-S", f"data.path={tmp_path}", check=False)
    assert "DVC would not see these data change" in stated and "dvc add" in stated


def test_the_split_seed_is_not_the_training_seed(clone: Path) -> None:
    sh(clone, "git", "checkout", "-q", ".")
    sh(clone, "dvc", "repro")
    stated = sh(clone, "dvc", "exp", "run", "-S", "seed=7")
    assert "train" in ran(stated) and "prepare" not in ran(stated)
