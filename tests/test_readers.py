"""Readers on hand-made examples: what was written is what is read, in bounded pieces."""

import gzip
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from crucible.data.readers import csv, hdf5, idx, image_folder, npz, source
from crucible.data.readers.source import Pool
from crucible.errors import Refusal

RNG = np.random.default_rng(0)


def all_of(pool: Pool) -> np.ndarray:
    return np.concatenate([np.stack(chunk) if isinstance(chunk, list) else chunk for chunk in pool.chunks()])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(50, 5), (50, 6, 6), (50, 6, 6, 3), (50, 3, 6, 6)])
def test_npz_gives_the_rows_in_order_whatever_the_chunk(tmp_path, monkeypatch, compressed, shape) -> None:
    x, y = RNG.integers(0, 256, shape).astype(np.uint8), np.arange(50) % 4
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x=x, y=y)
    monkeypatch.setattr(source, "CHUNK_BYTES", 7 * x[0].nbytes)
    pool = npz.read(tmp_path / "a.npz").pools["all"]
    assert max(len(chunk) for chunk in pool.chunks()) == 7
    expected = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if shape[-1] == 3 else x
    assert np.array_equal(all_of(pool), expected) and np.array_equal(pool.labels, y)


def test_npz_reads_columns_first_arrays_and_a_folder_of_npy(tmp_path) -> None:
    x = np.asfortranarray(RNG.normal(size=(9, 4)))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(9) % 2)
    assert np.array_equal(all_of(npz.read(tmp_path).pools["all"]), x)


def test_npz_reads_official_splits_and_groups(tmp_path) -> None:
    arrays = {f"x_{s}": RNG.normal(size=(4, 2)) for s in ("train", "dev", "test")}
    arrays |= {f"y_{s}": np.array([0, 1, 0, 1]) for s in ("train", "dev", "test")}
    arrays |= {f"who_{s}": np.array(list("aabb")) for s in ("train", "dev", "test")}
    np.savez(tmp_path / "a.npz", **arrays)
    pools = npz.read(tmp_path / "a.npz", None, "who").pools
    assert list(pools) == ["train", "dev", "test"] and pools["dev"].groups.tolist() == list("aabb")


def test_npz_refuses_pickled_objects(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}, {}], dtype=object), y=np.array([0, 1]))
    with pytest.raises(Refusal, match="Python objects"):
        npz.read(tmp_path / "a.npz")


@pytest.mark.parametrize("folder", [False, True])
def test_hdf5_reads_the_courses_layout(tmp_path, folder) -> None:
    x = {s: RNG.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8) for s in ("train", "test")}
    for split, file in (("train", "a.h5"), ("test", "b.h5" if folder else "a.h5")):
        with h5py.File(tmp_path / file, "a") as opened:
            opened[f"{split}_set_x"], opened[f"{split}_set_y"] = x[split], np.array([0, 1] * 3)
            if "list_classes" not in opened:
                opened["list_classes"] = np.array([b"non-cat", b"cat"])
    found = hdf5.read(tmp_path if folder else tmp_path / "a.h5")
    assert found.classes == ["non-cat", "cat"]
    assert np.array_equal(all_of(found.pools["test"]), x["test"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("packed", [False, True])
def test_idx_reads_mnists_bytes(tmp_path, packed) -> None:
    pixels = RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8)
    for prefix in ("train", "t10k"):
        for kind, axes, body in (
            ("images-idx3", (5, 4, 3), pixels),
            ("labels-idx1", (5,), np.arange(5, dtype=np.uint8)),
        ):
            data = struct.pack(f">HBB{len(axes)}I", 0, 8, len(axes), *axes) + body.tobytes()
            name = f"{prefix}-{kind}-ubyte" + (".gz" if packed else "")
            (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    pools = idx.read(tmp_path).pools
    assert np.array_equal(all_of(pools["test"]), pixels[:, None]) and pools["train"].labels.tolist() == list(range(5))


def test_idx_refuses_a_truncated_file(tmp_path) -> None:
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 9, 2, 2) + b"\0" * 8)
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(9))
    with pytest.raises(Refusal, match="9 rows announced"):
        all_of(idx.read(tmp_path).pools["train"])


