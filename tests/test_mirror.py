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
from types import SimpleNamespace

import pytest
from conftest import ROOT

from crucible.tracking import mirror
from crucible.tracking import mlflow as door
from crucible.tracking.folder import locked
from crucible.tracking.journal import read_events
from tests.attacks.processes import MARK, kill, marked

QUICK = ["tracking=none", "trainer.total_epochs=30", "model.layers=[8]", "trainer.log_every=5"]


@pytest.fixture(autouse=True)
def own_path(monkeypatch) -> None:
    """A logged model that is loaded puts its own copy of the code first on the path: not for the tests that follow."""
    monkeypatch.setattr(sys, "path", [*sys.path])


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
    assert [process.wait(300) for process in [mirroring(run, uri) for run in runs]] == [0, 0, 0]
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
    found = the_run(f"sqlite:///{tmp_path}/m.db")
    assert found.info.status == "KILLED"  # at once: nobody trains there, and its end never came
    assert found.data.tags["mlflow.user"] and found.data.tags["command"].startswith("python src/train.py ")


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
    assert all(
        len(client(uri).get_metric_history(run.info.run_id, "dev/f1")) == 31 for run in found
    )  # and the chosen one
    with_files = [run.data.params["seed"] for run in found if client(uri).list_artifacts(run.info.run_id)]
    assert with_files == ["3"]  # the files of the others are gone


def test_the_number_that_the_store_ranks_by_is_the_screens(command, tmp_path) -> None:
    """The last point of each curve of dev is that of the chosen weights, not that of the last epoch."""
    words = [*QUICK[:1], "trainer.total_epochs=12", "model.layers=[8]", "optimizer.lr=0.3", "hydra.run.dir=run"]
    done = command("train", *words)
    summary = json.loads((tmp_path / "run" / "train.json").read_text())
    epochs = [e["values"] for e in read_events(tmp_path / "run/journal.jsonl") if "train/loss" in e.get("values", {})]
    assert epochs[-1]["dev/f1"] != summary["dev"]["f1"]  # else this test tests nothing
    uri = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(tmp_path / "run/journal.jsonl", uri, "crucible", None)
    shown = the_run(uri).data.metrics
    assert {name: shown[f"dev/{name}"] for name in ("loss", "error", "accuracy", "f1")} == {
        name: summary["dev"][name] for name in ("loss", "error", "accuracy", "f1")
    }
    assert f"dev {shown['dev/f1']:.4f}" in done.out
    assert_equal_to_journal(uri, tmp_path / "run")


def test_a_killed_run_is_killed_in_the_store_until_it_goes_on(command, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    command("train", *QUICK, "hydra.run.dir=outputs/d/a")
    path = tmp_path / "outputs/d/a/journal.jsonl"
    whole = path.read_text()
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if '"kind": "end"' not in line))
    with locked(path.parent):  # somebody trains there
        door.mirror(path, uri, "crucible", os.getpid())
        assert the_run(uri).info.status == "RUNNING" and door.killed(tmp_path, uri) == []
    assert door._mirror_others(tmp_path, uri)
    assert the_run(uri).info.status == "KILLED" and door.killed(tmp_path, uri) == []
    with path.open("a") as file:
        file.write(json.dumps({"kind": "resume", "time": time.time(), "epoch": 30, "step": 0}) + "\n")
    with locked(path.parent):
        door.mirror(path, uri, "crucible", os.getpid())
    assert the_run(uri).info.status == "RUNNING"
    with path.open("a") as file:
        file.write(whole.splitlines(keepends=True)[-1])
    assert door.mirror(path, uri, "crucible", None)
    assert the_run(uri).info.status == "FINISHED" and door.killed(tmp_path, uri) == []


def test_a_model_that_cannot_be_logged_is_tried_once_and_takes_one_line(run, tmp_path, monkeypatch, capsys) -> None:
    tries, uri = [], f"sqlite:///{tmp_path}/m.db"

    def untraceable(self: door.Mirror) -> None:
        tries.append(self)
        self.client.create_logged_model(self._experiment_id(), "model", self.state["run_id"])
        raise RuntimeError("aten.equal.default\nand two hundred more lines")

    monkeypatch.setattr(door.Mirror, "_log_model", untraceable)
    for _ in range(2):
        assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
        state = json.loads((run / "mirror.json").read_text())
        state[uri]["offset"] = 0  # as if it had been killed before it wrote down that it was done
        (run / "mirror.json").write_text(json.dumps(state))
    err = capsys.readouterr().err
    assert len(tries) == 1 and err.count("no model is logged") == 1 and "two hundred" not in err
    assert the_run(uri).info.status == "FINISHED"
    assert client(uri).search_logged_models([the_run(uri).info.experiment_id]) == []


def test_the_models_that_failed_before_are_taken_away(run, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.Mirror, "_try_model", lambda self: (_ for _ in ()).throw(OSError("killed")))
        patch.setattr(door, "POLL_SECONDS", 0.001)
        assert not door.mirror(run / "journal.jsonl", uri, "crucible", None)
    found = the_run(uri)
    client(uri).create_logged_model(found.info.experiment_id, "model", found.info.run_id)
    assert door.mirror(run / "journal.jsonl", uri, "crucible", None)
    assert [each.status for each in client(uri).search_logged_models([found.info.experiment_id])] == ["READY"]


