"""Losses and penalties against their formulas, another library and finite differences."""

import numpy as np
import pytest
import torch
from conftest import card_of
from sklearn.metrics import log_loss
from torch import nn

from crucible.losses import binary_cross_entropy, cross_entropy, mean_squared_error, squared_probabilities
from crucible.regularizers import L1, L2, none
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
    assert torch.allclose(binary.postprocess(z)[:, 1], 1 / (1 + torch.exp(-z[:, 0])))
    assert binary.predict(z).tolist() == [1, 0]
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert torch.allclose(many.postprocess(logits), torch.exp(logits) / torch.exp(logits).sum())
    assert many.predict(logits).tolist() == [1]


LOGITS = torch.tensor(np.random.default_rng(1).normal(size=(20, 4)) * 2)
LABEL = torch.arange(20) % 4
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)


def test_class_weights_are_scikit_learns_sample_weights() -> None:
    """log_loss divides by the sum of the weights, ours by the number of examples."""
    probabilities = LOGITS.softmax(1).numpy()
    weight = WEIGHT[LABEL].numpy()
    expected = log_loss(LABEL.numpy(), probabilities, sample_weight=weight) * weight.mean()
    assert cross_entropy(LOGITS, LABEL, WEIGHT).item() == pytest.approx(expected, rel=1e-6)
    z, y, w = LOGITS[:, :1], LABEL % 2, WEIGHT[:2]
    p = np.stack([1 - z.sigmoid()[:, 0].numpy(), z.sigmoid()[:, 0].numpy()], 1)
    expected = log_loss(y.numpy(), p, sample_weight=w[y].numpy()) * w[y].mean().item()
    assert binary_cross_entropy(z, y, w).item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    card = card_of((2,), classes=3)
    card.splits["train"]["class_counts"] = [2, 4, 6]
    task = Classification(card, **TASK, class_weights="balanced")
    y = np.repeat([0, 1, 2], [2, 4, 6])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    outputs = torch.randn(12, 3)
    model = lambda x: outputs  # noqa: E731
    each = -outputs.log_softmax(1)[torch.arange(12), torch.tensor(y)].numpy()
    got = task.losses(model, {"x": outputs, "label": torch.tensor(y)})["loss"].item()
    assert got == pytest.approx((expected[y] * each).mean(), rel=1e-5)
    assert task.loss(outputs, torch.tensor(y)).item() == pytest.approx(each.mean(), rel=1e-5)  # metrics stay unweighted


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_mixes_the_label_with_all_classes_alike(smoothing) -> None:
    target = np.full((20, 4), smoothing / 4)
    target[np.arange(20), LABEL] += 1 - smoothing
    expected = -(target * LOGITS.log_softmax(1).numpy()).sum(1)
    assert cross_entropy(LOGITS, LABEL, None, smoothing).item() == pytest.approx(expected.mean(), rel=1e-6)
    weighted = (expected * WEIGHT.numpy()[LABEL]).mean()
    assert cross_entropy(LOGITS, LABEL, WEIGHT, smoothing).item() == pytest.approx(weighted, rel=1e-6)
    z, y = LOGITS[:, :1], LABEL % 2
    two = torch.cat([torch.zeros_like(z), z], 1)
    same = cross_entropy(two, y, None, smoothing).item()
    assert binary_cross_entropy(z, y, None, smoothing).item() == pytest.approx(same, rel=1e-6)


def test_squared_errors_are_scikit_learns() -> None:
    from sklearn.metrics import mean_squared_error as reference

    p = LOGITS.softmax(1)
    onehot = np.eye(4)[LABEL]
    assert squared_probabilities(p, LABEL).item() == pytest.approx(reference(onehot, p.numpy()), rel=1e-6)
    rows = ((p.numpy() - onehot) ** 2).mean(1) * WEIGHT.numpy()[LABEL]
    assert squared_probabilities(p, LABEL, WEIGHT).item() == pytest.approx(rows.mean(), rel=1e-6)
    smoothed = 0.8 * onehot + 0.05
    assert squared_probabilities(p, LABEL, None, 0.2).item() == pytest.approx(reference(smoothed, p.numpy()), rel=1e-6)
    y = np.linspace(-3, 4, 20)
    assert mean_squared_error(LOGITS[:, :1], torch.tensor(y)).item() == pytest.approx(
        reference(y, LOGITS[:, 0].numpy()), rel=1e-6
    )


@pytest.mark.parametrize("kind", ["cross_entropy", "mean_squared_error"])
def test_the_loss_of_guessing_is_that_of_the_frequencies(kind) -> None:
    card = card_of((2,), classes=3)
    card.splits["train"]["class_counts"] = [2, 4, 6]
    task = Classification(card, **TASK, loss=kind)
    y = torch.tensor(np.repeat([0, 1, 2], [2, 4, 6]))
    always = torch.log(torch.tensor([2.0, 4.0, 6.0]) / 12).repeat(12, 1)
    assert task.loss(always, y).item() == pytest.approx(task.chance_loss([2, 4, 6]), rel=1e-5)


def test_losses_of_low_precision_are_computed_in_float32_and_float64_stays() -> None:
    assert cross_entropy(LOGITS.bfloat16(), LABEL).dtype == torch.float32
    assert cross_entropy(LOGITS, LABEL).dtype == torch.float64


def test_weights_for_other_classes_are_refused() -> None:
    from crucible.errors import Refusal

    with pytest.raises(Refusal, match="2 weights for 3 classes"):
        Classification(card_of((2,)), **TASK, class_weights=[1.0, 2.0])


def test_l1_adds_strength_over_m_times_the_absolute_weights_and_its_gradient_is_the_sign() -> None:
    model = nn.Linear(4, 3)
    batch = {"x": torch.randn(5, 4), "label": torch.tensor([0, 1, 2, 0, 1])}
    task = L1(Classification(card_of((4,)), **TASK), 10, strength=0.7)
    penalty = task.losses(model, batch)["penalty"]
    assert penalty.item() == pytest.approx(0.07 * np.abs(model.weight.detach().numpy()).sum(), rel=1e-5)
    penalty.backward()
    assert torch.allclose(model.weight.grad, 0.07 * model.weight.sign()) and model.bias.grad is None


def test_a_smoothing_of_everything_is_refused() -> None:
    from conftest import composed

    from crucible.app.compose import validate
    from crucible.errors import Refusal

    with pytest.raises(Refusal, match="label_smoothing"):
        validate(composed("task.label_smoothing=1"))