def test_csv_reads_features_label_and_group(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("a,kind,b,who\n1,x,2.5,p\n3,y,-4e2,q\n")
    pool = csv.read(tmp_path / "a.csv", "kind", "who").pools["all"]
    assert np.array_equal(all_of(pool), [[1, 2.5], [3, -400]])
    assert pool.labels.tolist() == ["x", "y"] and pool.groups.tolist() == ["p", "q"]


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("a,y\n1,0\nb,1\n", "y", "line 3, column 'a'"),
        ("a,y\n1,0\n2\n", "y", "1 cells, the header has 2"),
        ("a,y\n1,0\n", "z", "no column 'z'"),
        ("a,y\n1,0\n", None, "label column is not named"),
        ("", "y", "file is empty"),
    ],
)
def test_csv_says_which_cell_is_wrong(tmp_path, text, label, message) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(Refusal, match=message):
        all_of(csv.read(tmp_path / "a.csv", label).pools["all"])


def picture(path: Path, mode: str, size: tuple[int, int] = (5, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    Image.fromarray(RNG.integers(0, 256, (size[1], size[0], *bands)).astype(np.uint8), mode).save(path)


def test_image_folder_takes_classes_from_folders_and_splits_above_them(tmp_path) -> None:
    for split in ("train", "valid", "test"):
        for kind in ("cat", "dog"):
            picture(tmp_path / split / kind / "1.png", "RGB")
            (tmp_path / split / kind / ".DS_Store").write_text("junk")
            (tmp_path / split / kind / "readme.txt").write_text("junk")
    found = image_folder.read(tmp_path)
    assert list(found.pools) == ["train", "dev", "test"] or set(found.pools) == {"train", "dev", "test"}
    assert found.pools["dev"].labels.tolist() == ["cat", "dog"]
    pixels = np.asarray(Image.open(tmp_path / "test" / "dog" / "1.png")).transpose(2, 0, 1)
    assert np.array_equal(all_of(found.pools["test"])[1], pixels)


def test_image_folder_refuses_splits_that_are_incomplete_or_doubled(tmp_path) -> None:
    for split in ("val", "test"):
        picture(tmp_path / split / "cat" / "1.png", "L")
    with pytest.raises(Refusal, match=r"there is .* and no train"):
        image_folder.read(tmp_path)
    for split in ("train", "valid", "test"):
        picture(tmp_path / split / "cat" / "1.png", "L")
    with pytest.raises(Refusal, match="are splits"):
        image_folder.read(tmp_path)


def test_damaged_gzip_and_bytes_behind_the_end_are_refused(tmp_path) -> None:
    for prefix in ("train", "t10k"):
        body = struct.pack(">HBB3I", 0, 8, 3, 9, 20, 20) + RNG.bytes(3600)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(body))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(9) + b"more")
    with pytest.raises(Refusal, match="bytes after the last row"):
        idx.read(tmp_path)
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(9))
        packed = bytearray((tmp_path / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        packed[1500] ^= 255
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(bytes(packed))
    with pytest.raises(Refusal, match="no IDX file, or truncated"):
        all_of(idx.read(tmp_path).pools["train"])


def test_image_folder_groups_by_a_pattern_and_drops_alpha(tmp_path) -> None:
    for name in ("anna_1", "anna_2", "ben_1"):
        picture(tmp_path / "k" / f"{name}.png", "RGBA")
    pool = image_folder.read(tmp_path, None, r"k/(\w+)_\d").pools["all"]
    assert pool.groups.tolist() == ["anna", "anna", "ben"] and all_of(pool).shape == (3, 3, 4, 5)
    with pytest.raises(Refusal, match="no regular expression with one group"):
        image_folder.read(tmp_path, None, "anna")
