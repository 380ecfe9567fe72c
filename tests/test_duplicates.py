"""The leak gate, against brute force and against the pair that the notes' own data set holds."""

import numpy as np
import pytest
from conftest import DATASETS
from hypothesis import given
from hypothesis import strategies as st

from crucible.data import duplicates
from crucible.data.duplicates import ALIKE, deduplicate, hashes, near, signatures
from crucible.errors import Refusal

SPLITS = {"train": 0, "dev": 1, "test": 2}
POOLS = st.fixed_dictionaries({name: st.lists(st.integers(0, 8), min_size=1, max_size=12) for name in SPLITS})


def setup(pools: dict[str, list[int]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    split_of = {name: np.full(len(values), SPLITS[name]) for name, values in pools.items()}
    return split_of, {name: hashes(np.array(values, dtype=np.int64)[:, None]) for name, values in pools.items()}


@given(POOLS)
def test_drop_leaves_no_value_on_two_sides_and_never_touches_test(pools: dict[str, list[int]]) -> None:
    split_of, digests = setup(pools)
    deduplicate(split_of, digests, "drop")
    left = {name: {v for v, s in zip(values, split_of[name], strict=True) if s >= 0} for name, values in pools.items()}
    assert not left["train"] & left["test"] and not left["train"] & left["dev"] and not left["dev"] & left["test"]
    assert np.all(split_of["test"] == 2)
    for name, values in pools.items():  # nothing else is lost
        others = {"train": {"dev", "test"}, "dev": {"test"}, "test": set()}[name]
        elsewhere = {v for other in others for v in pools[other]}
        assert left[name] == set(values) - elsewhere


@given(POOLS)
def test_refuse_says_so_exactly_when_a_value_stands_on_two_sides(pools: dict[str, list[int]]) -> None:
    values = [set(each) for each in pools.values()]
    shared = bool(values[0] & values[1] or values[1] & values[2] or values[0] & values[2])
    split_of, digests = setup(pools)
    if shared:
        with pytest.raises(Refusal, match=r"data\.duplicates=drop"):
            deduplicate(split_of, digests, "refuse")
    else:
        assert deduplicate(split_of, digests, "refuse") == []


def test_keep_changes_nothing_and_names_the_pairs() -> None:
    split_of, digests = setup({"train": [7, 1], "dev": [2], "test": [9, 7]})
    assert deduplicate(split_of, digests, "keep") == [{"kept": "test/1", "copy": "train/0", "dropped": None}]
    assert np.all(split_of["train"] == 0)


def test_near_pairs_are_those_that_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (40, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    noisy = np.clip(scenes[:10] + rng.integers(-3, 4, scenes[:10].shape), 0, 255)
    images = np.concatenate([scenes, noisy]).astype(np.uint8)
    split = np.array([0] * 40 + [2] * 10)
    found = near(split, signatures(images), hashes(images))
    assert {(pair["a"], pair["b"]) for pair in found} == {(f"train/{i}", f"test/{i}") for i in range(10)}


def test_the_projection_window_misses_nothing(monkeypatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 1)
    rng = np.random.default_rng(1)
    base = rng.normal(size=(300, 64))
    signs = np.concatenate([base, base + 0.05 * rng.normal(size=base.shape)])
    signs = (signs / np.linalg.norm(signs, axis=1, keepdims=True)).astype(np.float16)
    split = rng.integers(0, 3, 600)
    likeness = signs.astype(np.float32) @ signs.astype(np.float32).T
    brute = {(a, b) for a, b in zip(*np.nonzero(likeness >= ALIKE), strict=True) if split[a] < split[b]}
    assert len(near(split, signs, np.arange(600).astype("S16"))) == len(brute) > 50


def test_an_image_without_contrast_is_like_nothing() -> None:
    flat = np.stack([np.full((1, 8, 8), 3), np.full((1, 8, 8), 4)]).astype(np.uint8)
    assert near(np.array([0, 2]), signatures(flat), hashes(flat)) == []


@pytest.mark.skipif(not (DATASETS / "catvnoncat").is_dir(), reason="the course's data sets are not here")
def test_catvnoncat_holds_the_pair_that_the_course_overlooked(command) -> None:
    refused = command("prepare", "data=catvnoncat", f"data.path={DATASETS}/catvnoncat", "data.duplicates=refuse")
    assert refused.code == 2 and "test/17 = train/146" in refused.err
    dropped = command("prepare", "data=catvnoncat", f"data.path={DATASETS}/catvnoncat")
    assert dropped.code == 0 and "train 167, dev 41, test 50" in dropped.out


@pytest.mark.skipif(not (DATASETS / "signs").is_dir(), reason="the course's data sets are not here")
def test_signs_reports_near_pairs_and_keeps_copies_together(command) -> None:
    done = command("prepare", "data=signs", f"data.path={DATASETS}/signs")
    assert "0 exact copies across splits" in done.out and "14 near ones" in done.out
    folder = next(iter(__import__("pathlib").Path("artifacts/prepared").iterdir()))
    rows = {split: {row.tobytes() for row in np.load(folder / split / "x.npy")} for split in SPLITS}
    assert len(rows["train"] | rows["dev"]) == 1037 and not rows["train"] & rows["dev"]
