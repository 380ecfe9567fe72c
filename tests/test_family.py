"""A family costs its own files: a kind of label, its reader, metrics, task and model, all of another package."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

FAMILY = ROOT / "tests" / "family"
POINTS = {"readers": "bearings = compass.readers:bearings", "tasks": "bearing = compass.tasks:Bearing",
          "models": "steps = compass.models:Steps"}  # fmt: skip
WORDS = ("data=bearings", "task=bearing", "model=steps", "tracking=none", "trainer.threads=1")


@pytest.fixture
def family(tmp_path, monkeypatch) -> Path:
    """Install the package by its entry points, as pip would, and begin a project that declares its choices."""
    site = tmp_path / "site"
    shutil.copytree(FAMILY / "compass", site / "compass")
    facts = site / "compass-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: compass\nVersion: 1.0\n")
    groups = [f"[crucible.{group}]\n{line}\n" for group, line in POINTS.items()]
    (facts / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(str(site))
    shutil.copytree(FAMILY / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "project.yaml").write_text("defaults: [config, _self_]\n")
    write_series(tmp_path / "bearings.txt", seed=0, count=120)
    return tmp_path


def write_series(path: Path, seed: int, count: int) -> None:
    """Write series of 3 to 12 steps about a number that tells the direction, and a line to skip."""
    rng = np.random.default_rng(seed)
    lines = ["degrees then steps"]
    for degrees in rng.uniform(0, 360, count).round(1):
        steps = np.deg2rad(degrees) - np.pi + rng.normal(0, 0.2, rng.integers(3, 13))
        lines.append(" ".join([f"{degrees}", *(f"{step:.3f}" for step in steps)]))
    path.write_text("\n".join(lines) + "\n")


def test_it_is_trained_evaluated_explained_and_asked(command, family) -> None:
    done = command("train", *WORDS, "trainer.total_epochs=60", "optimizer.lr=0.02")
    assert done.code == 0, done.err
    done = command("evaluate", "run=latest")
    assert done.code == 0 and "degrees" in done.out and "degrees off)" in done.out, done.err
    gap = next(line for line in done.out.splitlines() if line.strip().startswith("gap"))
    assert " degrees " in gap and "%" not in gap  # degrees are no share of mistakes
    run = (family / "outputs" / "latest").resolve()
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["test"]["degrees"] < 30 < numbers["diagnosis"]["baseline"]["test"]
    assert numbers["diagnosis"]["baseline"]["name"] == "always the mean direction of train"
    rows = [line.split(",") for line in (run / "predictions.csv").read_text().splitlines()]
    assert rows[0] == ["index", "label", "predicted", "name"] and len(rows) == 1 + 24
    apart = [abs((float(y) - float(p) + 180) % 360 - 180) for _, y, p, _ in rows[1:]]
    assert np.mean(apart) == pytest.approx(numbers["test"]["degrees"], abs=1e-3)
    assert (run / "report.html").exists() and (run / "confusion.csv").read_text().startswith("label,north,east")
    card = json.loads((run / "card.json").read_text())
    assert (
        card["recipe"]["targets"] == "directions"
        and card["lengths"]["longest"] <= 12
        and len(card["facts"]["mean"]) == 2
    )
    Path("new.txt").write_text("0.5 0.4 0.6\n-1.5 -1.4\n")
    done = command("predict", "run=latest", "input=new.txt", "format=csv")
    assert done.code == 0 and done.out.splitlines()[0] == "input,predicted" and done.out.count("(") == 2, done.err


def test_an_array_of_whole_numbers_is_no_array_of_symbols(command, family) -> None:
    assert command("train", *WORDS, "trainer.total_epochs=1").code == 0
    answers = []
    for name, dtype in (("whole.npy", np.int64), ("real.NPY", np.float32)):
        with Path(name).open("wb") as file:
            np.save(file, np.array([-1, 0, 1], dtype))
        done = command("predict", "run=latest", f"input={name}", "format=csv")
        assert done.code == 0, done.err
        answers.append(done.out.splitlines()[1].partition(",")[2])
    assert answers[0] == answers[1]


def test_it_is_judged_on_other_data_searched_and_compared(command, family) -> None:
    assert command("train", *WORDS, "trainer.total_epochs=2").code == 0
    write_series(family / "other.txt", seed=1, count=30)
    done = command("evaluate", "run=latest", "data.path=other.txt", "report=none")
    assert done.code == 0, done.err
    done = command("train", "-m", *WORDS, "trainer.total_epochs=2", "model.width=4,8", "hydra.sweep.dir=two")
    assert done.code == 0, done.err
    done = command("compare", "two")
    assert done.code == 0 and "degrees" in done.out, done.err
    rows = list(csv.DictReader((family / "outputs/compare/compare.csv").open()))
    means = {row["chosen"]: float(row["mean"]) for row in rows}
    assert means["True"] < means["False"]  # fewer degrees are better: its metrics say so


def test_what_its_kind_and_its_signatures_refuse_is_refused_before_any_work(command, family) -> None:
    done = command("train", *WORDS, "data.reader.skip=-1")
    assert done.code == 2 and "data.reader.skip" in done.err
    (family / "wrong.txt").write_text("head\n10 1 2 3\n361 1 2\n")
    done = command("train", *WORDS, "data.path=wrong.txt")
    assert done.code == 2 and "361.0 is no direction" in done.err
    done = command("train", *WORDS, "model=mlp")
    assert done.code == 2 and "padding" in done.err, done.err
    done = command("train", *WORDS, "data.image_size=[2,2]")
    assert done.code == 2 and "they are no images" in done.err
    done = command(
        "train", "data=bearings", "task=regression", "model=steps", "tracking=none", "trainer.total_epochs=1"
    )
    assert done.code == 0, done.err  # the same series with a kind of label that Crucible has


def test_no_file_of_crucible_names_the_family() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]:
        assert not {"compass", "bearing", "bearings", "Directions"} & set(path.read_text().replace(".", " ").split()), (
            path
        )
