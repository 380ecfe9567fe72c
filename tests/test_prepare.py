"""The prepared folder: right numbers, equal bytes, and nothing left behind by a refusal."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import toy_npz
from PIL import Image

from crucible.data.augment import Identity
from crucible.data.batches import Batches, bounds
from crucible.data.card import read_card
from crucible.data.images import Fit
from crucible.data.moments import Moments
from crucible.data.normalize import shift_and_scale
from crucible.errors import Refusal


def prepared(command, *args: str) -> Path:
    done = command("prepare", *args)
    assert done.code == 0, done.err
    return Path(done.out.split("files")[1].split()[0])


def test_mean_and_deviation_are_numpys_over_train_alone(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (90, 5)).astype(np.float32)
    np.savez("a.npz", x=x, y=np.arange(90) % 3)
    folder = prepared(command, "data=npz", "data.path=a.npz")
    card, train = read_card(folder), np.load(folder / "train" / "x.npy").astype(np.float64)
    assert np.allclose(card.normalize["mean"], train.mean(0), rtol=1e-12)
    assert np.allclose(card.normalize["std"], train.std(0), rtol=1e-12)
    assert card.normalize["fitted_on"] == "train" and card.normalize["fitted_size"] == len(train) == 54
    assert not np.allclose(card.normalize["mean"], x.mean(0), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_over_chunks_equal_moments_of_the_whole(dtype) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (70, 3, 5, 5)).astype(dtype)
    moments = Moments()
    for start in (0, 1, 20, 60):
        moments.add(x[start : {0: 1, 1: 20, 20: 60, 60: 70}[start]])
    mean, std = moments.mean_std()
    assert np.allclose(mean, x.astype(np.float64).mean((0, 2, 3)), rtol=1e-13)
    assert np.allclose(std, x.astype(np.float64).std((0, 2, 3)), rtol=1e-13)


def test_a_large_offset_does_not_eat_the_deviation() -> None:
    x = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    moments = Moments()
    for part in np.split(x, 10):
        moments.add(part)
    assert np.allclose(moments.mean_std()[1], x.std(0), rtol=1e-6)


def test_equal_input_gives_equal_bytes_wherever_it_lies(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    (tmp_path / "b c=d").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "b c=d" / "z.npz")
    toy_npz(tmp_path / "a.npz")
    one = prepared(command, "data=npz", "data.path=a.npz", "prepared=one")
    two = prepared(command, "data=npz", f"data.path={tmp_path}/b c=d/z.npz", "prepared=two")
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 7
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)


def test_only_what_changes_the_bytes_changes_the_key(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    base = prepared(command, "data=npz", "data.path=a.npz")
    same = ["trainer.batch_size=7", "augment=light", "data.human_error=0.1", "seed=9", "optimizer=sgd"]
    assert prepared(command, "data=npz", "data.path=a.npz", *same) == base
    for change in ("data.split.seed=1", "data.normalize=scale", "data.image_size=[2,2]", "data.split.dev=0.1"):
        assert prepared(command, "data=npz", "data.path=a.npz", change) != base


def test_the_card_tells_the_contract(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    card = json.loads((prepared(command, "data=npz", "data.path=a.npz") / "card.json").read_text())
    assert {"name", "key", "source", "splits", "classes", "feature_shape", "dtype", "normalize", "duplicates"} <= set(
        card
    )
    assert card["splits"]["train"] == {"size": 36, "class_counts": [12, 12, 12]}
    assert card["feature_shape"] == [1, 4, 4] and card["dtype"] == "uint8" and card["classes"] == ["0", "1", "2"]


def test_dev_zero_leaves_no_dev_split(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    folder = prepared(
        command, "data=npz", "data.path=a.npz", "data.split.train=7", "data.split.dev=0", "data.split.test=3"
    )
    assert not (folder / "dev").exists() and set(read_card(folder).splits) == {"train", "test"}


def test_a_feature_that_never_changes_becomes_zero() -> None:
    from conftest import card_of

    shift, scale = shift_and_scale(card_of((2,), mean=[5.0, 1.0], std=[0.0, 2.0]))
    assert (np.array([5.0, 3.0]) * scale.numpy() + shift.numpy()).tolist() == [0.0, 1.0]


def test_resizing_is_pillows_and_grey_is_bt601() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 7)).astype(np.uint8)
    small = Fit([4, 3], None)([image], lambda i: "x")[0]
    pillow = Image.fromarray(image.transpose(1, 2, 0)).resize((3, 4), Image.Resampling.BILINEAR)
    assert np.array_equal(small, np.asarray(pillow).transpose(2, 0, 1))
    grey = Fit(None, 1)([image], lambda i: "x")[0, 0]
    assert np.abs(grey.astype(int) - np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))).max() <= 1


def test_a_refused_preparation_leaves_nothing(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz", y=np.zeros(60, dtype=int))
    before = sorted(tmp_path.rglob("*"))
    assert command("prepare", "data=npz", "data.path=a.npz").code == 2
    assert command("train", "data=npz", "data.path=a.npz", "tracking=none").code == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_prepared_otherwise_is_refused(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    folder = prepared(command, "data=npz", "data.path=a.npz")
    done = command("train", "data=npz", "data.path=a.npz", f"prepared={folder}", "data.normalize=scale")
    assert done.code == 2 and "it was prepared with normalize standard" in done.err


@pytest.mark.parametrize(
    ("size", "batch", "expected"), [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (3, 1, [1, 1, 1]), (1, 4, [1])]
)
def test_a_remainder_of_one_joins_the_batch_before_it(size: int, batch: int, expected: list[int]) -> None:
    assert [end - start for start, end in bounds(size, batch)] == expected


def test_scale_needs_bytes(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(60, 4)))
    with pytest.raises(AssertionError, match="x / 255 is for 8-bit data"):
        prepared(command, "data=npz", "data.path=a.npz", "data.normalize=scale")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": None, "x_train": np.zeros((6, 2), "u1"), "x_test": np.zeros((4, 2), "f4")}, "its values are float32"),
        ({"y": np.full(60, np.nan)}, "label nan is out of range"),
        ({"y": np.eye(3)[np.arange(60) % 3]}, r"their shape is \(60, 3\)"),
        ({"x": np.array([["a"]] * 60)}, "hold no numbers"),
        ({"who": np.zeros(50)}, "60 examples but 50 labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(command, arrays, message) -> None:
    rng = np.random.default_rng(0)
    good = {"x": rng.normal(size=(60, 2)), "y": np.arange(60) % 3}
    if "x_train" in arrays:
        arrays = {"x_train": rng.integers(0, 9, (60, 2), "u1"), "x_test": rng.normal(size=(30, 2)).astype("f4")}
        good = {"y_train": np.arange(60) % 3, "y_test": np.arange(30) % 3}
    np.savez("a.npz", **good | arrays)
    more = ["data.group_by=who"] if "who" in arrays else []
    with pytest.raises(AssertionError, match=message):
        prepared(command, "data=npz", "data.path=a.npz", *more)


@pytest.mark.parametrize("kind", [">f4", "u2", "bool"])
def test_every_number_type_comes_out_as_one_that_torch_takes(command, kind) -> None:
    x = np.random.default_rng(0).integers(0, 2, (60, 4, 4))
    x[:, 0, :] = np.arange(60)[:, None] // 2 % 2
    x[:, 1] = np.unpackbits(np.arange(60, dtype=np.uint8)[:, None], axis=1)[:, 4:]
    x[:, 2] = np.unpackbits(np.arange(60, dtype=np.uint8)[:, None], axis=1)[:, :4]
    np.savez("a.npz", x=x.astype(kind), y=np.arange(60)[:, None] % 3)
    assert command("train", "data=npz", "data.path=a.npz", "tracking=none", "trainer.total_epochs=1").code == 0
    assert command("evaluate", "run=latest").code == 0


def test_a_split_that_was_promised_and_is_empty_is_refused(command) -> None:
    np.savez("a.npz", x=np.random.default_rng(0).normal(size=(60, 2)), y=np.arange(60) % 3)
    shares = ["data.split.train=998", "data.split.dev=1", "data.split.test=1", "data.stratify=false"]
    with pytest.raises(AssertionError, match="the dev split"):
        prepared(command, "data=npz", "data.path=a.npz", *shares)


def test_a_constant_that_rounds_and_a_large_offset_are_normalised(command) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3))
    x[:, 0], x[:, 1] = 0.1, 1.6e9 + 10 * x[:, 2]
    np.savez("a.npz", x=x, y=np.arange(90) % 3)
    folder = prepared(command, "data=npz", "data.path=a.npz")
    batches = Batches(
        folder, read_card(folder), torch.device("cpu"), batch_size=None, augment=Identity(), seed=0
    )  # fmt: skip
    batch = next(batches.train(0))["x"]
    assert torch.equal(batch[:, 0], torch.zeros(54))
    assert torch.allclose(batch[:, 1], batch[:, 2], atol=1e-5)


def test_images_of_another_shape_name_the_remedy() -> None:
    fit = Fit(None, None)
    fit(np.zeros((2, 3, 8, 8), np.uint8), lambda i: "first")
    with pytest.raises(Refusal, match=r"data\.image_size=\[8,8\] data\.channels=3"):
        fit([np.zeros((1, 6, 8), np.uint8)], lambda i: "second")
