"""The computation graph of one example: against the notes' figures, two-sided differences, and a browser's idea of SVG."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import card_of

from crucible.diagnosis.graph import trace
from crucible.errors import Refusal
from crucible.models.logistic import Logistic
from crucible.models.mlp import MLP
from crucible.report.graph import lines, picture
from crucible.tasks.classification import Binary, Classification

TASK = {"monitor": "f1", "goal": "maximize", "tolerance": 0.02}
PLAIN = {"keep_prob": 1.0, "batch_norm": False}


def test_the_worked_example_of_the_notes(command) -> None:
    """002, chapter 5; the notes print 0.755, 0.68, 0.680, 0.663, 0.801, 0.690, an error of 0.19, a cost of 0.01805, 0.02763 for w53."""
    done = command("describe", "experiment=backpropagation", "graph=true", "tracking=none")
    assert done.code == 0, done.err
    numbers = [float(each) for each in re.findall(r"[-+]?\d+\.\d+(?:e-\d+)?", done.out)]
    for printed in (0.755, 0.680, 0.663, 0.801, 0.690, 0.19, 0.01805, 0.02763):
        assert any(abs(each - printed) < 1.1e-3 for each in numbers), printed
    [file] = Path("outputs/describe").glob("*.svg")
    texts = " ".join(each.text or "" for each in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text"))
    for shown in ("0.35", "0.755", "sigmoid 0.6803", "+0.02767", "answer 0.6903", "+0.1903", "loss 0.0181"):
        assert shown in texts, shown


def test_the_graph_of_logistic_regression_is_the_chain_rule() -> None:
    """004, 1.6: dz = a - y, dw = x dz, db = dz, and da = -y / a + (1 - y) / (1 - a)."""
    torch.manual_seed(0)
    model, task = Logistic((2,), 1), Binary(card_of((2,), classes=2), **TASK)
    x = torch.tensor([[0.7, -1.3]])
    for y in (0, 1):
        model.zero_grad()
        found = trace(model, task, {"x": x, "label": torch.tensor([y])})
        [unit] = found.columns[0]
        a = 1 / (1 + np.exp(-unit.total.value))
        assert unit.total.gradient == pytest.approx(a - y, rel=1e-5)
        assert [w.gradient for w in unit.weights] == pytest.approx([0.7 * (a - y), -1.3 * (a - y)], rel=1e-5)
        assert unit.bias.gradient == pytest.approx(a - y, rel=1e-5)
        [answer] = found.answer
        assert (answer.value, answer.gradient) == pytest.approx((a, -y / a + (1 - y) / (1 - a)), rel=1e-4)
        assert found.loss == pytest.approx(-np.log(a if y else 1 - a), rel=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_every_gradient_is_the_two_sided_difference(activation) -> None:
    torch.manual_seed(3)
    model = MLP((3,), 3, layers=[4, 2], activation=activation, **PLAIN).double()
    task = Classification(card_of((3,), classes=3), **TASK)
    batch = {"x": torch.randn(1, 3, dtype=torch.float64), "label": torch.tensor([2])}
    found = trace(model, task, batch)

    def loss() -> float:
        with torch.no_grad():
            return float(task.losses(model, batch)["loss"])

    layers = [model.hidden.linear0, model.hidden.linear1, model.head]
    for layer, column in zip(layers, found.columns, strict=True):
        for k, unit in enumerate(column):
            places = [(layer.weight, (k, i), w) for i, w in enumerate(unit.weights)] + [(layer.bias, (k,), unit.bias)]
            for tensor, at, value in places:
                sides = []
                for step in (1e-5, -1e-5):
                    with torch.no_grad():
                        tensor[at] += step
                        sides.append(loss())
                        tensor[at] -= step
                assert value.gradient == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7)
    assert found.functions == [activation, activation, ""] and [each.gradient for each in found.answer] == [None] * 3
    assert sum(each.value for each in found.answer) == pytest.approx(1)
    assert len(lines(found)) == 3 + 9 + 1 + 9
    ElementTree.fromstring(picture(found, "a < b & c"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "17,024 weights"),
        (["model=resnet"], "has Conv2d"),
        (["data=moons", "task=binary", "model.layers=[2]", "model.batch_norm=true"], "BatchNorm1d"),
        (["data=moons", "task=binary", "model.layers=[2]", "model.keep_prob=0.5"], "Dropout"),
    ],
)
def test_what_no_pencil_can_follow_is_refused(command, words, says) -> None:
    done = command("describe", *words, "graph=true", "tracking=none")
    assert done.code == 2 and says in done.err, done.err
    assert not Path("outputs/describe").exists()


def test_the_graph_of_frozen_weights_has_their_gradients(command) -> None:
    small = ("data=moons", "task=binary", "model.layers=[2]", "tracking=none")
    assert command("train", *small, "trainer.total_epochs=1").code == 0
    done = command(
        "describe", *small, "graph=true", "transfer=from_run", "transfer.source=latest", "transfer.freeze=all"
    )
    assert done.code == 0, done.err


def test_what_mistakes_cost_may_be_described_and_activation_functions_are_drawn(command) -> None:
    sizes = ("data.feature_shape=[2]", "data.num_classes=2", "model.activation=tanh")
    done = command("describe", *sizes, "task=binary", "task.mistake_costs={1: 10}")
    assert done.code == 0, done.err
    assert list(Path("outputs/describe").glob("*-activations.png"))


def test_a_graph_belongs_to_describe(command) -> None:
    assert "it belongs to src/describe.py" in command("train", "graph=true").err
    with pytest.raises(Refusal):
        trace(
            MLP((64,), 10, layers=[128], activation="relu", **PLAIN),
            Classification(card_of((64,)), **TASK),
            {"x": torch.zeros(1, 64), "label": torch.tensor([0])},
        )
