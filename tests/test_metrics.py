"""Our own precision, recall, F1 and confusion matrix against scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from crucible.metrics.classification import ConfusionMatrix


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
    how = {"average": "binary"} if k == 2 else {"average": "macro", "labels": list(range(k))}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(label, predicted, zero_division=0, **how)
    expected = {"accuracy": sk.accuracy_score(label, predicted), "precision": precision, "recall": recall, "f1": f1}
    assert {name: got[name] for name in expected} == pytest.approx(expected)
    assert got["error"] == pytest.approx(1 - expected["accuracy"])
    assert got["loss"] == pytest.approx(np.mean(predicted))
    assert np.array_equal(matrix, sk.confusion_matrix(label, predicted, labels=list(range(k))))


def test_nothing_taken_in_tells_nothing() -> None:
    assert ConfusionMatrix(3, lambda o, y: o, lambda o: o).compute() == {}


def test_mistakes_are_the_counts_beside_the_diagonal() -> None:
    metrics = ConfusionMatrix(3, lambda outputs, label: torch.tensor(0.0), lambda outputs: outputs)
    metrics.update(torch.tensor([0, 1, 1, 2, 2, 0]), {"label": torch.tensor([0, 1, 2, 2, 2, 1])})
    assert metrics.mistakes().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
