"""compare.py: intervals that cover what they promise, and the choice under bounds."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from crucible.diagnosis.bounds import check, choose, met
from crucible.diagnosis.compare import difference, interval

QUICK = ["model.layers=[8]", "trainer.total_epochs=3", "tracking=none"]


def test_the_interval_of_a_difference_covers_it_in_95_per_cent_of_2000_pairs_of_three_runs() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.9, 0.02, (2000, 3)), rng.normal(0.93, 0.02, (2000, 3))
    found = [difference(a.tolist(), b.tolist()) for a, b in zip(first, second, strict=True)]
    assert abs(np.mean([each.low <= 0.03 <= each.high for each in found]) - 0.95) <= 0.015


def test_intervals_are_scipys() -> None:
    a, b = [0.91, 0.93, 0.90, 0.95], [0.97, 0.92, 0.96]
    found, theirs = difference(a, b), stats.ttest_ind(b, a).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    own = interval(a)
    assert (own.low, own.high) == pytest.approx(stats.t.interval(0.95, 3, np.mean(a), stats.sem(a)))
    assert not interval([0.3]).excludes_zero and interval([0.5, 0.51, 0.52]).excludes_zero
    assert difference([0.3], [0.4]).low == -np.inf


@pytest.mark.parametrize(
    ("bound", "value", "is_met"),
    [("<= 1", 1.0, True), ("< 1", 1.0, False), (">=0.9", 0.9, True), ("> 1e-3", 0.002, True), ("<=  .5", 0.6, False)],
)
def test_bounds_mean_what_they_say(bound, value, is_met) -> None:
    assert met(bound, value) is is_met
    assert check({"x": bound}, {})["x"] == {"bound": bound, "value": None, "met": False}


def test_a_number_to_minimise_is_minimised_and_the_first_of_equals_wins() -> None:
    rows = [{"rmse": 3.0, "parameters": 9.0}, {"rmse": 2.0, "parameters": 99.0}, {"rmse": 2.0, "parameters": 9.0}]
    assert choose(rows, "rmse", "minimize", {}) == 1
    assert choose(rows, "rmse", "minimize", {"parameters": "< 50"}) == 2


def test_repeats_are_grouped_and_their_difference_told(command) -> None:
    for seed in (1, 2, 3):
        for width in (2, 32):
            assert command("train", *QUICK[1:], f"model.layers=[{width}]", f"seed={seed}").code == 0
    runs = sorted(str(path.parent) for path in Path("outputs").glob("*/*/train.json") if "latest" not in str(path))
    done = command("compare", *runs)
    assert done.code == 0, done.err
    rows = list(csv.DictReader(Path("outputs/compare/compare.csv").read_text().splitlines()))
    assert [row["runs"] for row in rows] == ["3", "3"] and Path("outputs/compare/compare.png").stat().st_size > 5000
    values = {row["name"]: [float(v) for v in row["values"].split()] for row in rows}
    wide, narrow = (values[next(n for n in values if f"[{width}]" in n)] for width in (32, 2))
    theirs = stats.ttest_ind(narrow, wide).confidence_interval(0.95)
    assert float(rows[1]["difference_low"]) == pytest.approx(theirs.low)
    assert float(rows[0]["mean"]) == pytest.approx(np.mean(wide)) and rows[0]["chosen"] == "True"
    reported = [json.loads((Path(run) / "train.json").read_text())["dev"]["f1"] for run in runs]
    assert sorted(reported) == sorted(wide + narrow)
    assert "seed=4,5,6" in done.out.replace("'", "") and "-m" in done.out.splitlines()[-1]


def test_the_same_seed_again_and_knobs_that_change_nothing_make_no_new_run(command) -> None:
    for more in ([], ["trainer.checkpoint_every=1"], ["task.tolerance=0.1"]):
        command("train", *QUICK, "seed=1", *more)
    command("train", *QUICK, "seed=2")
    runs = sorted(str(path.parent) for path in Path("outputs").glob("*/*/train.json") if "latest" not in str(path))
    assert len(runs) == 4 and command("compare", *runs).code == 0
    rows = list(csv.DictReader(Path("outputs/compare/compare.csv").read_text().splitlines()))
    assert [row["runs"] for row in rows] == ["2"]


def test_bounds_decide_who_may_win(command) -> None:
    for width in (4, 64):
        command("train", *QUICK[1:], f"model.layers=[{width}]")
    runs = sorted(str(path.parent) for path in Path("outputs").glob("*/*/train.json") if "latest" not in str(path))
    free, bound = command("compare", *runs), command("compare", *runs, "task.satisficing={parameters: '< 1000'}")
    assert "* " in free.out and next(line for line in free.out.splitlines() if line.startswith("* ")).count("[64]")
    winner = next(line for line in bound.out.splitlines() if line.startswith("* "))
    assert "[4]" in winner and "parameters not met" in bound.out
    assert "no configuration meets" in command("compare", *runs, "task.satisficing={parameters: '< 1'}").out
    timed = command("compare", *runs, "task.satisficing={latency_ms_per_example: '<= 1000'}")
    assert timed.code == 0 and "not met" not in timed.out


def test_a_bound_of_a_run_is_told_on_its_last_screen_and_in_its_numbers(command) -> None:
    done = command("train", *QUICK, "task.satisficing={parameters: '< 10', latency_ms_per_example: '<= 1000'}")
    assert done.code == 0, done.err
    assert "parameters < 10: 610, NOT met" in done.out and "latency_ms_per_example <= 1000" in done.out
    reported = json.loads(Path("outputs/latest/train.json").read_text())["diagnosis"]
    assert reported["satisficing"]["parameters"] == {"bound": "< 10", "value": 610.0, "met": False}
    assert "bound_missed" in reported["reasons"] and "model.layers=[4]" in reported["advice"][0]["command"]
    dotted = command("train", *QUICK, "task.satisficing.parameters=< 10")
    assert dotted.code == 0 and "NOT met" in dotted.out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "no run is named"),
        (["nowhere"], "there is no run in this folder"),
        (["latest", "spilt=dev"], "nearest: split"),
        (["latest", "split=tets"], "there is no split 'tets'"),
        (["latest", "task.satisficing={parameters: 3}"], "task.satisficing.parameters"),
        (["latest", "split=test"], "there is no f1 of test"),
        (["latest", "task.satisficing={recal: '> 0'}"], "nearest: recall"),
        (["latest", "task.satisficing={recall: "], "task.satisficing"),
    ],
)
def test_what_cannot_be_compared_is_refused(command, args, says) -> None:
    if args:
        command("train", *QUICK)
    done = command("compare", *args)
    assert done.code == 2 and says in done.err and not Path("outputs/compare").exists()


def test_runs_on_other_data_are_not_compared(command) -> None:
    command("train", *QUICK)
    first = Path("outputs/latest").resolve()
    command("train", *QUICK, "data.split.seed=1")
    done = command("compare", str(first), "latest")
    assert done.code == 2 and "its data is not that of" in done.err
