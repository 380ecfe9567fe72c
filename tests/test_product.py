"""A finished run as a product: asked about files, exported, served; and refusals of what is damaged or foreign."""

import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, toy_npz
from PIL import Image
from safetensors.torch import load_file, save_file

QUICK = ["model=convnet", "trainer.total_epochs=3", "tracking=none", "hydra.run.dir=run"]
DIGITS = np.load(ROOT / "data/digits/x.npy")


@pytest.fixture
def run(command, tmp_path) -> Path:
    """A run on digits that has been evaluated."""
    assert command("train", *QUICK).code == 0
    assert command("evaluate", "run=run", "report=none").code == 0
    return tmp_path / "run"


def reported(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def probabilities(rows: list[dict]) -> np.ndarray:
    return np.array([list(row["probabilities"].values()) for row in rows])


def of_test(run: Path) -> tuple[np.ndarray, list[list[str]]]:
    """Return the stored test images and the rows of predictions.csv."""
    key = json.loads((run / "card.json").read_text())["key"]
    x = np.load(run.parent / "artifacts/prepared" / key[:16] / "test/x.npy")
    return x, list(csv.reader((run / "predictions.csv").open()))[1:]


def test_answers_equal_those_of_the_evaluation(command, run, tmp_path) -> None:
    x, rows = of_test(run)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    wanted = np.array([[float(cell) for cell in row[3:]] for row in rows])
    for name in ("x.npy", "x.npz"):
        found = reported(command("predict", "run=run", f"input={name}", "format=json"))
        assert np.abs(probabilities(found) - wanted).max() < 1e-5
        assert [row["predicted"] for row in found] == [row[2] for row in rows]


def test_pictures_and_folders_are_brought_to_the_shape_of_the_run(command, run, tmp_path) -> None:
    (tmp_path / "pics" / "more").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(DIGITS[i].astype(np.uint8)).save(tmp_path / "pics" / ("more" if i == 2 else "") / f"{i}.png")
    Image.fromarray(np.repeat(DIGITS[0].astype(np.uint8), 2, 0).repeat(2, 1)).convert("RGB").save(
        tmp_path / "large.png"
    )
    np.save(tmp_path / "x.npy", DIGITS[:3])
    arrays = probabilities(reported(command("predict", "run=run", "input=x.npy", "format=json")))
    folder = reported(command("predict", "run=run", "input=pics", "format=json"))
    assert [row["input"] for row in folder] == ["pics/0.png", "pics/1.png", "pics/more/2.png"]
    assert np.allclose(probabilities(folder), arrays, atol=1e-6)
    assert np.allclose(
        probabilities(reported(command("predict", "run=run", "input=large.png", "format=json"))), arrays[:1], atol=0.4
    )


def test_one_example_alone_is_one_example(command, run, tmp_path) -> None:
    np.save(tmp_path / "one.npy", DIGITS[5])
    np.save(tmp_path / "some.npy", DIGITS[5:7])
    one, some = (
        probabilities(reported(command("predict", "run=run", f"input={name}.npy", "format=json")))
        for name in ("one", "some")
    )
    assert len(one) == 1 and np.allclose(one, some[:1], atol=1e-6)


def test_the_three_formats_say_the_same(command, run, tmp_path) -> None:
    np.save(tmp_path / "x.npy", DIGITS[:4])
    rows = reported(command("predict", "run=run", "input=x.npy", "format=json"))
    table = list(csv.DictReader(io.StringIO(command("predict", "run=run", "input=x.npy", "format=csv").out)))
    screen = command("predict", "run=run", "input=x.npy", "out=answers.csv")
    for row, line in zip(rows, table, strict=True):
        assert line["predicted"] == row["predicted"] and line["input"] == row["input"]
        assert float(line["3"]) == pytest.approx(row["probabilities"]["3"], abs=1e-6)
        assert re.search(rf"{row['input']} +{row['predicted']} ", screen.out)
    assert (tmp_path / "answers.csv").read_text().startswith("input,predicted,0,1,")
    assert "result  4 example(s)" in screen.out and "next  python src/export.py" in screen.out


def test_examples_far_from_train_are_said_to_be(command, run, tmp_path) -> None:
    np.save(tmp_path / "x.npy", DIGITS[:2] * 15.0)
    np.save(tmp_path / "near.npy", DIGITS[:2])
    assert "far from all this run has learned from" in command("predict", "run=run", "input=x.npy").out
    assert "far from" not in command("predict", "run=run", "input=near.npy").out


def test_tables_and_numbers(command, tmp_path) -> None:
    own = ["data=diabetes", "task=regression", "trainer.total_epochs=3", "tracking=none", "hydra.run.dir=run"]
    assert command("train", *own).code == 0
    lines = (ROOT / "data/diabetes/diabetes.csv").read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join(lines[:4]) + "\n")
    found = reported(command("predict", "run=run", "input=some.csv", "format=json"))
    assert len(found) == 3 and all(isinstance(row["predicted"], float) and 0 < row["predicted"] < 400 for row in found)
    (tmp_path / "less.csv").write_text("age,sex\n1,2\n")
    done = command("predict", "run=run", "input=less.csv")
    assert done.code == 2 and "there is no column 'bmi'" in done.err
    done = command("predict", "run=run", "input=some.png")
    assert done.code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["input=nothing.png"], "does not exist"),
        ([], "input\n    what: is missing"),
        (["input=x.npy", "format=xml"], "allowed: table, json, csv"),
        (["inptu=x.npy"], "nearest: input"),
        (["input=letter.png"], "no picture, or damaged"),
        (["input=letter.npy"], "cannot be read"),
        (["input=object.npy"], "cannot be read"),
        (["input=letter.txt"], "files of the kind '.txt' are not read"),
        (["input=long.npy"], "an example has shape"),
        (["input=empty"], "there are no pictures"),
        (["input=t.csv"], "was not trained on a table"),
        (["run=nowhere", "input=x.npy"], "there is no run in this folder"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_on_one_screen(command, run, tmp_path, words, message) -> None:
    for name in ("letter.png", "letter.npy", "letter.txt", "t.csv"):
        (tmp_path / name).write_text("dear friend")
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "long.npy", np.zeros((3, 1, 5, 5, 5), np.float32))
    np.save(tmp_path / "x.npy", DIGITS[:2])
    (tmp_path / "empty").mkdir()
    done = command("predict", *(["run=run"] if not any(w.startswith("run=") for w in words) else []), *words)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err, done.err


