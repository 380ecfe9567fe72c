"""The commands as a person types them: seeds, odd paths, early stopping, resuming, other data, sweeps."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, toy_npz
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from crucible.app.compose import quoted
from crucible.tracking.journal import read_events

QUICK = ["tracking=none", "trainer.total_epochs=3", "model.layers=[16]"]
LATEST = Path("outputs/latest")


def weights() -> bytes:
    return (LATEST / "weights.safetensors").read_bytes()


def test_same_seed_same_bytes_and_another_seed_differs(command) -> None:
    seen = []
    for seed in (0, 0, 1):
        assert command("train", *QUICK, f"seed={seed}").code == 0
        command("evaluate", "run=latest", "report=none")
        files = [LATEST / name for name in ("weights.safetensors", "curves.csv", "predictions.csv", "confusion.csv")]
        numbers = json.loads((LATEST / "metrics.json").read_text())
        numbers.pop("latency_ms_per_example")
        seen.append([file.read_bytes() for file in files] + [json.dumps(numbers)])
    assert seen[0] == seen[1]
    assert all(a != b for a, b in zip(seen[0], seen[2], strict=True))


def test_the_weights_file_holds_weights_and_no_time_or_path(command) -> None:
    command("train", *QUICK)
    header = json.loads(weights()[8 : 8 + int.from_bytes(weights()[:8], "little")])
    assert set(header) == {"hidden.linear0.weight", "hidden.linear0.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize(
    "name", ["a b.npz", "k=v.npz", "数据.npz", "[1],{2}.npz", "it's.npz", "back\\slash.npz", 'q"q.npz']
)
def test_odd_paths_work(command, name) -> None:
    toy_npz(Path(name))
    done = command("train", *QUICK, "data=npz", f"data.path={name}", "trainer.batch_size=null")
    assert done.code == 0, done.err


@settings(deadline=None)
@example("\\${")
@example("a\\\\${b'")
@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="~"), min_size=1, max_size=12))
def test_any_text_reaches_a_path_key_unchanged(text: str) -> None:
    from conftest import composed

    if text[0] not in "'\"" and text != "null":
        assert composed(quoted(f"data.path={text}"))["data"]["path"] == text


def test_a_tilde_in_a_path_is_the_home_folder(command, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    toy_npz(tmp_path / "a.npz")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command("train", *QUICK, "data=npz", "data.path=~/a.npz").code == 0


def test_metrics_json_is_the_contract_and_agrees_with_scikit_learn(command) -> None:
    command("train", *QUICK, "data.human_error=0.01")
    assert command("evaluate", "run=latest").code == 0
    found = json.loads((LATEST / "metrics.json").read_text())
    assert list(found) == [
        "data", "model", "monitor", "train", "dev", "test", "latency_ms_per_example", "parameters", "human", "gap", "diagnosis",
    ]  # fmt: skip
    assert found["human"] == {"error": 0.01, "assumed": False}
    assert found["gap"]["avoidable_bias"] == pytest.approx(found["train"]["error"] - 0.01)
    assert found["gap"]["dev_test"] == pytest.approx(found["test"]["error"] - found["dev"]["error"])
    rows = list(csv.DictReader((LATEST / "predictions.csv").open()))
    label, predicted = ([row[name] for row in rows] for name in ("label", "predicted"))
    assert found["test"]["accuracy"] == pytest.approx(sk.accuracy_score(label, predicted))
    assert found["test"]["f1"] == pytest.approx(sk.f1_score(label, predicted, average="macro"))
    assert all(abs(sum(float(row[str(k)]) for k in range(10)) - 1) < 1e-4 for row in rows)
    matrix = [list(map(int, row[1:])) for row in list(csv.reader((LATEST / "confusion.csv").open()))[1:]]
    assert np.array_equal(matrix, sk.confusion_matrix(label, predicted))
    loss = sk.log_loss(label, [[float(row[str(k)]) for k in range(10)] for row in rows])
    assert found["test"]["loss"] == pytest.approx(loss, abs=1e-4)


def test_the_report_is_one_page_that_links_nowhere(command) -> None:
    command("train", *QUICK)
    command("evaluate", "run=latest")
    page = (LATEST / "report.html").read_text()
    assert page.count("data:image/png;base64") >= 1
    assert "http" not in page.replace("https://creativecommons", "") and 'src="data' in page
    for words in (
        "Learning curves",
        "The gap",
        "Confusion matrix",
        "Worst mistakes on dev",
        "layer by layer",
        "The ceiling",
        "Configuration",
        "Data card",
    ):
        assert words in page


def test_the_last_screen_tells_result_gap_advice_files_and_next(command) -> None:
    done = command("train", *QUICK)
    assert [line.split()[0] for line in done.out.splitlines()[3:] if not line.startswith("   " * 3)] == [
        "result", "gap", "verdict", "advice", "files", "next",
    ]  # fmt: skip
    following = command("evaluate", "run=latest")
    assert following.code == 0 and "1 model(s) have been judged on this test split" in following.out


def test_without_dev_the_last_epoch_is_taken_and_dev_is_null(command) -> None:
    command("train", *QUICK, "data.split.dev=0")
    command("evaluate", "run=latest", "report=none")
    found = json.loads((LATEST / "metrics.json").read_text())
    assert found["dev"] is None and found["gap"]["dev_test"] is None
    assert found["gap"]["variance"] == pytest.approx(found["test"]["error"] - found["train"]["error"])
    assert json.loads((LATEST / "train.json").read_text())["best_epoch"] == 3


def test_patience_ends_a_training_that_gets_no_better(command) -> None:
    command("train", "tracking=none", "optimizer=sgd", "optimizer.lr=1e-12", "trainer.patience=2", "model=logistic")
    assert json.loads((LATEST / "train.json").read_text())["epochs"] == 3


def test_resuming_a_finished_run_changes_nothing(command) -> None:
    command("train", *QUICK)
    before = {path: path.read_bytes() for path in LATEST.resolve().rglob("*") if path.is_file()}
    done = command("train", f"resume={LATEST}")
    assert done.code == 0 and "result" in done.out
    assert {path: path.read_bytes() for path in LATEST.resolve().rglob("*") if path.is_file()} == before


def test_a_run_judges_other_data_with_its_own_statistics_and_classes(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz", y=np.array(["cat", "dog", "emu"])[np.arange(60) % 3])
    command("train", *QUICK, "data=npz", "data.path=a.npz")
    toy_npz(tmp_path / "b.npz", shape=(8, 8), y=np.array(["emu", "cat", "emu"])[np.arange(60) % 3])
    done = command("evaluate", "run=latest", "data=npz", "data.path=b.npz", "report=none")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((LATEST / "judged" / "npz" / "predictions.csv").open()))
    assert len(rows) == 60 and list(rows[0]) == ["index", "label", "predicted", "cat", "dog", "emu"]
    assert {row["label"] for row in rows} == {"cat", "emu"} and not (LATEST / "metrics.json").exists()
    toy_npz(tmp_path / "c.npz", y=np.array(["cat", "yak", "emu"])[np.arange(60) % 3])
    refused = command("evaluate", "run=latest", "data=npz", "data.path=c.npz")
    assert refused.code == 2 and "class 'yak' is unknown" in refused.err


def test_changed_data_are_not_judged_as_the_runs_own(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    command("train", *QUICK, "data=npz", "data.path=a.npz")
    toy_npz(tmp_path / "a.npz", size=90)
    done = command("evaluate", "run=latest")
    assert done.code == 2 and "they are not those of this run" in done.err


def test_a_finished_run_cannot_be_changed_by_its_evaluation(command) -> None:
    command("train", *QUICK)
    done = command("evaluate", "run=latest", "model=resnet")
    assert done.code == 2 and "a finished run cannot be changed" in done.err
    assert command("evaluate", "run=latst").code == 2
    assert command("evaluate").code == 2


def test_a_sweep_runs_each_value_in_its_own_folder(command) -> None:
    done = command("train", "-m", *QUICK, "seed=1,2", "hydra.sweep.dir=swept")
    assert done.code == 0, done.err
    first, second = (Path("swept") / str(i) / "weights.safetensors" for i in range(2))
    assert first.read_bytes() != second.read_bytes() and not LATEST.exists()


def test_a_bad_value_in_a_sweep_is_refused_before_the_first_run(command) -> None:
    done = command("train", "-m", *QUICK, "optimizer.lr=0.1,-1", "hydra.sweep.dir=swept")
    assert done.code == 2 and "greater than 0" in done.err and not Path("swept").exists()


def test_what_only_the_data_can_tell_is_refused_in_a_sweep_too(command) -> None:
    done = command("train", "-m", *QUICK, "task=binary,classification", "hydra.sweep.dir=swept")
    assert done.code == 2 and "the data have 10 classes" in done.err and "Traceback" not in done.err


def test_two_that_start_in_the_same_second_get_folders_of_their_own(command) -> None:
    from crucible.tracking.folder import locked

    with ExitStack() as stack:
        names = [stack.enter_context(locked(Path("o/12-00-00"), fresh=True)).name for _ in range(3)]
    assert names == ["12-00-00", "12-00-00-2", "12-00-00-3"]


def test_run_belongs_to_evaluate_and_resume_to_train(command) -> None:
    command("train", *QUICK)
    before = weights()
    assert "it names a finished run" in command("train", "run=latest").err
    assert "cannot be swept" in command("evaluate", "-m", "run=latest").err
    assert "it belongs to src/train.py" in command("evaluate", "resume=latest").err
    assert weights() == before


def test_a_folder_of_other_files_is_never_replaced(command, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert command("prepare", "prepared=mine").code == 2
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_folder_begun_anew_holds_no_old_weights(command) -> None:
    command("train", *QUICK, "hydra.run.dir=r")
    assert command("train", *QUICK, "hydra.run.dir=r", "optimizer=sgd", "optimizer.lr=1e30").code == 2
    done = command("evaluate", "run=r")
    assert done.code == 2 and "this run has not finished" in done.err


def test_other_data_are_judged_by_the_names_of_their_classes(command, tmp_path) -> None:
    import h5py

    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (rng.integers(0, 60, (60, 4, 4, 3)) + 120 * y[:, None, None, None]).astype(np.uint8)
    for name, classes, labels in (("a.h5", [b"cat", b"dog"], y), ("b.h5", [b"dog", b"cat"], 1 - y)):
        with h5py.File(name, "w") as file:
            file["list_classes"] = np.array(classes)
            file["train_set_x"], file["train_set_y"] = x[:40], labels[:40]
            file["test_set_x"], file["test_set_y"] = x[40:], labels[40:]
    command("train", *QUICK, "trainer.total_epochs=20", "data=hdf5", "data.path=a.h5")
    command("evaluate", "run=latest", "report=none")
    command("evaluate", "run=latest", "data.path=b.h5", "report=none")
    own, other = (json.loads((LATEST / f / "metrics.json").read_text())["test"] for f in (".", "judged/hdf5"))
    assert own == other and own["accuracy"] == 1.0


def test_a_class_that_the_judged_data_do_not_have_is_named_and_costs_no_f1(command, tmp_path) -> None:
    toy_npz(tmp_path / "three.npz")
    command("train", *QUICK, "trainer.total_epochs=40", "trainer.batch_size=8", "data=npz", "data.path=three.npz")
    toy_npz(tmp_path / "one.npz", **{name: np.load("three.npz")[name][2::3] for name in "xy"})
    done = command("evaluate", "run=latest", "data.path=one.npz", "transfer.seen=keep")
    assert done.code == 0, done.err
    reported = json.loads((LATEST / "judged" / "npz" / "metrics.json").read_text())["test"]
    assert reported["accuracy"] == reported["f1"] == reported["precision"] == reported["recall"] == 1.0
    assert reported["without_examples"] == ["0", "1"]
    assert "test has no example of 0, 1: precision, recall and F1 leave them out" in done.out
    assert "test has no example of 0, 1" in (LATEST / "judged" / "npz" / "report.html").read_text()


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_of_two_classes_the_second_is_positive_and_named(command, tmp_path, task) -> None:
    toy_npz(tmp_path / "two.npz", size=90, classes=2)
    done = command("train", *QUICK, "data=npz", "data.path=two.npz", f"task={task}", "trainer.total_epochs=1")
    assert done.code == 0, done.err
    assert " classes  precision, recall and F1 are those of '1'" in done.out
    assert json.loads((LATEST / "train.json").read_text())["positive_class"] == "1"
    assert command("evaluate", "run=latest", "report=none").code == 0
    reported = json.loads((LATEST / "metrics.json").read_text())
    rows = list(csv.DictReader((LATEST / "predictions.csv").open()))
    label, predicted = ([row[name] for row in rows] for name in ("label", "predicted"))
    assert reported["positive_class"] == "1" and len(set(predicted)) == 2
    assert reported["test"]["f1"] == pytest.approx(sk.f1_score(label, predicted, pos_label="1"))


@pytest.mark.parametrize(
    "target", ["torch.optim.LBFGS", "torch.nn.Linear", "torch.optim.lr_scheduler.ReduceLROnPlateau"]
)
def test_torch_parts_that_do_not_fit_the_loop_are_refused(command, target) -> None:
    group = {"o": "optimizer", "n": "model"}[target.split(".")[1][0]]
    group = "schedule" if "scheduler" in target else group
    choice = {"optimizer": "sgd", "model": "logistic", "schedule": "constant"}[group]
    extra = ["~schedule.warmup_epochs"] if group == "schedule" else []
    done = command("train", *QUICK[:2], f"{group}={choice}", f"{group}._target_={target}", *extra)
    assert done.code == 2 and "Traceback" not in done.err, done.err


def test_a_number_that_explodes_is_refused_by_name_and_journaled(command) -> None:
    done = command("train", *QUICK, "optimizer=sgd", "optimizer.lr=1e30")
    assert done.code == 2 and "is not finite; the weights were left as they were before this step" in done.err
    events = list(read_events(LATEST / "journal.jsonl"))
    assert (events[-1]["kind"] == "failed" and "hidden" in events[-1]["why"]) or "head" in events[-1]["why"]


def test_bfloat16_and_clipping_and_warm_up_train(command) -> None:
    extra = ["trainer.precision=bfloat16", "trainer.max_norm=1", "schedule.warmup_epochs=1", "model.batch_norm=true"]
    assert command("train", *QUICK, *extra, "regularizer=l2", "augment=light").code == 0


def test_hydras_own_flags_answer(command) -> None:
    assert "crucible.models.resnet.ResNet" in command("train", "model=resnet", "--cfg", "job").out


SLOW = [
    "tracking=none",
    "trainer.total_epochs=400",
    "model.layers=[64]",
    "model.keep_prob=0.9",
    "schedule=inverse_time",
]


def started(home: Path, *args: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "train.py"), *args], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def epochs_in(journal: Path) -> int:
    return sum(event["kind"] == "metrics" for event in read_events(journal))


def wait_for_epoch(run: Path, epoch: int) -> None:
    deadline = time.monotonic() + 60
    while epochs_in(run / "journal.jsonl") < epoch:
        assert time.monotonic() < deadline, "the training did not come this far"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_three_times_and_resumed_is_uninterrupted_to_the_last_byte(tmp_path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert started(tmp_path, *SLOW, f"hydra.run.dir={whole}").wait() == 0
    command = [*SLOW, f"hydra.run.dir={parts}"]
    for epoch in (7, 120, 301):
        process = started(tmp_path, *command)
        wait_for_epoch(parts, epoch)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        command = [f"resume={parts}"]
    assert started(tmp_path, *command).wait() == 0
    for name in ("weights.safetensors", "curves.csv", "train.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    events = list(read_events(parts / "journal.jsonl"))
    assert [e["epoch"] for e in events if e["kind"] == "metrics"] == list(range(1, 401))
    resumed = [e["epoch"] for e in events if e["kind"] == "resume"]
    assert len(resumed) == 3 and resumed[-1] >= 1 and resumed == sorted(resumed)


@pytest.mark.slow
def test_two_trainings_in_one_folder_the_second_names_the_first(tmp_path) -> None:
    first = started(tmp_path, *SLOW, f"hydra.run.dir={tmp_path}/run")
    wait_for_epoch(tmp_path / "run", 3)
    second = started(tmp_path, *SLOW, f"hydra.run.dir={tmp_path}/run")
    _, stated = second.communicate()
    assert second.returncode == 2 and f"process {first.pid} is training in this folder" in stated
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()


@pytest.mark.slow
def test_journal_and_weights_do_not_depend_on_being_watched(tmp_path) -> None:
    """MLflow is not imported by the training, and nothing else of the heavy libraries that it does not use."""
    code = (
        "import sys; sys.argv = ['train.py', 'tracking=none', 'trainer.total_epochs=1']\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r}); from crucible.app.cli import run_command; run_command('train')\n"
        "print([m for m in ('mlflow', 'matplotlib', 'sklearn', 'pandas', 'dvc', 'jinja2', 'h5py', 'torch._dynamo', 'PIL.JpegImagePlugin') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_runs_own_configuration_is_read_not_composed(command, monkeypatch) -> None:
    """A model that is no choice any more can be evaluated: only what the command line changes is composed."""
    assert command("train", *QUICK).code == 0
    monkeypatch.setattr("crucible.app.compose.compose", lambda *_: pytest.fail("the defaults were composed"))
    assert command("evaluate", "run=latest", "report=none").code == 0
    assert command("train", "resume=latest").code == 0
    toy_npz(Path("a.npz"))
    done = command("evaluate", "run=latest", "data=npz", "data.path=a.npz", "report=none")
    assert done.code == 0 and Path(LATEST, "judged", "npz", "metrics.json").exists(), done.err
    done = command("evaluate", "run=latest", "data=npy")
    assert done.code == 2 and "there is no choice 'npy'" in done.err
    done = command("evaluate", "run=latest", "task.satisficing.parameters=<= 1", "report=none")
    assert done.code == 0, done.err
    assert not json.loads((LATEST / "metrics.json").read_text())["diagnosis"]["satisficing"]["parameters"]["met"]
    done = command("evaluate", "run=latest", "hydra.run.dir=elsewhere", "report=none")
    assert done.code == 0 and Path("elsewhere/metrics.json").exists()


def test_an_evaluation_takes_odd_names_as_they_are_and_refuses_what_is_no_one_value(command) -> None:
    Path("p${q").mkdir()
    toy_npz(Path("p${q/a.npz"))
    run = "hydra.run.dir=r${s"
    assert command("train", *QUICK, "data=npz", "data.path=p${q/a.npz", run).code == 0
    done = command("evaluate", "run=r${s", "report=none", "hydra.run.dir=o${t")
    assert done.code == 0 and Path("o${t/metrics.json").exists(), done.err
    refused = {"~task.tolerance": "taken away", "~data": "taken away", "task.tolerance=0.1,0.2": "several values",
               "data=digits,signs": "several values", "data.paht=x": "nearest: path", "data=[1]": "names no choice"}  # fmt: skip
    for word, what in refused.items():
        done = command("evaluate", "run=r${s", word)
        assert done.code == 2 and what in done.err, done.err


def test_a_run_of_before_some_key_takes_its_default(command) -> None:
    assert command("train", *QUICK).code == 0
    config = LATEST / "config.yaml"
    cfg = yaml.safe_load(config.read_text())
    del cfg["trainer"]["log_every"], cfg["transfer"], cfg["report"]
    config.write_text(yaml.safe_dump(cfg))
    done = command("evaluate", "run=latest", "report=none")
    assert done.code == 0 and "it was edited" in done.err, done.err
