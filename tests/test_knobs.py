"""Small knobs: units without a bias, weights that are given, what an output unit may say, half the square, how batch norm remembers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import card_of, toy_npz
from safetensors.torch import load_file
from test_regression import TASK
from torch import nn

from crucible.data.readers.generated import worked_example
from crucible.errors import Refusal
from crucible.models.convnet import ConvNet
from crucible.models.inception import Inception
from crucible.models.mlp import MLP
from crucible.models.norms import NormSettings
from crucible.models.vgg16 import VGG16
from crucible.tasks.classification import Binary, Classification
from crucible.tasks.regression import Regression

LATEST = Path("outputs/latest")
PLAIN = {"activation": "sigmoid", "keep_prob": 1.0, "batch_norm": False}
QUICK = ("tracking=none", "trainer.threads=1")


def test_the_worked_example_of_the_notes_by_hand(command) -> None:
    """002, chapter 5: the figures that a pencil gives, without any of our code."""
    done = command("train", "experiment=backpropagation", *QUICK)
    assert done.code == 0, done.err
    s = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    x, w0, w1, t = np.array([0.35, 0.9]), np.array([[0.1, 0.8], [0.4, 0.6]]), np.array([0.3, 0.9]), 0.5
    hidden = s(w0 @ x)
    y = s(w1 @ hidden)
    assert (*hidden.round(3), y.round(3), round((y - t) ** 2 / 2, 4)) == (0.680, 0.664, 0.690, 0.0181)
    out = (y - t) * y * (1 - y)
    assert out * hidden[0] == pytest.approx(0.02763, rel=0.02)  # the notes' dC/dw53, from rounded factors
    inner = out * w1 * hidden * (1 - hidden)
    weights = load_file(LATEST / "weights.safetensors")
    assert weights["head.weight"][0].numpy() == pytest.approx(w1 - out * hidden, abs=1e-6)
    assert weights["hidden.linear0.weight"].numpy() == pytest.approx(w0 - np.outer(inner, x), abs=1e-6)
    [row] = csv.DictReader((LATEST / "curves.csv").read_text().splitlines())
    assert float(row["train/loss"]) == pytest.approx((y - t) ** 2 / 2, abs=1e-6)
    after = s((w1 - out * hidden) @ s((w0 - np.outer(inner, x)) @ x))
    assert float(row["dev/rmse"]) == pytest.approx(after - t, abs=1e-6) == pytest.approx(0.182, abs=5e-4)
    signs = json.loads((LATEST / "train.json").read_text())["diagnosis"]
    assert "below_baseline" not in signs["reasons"] and "not_learning" not in signs["reasons"]


def test_one_example_is_one_example() -> None:
    source = worked_example(None, x=[1.0, 2.0, 3.0], target=4.0)
    for pool in source.pools.values():
        assert next(iter(pool.chunks())).tolist() == [[1, 2, 3]] and pool.labels.tolist() == [4]


def test_given_weights_stay_what_they_are_and_units_without_bias_have_none() -> None:
    model = MLP((2,), 1, layers=[2, 3], bias=False, weights=[[1, 2, 3, 4], [1, 0, 0, 1, 2, 2], [1, 1, 1]], **PLAIN)
    assert [name for name, _ in model.named_parameters() if "bias" in name] == []
    x = np.array([0.5, -1.0])
    s = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    wanted = np.ones(3) @ s(np.array([[1, 0], [0, 1], [2, 2]]) @ s(np.array([[1, 2], [3, 4]]) @ x))
    assert float(model(torch.tensor([[0.5, -1.0]]))) == pytest.approx(wanted, rel=1e-6)
    biased = MLP((2,), 1, layers=[2], weights=[[1, 2, 3, 4], [1, 1]], **PLAIN)
    assert all(not p.any() for name, p in biased.named_parameters() if "bias" in name)
    with pytest.raises(Refusal, match="3 and 2 weights for layers of 2 x 2 and 1 x 2"):
        MLP((2,), 1, layers=[2], weights=[[1, 2, 3], [1, 1]], **PLAIN)


def test_given_weights_are_not_initialised_over(command) -> None:
    words = ("experiment=backpropagation", "optimizer.lr=1e-12", "init=he", *QUICK)
    assert command("train", *words).code == 0
    assert load_file(LATEST / "weights.safetensors")["head.weight"][0].tolist() == pytest.approx([0.3, 0.9])


def regression(values: np.ndarray, **settings) -> Regression:
    from dataclasses import replace

    target = {"mean": float(values.mean()), "std": float(values.std()), "smallest": float(values.min()), "largest": float(values.max()),
              "quartiles": np.quantile(values, (0.25, 0.5, 0.75)).tolist()}  # fmt: skip
    return Regression(replace(card_of((3,), classes=1), classes=[], target=target), **TASK, **settings)


@pytest.mark.parametrize("output", ["identity", "relu", "sigmoid"])
@pytest.mark.parametrize("loss", ["mean_squared_error", "half_squared_error"])
def test_an_output_unit_says_what_it_may_and_the_loss_is_the_square_of_what_is_left(output, loss) -> None:
    rng = np.random.default_rng(0)
    y = rng.uniform(0.1, 0.9, 60)
    task = regression(y, output=output, loss=loss)
    z = torch.tensor(rng.normal(0, 2, (60, 1)), dtype=torch.float32)
    raw = z[:, 0].double().numpy()
    said, scale = {
        "identity": (y.mean() + y.std() * raw, y.std()),
        "relu": (y.std() * np.maximum(0, raw), y.std()),
        "sigmoid": (1 / (1 + np.exp(-raw)), 1.0),
    }[output]
    assert task.predict(z).numpy() == pytest.approx(said, abs=1e-6)
    half = 0.5 if loss == "half_squared_error" else 1.0
    assert float(task.loss(z, torch.tensor(y))) == pytest.approx(half * ((said - y) ** 2).mean() / scale**2, rel=1e-5)
    row, name = task.constant(card_of((3,), classes=1))
    assert float(task.predict(row[None])) == pytest.approx(y.mean(), abs=1e-6) and name == "always the mean of train"
    constant = task.loss(row.expand(60, 1), torch.tensor(y))
    assert task.chance_loss([]) == pytest.approx(float(constant), rel=1e-5)


@pytest.mark.parametrize(
    ("values", "output", "says"),
    [
        ([-1.0, 2.0, 3.0], "relu", "from -1 to 3"),
        ([0.0, 0.5, 1.5], "sigmoid", "between 0 and 1"),
        ([2.0, 2.0], "identity", "every target in train is 2.0"),
    ],
)
def test_targets_that_an_output_cannot_say_are_refused(values, output, says) -> None:
    with pytest.raises(Refusal, match=says):
        regression(np.array(values), output=output)


def test_the_house_price_neuron_never_says_less_than_nothing(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    size = rng.uniform(-1, 3, 400)
    toy_npz(
        tmp_path / "houses.npz",
        x=size[:, None].astype(np.float32),
        y=np.maximum(0, 100 * size) + rng.normal(0, 3, 400) * (size > 0.2),
    )
    words = (
        "data=npz",
        "data.path=houses.npz",
        "data.duplicates=keep",
        "task=regression",
        "model=logistic",
        "init=he",
        "trainer.total_epochs=150",
        "optimizer.lr=0.02",
        *QUICK,
    )
    found = {}
    for output in ("identity", "relu"):
        done = command("train", *words, f"task.output={output}")
        assert done.code == 0, done.err
        found[output] = json.loads((LATEST / "train.json").read_text())["dev"]["rmse"]
    assert found["relu"] < found["identity"] / 2  # one unit, and the bend is its own
    assert command("evaluate", "run=latest").code == 0
    rows = list(csv.DictReader((LATEST / "predictions.csv").read_text().splitlines()))
    assert min(float(row["predicted"]) for row in rows) >= 0


@pytest.mark.parametrize(("task", "outputs"), [(Classification, 3), (Binary, 1)])
def test_half_the_square_of_a_classifier_is_summed_over_its_outputs(task, outputs) -> None:
    classes = 2 if task is Binary else 3
    own = task(card_of((4,), classes=classes), loss="half_squared_error", monitor="f1", goal="maximize", tolerance=0.02)
    z, label = torch.randn(50, outputs, generator=torch.Generator().manual_seed(0)), torch.arange(50) % classes
    raw = z.double().numpy()
    if task is Binary:
        wanted = ((1 / (1 + np.exp(-raw[:, 0])) - label.numpy()) ** 2 / 2).mean()
    else:
        p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        wanted = ((p - np.eye(3)[label.numpy()]) ** 2).sum(axis=1).mean() / 2
    assert float(own.loss(z, label)) == pytest.approx(wanted, rel=1e-5)
    shares = np.full(classes, 1 / classes)
    constant = (shares * (1 - shares)).sum() / 2 if classes == 3 else 0.125
    assert own.chance_loss([10] * classes) == pytest.approx(constant)


def test_mistakes_that_cost_more_are_the_error_the_baseline_and_the_ceiling() -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 3, 400), rng.integers(0, 3, 400)
    costs = np.array([[0, 1, 7], [10, 0, 10], [1, 1, 0]], float)
    card = card_of((4,), classes=3)
    card.splits["train"]["class_counts"] = [50, 20, 30]
    a, b, c = card.classes
    task = Classification(card, mistake_costs={a: {c: 7}, b: 10}, monitor="error", goal="minimize", tolerance=0.02)
    metrics = task.metrics()
    for part in (slice(0, 150), slice(150, 400)):
        z = torch.nn.functional.one_hot(torch.tensor(predicted[part]), 3).float()
        metrics.update(z, {"label": torch.tensor(label[part])})
    found = metrics.compute()
    paid = sum(costs[y, p] for y, p in zip(label, predicted, strict=True))
    most = sum(costs[y].max() for y in label)
    assert found["error"] == pytest.approx(paid / most) and found["accuracy"] == pytest.approx(
        (label == predicted).mean()
    )
    left = metrics.mistakes().sum() - metrics.mistakes()[1, 0]
    without = sum(costs[y, p] for y, p in zip(label, predicted, strict=True) if (y, p) != (1, 0)) / most
    assert float(left) / 400 == pytest.approx(without)
    weights = np.array([costs[y].max() for y in label])
    assert metrics.evidence(400) == (int(weights.sum() ** 2 / (weights**2).sum()), None)
    expected = np.array([50, 20, 30]) @ costs
    row, name = task.constant(card)
    assert int(row.argmax()) == expected.argmin() == 1 and name == f"always {b!r}" and task.error == "weighted error"


def test_equal_costs_are_the_share_of_mistakes(command) -> None:
    assert command("train", "model.layers=[8]", "trainer.total_epochs=2", *QUICK).code == 0
    plain = json.loads((LATEST / "train.json").read_text())
    costs = ",".join(f"{k}: 3" for k in range(10))
    assert (
        command("train", "model.layers=[8]", "trainer.total_epochs=2", f"task.mistake_costs={{{costs}}}", *QUICK).code
        == 0
    )
    found = json.loads((LATEST / "train.json").read_text())
    assert found["dev"]["error"] == pytest.approx(plain["dev"]["error"]) and found["gap"]["variance"] == pytest.approx(
        plain["gap"]["variance"]
    )
    assert found["diagnosis"]["error"] == {"name": "weighted error", "is_rate": True}
    assert found["diagnosis"]["evidence"]["dev"]["size"] == plain["diagnosis"]["evidence"]["dev"]["size"]


def test_a_costly_mistake_decides_which_run_is_chosen_and_leads_the_ceiling(command) -> None:
    words = ("model.layers=[8]", "trainer.total_epochs=3", "task.monitor=error", "task.goal=minimize", *QUICK)
    done = command("train", *words, "task.mistake_costs={3: {5: 1000}}")
    assert done.code == 0, done.err
    found = json.loads((LATEST / "train.json").read_text())
    first = found["diagnosis"]["error_analysis"][0]
    assert (first["label"], first["predicted"]) == ("3", "5") and "weighted error" in done.out
    assert found["diagnosis"]["evidence"]["dev"]["size"] < 100  # of 359: a few examples decide
    runs = [str(LATEST.resolve())]
    assert command("train", *words).code == 0
    assert "task.mistake_costs" in command("compare", *runs, "latest").err


@pytest.mark.parametrize(
    "make",
    [
        lambda norm: MLP((4,), 2, layers=[3], activation="relu", keep_prob=1.0, batch_norm=norm),
        lambda norm: ConvNet((1, 8, 8), 2, layers=[{"conv": 2, "f": 3}], activation="relu", keep_prob=1.0, batch_norm=norm),
        lambda norm: Inception((1, 16, 16), 2, batch_norm=norm, keep_prob=1.0, auxiliary=0.3),
        lambda norm: VGG16((1, 32, 32), 2, batch_norm=norm, keep_prob=1.0),
    ],
)  # fmt: skip
def test_batch_norm_remembers_as_declared(make) -> None:
    with torch.device("meta"):
        layers = [
            m
            for m in make(NormSettings(decay=0.99, eps=1e-3)).modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm)
        ]
        plain = [m for m in make(True).modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(layers) == len(plain) > 0
    assert {(round(m.momentum, 6), m.eps) for m in layers} == {(0.01, 1e-3)}
    assert {(round(m.momentum, 6), m.eps) for m in plain} == {(0.1, 1e-5)}


def test_what_batch_norm_remembers_is_an_exponentially_weighted_mean_and_torchs_variance_divides_by_m_minus_1() -> None:
    model = MLP((4,), 2, layers=[3], activation="relu", keep_prob=1.0, batch_norm=NormSettings(decay=0.8))
    mean, variance, m = np.zeros(3), np.ones(3), 10
    for step in range(5):
        x = torch.randn(m, 4, generator=torch.Generator().manual_seed(step))
        z = model.hidden.linear0(x).detach().numpy()
        model(x)
        mean = 0.8 * mean + 0.2 * z.mean(axis=0)
        variance = 0.8 * variance + 0.2 * ((z - z.mean(axis=0)) ** 2).sum(axis=0) / (m - 1)  # the notes divide by m
    assert model.hidden.norm0.running_mean.numpy() == pytest.approx(mean, abs=1e-6)
    assert model.hidden.norm0.running_var.numpy() == pytest.approx(variance, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.batch_norm={decay: 1.0}"], "less than 1"),
        (["model.batch_norm={momentum: 0.1}"], "model.batch_norm"),
        (["model.batch_norm=maybe"], "decay: 0.9"),
        (["model.keep_prob=[0.8,2]"], "model.keep_prob.1"),
        (["model=point"], "experiment=surface"),
        (["model=convnet", "model.layers=[{conv: 2, f: 3, filters: [vertcal, sobel]}, flatten]"], "nearest: vertical"),
        (["model.bias=0.5"], "model.bias"),
        (["model.weights=[1,2]"], "model.weights"),
        (["model.weights=[[1,2]]", "model.layers=[2]"], "weights for layers of 2 x 64 and 10 x 2"),
        (["task.loss=half_square"], "half_squared_error"),
        (["task.mistake_costs={7: 10, 33: 2}"], "there is no class '33'"),
        (["task.mistake_costs={7: {7: 10}}"], "no mistake"),
        (["task.mistake_costs={7: -1}"], "task.mistake_costs"),
        (["data=gates", "task=binary", "task.mistake_costs={0: 0, 1: 0}"], "one at least above 0"),
        (["data=diabetes", "task=regression", "task.output=sigmoid"], "sigmoid answers between 0 and 1"),
        (["data=worked_example", "task=regression"], "every target in train is 0.5"),
        (["data=worked_example", "task=regression", "data.reader.x=[]"], "data.reader.x"),
    ],
)
def test_knobs_that_are_none_are_refused(command, words, says) -> None:
    done = command("train", *words, *QUICK)
    assert done.code == 2 and says in done.err, done.err
    assert not LATEST.exists()