def damaged(run: Path, how: str) -> None:
    file = run / "weights.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "letter":
        file.write_text("dear friend")
    elif how == "foreign":
        save_file({"a": torch.zeros(3)}, file)
    elif how == "other shapes":
        save_file({name: torch.cat([value.flatten()[:1]]) for name, value in load_file(file).items()}, file)
    else:
        torch.save({"head.weight": torch.zeros(3)}, file)


@pytest.mark.parametrize("how", ["truncated", "letter", "foreign", "other shapes", "a pickle"])
@pytest.mark.parametrize("name", ["predict", "export", "evaluate", "inside"])
def test_damaged_and_foreign_weights_are_refused(command, run, tmp_path, name, how) -> None:
    damaged(run, how)
    np.save(tmp_path / "x.npy", DIGITS[:2])
    before = {*tmp_path.rglob("*")}
    done = command(name, "run=run", *(["input=x.npy"] if name == "predict" else []))
    assert done.code == 2 and "damaged, or of another model" in done.err and "Traceback" not in done.err, done.err
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize("model", ["mlp", "lenet5", "resnet", "inception", "convnet"])
def test_an_exported_file_answers_as_the_run_does(command, tmp_path, model) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    x, y = (np.load(ROOT / "data" / "digits" / f"{name}.npy")[:200] for name in "xy")
    np.savez(tmp_path / "some.npz", x=x, y=y)
    own = ["data=npz", "data.path=some.npz", "data.image_size=[12,12]"]
    command("train", f"model={model}", *own, *QUICK[1:], "trainer.total_epochs=1")
    done = command("export", "run=run")
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(str(tmp_path / "run/model.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == [str(i) for i in range(10)] and json.loads(facts["feature_shape"]) == [
        1,
        12,
        12,
    ]
    x = np.random.default_rng(0).uniform(0, 16, (5, 1, 12, 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    found = session.run(None, {"x": x})[0]
    assert (
        np.abs(found - probabilities(reported(command("predict", "run=run", "input=x.npy", "format=json")))).max()
        < 1e-5
    )


def test_an_export_that_answers_otherwise_leaves_nothing(command, run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("crucible.inference.onnx.LIMIT", -1.0)
    (tmp_path / "out").mkdir()
    done = command("export", "run=run", "out=out/model.onnx")
    assert done.code == 2 and "answers differ by" in done.err and not list((tmp_path / "out").iterdir())


def test_without_onnx_the_extra_is_named(command, run, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = command("export", "run=run")
    assert done.code == 2 and "crucible-dl[export]" in done.err


@pytest.mark.slow
def test_the_mlflow_model_is_served_elsewhere_and_answers_a_request(command, run, tmp_path) -> None:
    """In a process that cannot import our package but for the copy that the model carries."""
    uri = f"sqlite:///{tmp_path}/m.db"
    words = [sys.executable, "-m", "crucible.tracking.mlflow", "run", "--uri", uri]
    assert subprocess.run(words, cwd=tmp_path).returncode == 0
    model = next(tmp_path.rglob("MLmodel")).parent
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(model, elsewhere / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "model",
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(
        serve, cwd=elsewhere, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        body = json.dumps({"inputs": DIGITS[:3, None].astype(float).tolist()}).encode()
        answer = None
        for _ in range(240):
            try:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
                )
                answer = json.load(urllib.request.urlopen(request, timeout=10))
                break
            except OSError:
                time.sleep(0.5)
        assert answer is not None
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    np.save(tmp_path / "x.npy", DIGITS[:3])
    wanted = probabilities(reported(command("predict", "run=run", "input=x.npy", "format=json")))
    assert np.abs(np.array(answer["predictions"]) - wanted).max() < 1e-5


def test_class_names_may_come_with_the_arrays(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", classes=2)
    data = dict(np.load(tmp_path / "data.npz"))
    np.savez(tmp_path / "data.npz", x=data["x"], y=data["y"], classes=np.array(["dark", "bright"]))
    own = ["data=npz", "data.path=data.npz", "trainer.total_epochs=1", "tracking=none", "hydra.run.dir=run"]
    assert command("train", *own).code == 0
    assert json.loads((tmp_path / "run/card.json").read_text())["classes"] == ["dark", "bright"]


def test_wide_numbers_keep_their_differences(command, tmp_path) -> None:
    """Seconds since 1970: float32 would round them to 128."""
    rng = np.random.default_rng(0)
    t = np.concatenate([rng.uniform(-50, -5, 100), rng.uniform(5, 50, 100)])
    rows = [f"{1.7e9 + each:.3f},{'late' if each > 0 else 'early'}" for each in t]
    (tmp_path / "t.csv").write_text("\n".join(["t,kind", *rows]) + "\n")
    own = [
        "data=csv",
        "data.path=t.csv",
        "data.label=kind",
        "model=logistic",
        "optimizer.lr=0.1",
        "tracking=none",
        "hydra.run.dir=run",
    ]
    assert command("train", *own).code == 0
    found = reported(command("predict", "run=run", "input=t.csv", "format=json"))
    assert (
        np.mean([row["predicted"] == ("late" if each > 0 else "early") for row, each in zip(found, t, strict=True)])
        > 0.97
    )
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert command("export", "run=run").code == 0
    x = (1.7e9 + t)[:, None]
    answered = onnxruntime.InferenceSession(str(tmp_path / "run/model.onnx")).run(None, {"x": x})[0]
    assert np.abs(answered - probabilities(found)).max() < 1e-3  # the table has three decimals


@pytest.mark.parametrize(
    ("array", "message"), [(np.full((2, 8, 8), np.nan), "NaN or infinite"), (np.zeros((0, 8, 8)), "no examples")]
)
def test_arrays_of_nothing_or_nonsense_are_refused(command, run, tmp_path, array, message) -> None:
    np.save(tmp_path / "x.npy", array)
    done = command("predict", "run=run", "input=x.npy")
    assert done.code == 2 and message in done.err


def test_flattened_pictures_are_pictures(command, run, tmp_path) -> None:
    np.save(tmp_path / "flat.npy", DIGITS[:3].reshape(3, 64))
    np.save(tmp_path / "x.npy", DIGITS[:3])
    flat, plain = (
        probabilities(reported(command("predict", "run=run", f"input={n}.npy", "format=json"))) for n in ("flat", "x")
    )
    assert np.array_equal(flat, plain)


def test_runs_of_before_these_keys_are_still_understood(command, run, tmp_path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        "".join(
            line for line in text.splitlines(keepends=True) if "channels_last" not in line and "compile" not in line
        )
    )
    np.save(tmp_path / "x.npy", DIGITS[:2])
    assert command("predict", "run=run", "input=x.npy").code == 0


def test_where_to_write_is_checked_before_any_work(command, run, tmp_path) -> None:
    np.save(tmp_path / "x.npy", DIGITS[:2])
    for name in ("predict", "export"):
        for out, says in (("new/a.csv", "its folder does not exist"), ("run", "it is a folder")):
            done = command(name, "run=run", *(["input=x.npy"] if name == "predict" else []), f"out={out}")
            assert done.code == 2 and says in done.err and not (tmp_path / "run.new").exists(), done.err


def test_a_table_with_a_blank_line_or_a_nan_says_where(command, tmp_path) -> None:
    assert (
        command(
            "train", "data=diabetes", "task=regression", "trainer.total_epochs=1", "tracking=none", "hydra.run.dir=run"
        ).code
        == 0
    )
    lines = (ROOT / "data/diabetes/diabetes.csv").read_text().splitlines()
    (tmp_path / "short.csv").write_text("\n".join([*lines[:3], "1,2"]) + "\n")
    (tmp_path / "nan.csv").write_text(
        "\n".join([lines[0], lines[1], ",".join(["nan", *lines[2].split(",")[1:]])]) + "\n"
    )
    for name, says in (("short", "line 4"), ("nan", "row 1")):
        done = command("predict", "run=run", f"input={name}.csv")
        assert done.code == 2 and says in done.err, done.err


def test_runs_of_before_these_keys_are_evaluated(command, run, tmp_path) -> None:
    import yaml

    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["transfer"], config["trainer"]["channels_last"], config["trainer"]["compile"]
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = command("evaluate", "run=run", "report=none")
    assert done.code == 0, done.err
