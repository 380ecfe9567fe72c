"""Files, names and servers made to do harm, each met by a refusal or shown without effect (docs/trust.md has the table)."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crucible.data.readers import image_folder, yolo
from crucible.errors import Refusal


def picture(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, form)
    return path


def tree(home: Path, *folders: str) -> Path:
    for folder in folders:
        picture(home / folder / "1.png")
    return home


@pytest.mark.parametrize(
    ("train", "dev", "test"),
    [("training", "validation", "testing"), ("Train", "VAL", "Test"), ("training_set", "dev-set", "test_set"), ("train2017", "val2017", "test2017")],
)  # fmt: skip
def test_folders_named_as_splits_are_splits(tmp_path, train, dev, test) -> None:
    tree(tmp_path, *(f"{split}/{kind}" for split in (train, dev, test) for kind in ("cat", "dog")))
    pools = image_folder.read(tmp_path).pools
    assert set(pools) == {"train", "dev", "test"}
    assert all(pool.labels.tolist() == ["cat", "dog"] for pool in pools.values())


@pytest.mark.parametrize(
    "names", [("training", "holdout"), ("trn", "eval"), ("train", "test", "extra"), ("test", "testing", "train")]
)
def test_split_names_that_leave_a_question_are_refused(tmp_path, names) -> None:
    tree(tmp_path, *(f"{name}/{kind}" for name in names for kind in ("cat", "dog")))
    with pytest.raises(Refusal, match="are splits, and not train and test with nothing beside them"):
        image_folder.read(tmp_path)


def test_a_flat_test_folder_is_reported_as_pictures_without_labels(tmp_path) -> None:
    tree(tmp_path, "train/cat", "train/dog", "test")
    with pytest.raises(Refusal, match="pictures without class folders, so without labels") as found:
        image_folder.read(tmp_path)
    assert f"data.path={tmp_path}/train" in str(found.value) and "predict.py" in str(found.value)


def test_yolo_folders_named_as_splits_are_splits(tmp_path) -> None:
    for split in ("Training", "Testing"):
        picture(tmp_path / "images" / split / "1.png")
    (tmp_path / "labels").mkdir()
    assert set(yolo.read(tmp_path).pools) == {"train", "test"}


def test_pictures_with_endings_in_capitals_are_read(tmp_path) -> None:
    for kind in ("cat", "dog"):
        picture(tmp_path / kind / "1.JPG", "JPEG")
        picture(tmp_path / kind / "2.Png")
    assert image_folder.read(tmp_path).pools["all"].labels.tolist() == ["cat", "cat", "dog", "dog"]


def test_a_folder_without_readable_pictures_is_named_with_what_is_in_it(tmp_path) -> None:
    tree(tmp_path, "cat", "dog")
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "1.heic").write_bytes(b"x")
    with pytest.raises(Refusal, match=r"/owl\n.*no picture that is read, but 1 \.heic"):
        image_folder.read(tmp_path)


def test_loose_pictures_are_counted(tmp_path) -> None:
    picture(tmp_path / "cat.1.png")
    with pytest.raises(Refusal, match="the 1 in it stand in no class folder"):
        image_folder.read(tmp_path)


@pytest.mark.parametrize("link", ["cat/2.png", "dog", "owl/deep"])
def test_links_out_of_an_image_folder_are_refused_and_links_inside_are_read(tmp_path, link) -> None:
    outside, home = tree(tmp_path / "outside", "x"), tree(tmp_path / "pics", "cat", "owl")
    (home / "cat" / "same.png").symlink_to(home / "owl" / "1.png")
    assert len(image_folder.read(home).pools["all"].labels) == 3
    target = outside / "x" / "1.png" if link.endswith(".png") else outside / "x"
    (home / link).symlink_to(target)
    if link == "owl/deep":  # not followed: nothing in it is read
        assert len(image_folder.read(home).pools["all"].labels) == 3
        return
    with pytest.raises(Refusal, match=f"{link}\n.*a symbolic link to {target} leads out"):
        image_folder.read(home)


def announcing(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that announces a size."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 99)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("sides", [(9000, 9000), (13000, 13000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_announces_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, sides) -> None:
    (tmp_path / "1.png").write_bytes(announcing(*sides))
    with pytest.raises(Refusal, match=r"1.png\n.*pixels|1.png\n.*damaged"):
        image_folder.decode(tmp_path / "1.png")


def test_a_picture_of_a_format_that_runs_programs_is_not_opened_whatever_its_name(tmp_path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "EPS")  # Pillow hands these to Ghostscript
    (tmp_path / "1.png").write_bytes(buffer.getvalue())
    with pytest.raises(Refusal, match="cannot identify image file"):
        image_folder.decode(tmp_path / "1.png")


def test_large_pictures_make_small_chunks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(image_folder, "BYTES_PER_CHUNK", 100)
    files = [picture(tmp_path / f"{i}.png") for i in range(5)]  # 60 bytes each
    assert [len(chunk) for chunk in image_folder.chunks_of(files)] == [2, 2, 1]
