"""Our own precision, recall, F1 and confusion matrix against scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from crucible.metrics.classification import ConfusionMatrix
from crucible.metrics.flags import MultilabelMetrics


def measured(label: list[int], predicted: list[int], k: int, pieces: int = 1) -> tuple[dict[str, float], np.ndarray]:
    found = ConfusionMatrix(k, lambda outputs, label: outputs.double().mean(), lambda outputs: outputs)
    for part in np.array_split(np.arange(len(label)), pieces):
        found.update(torch.tensor(predicted)[part], {"label": torch.tensor(label)[part]})
    return found.compute(), found.matrix().numpy()


@settings(deadline=None)
@given(st.integers(2, 5), st.data())
def test_every_number_is_scikit_learns(k: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60))
    label, predicted = (list(part) for part in zip(*pairs, strict=True))
    got, matrix = measured(label, predicted, k, pieces=min(3, len(label)))
    how = {"average": "binary"} if k == 2 else {"average": "macro", "labels": sorted(set(label))}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(label, predicted, zero_division=0, **how)
    expected = {"accuracy": sk.accuracy_score(label, predicted), "precision": precision, "recall": recall, "f1": f1}
    assert {name: got[name] for name in expected} == pytest.approx(expected)
    assert got["error"] == pytest.approx(1 - expected["accuracy"])
    assert got["loss"] == pytest.approx(np.mean(predicted))
    assert np.array_equal(matrix, sk.confusion_matrix(label, predicted, labels=list(range(k))))


def test_a_class_without_examples_is_left_out_and_named() -> None:
    """One of ten classes judged, all right: accuracy 1 and F1 1; what is taken for an absent class is still wrong."""
    got, _ = measured([3] * 4, [3] * 4, 10)
    assert got["accuracy"] == got["precision"] == got["recall"] == got["f1"] == 1
    got, _ = measured([3, 3, 3, 5], [3, 3, 7, 5], 10)
    assert (got["precision"], got["recall"], got["f1"]) == pytest.approx((1, (2 / 3 + 1) / 2, (0.8 + 1) / 2))
    metrics = ConfusionMatrix(4, lambda outputs, label: torch.tensor(0.0), lambda outputs: outputs)
    metrics.update(torch.tensor([1, 2]), {"label": torch.tensor([1, 3])})
    assert metrics.absent() == [0, 2]


def test_a_label_that_is_yes_for_nobody_has_no_f1() -> None:
    """As scikit-learn's mean over the labels that are there; its accuracy counts."""
    label, outputs = torch.tensor([[1, 0], [0, 0], [1, 0]]), torch.tensor([[1, 0], [1, 0], [0, 1]])
    flags = MultilabelMetrics(["a", "b"], lambda outputs, label: torch.tensor(0.0), lambda outputs: outputs)
    flags.update(outputs, {"label": label})
    got = flags.compute()
    assert got["f1"] == pytest.approx(sk.f1_score(label, outputs, average="macro", labels=[0], zero_division=0))
    assert flags.absent() == [3] and "f1/b" not in got and got["accuracy/b"] == pytest.approx(2 / 3)


def test_nothing_taken_in_tells_nothing() -> None:
    assert ConfusionMatrix(3, lambda o, y: o, lambda o: o).compute() == {}


def test_mistakes_are_the_counts_beside_the_diagonal() -> None:
    metrics = ConfusionMatrix(3, lambda outputs, label: torch.tensor(0.0), lambda outputs: outputs)
    metrics.update(torch.tensor([0, 1, 1, 2, 2, 0]), {"label": torch.tensor([0, 1, 2, 2, 2, 1])})
    assert metrics.mistakes().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
