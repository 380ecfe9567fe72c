"""Data that are made, and how batches are drawn from classes."""

import numpy as np
import pytest
import torch

from crucible.data.batches import balanced, shuffled
from crucible.data.readers import generated

SIZES = {"train_size": 200, "dev_size": 100, "test_size": 50}


def arrays(source, split: str) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(list(source.pools[split].chunks())), source.pools[split].labels


def test_circles_without_noise_lie_on_their_circles() -> None:
    x, y = arrays(generated.circles(None, **SIZES, factor=0.8, noise=0.0, seed=0), "train")
    assert np.allclose((x**2).sum(1), np.where(y == 1, 0.64, 1.0), atol=1e-6) and np.bincount(y).tolist() == [100, 100]


def test_moons_without_noise_are_scikit_learns_half_circles() -> None:
    x, y = arrays(generated.moons(None, **SIZES, noise=0.0, seed=0), "train")
    upper, lower = x[y == 0], x[y == 1]
    assert np.allclose((upper**2).sum(1), 1, atol=1e-6) and (upper[:, 1] >= -1e-6).all()
    assert np.allclose((lower[:, 0] - 1) ** 2 + (lower[:, 1] - 0.5) ** 2, 1, atol=1e-6)
    assert (lower[:, 1] <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("make", [generated.circles, generated.moons])
def test_splits_differ_noise_is_as_declared_and_the_same_seed_gives_the_same_bytes(make) -> None:
    more = {"factor": 0.8} if make is generated.circles else {}
    sizes = {"train_size": 4000, "dev_size": 4000, "test_size": 50}
    one, again, other = (make(None, **sizes, **more, noise=0.3, seed=seed) for seed in (0, 0, 1))
    still = make(None, **sizes, **more, noise=0.0, seed=0)
    assert arrays(one, "train")[0].tobytes() == arrays(again, "train")[0].tobytes()
    assert not np.array_equal(arrays(one, "train")[0], arrays(other, "train")[0])
    assert not np.array_equal(arrays(one, "train")[0], arrays(one, "dev")[0])
    assert (arrays(one, "train")[0] - arrays(still, "train")[0]).std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(("gate", "truth"), [("and", "0001"), ("nand", "1110"), ("or", "0111"), ("xor", "0110")])
def test_gates_are_their_truth_tables(gate, truth) -> None:
    x, y = arrays(generated.gates(None, gate=gate), "test")
    assert x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and "".join(map(str, y)) == truth


def test_balanced_draws_every_class_as_often_and_uses_all_of_a_class_before_any_again() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [3] * 3)
    rows = balanced(labels, torch.Generator().manual_seed(0))
    drawn = labels[rows]
    assert len(rows) == 102 and [int((drawn == k).sum()) for k in (0, 1, 3)] == [34, 34, 34]
    times = torch.bincount(rows, minlength=102)
    assert times[:90].max() == 1 and set(times[90:99].tolist()) == {3, 4} and set(times[99:].tolist()) == {11, 12}
    again = balanced(labels, torch.Generator().manual_seed(1))
    assert not torch.equal(rows, again)
    assert not torch.equal(drawn[:34], drawn[0].repeat(34))  # mixed, not class by class


def test_shuffled_takes_everything_once() -> None:
    rows = shuffled(torch.zeros(50), torch.Generator().manual_seed(0))
    assert sorted(rows.tolist()) == list(range(50)) and rows.tolist() != list(range(50))
