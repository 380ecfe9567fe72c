"""The least error that is possible: against simulations and closed forms, and in the gap, the advice and the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from crucible.app.previous import PreviousRuns
from crucible.data.readers import generated
from crucible.diagnosis.gap import diagnose

SIZES = {"train_size": 100, "dev_size": 100, "test_size": 200_000}
LATEST = Path("outputs/latest")
QUICK = ("tracking=none", "trainer.threads=1", "trainer.total_epochs=2")


def drawn(source) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(list(source.pools["test"].chunks())), source.pools["test"].labels


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.6])
def test_of_circles_it_is_what_the_likelihood_ratio_of_the_radius_gets_wrong(noise) -> None:
    source = generated.circles(None, **SIZES, factor=0.6, noise=noise, seed=3)
    x, y = drawn(source)
    radius = np.linalg.norm(x, axis=1)
    densities = [stats.rice.pdf(radius, b / noise, scale=noise) for b in (1.0, 0.6)]
    wrong = float(((densities[1] > densities[0]).astype(int) != y).mean())
    assert source.bayes_error() == pytest.approx(wrong, abs=4 * np.sqrt(wrong * (1 - wrong) / len(y)) + 1e-5)


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.5])
def test_of_moons_it_is_what_the_sum_of_bells_along_each_arc_gets_wrong(noise) -> None:
    source = generated.moons(None, **(SIZES | {"test_size": 40_000}), noise=noise, seed=3)
    x, y = drawn(source)
    angle = np.linspace(0, np.pi, 301)
    arcs = [np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)]
    densities = [np.exp(-((x[:, None] - arc) ** 2).sum(axis=2) / (2 * noise**2)).mean(axis=1) for arc in arcs]
    wrong = float(((densities[1] > densities[0]).astype(int) != y).mean())
    assert source.bayes_error() == pytest.approx(wrong, abs=4 * np.sqrt(wrong * (1 - wrong) / len(y)) + 1e-5)


@pytest.mark.parametrize(("classes", "noise"), [(2, 0.7), (3, 0.4), (4, 0.4), (9, 0.2)])
def test_of_blobs_it_is_what_the_nearest_corner_gets_wrong(classes, noise) -> None:
    source = generated.blobs(None, **SIZES, classes=classes, noise=noise, seed=3)
    x, y = drawn(source)
    angle = 2 * np.pi * np.arange(classes) / classes
    corners = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    nearest = ((x[:, None] - corners) ** 2).sum(axis=2).argmin(axis=1)
    wrong = float((nearest != y).mean())
    assert source.bayes_error() == pytest.approx(wrong, abs=4 * np.sqrt(wrong * (1 - wrong) / len(y)) + 1e-5)
    if classes == 2:
        assert source.bayes_error() == pytest.approx(stats.norm.sf(1 / noise), rel=1e-4)


def test_without_noise_nothing_is_unavoidable() -> None:
    for make, more in ((generated.circles, {"factor": 0.8}), (generated.moons, {}), (generated.blobs, {"classes": 3})):
        assert make(None, **SIZES, **more, noise=0.0, seed=0).bayes_error() == 0
    assert generated.gates(None, gate="xor").bayes_error() == 0


def test_bias_is_avoidable_down_to_it_and_nothing_is_below() -> None:
    found = diagnose(0.05, 0.06, None, human=0.03, bayes=0.02, tolerance=0.01)
    assert found.gap["avoidable_bias"] == pytest.approx(0.03) and "avoidable_bias" in found.reasons
    without = diagnose(0.05, 0.06, None, human=0.03, tolerance=0.01)
    assert without.gap["avoidable_bias"] == pytest.approx(0.02)
    assert "beyond_bayes" in diagnose(0.01, 0.01, None, human=None, bayes=0.02, tolerance=0.01).reasons
    sampled = {"dev": {"size": 50, "spread": None}, "train": {"size": 50, "spread": None}}
    assert (
        "beyond_bayes"
        not in diagnose(0.01, 0.01, None, human=None, bayes=0.02, tolerance=0.01, evidence=sampled).reasons
    )
    assert diagnose(3.0, 3.5, None, human=None, bayes=2.0, tolerance=0.1, is_rate=False).gap["avoidable_bias"] == 1


def test_what_is_computed_is_shown_in_the_gap_and_what_is_declared_comes_first(command) -> None:
    done = command("train", "data=moons", "task=binary", *QUICK)
    assert done.code == 0, done.err
    found = json.loads((LATEST / "train.json").read_text())
    least = generated.moons(None, train_size=300, dev_size=1000, test_size=1000, noise=0.2, seed=0).bayes_error()
    assert found["bayes"] == {"error": pytest.approx(least), "computed": True}
    assert found["human"] == {"error": pytest.approx(least), "assumed": False}
    assert found["gap"]["avoidable_bias"] == pytest.approx(found["train"]["error"] - least)
    assert f"Bayes {100 * least:.1f} % (computed)" in done.out
    done = command("train", "data=moons", "task=binary", *QUICK, "data.bayes_error=0.01", "data.human_error=0.02")
    found = json.loads((LATEST / "train.json").read_text())
    assert found["bayes"] == {"error": 0.01, "computed": False} and found["human"] == {"error": 0.02, "assumed": False}
    assert "Bayes 1.0 % ->" in done.out and found["gap"]["avoidable_bias"] == pytest.approx(
        found["train"]["error"] - 0.01
    )


def test_a_share_of_mistakes_says_nothing_of_another_error(command) -> None:
    for words in (["task=binary", "task.mistake_costs={1: 10}"], ["task=regression", "data.human_error=0.01"]):
        done = command("train", "data=moons", *words, *QUICK)
        assert done.code == 0, done.err
        assert "Bayes" not in done.out and "bayes" not in json.loads((LATEST / "train.json").read_text())
    done = command("train", "data=moons", "task=regression", *QUICK, "data.bayes_error=0.1")
    assert json.loads((LATEST / "train.json").read_text())["bayes"] == {"error": 0.1, "computed": False}


@pytest.mark.parametrize("noise", [1e-5, 0.011, 0.03])
def test_of_circles_far_apart_it_is_what_the_bells_of_a_line_get_wrong(noise) -> None:
    found = generated.circles(None, **SIZES, factor=0.8, noise=noise, seed=0).bayes_error()
    assert found == pytest.approx(stats.norm.sf(0.1 / noise), rel=0.05, abs=1e-30)


def test_errors_of_other_costs_are_no_progress() -> None:
    def run(folder: str, *words: str, name: str = "error") -> dict:
        diagnosis = {"error": {"name": name}, "progress": {"overrides": list(words)}}
        return {"folder": folder, "dev": {"error": 0.1}, "diagnosis": diagnosis}

    one, other = run("a"), run("b", "task.mistake_costs={1: 10}", name="weighted error")
    third = run("c", "task.mistake_costs={1: 2}", name="weighted error")
    assert PreviousRuns((third, other, one)).errors_on_dev(run("d")) == [("a", 0.1)]
    assert PreviousRuns((third, other, one)).errors_on_dev(other) == [("b", 0.1)]


def test_the_report_draws_the_progress_of_the_runs_on_these_data(command) -> None:
    for width in (2, 8, 16):
        assert command("train", "data=moons", "task=binary", *QUICK, f"model.layers=[{width}]").code == 0
        assert command("evaluate", "run=latest").code == 0
    page = (LATEST / "report.html").read_text()
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    [chart] = data["parts"]["progress"]
    series = {each["name"]: each["y"] for each in chart["series"]}
    runs = sorted(
        (path for path in Path("outputs").glob("*/*/train.json") if "latest" not in str(path)),
        key=lambda path: path.stat().st_mtime,
    )
    errors = [json.loads(path.read_text())["dev"]["error"] for path in runs]
    assert series["each run"] == errors and series["the least so far"] == [min(errors[: i + 1]) for i in range(3)]
    assert series["Bayes error"] == [pytest.approx(json.loads((LATEST / "card.json").read_text())["bayes_error"])] * 2
    assert "human" not in series and len(data["parts"]["gap"][0]["bars"]) == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data.bayes_error=-0.1"], "data.bayes_error"),
        (["data.bayes_error=3"], "is no error rate"),
        (["data.bayes_error=0.05", "data.human_error=0.03"], "nobody is better than what is possible"),
        (["data=moons", "task=binary", "data.human_error=0.001"], "below the Bayes error"),
    ],
)
def test_what_is_no_least_error_is_refused(command, words, says) -> None:
    done = command("train", *words, *QUICK)
    assert done.code == 2 and says in done.err, done.err
    assert not LATEST.exists()


def test_the_level_of_a_crowd_is_said_to_be_that(command) -> None:
    """000, part 7, section 4: human level is that of the best; fashion_mnist has the crowd's 0.165."""
    words = ("train", *QUICK, "data.human_error=0.3", "model.layers=[8]")
    done = command(*words, "data.human_of=crowd")
    assert done.code == 0, done.err
    assert "human 30.0 % (of a crowd: the best are better" in done.out
    crowd = json.loads((LATEST / "train.json").read_text())
    assert crowd["human"] == {"error": 0.3, "assumed": False, "crowd": True}
    done = command(*words)
    best = json.loads((LATEST / "train.json").read_text())
    assert "crowd" not in done.out and best["gap"] == crowd["gap"] and best["human"] == {"error": 0.3, "assumed": False}
    assert command(*words, "data.human_of=experts").code == 2
