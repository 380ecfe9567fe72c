"""python src/train.py -m sweep=...: from the command line to best.yaml and back, with real trainings."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from conftest import ROOT, toy_npz
from optuna.trial import TrialState
from test_search import counted

from crucible.app.search import results
from crucible.tracking import mlflow as door
from crucible.tracking.journal import read_events

pytestmark = pytest.mark.slow
SEARCH = ["-m", "sweep=coarse_to_fine", "tracking=none", "trainer.total_epochs=6", "hydra.sweeper.n_jobs=1"]
QUICK = [*SEARCH, "hydra.sweeper.n_trials=6", "hydra.sweep.dir=sweep"]
SMALL = ["model.layers=choice([8], [16])", "trainer.batch_size=64"]
STORE = "sqlite:///mine.db"


def best(folder: str = "sweep") -> dict[str, Any]:
    return yaml.safe_load(Path(folder, "best.yaml").read_text())


def studies(url: str) -> dict[str, optuna.Study]:
    names = optuna.get_all_study_names(url)
    return {name.rpartition("/")[2]: optuna.load_study(study_name=name, storage=url) for name in names}


def url() -> str:
    return f"sqlite:///{next(Path('outputs/studies').glob('*.db'))}"


def after_result(screen: str) -> list[str]:
    lines = screen.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("  result")) :]


def test_a_search_leaves_its_winner_and_the_promoted_run_has_its_bits(command) -> None:
    done = command("train", *QUICK, *SMALL, "hydra.sweeper.confirm.seeds=2", "hydra.sweeper.confirm.best=2")
    assert done.code == 0, done.err
    found = best()
    assert list(found)[:5] == ["overrides", "value", "interval", "trials", "commands"]
    assert found["trials"]["complete"] + found["trials"]["pruned"] == 6 and found["trials"]["failed"] == 0
    assert len(found["seeds"]) == 2 and found["interval"][0] < found["value"] < found["interval"][1]
    assert found["value"] == pytest.approx(sum(found["seeds"].values()) / 2)
    for each in found["overrides"]:
        assert each in done.out
    dvc, plain = found["commands"]
    assert dvc.startswith("dvc exp run -S ") and plain.startswith("python src/train.py ")
    assert dvc in done.out and plain in done.out
    assert [word for word in shlex.split(dvc) if word != "-S"][3:] == shlex.split(plain)[2:]
    promoted = command("train", *shlex.split(plain)[2:], "tracking=none", "hydra.run.dir=promoted")
    assert promoted.code == 0, promoted.err
    folder = Path(found["trial"]["folder"])
    assert Path("promoted/weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
    own = json.loads(Path("promoted/train.json").read_text())["dev"]["f1"]
    assert own == found["seeds"][0]
    assert not (folder / "checkpoint.pt").exists()


def test_the_folder_of_a_search_compares_its_confirmed_candidates(command) -> None:
    confirm = ["hydra.sweeper.confirm.seeds=2", "hydra.sweeper.confirm.best=2"]
    assert command("train", *QUICK, *SMALL, *confirm).code == 0
    done = command("compare", "sweep")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(Path("outputs/compare/compare.csv").read_text().splitlines()))
    candidates = best()["candidates"]
    assert [row["runs"] for row in rows] == ["2", "2"] == [str(len(each["runs"])) for each in candidates]
    assert [float(row["mean"]) for row in rows] == pytest.approx([each["mean"] for each in candidates])
    assert [set(map(float, row["values"].split())) for row in rows] == [set(e["seeds"].values()) for e in candidates]
    shutil.rmtree(candidates[1]["runs"][1])
    gone = command("compare", "sweep")
    assert gone.code == 2 and "is not here" in gone.err
    for text in ("overrides: [", "3", "candidates: []", "candidates: [{seeds: {0: 1}}]"):
        Path("sweep/best.yaml").write_text(text)
        assert command("compare", "sweep").code == 2


def test_again_prints_the_same_at_once_and_more_trials_go_on(command) -> None:
    words = [*SEARCH, *SMALL]
    first = command("train", *words, "hydra.sweeper.n_trials=6")
    assert first.code == 0, first.err
    own = list(Path("multirun").glob("*/*"))
    before = {path: path.stat().st_mtime_ns for path in own[0].rglob("*") if path.suffix in (".png", ".html", ".csv")}
    again = command("train", *words, "hydra.sweeper.n_trials=6")
    assert after_result(again.out) == after_result(first.out) and again.err == ""
    assert list(Path("multirun").glob("*/*")) == own
    assert before == {path: path.stat().st_mtime_ns for path in before}
    coarse = [t.params for t in studies(url())["coarse"].trials]
    more = command("train", *words, "hydra.sweeper.n_trials=9")
    assert more.code == 0, more.err
    found = studies(url())
    assert [t.params for t in found["coarse"].trials] == coarse and len(coarse) == 3
    assert len(found["fine"].trials) == 6
    assert sum(best(str(own[0]))["trials"].values()) == 9


def test_the_epochs_are_those_of_the_stage_and_the_values_those_of_the_journal(command) -> None:
    assert command("train", *QUICK, *SMALL).code == 0
    for name, epochs in (("coarse", 1), ("fine", 6)):
        for each in studies(url())[name].trials:
            if each.state == TrialState.COMPLETE:
                folder = Path(each.user_attrs["folder"])
                rows = [e for e in read_events(folder / "journal.jsonl") if e["kind"] == "metrics"]
                assert len(rows) == epochs == each.user_attrs["epochs"]
                assert each.intermediate_values == {e["epoch"]: e["values"]["dev/f1"] for e in rows}
                assert each.value == max(e["values"]["dev/f1"] for e in rows)


def test_groups_are_searched_with_the_parameters_of_each_choice(command) -> None:
    words = ["optimizer=choice(sgd,adam)", "model=mlp,logistic", "hydra.sweeper.n_trials=10"]
    done = command("train", *QUICK, *words, "trainer.total_epochs=2")
    assert done.code == 0, done.err
    seen = [t.params for t in studies(url())["coarse"].trials]
    for params in seen:
        assert f"optimizer.lr ({params['optimizer']})" in params and len([k for k in params if ".lr" in k]) == 1
        assert ("model.layers" in params) == (params["model"] == "mlp")
        assert not Path("sweep/coarse/0000/error.txt").exists()
    assert {params["model"] for params in seen} == {"mlp", "logistic"}
    assert best()["trials"]["failed"] == 0


def test_one_minus_reaches_the_configuration(command) -> None:
    words = ["optimizer.beta1=tag(log, one_minus, interval(0.001, 0.1))", "hydra.sweeper.default_space=false"]
    assert command("train", *QUICK, *words).code == 0
    for each in studies(url())["coarse"].trials:
        cfg = yaml.safe_load((Path(each.user_attrs["folder"]) / "config.yaml").read_text())
        assert cfg["optimizer"]["beta1"] == pytest.approx(1 - each.params["1 - optimizer.beta1"], abs=1e-9)
        assert 0.9 <= cfg["optimizer"]["beta1"] <= 0.999


def test_the_winner_keeps_the_bounds(command) -> None:
    words = ["model.layers=choice([4], [64])", "trainer.batch_size=64", "optimizer.lr=interval(0.005, 0.02)"]
    words += ["task.satisficing={parameters: '< 1000'}", "hydra.sweeper.n_trials=8"]
    assert command("train", *QUICK, *words).code == 0
    assert "model.layers=[4]" in best()["overrides"]
    done = command("train", *QUICK, *words[1:], "model.layers=[64]", "hydra.sweep.dir=none")
    assert done.code == 0 and "no trial keeps parameters" in done.out
    assert best("none")["overrides"] is None and best("none")["commands"] == []


def test_where_no_stage_trains_in_full_the_winner_is_run_in_full(command) -> None:
    for seeds in (1, 2):
        words = [
            "hydra.sweeper.stages.fine.epochs=0.5",
            f"hydra.sweeper.confirm.seeds={seeds}",
            f"hydra.sweep.dir=s{seeds}",
        ]
        assert command("train", *QUICK, *SMALL, *words).code == 0
        found = best(f"s{seeds}")
        assert found["trial"]["stage"] == "confirm" and len(found["seeds"]) == seeds
        promoted = command("train", *shlex.split(found["commands"][1])[2:], "tracking=none", f"hydra.run.dir=p{seeds}")
        assert promoted.code == 0, promoted.err
        folder = Path(found["trial"]["folder"])
        assert Path(f"p{seeds}/weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()


def test_another_search_in_the_same_folder_is_refused(command) -> None:
    assert command("train", *QUICK, *SMALL).code == 0
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and ".db" not in p.name}
    done = command("train", *QUICK, *SMALL, "optimizer=sgd")
    assert done.code == 2 and "another search is in this folder" in done.err and "hydra.sweep.dir=sweep-2" in done.err
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and ".db" not in p.name} == before


def test_a_search_whose_study_is_gone_is_another(command) -> None:
    assert command("train", *QUICK, *SMALL).code == 0
    shutil.rmtree("outputs")
    done = command("train", *QUICK, *SMALL)
    assert done.code == 2 and "another search is in this folder" in done.err and not Path("outputs").exists()


def test_a_stage_of_the_pipeline_makes_its_folder_anew(command, monkeypatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "sweep")
    words = [each for each in QUICK if each != "hydra.sweep.dir=sweep"] + ["hydra.sweep.dir=artifacts/sweep"]
    monkeypatch.setattr("crucible.app.prepared._data_path", lambda data: ROOT / data["path"])
    assert command("train", *words, *SMALL).code == 0
    assert command("train", *words, *SMALL, "optimizer=sgd").code == 0
    start = next(read_events(Path("artifacts/sweep/journal.jsonl")))
    assert "'sgd'" in start["config"] or "optimizers.sgd" in start["config"]
    assert len(list(Path("artifacts/sweep/coarse").iterdir())) == 3


def test_only_a_training_is_searched(command) -> None:
    done = command("evaluate", *QUICK)
    assert done.code == 2 and "a search belongs to src/train.py" in done.err


def test_what_is_refused_late_leaves_nothing_either(command) -> None:
    words = [*QUICK, *SMALL, "hydra.sweeper.study_name=mine", f"hydra.sweeper.storage={STORE}"]
    assert command("train", *words).code == 0
    before = set(Path().rglob("*"))
    done = command("train", *words, "data.split.seed=1", "hydra.sweep.dir=new/s")
    assert done.code == 2 and "mine-2" in done.err
    assert {path for path in Path().rglob("*") if not path.name.startswith("mine.db")} <= before


def test_a_path_with_a_comma_survives_promotion(command) -> None:
    toy_npz(Path("a,b.npz"))
    done = command("train", *QUICK, *SMALL[:1], "data=npz", "data.path='a,b.npz'", "trainer.batch_size=null")
    assert done.code == 0, done.err
    dvc, plain = best()["commands"]
    assert "data.path='\"'\"'a,b.npz'\"'\"''" in dvc or "data.path='a,b.npz'" in shlex.split(dvc)
    assert command("train", *shlex.split(plain)[2:], "tracking=none").code == 0


def test_continued_in_another_folder_the_rest_reaches_mlflow_too(command, tmp_path) -> None:
    import mlflow

    store = f"sqlite:///{tmp_path}/m.db"
    for folder, trials in (("sweep", 4), ("more", 6)):
        assert (
            command("train", *QUICK, *SMALL, f"hydra.sweep.dir={folder}", f"hydra.sweeper.n_trials={trials}").code == 0
        )
        assert door.mirror(Path(folder, "journal.jsonl"), store, "crucible", None)
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("crucible").experiment_id])
    assert len(runs) == 1 + sum(len(study.trials) for study in studies(url()).values())
    assert len({run.data.tags.get("mlflow.parentRunId") for run in runs}) == 2


def test_a_search_of_failures_ends_as_failed_in_the_record(command) -> None:
    words = [
        "optimizer=sgd",
        "optimizer.lr=tag(log, interval(1e20, 1e30))",
        "trainer.batch_size=64",
        "model.layers=[8]",
    ]
    done = command("train", *QUICK, *words, "hydra.sweeper.n_trials=8")
    assert done.code == 2 and "4 of 4 trials failed" in done.err and "stopped" in done.err
    assert [event["kind"] for event in read_events(Path("sweep/journal.jsonl"))][-1] == "failed"


def test_a_candidate_that_could_not_be_confirmed_is_named(command) -> None:
    """As where its run was killed twice: it is left out, and best.yaml and the screen say so."""
    words = [*QUICK, *SMALL, "hydra.sweeper.confirm.best=2", "hydra.sweeper.confirm.seeds=2"]
    assert command("train", *words).code == 0
    before = best()
    assert len(before["candidates"]) == 2 and before["unconfirmed"] == {}
    trial = studies(url())["confirm"].trials[0]
    with sqlite3.connect(url().removeprefix("sqlite:///")) as store:
        store.execute("update trials set state = 'FAIL' where trial_id = ?", (trial._trial_id,))
        row = (trial._trial_id, "cause", json.dumps("killed twice"))
        store.execute("insert into trial_user_attributes (trial_id, key, value_json) values (?, ?, ?)", row)
    done = command("train", *words)
    assert done.code == 0 and "their candidates were left out" in done.out and "1 killed twice" in done.out, done.err
    assert len(best()["candidates"]) == 1 and best()["unconfirmed"] == {"killed twice": 1} and best()["failures"] == {}


def test_what_crashes_is_a_recorded_failure_and_the_search_goes_on(command, monkeypatch) -> None:
    words = [
        "optimizer=sgd",
        "optimizer.lr=tag(log, interval(0.01, 1e30))",
        "trainer.batch_size=64",
        "model.layers=[8]",
    ]
    done = command("train", *QUICK, *words, "hydra.sweeper.max_failure_rate=1")
    assert done.code == 0, done.err
    failed = [t for t in studies(url())["coarse"].trials if t.state == TrialState.FAIL]
    assert failed and {t.user_attrs["cause"] for t in failed} == {"non-finite"}
    assert best()["failures"] == {"non-finite": best()["trials"]["failed"]} and "non-finite" in done.out
    folder = Path(failed[0].user_attrs["folder"])
    assert [e["kind"] for e in read_events(folder / "journal.jsonl")][-1] == "failed"
    assert "is not finite" in failed[0].user_attrs["why"]


def test_a_space_changed_under_a_study_is_refused_with_the_way_out(command) -> None:
    words = [*QUICK, *SMALL, "hydra.sweeper.study_name=mine", f"hydra.sweeper.storage={STORE}"]
    assert command("train", *words).code == 0
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and "mine" not in p.name}
    trials = [t.params for study in studies(STORE).values() for t in study.trials]
    for change, says in (
        ("optimizer.lr=tag(log, interval(1e-3, 0.1))", "optimizer.lr=tag(log, interval(0.0001, 0.1)), now"),
        ("init=he", "another configuration"),
        ("data.split.seed=1", "another configuration"),
        ("hydra.sweeper.stages.fine.epochs=0.5", "another stages"),
    ):
        done = command("train", *words, change)
        assert done.code == 2 and says in done.err, done.err
        assert "study_name=mine-2" in done.err and "Traceback" not in done.err
    assert trials == [t.params for study in studies(STORE).values() for t in study.trials]
    assert {p: b for p, b in before.items() if p.read_bytes() != b} == {}


def test_the_page_and_the_pictures(command) -> None:
    assert command("train", *QUICK, *SMALL).code == 0
    names = {path.name for path in Path("sweep/figures").glob("*.png")}
    assert {"history.png", "slices.png", "parallel.png", "narrowing.png"} <= names
    html = Path("sweep/search.html").read_text()
    assert html.count("data:image/png;base64,") == len(
        names - {"history.png", "importances.png"}
    )  # the page draws these itself
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", html)
    assert "optimizer.lr" in html and best()["commands"][1].replace("'", "&#39;") in html


def test_mlflow_holds_the_sweep_and_its_trials_below_it(command, tmp_path) -> None:
    import mlflow

    assert command("train", *QUICK, *SMALL, "hydra.sweeper.n_trials=10").code == 0
    store = f"sqlite:///{tmp_path}/m.db"
    for _ in range(2):  # twice: nothing is doubled
        assert door.mirror(Path("sweep/journal.jsonl"), store, "crucible", None)
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("crucible").experiment_id])
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    everyone = [t for study in studies(url()).values() for t in study.trials]
    assert len(children) == len(everyone)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    pruned = sum(t.state == TrialState.PRUNED for t in everyone)
    assert sum(run.info.status == "KILLED" for run in children) == pruned > 0
    assert parent.info.status == "FINISHED" and parent.data.metrics["search/best"] == pytest.approx(
        max(t.value for t in studies(url())["fine"].trials if t.value is not None)
    )
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"best.yaml", "search.html"}
    own = next(run for run in children if run.data.tags["optuna.study"].endswith("/fine"))
    trial = studies(url())["fine"].trials[int(own.data.tags["optuna.trial"])]
    assert float(own.data.params["optimizer.lr"]) == trial.params["optimizer.lr"]


def test_optuna_dashboard_opens_the_storage(command) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    assert command("train", *QUICK, *SMALL).code == 0
    words = [str(Path(sys.executable).parent / "optuna-dashboard"), url(), "--port", "18642", "--host", "127.0.0.1"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                with urllib.request.urlopen("http://127.0.0.1:18642/api/studies", timeout=5) as answer:
                    reported = json.load(answer)
                break
            except OSError:
                time.sleep(0.3)
        names = {each["study_name"].rpartition("/")[2] for each in reported["study_summaries"]}
        assert names == {"coarse", "fine", "confirm"}
    finally:
        server.kill()
        server.wait()


def test_killed_as_a_whole_it_goes_on_to_the_exact_count(tmp_path) -> None:
    words = [
        sys.executable,
        str(ROOT / "src/train.py"),
        *QUICK,
        *SMALL,
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_trials=12",
    ]
    words = [word for word in words if word not in ("hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=6")]
    for pause in (7.0, 8.0):
        main = subprocess.Popen(
            words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(pause)
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
        main.wait()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = studies(f"sqlite:///{next((tmp_path / 'outputs/studies').glob('*.db'))}")
    assert [len(counted(found[name].trials)) for name in ("coarse", "fine")] == [6, 6]
    assert sum(best(str(tmp_path / "sweep"))["trials"].values()) == 12


def test_data_that_are_swept_are_prepared_for_each(command) -> None:
    toy_npz(Path("a.npz"))
    words = [
        "data=npz",
        "data.path=a.npz",
        "data.normalize=standard,scale",
        "trainer.batch_size=null",
        "model.layers=[8]",
    ]
    done = command("train", *QUICK, *words)
    assert done.code == 0, done.err
    assert len(list(Path("artifacts/prepared").iterdir())) == 2


def test_a_search_without_dev_is_refused(command) -> None:
    done = command("train", *QUICK, "data.split.dev=0")
    assert done.code == 2 and "a search chooses on dev" in done.err


def test_where_the_best_lies_at_the_users_own_bound_a_wider_space_is_proposed_if_it_is_legal(command) -> None:
    words = [
        "optimizer.lr=tag(log, interval(1e-5, 1e-4))",
        "model.keep_prob=interval(0.9, 1.0)",
        "trainer.batch_size=64",
    ]
    done = command("train", *QUICK, *words, "model.layers=[32]", "hydra.sweeper.n_trials=12")
    assert done.code == 0, done.err
    lr = next(float(each.partition("=")[2]) for each in best()["overrides"] if each.startswith("optimizer.lr="))
    assert lr > 9e-5  # too small a rate everywhere: the largest wins
    assert [each.partition("=")[0] for each in best()["wider"]] == ["optimizer.lr"]  # above 1 no keep_prob is legal
    assert "the best lies at the bound of the space" in done.out and "interval(1e-05, 0.000316228)" in done.out


def test_a_trial_is_composed_as_hydra_composes_it(monkeypatch) -> None:
    from argparse import Namespace

    from crucible.app.compose import compose, plain
    from crucible.app.search.run import Base

    base = Base(Namespace(config_dir=None, config_name=None), ("model=mlp", "schedule=cosine"), "f1", "")
    for words in (
        ["optimizer=sgd", "optimizer.lr=0.5", "model.layers=[16,8]", "trainer.total_epochs=7", "seed=3"],
        ["optimizer.lr=1e-05", "model.batch_norm=true", "trainer.batch_size=null", "data.name='a, b'"],
    ):
        whole = plain(compose(base.args, [*base.overrides, *words]))
        assert base.composed(words) == whole
        assert whole["schedule"]["epochs"] == whole["trainer"]["total_epochs"]


def test_a_winner_of_another_machine_is_said_to_be_one(command, monkeypatch) -> None:
    words = [*QUICK, *SMALL, "hydra.sweeper.confirm.seeds=1"]
    done = command("train", *words)
    assert done.code == 0 and "the best was trained on" not in done.out
    here = results.fingerprint(torch.device("cpu"), 1)
    monkeypatch.setattr(results, "fingerprint", lambda device, threads: {**here, "capability": "AVX2"})
    told = command("train", *words).out
    assert f"(capability {here['capability']}, here AVX2): the same command may give other last bits here" in told
