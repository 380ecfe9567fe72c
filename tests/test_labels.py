"""The kinds of label: what each shows, draws and refuses, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import card_of

from crucible.errors import Refusal
from crucible.labels.boxes import Boxes
from crucible.labels.classes import Classes
from crucible.labels.kind import Answer, Predictions
from crucible.labels.multilabel import Multilabel
from crucible.labels.numbers import Numbers
from crucible.labels.points import Points
from crucible.tasks.regression import Regression
from crucible.tasks.task import total_of


def test_only_boxes_that_are_sure_enough_are_shown() -> None:
    cat, dog = ({"box": [0, 0, 4, 4], "score": score, "class": name} for score, name in ((0.6, "cat"), (0.59, "dog")))
    assert Boxes().shown([cat, dog], 0.6) == [cat] and Boxes().shown([cat, dog], 0.61) == []
    assert Boxes().in_words([cat, dog, cat]) == "2 cat, 1 dog" and Boxes().in_words([]) == "nothing"
    assert Boxes().cells(Answer("a.png", [cat], {})) == [["a.png", "cat", 0.6, 0, 0, 4, 4]]


def test_the_worst_mistake_is_the_label_that_was_given_the_least() -> None:
    shares = torch.tensor([[0.6, 0.4, 0.0], [0.8, 0.1, 0.1], [0.3, 0.2, 0.5], [0.0, 0.7, 0.3]])
    label, predicted = torch.tensor([1, 1, 0, 1]), torch.tensor([0, 0, 2, 1])
    found = Classes().worst(
        Predictions(label, predicted, shares, {}, [0, 1, 2, 3], None), card_of((4,), classes=3), 0.5
    )
    assert [each.row for each in found] == [1, 2, 0]  # 0.1, 0.3, 0.4; the last one is right
    names = card_of((4,), classes=3).classes
    assert found[0].what == f"predicted {names[0]}" and found[0].title.startswith(
        f"{names[1]}, predicted {names[0]}\n0.80"
    )


def test_numbers_that_never_differ_in_train_are_refused() -> None:
    train, labels = np.array([True, True, False]), np.array([3.0, 3.0, 5.0])
    card = replace(card_of((2,)), target=Numbers().facts({}, train, labels, [4])["target"])
    with pytest.raises(Refusal, match=r"every target in train is 3\.0"):
        Regression(card, monitor="rmse", goal="minimize", tolerance=0.1)
    facts = Numbers().facts({}, ~train | np.array([True, False, False]), labels, [4])["target"]
    assert (facts["mean"], facts["std"]) == (4.0, 1.0) and facts["quartiles"] == [3.5, 4.0, 4.5]


def test_answers_in_a_few_words() -> None:
    assert Numbers().in_words(1234.5678) == "1234.57" and Multilabel().in_words(["red", "round"]) == "red+round"
    assert Points().in_words({"points": [[1, 2], [3, 4]], "score": 0.987}) == "2 points (0.99)"


def test_parts_of_the_loss_are_not_minimised_again() -> None:
    w = torch.tensor(3.0, requires_grad=True)
    total = total_of({"loss": w * w, "loss/box": (w * w).detach(), "penalty": 0.5 * w})
    assert float(total) == 10.5
    total.backward()
    assert float(w.grad) == 6.5
