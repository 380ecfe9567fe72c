"""Several labels for each example: unknown ones count for nothing, and every number equals a hand loop's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, card_of

from crucible.data.labels import flags
from crucible.errors import Refusal
from crucible.losses import masked_binary_cross_entropy
from crucible.metrics.flags import MultilabelMetrics
from crucible.tasks.multitask import Multitask

QUICK = ["task=multitask", "model.layers=[16]", "trainer.total_epochs=6", "tracking=none"]
LATEST = Path("outputs/latest")


def labels(size: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, (size, 3)))


def by_hand(logits: torch.Tensor, label: torch.Tensor) -> float:
    total, known = 0.0, 0
    for row, truth in zip(logits.tolist(), label.tolist(), strict=True):
        for z, y in zip(row, truth, strict=True):
            if y >= 0:
                a = 1 / (1 + math.exp(-z))
                total -= y * math.log(a) + (1 - y) * math.log(1 - a)
                known += 1
    return total / known


def test_the_loss_is_the_mean_over_known_labels() -> None:
    logits, label = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), labels()
    assert float(masked_binary_cross_entropy(logits, label)) == pytest.approx(by_hand(logits, label), rel=1e-5)


def test_unknown_labels_have_exactly_no_gradient_and_no_say() -> None:
    logits, label = torch.randn(12, 3, requires_grad=True), labels()
    masked_binary_cross_entropy(logits, label).backward()
    assert torch.equal(logits.grad[label < 0], torch.zeros(int((label < 0).sum())))
    assert (logits.grad[label >= 0] != 0).all()
    wild = torch.where(label < 0, torch.full_like(logits, 1e30), logits).detach()
    assert torch.equal(masked_binary_cross_entropy(wild, label), masked_binary_cross_entropy(logits, label))


def test_a_batch_without_a_known_label_moves_nothing() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = masked_binary_cross_entropy(logits, torch.full((4, 3), -1))
    loss.backward()
    assert float(loss.detach()) == 0 and torch.equal(logits.grad, torch.zeros(4, 3))


def test_metrics_equal_a_hand_count() -> None:
    logits, label = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), labels(40, 1)
    found = MultilabelMetrics(["even", "above 4", ">3?"], masked_binary_cross_entropy, lambda z: (z > 0).long())
    for part in (slice(0, 15), slice(15, 40)):
        found.update(logits[part], {"label": label[part]})
    numbers, scores, rights = found.compute(), [], []
    for t, name in enumerate(("even", "above 4", "_3_")):
        known = label[:, t] >= 0
        y, p = label[known, t], (logits[known, t] > 0).long()
        tp, fp, fn = (int(((y == a) & (p == b)).sum()) for a, b in ((1, 1), (0, 1), (1, 0)))
        scores.append(2 * tp / (2 * tp + fp + fn))
        rights.append((y == p).float())
        assert numbers[f"f1/{name}"] == pytest.approx(scores[-1]) and numbers[f"accuracy/{name}"] == pytest.approx(
            float(rights[-1].mean())
        )
    assert numbers["f1"] == pytest.approx(sum(scores) / 3) and numbers["accuracy"] == pytest.approx(
        float(torch.cat(rights).mean())
    )
    assert numbers["loss"] == pytest.approx(by_hand(logits, label), rel=1e-5)
    assert found.matrix().shape == (6, 6) and float(found.matrix().sum()) == int((label >= 0).sum())
    assert float(found.mistakes().sum()) / float(found.matrix().sum()) == pytest.approx(numbers["error"])


def test_guessing_is_ln_2_for_even_labels() -> None:
    card = card_of((4,), classes=3)
    card.splits["train"] |= {"class_counts": [5, 4, 3], "known": [10, 8, 6]}
    assert Multitask(card, monitor="f1", goal="maximize", tolerance=0.02).chance_loss([5, 4, 3]) == pytest.approx(
        math.log(2)
    )


def test_labels_are_read_in_every_spelling_and_anything_else_is_refused() -> None:
    text = np.array([["1", "no", "?"], ["0.0", "TRUE", ""], [" 1 ", "-1", "nan"]])
    assert flags({"all": text}, None)[1]["all"].tolist() == [[1, 0, -1], [0, 1, -1], [1, -1, -1]]
    numbers = np.array([[1, 0, np.nan], [-1, 1, 0]])
    names, found = flags({"all": numbers}, ["a", "b", "c"])
    assert names == ["a", "b", "c"] and found["all"].tolist() == [[1, 0, -1], [-1, 1, 0]]
    for wrong in (np.array([[1, 2]]), np.array([["1", "maybe"]]), np.array([[0.5, 1.0]])):
        with pytest.raises(Refusal, match="row 0, label"):
            flags({"all": wrong}, None)
    with pytest.raises(Refusal, match="their shapes are"):
        flags({"train": np.zeros((3, 2)), "test": np.zeros((3, 3))}, None)


def test_digits_with_half_of_three_labels_unknown_are_learned(command) -> None:
    done = command("train", "experiment=digit_traits", "tracking=none")
    assert done.code == 0, done.err
    reported = json.loads((LATEST / "train.json").read_text())
    assert reported["dev"]["f1"] > 0.93 and {"f1/even", "f1/above 4", "f1/prime"} <= set(reported["dev"])
    card = json.loads((LATEST / "card.json").read_text())
    known = np.array(card["splits"]["train"]["known"]) / card["splits"]["train"]["size"]
    assert (abs(known - 0.5) < 0.05).all() and card["classes"] == ["even", "above 4", "prime"]
    done = command("evaluate", "run=latest", "report=full")
    assert done.code == 0, done.err
    lines = (LATEST / "predictions.csv").read_text().splitlines()
    assert lines[0] == "index,label,predicted,even,above 4,prime" and len(lines) == 360
    assert (LATEST / "confusion.csv").read_text().startswith("label,even: no,even: yes")


def test_what_hidden_labels_say_changes_not_a_bit(command, tmp_path) -> None:
    """Labels that are unknown are unknown: whatever they would have been, the weights are the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)).astype(np.float32)
    y = (x[:, :3] > 0).astype(float)
    hidden, weights = rng.random(y.shape) < 0.5, []
    for unknown in (np.nan, -1.0):
        np.savez(tmp_path / "data.npz", x=x, y=np.where(hidden, unknown, y), classes=np.array(["a", "b", "c"]))
        assert command("train", "data=npz", "data.path=data.npz", *QUICK).code == 0
        weights.append((LATEST / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_table_may_have_several_label_columns(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{b:.3f},{int(a > 0)},{'' if i % 3 else int(b > 0)}"
        for i, (a, b) in enumerate(rng.normal(size=(120, 2)))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,big,late", *rows]) + "\n")
    done = command(
        "train",
        "data=csv",
        "data.path=t.csv",
        "data.label=big,late",
        *QUICK,
        "trainer.total_epochs=40",
        "optimizer.lr=0.05",
    )
    assert done.code == 0, done.err
    assert json.loads((LATEST / "train.json").read_text())["train"]["accuracy/late"] > 0.85
    assert json.loads((LATEST / "card.json").read_text())["columns"] == ["a", "b"]


def test_what_makes_no_sense_is_refused_before_training(command, tmp_path) -> None:
    y = np.ones((60, 2), int)
    y[::2, 0] = 0
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(60, 4)), y=y)
    own = ["data=npz", "data.path=data.npz", *QUICK]
    done = command("train", *own)
    assert done.code == 2 and "no example in it has no for the label '1'" in done.err
    done = command("train", "data=digit_traits", *QUICK, "data.sampling=balanced")
    assert done.code == 2 and "these data have no classes" in done.err
    done = command("train", "data=digit_traits", *QUICK, "task.goal=minimize")
    assert done.code == 2 and "makes models worse" in done.err
    assert not Path("outputs").exists()


def test_the_traits_are_those_of_the_digits() -> None:
    from crucible.data.readers.digits import traits

    y = np.load(ROOT / "data/digits/y.npy")
    found = traits(ROOT / "data/digits", unknown=0.0, seed=0).pools["all"].labels
    for digit, row in zip(y[:200].tolist(), found[:200].tolist(), strict=True):
        assert row == [int(digit % 2 == 0), int(digit > 4), int(digit in (2, 3, 5, 7))]


def test_other_data_are_judged_by_the_names_of_the_labels(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    rows = [f"{a:.4f},{b:.4f},{int(a > 0)},{int(b > 0)}" for a, b in x]
    (tmp_path / "t.csv").write_text("\n".join(["u,v,a,b", *rows]) + "\n")
    own = [
        "data=csv",
        "data.path=t.csv",
        "data.label=a,b",
        *QUICK,
        "trainer.total_epochs=30",
        "optimizer.lr=0.05",
        "hydra.run.dir=run",
    ]
    assert command("train", *own).code == 0
    (tmp_path / "other.csv").write_text(
        "\n".join(
            ["u,v,b,a", *(",".join((r.split(",")[0], r.split(",")[1], r.split(",")[3], r.split(",")[2])) for r in rows)]
        )
        + "\n"
    )
    done = command("evaluate", "run=run", "data=csv", "data.path=other.csv", "data.label=b,a", "data.duplicates=keep")
    assert done.code == 0, done.err
    assert json.loads(Path("run/judged/csv/metrics.json").read_text())["test"]["accuracy"] > 0.9
    (tmp_path / "third.csv").write_text("\n".join(["u,v,a,c", *rows]) + "\n")
    done = command("evaluate", "run=run", "data=csv", "data.path=third.csv", "data.label=a,c", "data.duplicates=keep")
    assert done.code == 2 and "those of the run: a, b" in done.err


def test_a_label_that_nobody_knows_has_no_say() -> None:
    found = MultilabelMetrics(["a", "b"], masked_binary_cross_entropy, lambda z: (z > 0).long())
    found.update(torch.tensor([[2.0, 1.0], [-2.0, 1.0]]), {"label": torch.tensor([[1, -1], [0, -1]])})
    numbers = found.compute()
    assert numbers["f1"] == numbers["accuracy"] == 1.0 and "f1/b" not in numbers and numbers["f1/a"] == 1.0


def test_guessing_counts_each_label_as_often_as_it_is_known() -> None:
    """12 known, 3 of them yes; 4 known, 2 of them yes: the mean over all 16."""
    card = card_of((4,), classes=2)
    card.splits["train"] |= {"class_counts": [3, 2], "known": [12, 4]}
    entropy = -(3 * math.log(0.25) + 9 * math.log(0.75) + 4 * math.log(0.5)) / 16
    assert Multitask(card, monitor="f1", goal="maximize", tolerance=0.02).chance_loss([3, 2]) == pytest.approx(entropy)


def test_yes_is_said_from_a_probability_of_one_half() -> None:
    task = Multitask(card_of((4,), classes=2), monitor="f1", goal="maximize", tolerance=0.02)
    assert task.predict(torch.tensor([[0.3, -0.3]])).tolist() == [[1, 0]]
    assert task.postprocess(torch.tensor([[0.3, -0.3]]))[0, 0] > 0.5
