"""The API of a notebook: the same bits as the commands, answers to files, arrays and frames, refusals as exceptions."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import ROOT, toy_npz
from PIL import Image
from test_table import passengers

import crucible
from crucible.integrity import sha256_of

QUICK = {"trainer": {"total_epochs": 2, "threads": 1}, "tracking": "none"}


@pytest.fixture
def run(tmp_path, monkeypatch) -> crucible.Run:
    monkeypatch.chdir(tmp_path)
    return crucible.train(model="convnet", run_name="first", **QUICK)


def test_training_is_that_of_the_command(command, run, tmp_path) -> None:
    done = command(
        "train",
        "model=convnet",
        "trainer.total_epochs=2",
        "trainer.threads=1",
        "tracking=none",
        "hydra.run.dir=by_hand",
    )
    assert done.code == 0, done.err
    assert sha256_of(run.folder / "weights.safetensors") == sha256_of(tmp_path / "by_hand/weights.safetensors")
    assert run.config["trainer"]["total_epochs"] == 2 and run.card.name == "digits"
    assert sys.argv[0] != "src/train.py" or "pytest" in sys.modules


def test_answers_to_arrays_files_folders_and_lists_are_those_of_predict(command, run, tmp_path) -> None:
    x = np.load(ROOT / "data/digits/x.npy")[:5]
    np.save(tmp_path / "x.npy", x)
    wanted = json.loads(command("predict", f"run={run.folder}", "input=x.npy", "format=json").out)
    found = run.predict(x)
    assert list(found["predicted"]) == [row["predicted"] for row in wanted]
    assert np.allclose(found[list(run.card.classes)], [list(row["probabilities"].values()) for row in wanted])
    assert found.equals(run.predict("x.npy")) and len(run.predict(x[0])) == 1
    files = []
    for i, image in enumerate(x.reshape(5, 8, 8)):
        files.append(tmp_path / "some" / f"{i}.png")
        files[-1].parent.mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(files[-1])
    assert run.predict(files)["predicted"].tolist() == run.predict(tmp_path / "some")["predicted"].tolist()


def test_a_frame_of_pandas_or_polars_is_answered_as_the_file_it_came_from(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = passengers()
    table.to_csv("table.csv", index=False)
    run = crucible.train(
        data="table", model={"layers": [8]}, **{"data.path": "table.csv", "data.label": "kind"}, **QUICK
    )
    wanted = run.predict("table.csv")
    for frame in (table, pl.from_pandas(table), pd.read_csv("table.csv"), table.iloc[:, ::-1]):
        assert np.allclose(run.predict(frame)[["died", "lived"]], wanted[["died", "lived"]], atol=1e-6)
    with pytest.raises(crucible.Refusal, match="there is no column 'age'"):
        run.predict(table.drop(columns="age"))


def test_lines_of_text_are_answered(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = crucible.train("experiment=sequence", **QUICK)
    found = run.predict(["import os", "the class is used"])
    assert found["input"].tolist() == ["import os", "the class is used"] and set(found["predicted"]) <= {
        "code",
        "prose",
    }
    assert len(run.predict("import os")) == 1


def test_history_summary_evaluation_and_what_a_notebook_shows(run, tmp_path) -> None:
    assert list(run.history.index) == [1, 2] and {"train/loss", "dev/loss"} <= set(run.history.columns)
    assert "test" not in run.summary
    numbers = run.evaluate("report=none")
    assert numbers["test"] == run.summary["test"] and (run.folder / "metrics.json").exists()
    assert f"test {numbers['test']['f1']:.4f}" in run._repr_html_() and "<script" not in run._repr_html_()
    assert repr(run).startswith("<crucible run ")


def test_a_run_is_found_by_its_name_by_latest_and_by_its_folder(run) -> None:
    for name in ("first", "latest", "outputs/latest", run.folder):
        assert crucible.load(name).folder.resolve() == run.folder
    with pytest.raises(crucible.Refusal, match="no run in this folder, or of this name"):
        crucible.load("second")


def test_runs_are_a_table_newest_first(run, tmp_path) -> None:
    second = crucible.train("model.layers=[4]", model="mlp", **QUICK)
    table = crucible.runs()
    assert [Path(folder).resolve() for folder in table["folder"]] == [second.folder, run.folder]
    assert table["state"].tolist() == ["finished", "finished"] and table["name"][1] == "first"
    assert table["value"][1] == pytest.approx(run.summary["dev"]["f1"]) and table["test"].isna().all()


def test_refusals_are_exceptions_and_leave_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = sys.argv
    for bad, says in (
        ({"model": "rensnet"}, "nearest: resnet"),
        ({"model": {"layer": [3]}}, "model.layer"),
        ({"data": "auto"}, "no path|none is given"),
    ):
        with pytest.raises(crucible.Refusal, match=says):
            crucible.train(**bad)
    assert sys.argv is words and not [*tmp_path.iterdir()]
    with pytest.raises(crucible.Refusal, match="none of what is read"):
        toy_npz(tmp_path / "a.npz")
        crucible.train("data=npz", "data.path=a.npz", model={"layers": [2]}, **QUICK).predict(3)


def test_look_gives_the_words_that_train(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_npz(tmp_path / "a.npz")
    found = crucible.look("a.npz", "model=mlp")
    assert found.words[:2] == ["data=npz", "data.path=a.npz"] and not any(
        word.startswith("model") for word in found.words
    )


def test_the_notebook_of_the_docs_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text())
    names: dict[str, object] = {"__name__": "__main__"}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    for cell in cells:
        exec(compile(cell, "docs/notebook.ipynb", "exec"), names)  # noqa: S102
    assert names["answers"].shape[0] == 5
