"""What people do with runs all day: extend them, ask one that was stopped, find them, see what goes in; and what helps them on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, toy_npz
from PIL import Image
from safetensors.torch import load_file

from crucible.app.cli import BY_WORDS, COMPOSED, VERBS
from crucible.integrity import sha256_of
from crucible.plots.pixels import sheet

QUICK = ["model=convnet", "trainer.threads=1", "tracking=none"]


@pytest.mark.parametrize("schedule", ["constant", "inverse_time"])
def test_a_finished_run_extended_has_the_bits_of_a_longer_one(command, tmp_path, schedule) -> None:
    words = [*QUICK, f"schedule={schedule}"]
    assert command("train", *words, "trainer.total_epochs=2", "hydra.run.dir=run").code == 0
    assert command("train", *words, "trainer.total_epochs=4", "hydra.run.dir=whole").code == 0
    done = command("train", "resume=run", "trainer.total_epochs=4")
    assert done.code == 0, done.err
    assert sha256_of(tmp_path / "run/weights.safetensors") == sha256_of(tmp_path / "whole/weights.safetensors")
    summary = json.loads((tmp_path / "run/train.json").read_text())
    assert summary["epochs"] == 4 and summary["dev"] == json.loads((tmp_path / "whole/train.json").read_text())["dev"]
    before = sha256_of(tmp_path / "run/journal.jsonl")
    assert (
        command("train", "resume=run", "trainer.total_epochs=4").code == 0 and command("train", "resume=run").code == 0
    )
    assert sha256_of(tmp_path / "run/journal.jsonl") == before


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["resume=run", "trainer.total_epochs=1"], "this run has trained 2 epochs"),
        (["resume=run", "optimizer.lr=0.1"], "not optimizer.lr"),
        (["resume=run", "trainer.total_epochs=x"], "'x' is refused"),
    ],
)
def test_what_cannot_be_extended_is_refused(command, tmp_path, words, wanted) -> None:
    assert command("train", *QUICK, "trainer.total_epochs=2", "hydra.run.dir=run").code == 0
    before = {path.name: sha256_of(path) for path in (tmp_path / "run").iterdir() if path.is_file()}
    done = command("train", *words)
    assert done.code == 2 and wanted in done.err, done.err
    assert {path.name: sha256_of(path) for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_a_schedule_that_has_come_to_nothing_is_not_extended(command) -> None:
    assert command("train", *QUICK, "schedule=cosine", "trainer.total_epochs=2", "hydra.run.dir=run").code == 0
    done = command("train", "resume=run", "trainer.total_epochs=4")
    assert done.code == 2 and "brought the rate to 0" in done.err and "transfer.source=run" in done.err


def test_a_stopped_run_is_asked_judged_and_exported_as_far_as_it_came(command, train_until_killed, tmp_path) -> None:
    words = [*QUICK, "trainer.total_epochs=5", "trainer.checkpoint_every=1", "hydra.run.dir=run"]
    train_until_killed(*words)
    files = {path.name: sha256_of(path) for path in (tmp_path / "run").iterdir()}
    x = np.load(ROOT / "data/digits/x.npy")[:20]
    np.save(tmp_path / "x.npy", x)
    done = command("predict", "run=run", "input=x.npy", "format=json")
    assert done.code == 0 and "was stopped after epoch 2" in done.err, done.err
    assert command("train", *QUICK, "trainer.total_epochs=2", "hydra.run.dir=short").code == 0
    best = {name: load_file(tmp_path / name / "weights.safetensors") for name in ("run/unfinished", "short")}
    assert all((best["short"][name] == value).all() for name, value in best["run/unfinished"].items())
    assert json.loads(done.out) == json.loads(command("predict", "run=short", "input=x.npy", "format=json").out)
    judged = command("evaluate", "run=run", "report=none")
    assert (
        judged.code == 0 and "was stopped after epoch 2" in judged.err and "run/unfinished/metrics.json" in judged.out
    )
    assert (exported := command("export", "run=run", "out=m.onnx")).code == 0, exported.err
    # the run itself is as it was, and goes on to the bits of one that was never stopped
    assert {path.name: sha256_of(path) for path in (tmp_path / "run").iterdir() if path.is_file()} == files
    assert command("train", "resume=run").code == 0 and not (tmp_path / "run/unfinished").exists()
    assert command("train", *QUICK, "trainer.total_epochs=5", "hydra.run.dir=whole").code == 0
    assert sha256_of(tmp_path / "run/weights.safetensors") == sha256_of(tmp_path / "whole/weights.safetensors")


def test_runs_are_listed_with_their_state_and_found_by_their_names(command, train_until_killed, tmp_path) -> None:
    assert command("train", *QUICK, "trainer.total_epochs=1", "run_name=good one").code == 0
    train_until_killed(*QUICK, "trainer.total_epochs=5", "hydra.run.dir=outputs/2020-01-01/00-00-00")
    assert command("evaluate", "run=good one", "report=none").code == 0
    rows = json.loads(command("runs", "format=json").out)
    assert {row["state"] for row in rows} == {"finished", "stopped"} and len(rows) == 2
    named = next(row for row in rows if row["name"] == "good one")
    metrics = json.loads(Path(named["folder"], "metrics.json").read_text())
    assert named["value"] == metrics["dev"]["f1"] and named["test"] == metrics["test"]["f1"]
    table = command("runs").out
    assert "good one" in table and "stopped" in table and "2 run(s)" in table
    assert command("runs", "format=csv").out.count("\n") == 3
    assert "0 run(s)" not in table and command("runs", "form=csv").code == 2


def test_no_runs_are_no_fault(command) -> None:
    done = command("runs")
    assert done.code == 0 and "0 run(s)" in done.out


@pytest.mark.parametrize("verb", [verb for verb in BY_WORDS if verb != "new"])
def test_every_command_says_what_it_takes(command, verb) -> None:
    done = command(verb, "--help")
    assert done.code == 0 and f"usage: python src/{verb}.py" in done.out and (ROOT / "src" / f"{verb}.py").exists()


@pytest.mark.parametrize("verb", [*COMPOSED, "predict"])
def test_every_command_says_its_version(command, verb) -> None:
    done = command(verb, "--version")
    assert done.code == 0 and done.out.startswith("crucible 0.") and "torch 2." in done.out


def test_every_command_has_a_file() -> None:
    assert {path.stem for path in (ROOT / "src").glob("*.py")} | {"new"} == set(VERBS)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("epochs=3", "trainer.total_epochs"), ("lr=0.1", "optimizer.lr"), ("learning_rate=0.1", "optimizer.lr"), ("batch_size=8", "trainer.batch_size"),
     ("path=x", "data.path"), ("label=x", "data.label"), ("dropout=0.5", "model.keep_prob"), ("data=images", "image_folder"), ("data=tabular", "table"),
     ("trainer.epochs=3", "total_epochs"), ("layers=[3]", "model.layers")],
)  # fmt: skip
def test_what_people_type_elsewhere_is_led_to_its_place(command, word, nearest) -> None:
    done = command("train", word)
    assert done.code == 2 and f"nearest: {nearest}" in done.err, done.err


def test_several_runs_are_counted_and_the_comparison_is_named(command) -> None:
    done = command("train", "-m", "seed=1,2", "optimizer=sgd,adam", "model=logistic", "trainer.total_epochs=1", "trainer.threads=1", "tracking=none",
                   "hydra.sweep.dir=several runs")  # fmt: skip
    assert done.code == 0 and "3 of 4: seed=2 optimizer=sgd" in done.err, done.err
    assert done.out.rstrip().splitlines()[-1].strip() == "next  python src/compare.py 'several runs'"
    assert command("compare", "several runs").code == 0


def test_json_is_written_where_the_file_says_so(command, tmp_path) -> None:
    assert command("train", *QUICK, "trainer.total_epochs=1", "hydra.run.dir=run").code == 0
    np.save(tmp_path / "x.npy", np.load(ROOT / "data/digits/x.npy")[:3])
    for name in ("p.json", "p.csv"):
        assert command("predict", "run=run", "input=x.npy", f"out={name}").code == 0
    assert len(json.loads((tmp_path / "p.json").read_text())) == 3 and (tmp_path / "p.csv").read_text().startswith(
        "input,predicted"
    )


def test_the_first_batch_is_drawn_as_the_network_sees_it(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz", shape=(20, 30))
    done = command(
        "train", "data=npz", "data.path=a.npz", "augment=light", *QUICK, "trainer.total_epochs=1", "hydra.run.dir=run"
    )
    assert "          run/first_batch.png: what the network sees first" in done.out, done.err
    picture = Image.open(tmp_path / "run/first_batch.png")
    assert picture.size == (8 * 164, 2 * 178)
    before = sha256_of(tmp_path / "run/first_batch.png")
    assert (
        command("train", "data=npz", "data.path=a.npz", *QUICK, "trainer.total_epochs=1", "hydra.run.dir=plain").code
        == 0
    )
    assert sha256_of(tmp_path / "plain/first_batch.png") != before
    assert (
        "sees first"
        not in command("train", "data=diabetes", "task=regression", "trainer.total_epochs=1", "tracking=none").out
    )


def test_a_sheet_holds_its_images_with_boxes_where_they_are() -> None:
    import io

    image = np.zeros((3, 80, 160), np.uint8)
    found = np.asarray(
        Image.open(io.BytesIO(sheet([image, image], ["a", "b"], [[[40, 20, 80, 60]], []], [[], [[10, 10]]])))
    )
    assert found.shape == (178, 328, 3) and tuple(found[20, 60]) == (56, 161, 105) and tuple(found[40, 60]) == (0, 0, 0)
    assert tuple(found[10, 164 + 10]) == (56, 161, 105)


@pytest.mark.slow
def test_several_runs_side_by_side_are_those_one_after_the_other(tmp_path) -> None:
    """Hydra's launchers may be chosen for plain -m: the same bits, each run in a process of its own."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'crucible-dl[launchers]'")
    words = ["-m", "seed=1,2", "trainer.total_epochs=2", "trainer.threads=1", "tracking=none"]
    for more in (
        ["hydra.sweep.dir=one"],
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=other"],
    ):
        done = subprocess.run(
            [sys.executable, str(ROOT / "src/train.py"), *words, *more], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0 and "src/compare.py" in done.stdout, done.stderr
    for number in "01":
        assert sha256_of(tmp_path / "one" / number / "weights.safetensors") == sha256_of(
            tmp_path / "other" / number / "weights.safetensors"
        )


def test_a_run_without_a_name_is_not_called_none(command, tmp_path) -> None:
    assert command("train", "trainer.total_epochs=1", "tracking=none").code == 0
    refused = command("predict", "run=None", "input=x.npy")
    assert refused.code == 2 and "there is no run in this folder, or of this name" in refused.err
