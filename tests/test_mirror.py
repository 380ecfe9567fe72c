"""MLflow holds what the journal holds, point for point, whatever is killed, down or busy."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT

from crucible.tracking import mlflow as door
from crucible.tracking.journal import read_events
from tests.attacks.processes import MARK, kill, marked

QUICK = ["tracking=none", "trainer.total_epochs=30", "model.layers=[8]", "trainer.log_every=5"]


@pytest.fixture
def run(command, tmp_path) -> Path:
    assert command("train", *QUICK, "run_name=first", "hydra.run.dir=run").code == 0
    return tmp_path / "run"


def client(uri: str):
    import mlflow

    return mlflow.MlflowClient(uri)


def the_run(uri: str, count: int = 1):
    found = client(uri).search_runs([client(uri).get_experiment_by_name("crucible").experiment_id])
    assert len(found) == count
    return found[0]


def assert_equal_to_journal(uri: str, folder: Path) -> None:
    run_id = json.loads((folder / "mirror.json").read_text())[uri]["run_id"]
    expected: dict[str, list[tuple[int, float, int]]] = {}
    for event in read_events(folder / "journal.jsonl"):
        for name, value in (event.get("values") or {}).items() if event["kind"] != "best" else ():
            expected.setdefault(name, []).append((event["step"], value, int(event["time"] * 1000)))
    for name, points in expected.items():
        history = [(p.step, p.value, p.timestamp) for p in client(uri).get_metric_history(run_id, name)]
        assert sorted(history) == sorted(points), name


def test_the_mirror_holds_points_params_tags_data_and_artifacts(run, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
    assert_equal_to_journal(uri, run)
    found = the_run(uri)
    assert found.info.run_name == "first" and found.info.status == "FINISHED"
    assert found.data.params["optimizer.lr"] == "0.001" and found.data.params["data.split.train"] == "0.6"
    key = json.loads((run / "card.json").read_text())["key"]
    assert found.data.tags["data.key"] == key and "hydra.overrides" in found.data.tags
    assert found.inputs.dataset_inputs[0].dataset.digest == key[:32]
    names = {file.path for file in client(uri).list_artifacts(found.info.run_id)}
    assert {"config.yaml", "card.json", "weights.safetensors", "train.json", "curves.csv"} <= names


def test_the_logged_model_predicts_what_the_run_predicts(command, run, tmp_path) -> None:
    import csv

    import mlflow
    import numpy as np

    uri = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
    assert command("evaluate", "run=run", "report=none").code == 0
    mlflow.set_tracking_uri(uri)
    logged = client(uri).search_logged_models([the_run(uri).info.experiment_id])[0]
    model = mlflow.pyfunc.load_model(logged.model_uri)
    prepared = next(Path("artifacts/prepared").iterdir())
    x = np.load(prepared / "test" / "x.npy")[:20].astype(np.float32)
    rows = list(csv.DictReader((run / "predictions.csv").open()))[:20]
    expected = [[float(row[str(k)]) for k in range(10)] for row in rows]
    assert np.allclose(model.predict(x), expected, atol=1e-5)


def test_mirroring_twice_adds_nothing_and_an_evaluation_is_added(command, run, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None) and door.mirror(
        run / "journal.jsonl", uri, "crucible", None
    )
    command("evaluate", "run=run")
    (run / "mirror.json").unlink()  # even if the record is lost, MLflow knows its own
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
    assert_equal_to_journal(uri, run)
    found = the_run(uri)
    assert found.data.metrics["test/f1"] == json.loads((run / "metrics.json").read_text())["test"]["f1"]
    assert "report.html" in {file.path for file in client(uri).list_artifacts(found.info.run_id)}


def test_a_store_that_is_down_loses_nothing(run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(door, "POLL_SECONDS", 0.001)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    down = "http://127.0.0.1:9"
    assert not door.mirror(run / "journal.jsonl", down, "crucible", None)
    assert capsys.readouterr().err.count("Exception") >= door.MOST_FAILURES
    assert door.behind(tmp_path, down) == [] and json.loads((run / "mirror.json").read_text())[down]["offset"] == 0
    up = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(run / "journal.jsonl", up, "crucible", None)
    assert_equal_to_journal(up, run)


def test_a_crash_between_sending_and_recording_doubles_nothing(run, tmp_path, monkeypatch) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    save, calls = door.Mirror._save, [0]

    def crash(self, **changes):
        if "offset" in changes:
            calls[0] += 1
            if calls[0] <= 2:
                raise OSError("killed before the offset was recorded")
        save(self, **changes)

    monkeypatch.setattr(door.Mirror, "_save", crash)
    monkeypatch.setattr(door, "POLL_SECONDS", 0.001)
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
    assert calls[0] > 2
    assert_equal_to_journal(uri, run)


def test_a_store_whose_maker_is_killed_is_made_again(run, tmp_path, monkeypatch) -> None:
    """MLflow makes its tables in many steps; between two of them a kill leaves a store that no client opens."""
    import sqlite3

    import mlflow

    def killed(uri: str) -> None:
        sqlite3.connect(uri.removeprefix("sqlite:///")).execute("create table experiments (experiment_id integer)")
        raise OSError("killed")

    uri = f"sqlite:///{tmp_path}/m.db"
    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "MlflowClient", killed)
        with pytest.raises(OSError, match="killed"):
            door._make_store(uri)
    assert not (tmp_path / "m.db").exists()
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
    assert_equal_to_journal(uri, run)
    assert not (tmp_path / "m.db.making").exists()


def mirroring(folder: Path, uri: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "crucible.tracking.mlflow", str(folder), "--uri", uri, *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_mirrors_and_several_at_once_on_one_store(command, tmp_path) -> None:
    uri, runs = f"sqlite:///{tmp_path}/m.db", []
    for seed in range(3):
        command("train", *QUICK, f"seed={seed}", f"hydra.run.dir=run{seed}")
        runs.append(tmp_path / f"run{seed}")
    draw = random.Random(0)
    first = [mirroring(run, uri) for run in runs]
    time.sleep(draw.uniform(4, 6))
    for process in first:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [process.wait(120) for process in [mirroring(run, uri) for run in runs]] == [0, 0, 0]
    for run in runs:
        assert_equal_to_journal(uri, run)
    the_run(uri, count=3)


@pytest.mark.slow
def test_a_server_that_hangs_does_not_hold_up_the_training(tmp_path) -> None:
    hanging = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []
    thread = threading.Thread(target=lambda: [accepted.append(hanging.accept()[0]) for _ in range(2)], daemon=True)
    thread.start()
    uri = f"http://127.0.0.1:{hanging.getsockname()[1]}"
    train = [sys.executable, str(ROOT / "src" / "train.py"), "trainer.total_epochs=3", f"tracking.uri={uri}"]
    mark = {MARK: str(tmp_path)}
    done = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=os.environ | mark)
    assert done.returncode == 0 and "result" in done.stdout
    folder = (tmp_path / "outputs" / "latest").resolve()
    kill(marked(str(tmp_path)))
    up = f"sqlite:///{tmp_path}/m.db"
    assert mirroring(folder, up).wait(120) == 0
    assert_equal_to_journal(up, folder)
    hanging.close()


@pytest.mark.slow
def test_a_run_that_is_behind_is_mirrored_at_the_next_start(command, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    for name in ("a", "b"):
        command("train", *QUICK, f"hydra.run.dir=outputs/d/{name}")
    door.Mirror(
        tmp_path / "outputs/d/a/journal.jsonl", uri, "crucible"
    ).claim()  # as a mirror does that is killed at its start
    door.Mirror(tmp_path / "outputs/d/b/journal.jsonl", "sqlite:////elsewhere", "crucible").claim()
    assert door.behind(tmp_path, uri) == [tmp_path / "outputs/d/a/journal.jsonl"]
    assert mirroring(tmp_path / "outputs/d/b", uri, "--root", str(tmp_path)).wait(120) == 0
    assert_equal_to_journal(uri, tmp_path / "outputs/d/a")


def test_following_ends_with_the_process_that_is_followed(run, tmp_path) -> None:
    events = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(line for line in events if '"kind": "end"' not in line))
    assert door.mirror(
        run / "journal.jsonl", f"sqlite:///{tmp_path}/m.db", "crucible", os.getpid()
    )  # our parent is another: not alive
    assert the_run(f"sqlite:///{tmp_path}/m.db").info.status == "RUNNING"


def test_a_run_whose_folder_was_used_again_is_mirrored_from_its_set_aside_journal(command, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    for seed in (1, 2, 3):
        command("train", *QUICK, f"seed={seed}", "hydra.run.dir=outputs/same")
        door.Mirror(tmp_path / "outputs/same/journal.jsonl", uri, None).claim()
    left = door.behind(tmp_path, uri)
    assert [path.name for path in left] == ["journal.1.jsonl", "journal.2.jsonl", "journal.jsonl"]
    assert all(door.mirror(path, uri, None, None) for path in left)
    found = client(uri).search_runs([client(uri).get_experiment_by_name("crucible").experiment_id])
    assert sorted(run.data.params["seed"] for run in found) == ["1", "2", "3"]
    assert all(len(client(uri).get_metric_history(run.info.run_id, "dev/f1")) == 30 for run in found)
    with_files = [run.data.params["seed"] for run in found if client(uri).list_artifacts(run.info.run_id)]
    assert with_files == ["3"]  # the files of the others are gone
