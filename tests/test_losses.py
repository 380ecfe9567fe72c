"""Losses and penalties against their formulas, another library and finite differences."""

import numpy as np
import pytest
import torch
from conftest import card_of
from sklearn.metrics import log_loss
from torch import nn

from crucible.losses import binary_cross_entropy, cross_entropy
from crucible.regularizers import L2, none
from crucible.tasks.classification import Binary, Classification

TASK = {"monitor": "f1", "goal": "maximize", "tolerance": 0.02}


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)) * 3
    label = np.arange(20) % 4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    got = cross_entropy(torch.from_numpy(logits), torch.from_numpy(label)).item()
    assert got == pytest.approx(log_loss(label, probabilities), rel=1e-6)


def test_binary_cross_entropy_is_the_notes_formula() -> None:
    z, y = np.linspace(-4, 4, 9), np.array([0, 1, 0, 1, 1, 0, 1, 0, 1])
    a = 1 / (1 + np.exp(-z))
    formula = np.mean(-y * np.log(a) - (1 - y) * np.log(1 - a))
    got = binary_cross_entropy(torch.from_numpy(z)[:, None], torch.from_numpy(y)).item()
    assert got == pytest.approx(formula, rel=1e-6)


def test_losses_do_not_overflow_at_a_thousand() -> None:
    huge = torch.tensor([[1000.0, -1000.0]])
    assert cross_entropy(huge, torch.tensor([1])).item() == 2000
    assert binary_cross_entropy(huge[:, :1], torch.tensor([0])).item() == 1000


@pytest.mark.parametrize(("task", "outputs"), [(Classification, 2), (Binary, 1)])
def test_gradients_with_penalty_are_the_two_sided_differences(task, outputs) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs))
    whole = L2(task(card_of((3,), classes=2), **TASK), 10, strength=0.7)
    batch = {"x": torch.randn(6, 3), "label": torch.tensor([0, 1, 1, 0, 1, 0])}
    model.double(), batch.update(x=batch["x"].double())
    # the losses themselves are float32: h is chosen for it
    sum(whole.losses(model, batch).values()).backward()
    for p in model.parameters():
        flat = p.data.view(-1)
        for i in range(len(flat)):
            ends = []
            for step in (1e-2, -2e-2):
                flat[i] += step
                ends.append(float(sum(whole.losses(model, batch).values())))
            flat[i] += 1e-2
            assert p.grad.view(-1)[i].item() == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-4)


def test_l2_is_strength_over_2m_times_squared_weights_without_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    task = Classification(card_of((3,), classes=2), **TASK)
    losses = L2(task, 50, strength=0.7).losses(model, {"x": torch.randn(4, 3), "label": torch.tensor([0, 1, 0, 1])})
    w = model[0].weight
    assert losses["penalty"].item() == pytest.approx(0.7 / 100 * w.pow(2).sum().item())
    losses["penalty"].backward()
    assert torch.allclose(w.grad, 0.7 / 50 * w) and model[0].bias.grad is None


def test_no_penalty_is_the_task_itself() -> None:
    task = Classification(card_of((3,)), **TASK)
    assert none(task, 10) is task


def test_sigmoid_and_softmax_give_probabilities_and_the_likelier_class() -> None:
    binary, many = Binary(card_of((3,), classes=2), **TASK), Classification(card_of((3,)), **TASK)
    z = torch.tensor([[2.0], [-1.0]])
    assert torch.allclose(binary.answers(z)[:, 1], 1 / (1 + torch.exp(-z[:, 0])))
    assert binary.predict(z).tolist() == [1, 0]
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert torch.allclose(many.answers(logits), torch.exp(logits) / torch.exp(logits).sum())
    assert many.predict(logits).tolist() == [1]