@pytest.mark.slow
def test_a_detectors_model_is_logged_without_a_pickle_and_gives_raw_boxes(command, tmp_path, monkeypatch) -> None:
    import mlflow
    import numpy as np
    import torch

    from crucible.inference.saved_run import Predictor, load_run

    words = ["data=digit_scenes", "data.reader.scenes={train: 20, dev: 10, test: 10}", "task=detection", "model=yolo"]
    assert command("train", *words, "tracking=none", "trainer.total_epochs=1", "hydra.run.dir=run").code == 0
    uri = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(tmp_path / "run/journal.jsonl", uri, "crucible", None)
    found = client(uri).search_logged_models([the_run(uri).info.experiment_id])
    assert [each.status for each in found] == ["READY"]
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(uri)
    shape = json.loads((tmp_path / "run/card.json").read_text())["feature_shape"]
    x = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.float32)
    with torch.inference_mode():
        wanted = Predictor(load_run(tmp_path / "run", torch.device("cpu")), settled=False).eval()(torch.from_numpy(x))
    assert np.allclose(mlflow.pyfunc.load_model(found[0].model_uri).predict(x), wanted.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    "name", ["final/dev_per_class/c++", "a/../b", "..", "a//b", "/a", "<script>", "x" * 300, "a\0b", "a\nb", "./a"]
)
def test_every_name_is_one_that_mlflow_takes_and_names_stay_apart(name) -> None:
    from mlflow.utils.validation import _validate_metric

    _validate_metric(door.metric_name(name), 1.0, 0, 0)
    assert door.metric_name("dev/map50_95") == "dev/map50_95" and door.metric_name("c++") != door.metric_name("c--")


def test_no_password_of_a_store_is_written_anywhere(command, tmp_path, monkeypatch, capsys) -> None:
    started = []
    process = SimpleNamespace(
        Popen=lambda words, **more: started.append((words, more["env"])), DEVNULL=subprocess.DEVNULL
    )
    monkeypatch.setattr(mirror, "subprocess", process)
    uri, hidden = "http://me:hunter2@127.0.0.1:9", "http://me:***@127.0.0.1:9"
    done = command("train", *QUICK[1:], f"tracking.uri={uri}", "hydra.run.dir=run")
    words, environment = started[0]
    assert (
        done.code == 0 and "hunter2" not in done.out + done.err + " ".join(words) and environment[mirror.STORE] == uri
    )
    monkeypatch.setattr(door, "POLL_SECONDS", 0.001)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert not door.mirror(tmp_path / "run/journal.jsonl", uri, None, None)
    assert "hunter2" not in capsys.readouterr().err
    command("evaluate", "run=run")
    assert [file for file in (tmp_path / "run").rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()] == []
    assert hidden in json.loads((tmp_path / "run/mirror.json").read_text())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mirror.whole(hidden) == hidden
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert mirror.whole(hidden) == uri
    local = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(tmp_path / "run/journal.jsonl", local, None, None)
    found = the_run(local)
    assert found.data.params["tracking.uri"] == hidden and "hunter2" not in str(found)


def test_names_that_do_harm_reach_the_store_as_plain_text(command, tmp_path) -> None:
    uri, name = f"sqlite:///{tmp_path}/m.db", "<script>\x1b[2J\u202e\n../.."
    command("train", *QUICK, f"run_name={name}", "hydra.run.dir=run")
    assert door.mirror(tmp_path / "run/journal.jsonl", uri, "../out", None)
    experiment = client(uri).get_experiment_by_name("../out")
    found = client(uri).search_runs([experiment.experiment_id])[0]
    assert found.info.run_name == r"<script>\x1b[2J\u202e\n../.."
    assert Path(experiment.artifact_location.removeprefix("file://")).parent == tmp_path / "mlruns"


def test_the_logged_model_of_a_table_takes_its_cells(command, tmp_path) -> None:
    import mlflow
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(1, 80, 200), "port": rng.choice(["Köln", "Rom", ""], 200), "member": rng.choice(["yes", "no"], 200),
                          "day": [f"{1 + i % 28}.02.2024" for i in range(200)]})  # fmt: skip
    table["kind"] = np.where((table["age"] > 40) ^ (table["port"] == "Rom"), "a", "b")
    table.to_csv(tmp_path / "t.csv", index=False)
    done = command(
        "train",
        "data=table",
        "data.path=t.csv",
        "data.label=kind",
        "hydra.run.dir=run",
        "trainer.total_epochs=3",
        "tracking=none",
    )
    assert done.code == 0, done.err
    asked = table.drop(columns="kind").head(12).assign(port=["Rom", "Atlantis", None, *table["port"][3:12]])
    asked.to_csv(tmp_path / "asked.csv", index=False)
    rows = json.loads(command("predict", "run=run", "input=asked.csv", "format=json").out)
    uri = f"sqlite:///{tmp_path}/m.db"
    assert door.mirror(tmp_path / "run/journal.jsonl", uri, "crucible", None)
    mlflow.set_tracking_uri(uri)
    found = the_run(uri)
    logged = client(uri).search_logged_models([found.info.experiment_id])[0]
    model = mlflow.pyfunc.load_model(logged.model_uri)
    assert [each.name for each in model.metadata.signature.inputs] == ["age", "port", "member", "day"]
    assert model.input_example["port"].tolist()[0] in ("Köln", "Rom")
    assert np.allclose(model.predict(asked), [list(row["probabilities"].values()) for row in rows], atol=1e-6)
    assert not list(Path(logged.artifact_location.removeprefix("file://")).rglob("*.pkl"))
