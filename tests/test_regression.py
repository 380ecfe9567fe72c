"""Regression: numbers against scikit-learn, data that keep their targets, and the whole command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, card_of, toy_npz
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score

from crucible.data.labels import numbers, strata
from crucible.errors import Refusal
from crucible.tasks.regression import Regression

TASK = {"monitor": "rmse", "goal": "minimize", "tolerance": 0.05}


def task_of(values: np.ndarray) -> Regression:
    from dataclasses import replace

    quartiles = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    target = {"mean": float(values.mean()), "std": float(values.std()), "quartiles": quartiles}
    return Regression(replace(card_of((3,), classes=1), classes=[], target=target), **TASK)


def test_scores_are_scikit_learns_in_the_targets_unit() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(150, 70, 101)
    outputs = torch.tensor(rng.normal(size=(101, 1)), dtype=torch.float32)
    task = task_of(y)
    metrics = task.metrics()
    for part in (slice(0, 40), slice(40, 101)):
        metrics.update(outputs[part], {"label": torch.tensor(y[part])})
    found, answer = metrics.compute(), outputs[:, 0].double().numpy() * y.std() + y.mean()
    assert found["rmse"] == found["error"] == pytest.approx(mean_squared_error(y, answer) ** 0.5, rel=1e-6)
    assert found["r2"] == pytest.approx(r2_score(y, answer), rel=1e-6)
    assert found["loss"] == pytest.approx(mean_squared_error(y, answer) / y.var(), rel=1e-5)
    assert torch.allclose(task.predict(outputs), torch.tensor(answer))
    counts = np.zeros((4, 4))
    edges = np.quantile(y, (0.25, 0.5, 0.75))
    squares = np.zeros((4, 4))
    for label, stated in zip(y, answer, strict=True):
        cell = (label >= edges).sum(), (stated >= edges).sum()
        counts[cell] += 1
        squares[cell] += (label - stated) ** 2
    assert np.array_equal(metrics.matrix().numpy(), counts) and np.allclose(metrics.mistakes().numpy(), squares)
    assert task.error_of(squares.sum() / 101) == pytest.approx(found["rmse"])


def test_always_saying_the_mean_has_loss_1_and_r2_0() -> None:
    y = np.random.default_rng(0).normal(5, 3, 50)
    task = task_of(y)
    metrics = task.metrics()
    metrics.update(torch.zeros(50, 1), {"label": torch.tensor(y)})
    assert metrics.compute()["loss"] == pytest.approx(task.chance_loss([])) and metrics.compute()[
        "r2"
    ] == pytest.approx(0)


def test_the_tolerance_is_a_share_of_the_deviation() -> None:
    y = np.random.default_rng(0).normal(0, 8, 50)
    assert task_of(y).tolerance == pytest.approx(0.05 * y.std())


@pytest.mark.parametrize(("monitor", "goal"), [("rmse", "maximize"), ("r2", "minimize")])
def test_a_goal_against_the_metric_is_refused(monitor, goal) -> None:
    card = card_of((3,))
    with pytest.raises(Refusal, match="makes models worse"):
        Regression(card, monitor=monitor, goal=goal, tolerance=0.1)


@pytest.mark.parametrize("bad", [["1.5", "x"], [1.0, float("nan")], [1.0, float("inf")]])
def test_instantiate_that_are_no_finite_numbers_are_refused_by_row(bad) -> None:
    with pytest.raises(Refusal, match="row 1"):
        numbers({"all": np.array(bad)})


def test_strata_are_quarters() -> None:
    assert np.bincount(strata(np.random.default_rng(0).normal(size=400))).tolist() == [100] * 4


def test_a_linear_unit_on_diabetes_comes_to_the_least_squares_solution(command) -> None:
    data = str(ROOT / "data" / "diabetes" / "diabetes.csv")
    done = command(
        "train", "data=diabetes", f"data.path={data}", "task=regression", "model=logistic", "trainer.batch_size=null",
        "trainer.total_epochs=600", "optimizer.lr=0.05", "data.split.dev=0", "tracking=none",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(Path("outputs/latest/train.json").read_text())
    folder = next(Path("artifacts/prepared").iterdir())
    x, y = (np.load(folder / "train" / f"{name}.npy") for name in ("x", "y"))
    best = LinearRegression().fit(x, y).predict(x)
    assert found["train"]["rmse"] == pytest.approx(mean_squared_error(y, best) ** 0.5, rel=0.001)
    assert y.dtype == np.float64 and sorted(set(y)) != list(range(len(set(y))))
    assert command("evaluate", "run=latest").code == 0
    metrics = json.loads(Path("outputs/latest/metrics.json").read_text())
    rows = [line.split(",") for line in Path("outputs/latest/predictions.csv").read_text().splitlines()]
    label, stated = (np.array([float(row[i]) for row in rows[1:]]) for i in (1, 2))
    assert rows[0] == ["index", "label", "predicted"]
    assert metrics["test"]["rmse"] == pytest.approx(mean_squared_error(label, stated) ** 0.5, rel=1e-4)
    assert metrics["gap"]["avoidable_bias"] == metrics["train"]["rmse"]
    assert "RMSE human 0 (assumed)" in done.out


def test_numbers_are_no_classes_and_classes_no_numbers(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", y=np.linspace(0, 1, 60))
    own = ["data=npz", "data.path=data.npz", "tracking=none", "trainer.total_epochs=1"]
    assert "label 0.01" in command("train", *own).err
    assert command("train", *own, "task=regression").code == 0
    refused = command("train", *own, "task=regression", "data.sampling=balanced")
    assert refused.code == 2 and "have no classes" in refused.err


def test_every_part_of_train_decides_the_targets_mean(command, tmp_path) -> None:
    toy_npz(tmp_path / "data.npz", y=np.arange(60) ** 2.0)
    command("prepare", "data=npz", "data.path=data.npz", "task=regression")
    folder = next(Path("artifacts/prepared").iterdir())
    card, y = json.loads((folder / "card.json").read_text()), np.load(folder / "train" / "y.npy")
    assert card["target"]["mean"] == pytest.approx(y.mean()) and card["target"]["std"] == pytest.approx(y.std())
    assert card["classes"] == [] and card["target"]["quartiles"] == pytest.approx(np.quantile(y, [0.25, 0.5, 0.75]))
