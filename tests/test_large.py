"""Data that are larger than memory, or take long to prepare: windows of blocks, several processes, and files that are read once."""

import gzip
import os
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import torch
from conftest import card_of, write_split
from PIL import Image

from crucible.data import batches as batches_module
from crucible.data import duplicates, prepare, remembered
from crucible.data.augment import Identity
from crucible.data.batches import Batches, shuffled, windowed
from crucible.data.card import read_card
from crucible.data.duplicates import compared_rows
from crucible.data.ordered import here, over
from crucible.data.ragged import Lengths
from crucible.data.readers import source
from crucible.data.readers.source import Chunks, Part, Pool
from crucible.data.splits import DROPPED
from crucible.integrity import cache
from crucible.seeds import generator


def draw(epoch: int = 0) -> torch.Generator:
    return generator(7, "order", epoch, torch.device("cpu"))


@pytest.mark.parametrize("size", [0, 1, 9, 100, 1003])
def test_a_windowed_order_holds_each_row_once_and_whole_blocks_in_each_window(size: int) -> None:
    order = windowed(torch.empty(size), draw(), block=10, window=40).tolist()
    assert sorted(order) == list(range(size))
    of_block = Counter(row // 10 for row in range(size))
    short = {
        block for block, count in of_block.items() if count < 10
    }  # the last one; windows after it begin in a block
    for start in range(0, size, 40):
        seen = Counter(row // 10 for row in order[start : start + 40])
        torn = {block for block, count in seen.items() if count < of_block[block]}
        assert len(torn) <= 2 * len(short) and len(seen) <= 4 + len(short)


def test_a_windowed_order_differs_by_epoch_and_is_mixed_within_its_window() -> None:
    one, again, other = (windowed(torch.empty(4000), draw(e), block=10, window=400).tolist() for e in (0, 0, 1))
    assert one == again != other
    blocks = [row // 10 for row in one[:400]]
    assert len(set(blocks[:64])) > 25  # 64 draws of 40 blocks meet 32 of them, not 7
    first = [windowed(torch.empty(4000), draw(e), block=10, window=400)[0].item() // 400 for e in range(60)]
    assert len(set(first)) == 10  # any part of the data may come first


def test_windowed_batches_are_those_of_the_order_and_resume_to_the_same_bytes(
    command, train_until_killed, tmp_path, monkeypatch
) -> None:
    words = (
        "data.order=windowed",
        "trainer.total_epochs=4",
        "trainer.checkpoint_every=1",
        "tracking=none",
        "model.layers=[8]",
    )
    train_until_killed(*words, "hydra.run.dir=killed")
    assert command("train", "resume=killed").code == 0
    for order in ("windowed", "shuffled"):
        assert command("train", *words, f"data.order={order}", f"hydra.run.dir={order}").code == 0
    found = {
        name: (tmp_path / name / "weights.safetensors").read_bytes() for name in ("killed", "windowed", "shuffled")
    }
    assert found["killed"] == found["windowed"] != found["shuffled"]


def test_what_is_given_is_the_windowed_order(tmp_path) -> None:
    write_split(tmp_path, "train", np.arange(700, dtype=np.float32)[:, None], np.arange(700) % 3)
    card_of((1,), train=700).write(tmp_path / "card.json")
    card = read_card(tmp_path)
    given = {
        order: [
            int(row)
            for batch in Batches(tmp_path, card, torch.device("cpu"), batch_size=64, augment=Identity(), seed=7, order=order).train(3)
            for row in batch["x"][:, 0]
        ]
        for order in ("shuffled", "windowed")
    }  # fmt: skip
    assert given["windowed"] == windowed(torch.empty(700), draw(3)).tolist()
    assert given["shuffled"] == shuffled(torch.empty(700), draw(3)).tolist() != given["windowed"]


def test_words_of_a_window_are_sorted_by_length_in_it_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(batches_module, "WINDOW", 64)
    monkeypatch.setattr(batches_module.windowed, "__defaults__", (16, 64))
    lengths = np.random.default_rng(0).integers(1, 30, 256)
    for name, values in (
        ("x", np.repeat(np.arange(256.0), lengths).astype(np.float32)),
        ("y", np.arange(256) % 3),
        ("offsets", np.cumsum([0, *lengths])),
    ):
        (tmp_path / "train").mkdir(exist_ok=True)
        np.save(tmp_path / "train" / f"{name}.npy", values)
    card = card_of((30,), train=256)
    object.__setattr__(card, "lengths", {"shortest": 1, "mean": 15.0, "longest": 30})
    card.write(tmp_path / "card.json")
    made = Batches(tmp_path, card, torch.device("cpu"), batch_size=8, augment=Identity(), seed=7, order="windowed")
    rows = [int(each[0]) for batch in made.train(0) for each in batch["x"]]
    order = windowed(torch.empty(256), draw(), block=16, window=64).tolist()
    assert [set(rows[i : i + 64]) for i in range(0, 256, 64)] == [set(order[i : i + 64]) for i in range(0, 256, 64)]


def test_prepared_arrays_are_one_copy_for_all_processes(tmp_path) -> None:
    write_split(tmp_path, "train", np.zeros((5000, 40), np.float32), np.arange(5000) % 3)
    card = card_of((40,), train=5000)
    card.write(tmp_path / "card.json")
    x, _ = Batches(tmp_path, card, torch.device("cpu"), batch_size=64, augment=Identity(), seed=7).arrays("train")
    place = x.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(each, 16) for each in line.split()[0].split("-"))
        if low <= place < high:
            assert line.endswith("train/x.npy")
            return
    raise AssertionError("it is nowhere")


def test_more_than_the_memory_of_this_machine_can_be_mapped(tmp_path) -> None:
    """A file with holes: half as much again as there is memory; its rows are read, and nobody may write to them."""
    rows, size = 1000, int(1.5 * psutil.virtual_memory().total / 1000)
    write_split(tmp_path, "train", np.zeros((1, 1), np.uint8), np.arange(rows) % 3)
    with (tmp_path / "train" / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, size)})
        try:
            file.truncate(file.tell() + rows * size)
        except OSError:
            pytest.skip("this file system has no files with holes, or none of that size")
    card = card_of((size,), train=rows)
    card.write(tmp_path / "card.json")
    batches = Batches(tmp_path, card, torch.device("cpu"), batch_size=2, augment=Identity(), seed=7, order="windowed")
    batch = next(batches.train(0))
    assert batch["x"].shape == (2, size) and float(batch["x"].max()) == 0 and batches._on_disk == {"train"}


def arrays(home: Path) -> list[str]:
    rng = np.random.default_rng(0)
    (home / "raw").mkdir()
    np.save(home / "raw" / "x.npy", rng.normal(size=(300, 5)).astype(np.float32))
    np.save(home / "raw" / "y.npy", np.arange(300) % 3)
    return ["data=npz", "data.path=raw"]


def packed_arrays(home: Path) -> list[str]:
    rng = np.random.default_rng(0)
    np.savez_compressed(home / "raw.npz", x=rng.normal(size=(300, 5)).astype(np.float32), y=np.arange(300) % 3)
    return ["data=npz", "data.path=raw.npz"]


def pictures(home: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (home / "raw" / name).mkdir(parents=True)
        for i in range(100):
            Image.fromarray(rng.integers(0, 256, (9, 7 + i % 2, 3), np.uint8)).save(home / "raw" / name / f"{i}.png")
    return ["data=image_folder", "data.path=raw", "data.image_size=[6,6]"]


def course(home: Path) -> list[str]:
    rng = np.random.default_rng(0)
    with h5py.File(home / "raw.h5", "w") as file:
        for split, size in (("train", 200), ("test", 60)):
            file[f"{split}_set_x"] = rng.integers(0, 256, (size, 5, 5, 3), np.uint8)
            file[f"{split}_set_y"] = np.arange(size) % 2
    return ["data=hdf5", "data.path=raw.h5"]


def idx(packing: Callable[[bytes], bytes], suffix: str) -> Callable[[Path], list[str]]:
    def make(home: Path) -> list[str]:
        rng = np.random.default_rng(0)
        (home / "raw").mkdir()
        for split, size in (("train", 200), ("t10k", 60)):
            images = (
                struct.pack(">HBBIII", 0, 8, 3, size, 6, 6) + rng.integers(0, 256, (size, 6, 6), np.uint8).tobytes()
            )
            labels = struct.pack(">HBBI", 0, 8, 1, size) + (np.arange(size) % 3).astype(np.uint8).tobytes()
            (home / "raw" / f"{split}-images-idx3-ubyte{suffix}").write_bytes(packing(images))
            (home / "raw" / f"{split}-labels-idx1-ubyte{suffix}").write_bytes(packing(labels))
        return ["data=idx", "data.path=raw"]

    return make


MADE = {
    "arrays": arrays, "packed arrays": packed_arrays, "pictures": pictures, "the course's": course,
    "idx": idx(bytes, ""), "packed idx": idx(gzip.compress, ".gz"),
}  # fmt: skip


@pytest.mark.parametrize("made", MADE)
def test_as_many_processes_as_prepare_the_bytes_are_the_same(command, tmp_path, monkeypatch, made: str) -> None:
    words = MADE[made](tmp_path)
    monkeypatch.setattr(source, "CHUNK_BYTES", 1000)  # of rows: more than four parts
    found = {}
    for count in (1, 2, 4):
        done = command("prepare", *words, f"data.workers={count}", f"prepared=by{count}")
        assert done.code == 0, done.err
        files = sorted(each for each in (tmp_path / f"by{count}").rglob("*") if each.is_file())
        found[count] = {each.relative_to(tmp_path / f"by{count}"): each.read_bytes() for each in files}
    assert len(found[1]) >= 7 and found[1] == found[2] == found[4]
    rows = np.concatenate([np.load(tmp_path / "by4" / split / "x.npy") for split in read_card(tmp_path / "by4").splits])
    assert len(rows) == {"pictures": 200}.get(made, 300 if "arrays" in made else 260)


def test_the_work_is_done_by_other_processes(tmp_path) -> None:
    works = [os.getpid] * 6
    assert set(here(works)) == {os.getpid()}
    with over(2) as mapped:
        others = set(mapped(works))
    assert os.getpid() not in others
    assert not any(psutil.pid_exists(each) and psutil.Process(each).status() != psutil.STATUS_ZOMBIE for each in others)


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_wrong_in_a_late_part_is_refused_by_name_in_any_process(
    command, tmp_path, monkeypatch, count: int
) -> None:
    words = pictures(tmp_path)
    (tmp_path / "raw" / "b" / "77.png").write_bytes(b"no picture")
    done = command("prepare", *words, f"data.workers={count}")
    assert done.code == 2 and "raw/b/77.png" in done.err and "no picture, or damaged" in done.err
    assert not list(tmp_path.glob("artifacts/prepared/*"))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "raw" / "b" / "77.png")
    done = command("prepare", "data=image_folder", "data.path=raw", f"data.workers={count}")
    assert done.code == 2 and "a/1.png" in done.err and "data.image_size=[9,7]" in done.err


def test_a_number_that_is_none_is_named_by_its_row_in_any_process(command, tmp_path, monkeypatch) -> None:
    words = arrays(tmp_path)
    x = np.load(tmp_path / "raw" / "x.npy")
    x[277, 2] = np.inf
    np.save(tmp_path / "raw" / "x.npy", x)
    monkeypatch.setattr(source, "CHUNK_BYTES", 1000)
    said = [command("prepare", *words, f"data.workers={count}").err for count in (1, 2)]
    assert said[0] == said[1] and "row 277" in said[0]


is_local = pytest.mark.skipif(
    remembered._file_system(Path(tempfile.gettempdir())) not in remembered.LOCAL,
    reason="the folder for temporary files is on a file system on which nothing is remembered",
)


@pytest.fixture
def reads(monkeypatch, tmp_path_factory) -> list[str]:
    """Which raw files are hashed; changes are looked at as if they were old."""
    found: list[str] = []
    digest = prepare.sha256_of

    def counted(path: Path) -> str:
        found.append(path.name)
        return digest(path)

    monkeypatch.setattr(prepare, "sha256_of", counted)
    monkeypatch.setattr(remembered, "SETTLED", -3600.0)
    monkeypatch.setenv("CRUCIBLE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return found


def started(command, reads: list[str], words: list[str]) -> tuple[str, list[str]]:
    """Return the prepared folder, and the raw files that this start has read."""
    reads.clear()
    done = command("prepare", *words)
    assert done.code == 0, done.err
    return done.out.split("files")[1].split()[0], [
        name for name in reads if name[0] in "xyab0123456789" and "artifacts" not in name
    ]


@is_local
def test_a_second_start_reads_no_raw_byte_and_a_changed_one_is_noticed(command, reads, tmp_path, monkeypatch) -> None:
    words = arrays(tmp_path)
    first, _ = started(command, reads, words)
    with monkeypatch.context() as patch:
        patch.setattr("crucible.data.readers.npz._member", None)  # nobody reads
        assert started(command, reads, words) == (first, [])
    raw = tmp_path / "raw" / "x.npy"
    before, content = raw.stat(), bytearray(raw.read_bytes())
    content[-1] ^= 1
    raw.write_bytes(content)
    os.utime(raw, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size, inode and time
    second, again = started(command, reads, words)
    assert second != first and "x.npy" in again
    assert started(command, reads, words) == (second, [])


@is_local
def test_a_file_that_comes_or_goes_is_noticed(command, reads, tmp_path) -> None:
    words = pictures(tmp_path)
    first, _ = started(command, reads, words)
    assert started(command, reads, words) == (first, [])
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "raw" / "a" / "more.png")
    more, again = started(command, reads, words)
    assert more != first and again
    (tmp_path / "raw" / "a" / "more.png").unlink()
    assert started(command, reads, words)[0] == first


@is_local
def test_another_way_to_read_the_same_files_is_another_question(command, reads, tmp_path) -> None:
    words = arrays(tmp_path)
    first, _ = started(command, reads, words)
    assert started(command, reads, [*words, "data.split.seed=1"])[0] != first
    assert started(command, reads, words) == (first, [])


@is_local
def test_prepared_data_that_are_damaged_are_made_again_though_the_files_are_known(command, reads, tmp_path) -> None:
    words = arrays(tmp_path)
    first, _ = started(command, reads, words)
    (tmp_path / first / "train" / "x.npy").write_bytes(b"")
    assert started(command, reads, words)[0] == first
    assert len(np.load(tmp_path / first / "train" / "x.npy")) == 180


def test_what_was_changed_a_moment_ago_is_read_again(command, reads, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(remembered, "SETTLED", 2.0)
    words = arrays(tmp_path)
    started(command, reads, words)
    assert not list(cache().rglob("*.json")) and started(command, reads, words)[1]


def test_a_folder_behind_a_link_is_never_taken_for_known(command, reads, tmp_path) -> None:
    words = pictures(tmp_path)
    (tmp_path / "raw" / "b").rename(tmp_path / "raw" / "a" / "below")
    (tmp_path / "raw" / "b").symlink_to("a/below")
    started(command, reads, words)
    assert not list(cache().rglob("*.json"))


def test_of_many_examples_a_part_of_the_largest_splits_is_compared(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    split = rng.permutation(np.repeat([0, 1, 2, DROPPED], [5000, 300, 40, 50]))
    assert len(compared_rows(split)) == 5340
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 500)
    rows = compared_rows(split)
    assert np.bincount(split[rows]).tolist() == [230, 230, 40] and len(set(rows.tolist())) == 500
    assert np.array_equal(rows, compared_rows(split)) and np.all(np.diff(rows) > 0)
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 1000)
    assert np.bincount(split[compared_rows(split)]).tolist() == [660, 300, 40]


def test_the_card_and_the_screen_say_that_only_some_were_compared(command, tmp_path, monkeypatch) -> None:
    words = pictures(tmp_path)
    whole = command("prepare", *words, "prepared=all")
    assert "compared" not in whole.out and "near_among" not in read_card(tmp_path / "all").duplicates
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 90)
    done = command("prepare", *words, "prepared=some")
    assert read_card(tmp_path / "some").duplicates["near_among"] == {"train": 30, "dev": 30, "test": 30}
    assert "only some were compared to find near copies (dev 30, test 30, train 30)" in done.out or (
        "only some were compared to find near copies (train 30, dev 30, test 30)" in done.out
    )
    assert "some were compared" in command("train", *words, "tracking=none", "trainer.total_epochs=1").out


@is_local
def test_what_is_written_through_memory_after_it_was_read_is_noticed(command, reads, tmp_path) -> None:
    words = arrays(tmp_path)
    mapped = np.load(tmp_path / "raw" / "x.npy", mmap_mode="r+")
    mapped[0] = 1.0  # the page is changed, and not yet on the disk
    first, _ = started(command, reads, words)
    mapped[1] = 5.0  # of the same page
    mapped.flush()
    assert started(command, reads, words)[0] != first


def test_what_a_reader_finds_beside_a_file_is_looked_for_each_time(command, reads, tmp_path) -> None:
    rng = np.random.default_rng(0)

    def camera(number: int) -> None:
        for kind in ("images", "labels"):
            (tmp_path / "d" / kind / "train" / f"cam{number}").mkdir(parents=True)
        for i in range(10):
            name = f"train/cam{number}/{number}{i}"
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "d" / "images" / f"{name}.png")
            (tmp_path / "d" / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.25\n")

    camera(1)
    (tmp_path / "d" / "data.yaml").write_text("path: .\ntrain: images/train\nnames: [thing]\n")
    words = ["data=yolo", "data.path=d/data.yaml", "task=detection", "model=yolo"]
    first, _ = started(command, reads, words)
    camera(2)
    assert started(command, reads, words)[0] != first


@is_local
def test_what_cannot_be_kept_or_read_costs_no_more_than_time(command, reads, tmp_path, monkeypatch) -> None:
    words = arrays(tmp_path)
    first, _ = started(command, reads, words)
    [fact] = cache().rglob("*.json")
    for text in ("no JSON", "[]", "{}", '{"state": 3}'):
        fact.write_text(text)
        found, again = started(command, reads, words)
        assert found == first and again
    monkeypatch.setenv("CRUCIBLE_CACHE", "/dev/null/nowhere")
    assert started(command, reads, words)[0] == first


def test_the_first_failure_in_order_is_told_and_not_the_first_in_time() -> None:
    def failing(name: str, seconds: float) -> None:
        time.sleep(seconds)
        raise ValueError(name)

    with over(2) as mapped, pytest.raises(ValueError, match="the first"):
        list(mapped([partial(failing, "the first", 1.0), partial(failing, "the second", 0.0)]))


def test_the_longest_example_is_known_whoever_has_seen_it(tmp_path) -> None:
    lengths = [3, 7, 4, 14, 5, 2, 6, 9] * 20
    parts = [Part(i, i + 8) for i in range(0, len(lengths), 8)]
    pool = Pool(np.arange(len(lengths)) % 2, Chunks(parts, partial(_words, lengths)), ragged=True)
    with over(2) as mapped:
        for order in (here, mapped):
            fit = Lengths()
            scan = prepare._scan("all", pool, fit, order)
            assert fit.shape == [14, 2] and scan.steps.tolist() == lengths


def _words(lengths: list[int], part: Part) -> list[list[np.ndarray]]:
    return [[np.full((lengths[i], 2), float(i)) for i in range(part.start, part.stop)]]


def test_of_one_split_alone_nothing_is_said_to_be_compared(command, tmp_path, monkeypatch) -> None:
    words = pictures(tmp_path)
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 90)
    done = command("prepare", *words, "data.split.dev=0", "data.split.test=0", "prepared=one")
    assert done.code == 0 and "compared" not in done.out and "near_among" not in read_card(tmp_path / "one").duplicates
