"""Splits: everybody goes somewhere once, in the declared shares, and what belongs connected_groups stays connected_groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.data.splits import assign, connected_groups, require_classes, shares
from crucible.errors import Refusal

RATIOS = st.sampled_from([(0.6, 0.2, 0.2), (0.98, 0.01, 0.01), (0.7, 0.0, 0.3), (0.9, 0.1, 0.0)])


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=300), ratios=RATIOS, seed=st.integers(0, 9))
def test_sizes_are_the_shares_to_within_one_example(labels: list[int], ratios: tuple[float, ...], seed: int) -> None:
    split = assign(np.array(labels), np.arange(len(labels)), ratios, stratify=False, seed=seed)
    counts = np.bincount(split, minlength=3)
    assert counts.sum() == len(labels)
    assert np.all(np.abs(counts - np.array(ratios) * len(labels)) <= 1 + 1e-9)
    assert all(counts[i] == 0 for i in range(3) if ratios[i] == 0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=40, max_size=300), st.integers(0, 9))
def test_each_class_has_its_share_to_within_two_examples(labels: list[int], seed: int) -> None:
    label = np.array(labels)
    split = assign(label, np.arange(len(label)), (0.6, 0.2, 0.2), stratify=True, seed=seed)
    for k in range(4):
        got = np.bincount(split[label == k], minlength=3)
        assert np.all(np.abs(got - np.array([0.6, 0.2, 0.2]) * (label == k).sum()) <= 2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), st.booleans(), st.integers(0, 9))
def test_a_group_is_never_torn(groups: list[int], stratify: bool, seed: int) -> None:
    key = np.array(groups)
    split = assign(key % 3, key, (0.6, 0.2, 0.2), stratify=stratify, seed=seed)
    assert all(len(set(split[key == group])) == 1 for group in set(groups))


def test_groups_are_stratified_by_the_class_of_their_first_member() -> None:
    group = np.arange(200) // 2
    label = np.where(group < 50, 0, 1) * 2 + np.arange(200) % 2  # classes 0 and 2 lead, 1 and 3 follow
    split = assign(label, group, (0.6, 0.2, 0.2), stratify=True, seed=0)
    assert [np.bincount(split[label == k], minlength=3).tolist() for k in (0, 2)] == [[30, 10, 10]] * 2


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_together_joins_whatever_is_linked_by_any_partition(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(part) for part in zip(*pairs, strict=True))
    joined = connected_groups(first, second)
    reachable = np.eye(len(first), dtype=bool) | (first[:, None] == first) | (second[:, None] == second)
    for _ in range(len(first).bit_length()):
        reachable = (reachable.astype(int) @ reachable.astype(int)) > 0  # transitive closure by squaring
    assert np.array_equal(joined[:, None] == joined, reachable)


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_a_class_of_three_has_one_example_in_every_split(size: int) -> None:
    label = np.repeat(np.arange(10), size)
    for seed in range(20):
        split = assign(label, np.arange(len(label)), (0.6, 0.2, 0.2), stratify=True, seed=seed)
        assert all(set(split[label == k]) == {0, 1, 2} for k in range(10))


def test_another_seed_draws_another_split() -> None:
    label = np.zeros(100, dtype=int)
    first, second = (assign(label, np.arange(100), (0.6, 0.2, 0.2), stratify=True, seed=s) for s in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("declared", "official", "expected"),
    [
        ((6, 2, 2), ["all"], {"all": [0.6, 0.2, 0.2]}),
        ((0.6, 0.2, 0.2), ["all"], {"all": [0.6, 0.2, 0.2]}),
        ((98, 1, 1), ["all"], {"all": [0.98, 0.01, 0.01]}),
        ((7, 0, 3), ["all"], {"all": [0.7, 0.0, 0.3]}),
        ((0.6, 0.1, 0.2), ["train", "test"], {"train": [0.9, 0.1, 0.0], "test": [0, 0, 1]}),
        ((6, 2, 2), ["train", "test"], {"train": [0.8, 0.2, 0.0], "test": [0, 0, 1]}),
        ((6, 0, 2), ["train", "test"], {"train": [1.0, 0.0, 0.0], "test": [0, 0, 1]}),
        ((6, 2, 2), ["train", "dev", "test"], {"train": [1, 0, 0], "dev": [0, 1, 0], "test": [0, 0, 1]}),
    ],
)
def test_ratios_mean_what_they_say(declared: tuple[float, ...], official: list[str], expected: dict) -> None:
    got = shares(*declared, official)
    assert got.keys() == expected.keys()
    for pool in got:
        assert got[pool] == pytest.approx([*expected[pool], 0.0])


def test_train_dev_is_a_share_of_train_alone() -> None:
    assert shares(6, 2, 2, ["all"], 0.25)["all"] == pytest.approx([0.45, 0.2, 0.2, 0.15])
    got = shares(6, 2, 2, ["train", "dev", "test"], 0.1)
    assert got["train"] == pytest.approx([0.9, 0, 0, 0.1]) and got["dev"] == [0, 1, 0, 0]


def test_a_class_missing_from_a_split_is_refused_with_the_remedy() -> None:
    with pytest.raises(Refusal, match="class 'b' has no example in it"):
        require_classes({"all": np.array([0, 0, 1, 2])}, {"all": np.array([0, 1, 0, 0])}, ["a", "b"], [0, 1, 2])
