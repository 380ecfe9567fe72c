"""Damage is named before anything is trusted; what can be had again is made again, with the same bytes."""

import json
import os
import random
import shutil
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from conftest import toy_npz

from crucible import integrity
from crucible.errors import Refusal
from crucible.tracking.folder import on_disk_at_the_end, write_atomic
from crucible.tracking.journal import Journal, read_events

WORDS = ("data=npz", "data.path=a.npz", "model.layers=[4]", "trainer.total_epochs=4", "trainer.checkpoint_every=1",
         "tracking=none", "hydra.run.dir=run")  # fmt: skip
BYTES = ("weights.safetensors", "curves.csv", "train.json")


def flipped(path: Path, rng: random.Random) -> None:
    """Flip one bit in the middle third of a file: in the payload of arrays and tensors."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data) // 3, 2 * len(data) // 3)] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def cut(path: Path, rng: random.Random) -> None:
    """Keep the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path, rng: random.Random) -> None:
    """Leave no byte."""
    path.write_bytes(b"")


def gone(path: Path, rng: random.Random) -> None:
    """Take the file away."""
    path.unlink()


DAMAGES = (flipped, cut, emptied, gone)


@pytest.fixture
def finished(command, tmp_path):
    """A finished run; its bytes."""
    toy_npz(tmp_path / "a.npz")
    done = command("train", *WORDS)
    assert done.code == 0, done.err
    return {name: Path("run", name).read_bytes() for name in BYTES}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["train/x.npy", "train/y.npy", "dev/x.npy", "card.json"])
def test_damaged_arrays_are_prepared_again(command, finished, name, damage) -> None:
    folder = next(Path("artifacts/prepared").iterdir())
    before = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    damage(folder / name, random.Random(0))
    shutil.rmtree("run")
    done = command("train", *WORDS)
    if not (name == "card.json" and damage is gone):  # arrays without a card are files of somebody else
        assert done.code == 0 and "prepared again" in done.err and name.split("/")[-1] in done.err, done.err
        assert {name: Path("run", name).read_bytes() for name in BYTES} == finished
        assert {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    else:
        assert done.code == 2 and "holds other files" in done.err


def test_a_prepared_folder_that_is_named_is_refused_with_its_fault(command, finished) -> None:
    folder = next(Path("artifacts/prepared").iterdir())
    flipped(folder / "train" / "x.npy", random.Random(0))
    done = command("train", *WORDS[:-1], "hydra.run.dir=other", f"prepared={folder}")
    assert done.code == 2 and "train/x.npy" in done.err and "checksum" in done.err and not Path("other").exists()


def test_the_card_holds_the_sha256_of_every_array(command, finished) -> None:
    folder = next(Path("artifacts/prepared").iterdir())
    arrays = json.loads((folder / "card.json").read_text())["arrays"]
    assert arrays == {
        file.relative_to(folder).as_posix(): sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*.npy")
    }


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "card.json", "train.json", "curves.csv", "seen.safetensors", "SHA256SUMS"]
)
def test_damaged_files_of_a_run_are_refused(command, finished, name, damage) -> None:
    if name == "SHA256SUMS" and damage is gone:
        pytest.skip("a run without checksums is a run of before")
    damage(Path("run", name), random.Random(1))
    before = {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    done = command("evaluate", "run=run", "report=none")
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()} == before
    done = command("compare", "run")
    assert done.code == 2 and "Traceback" not in done.err, done.err


def test_a_damaged_journal_is_seen_before_anything_is_evaluated(command, finished) -> None:
    flipped(Path("run/journal.jsonl"), random.Random(0))
    before = {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    done = command("evaluate", "run=run")
    assert done.code == 2 and "the journal is damaged" in done.err
    assert {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()} == before


def test_an_edited_configuration_is_noted(command, finished) -> None:
    path = Path("run/config.yaml")
    path.write_text(path.read_text().replace("tolerance: 0.02", "tolerance: 0.12"))
    done = command("evaluate", "run=run", "report=none")
    assert done.code == 0 and "run/config.yaml is not as the run wrote it" in done.err


def interrupted() -> None:
    """Leave the run as a kill after its second epoch would."""
    lines = Path("run/journal.jsonl").read_text().splitlines(keepends=True)
    Path("run/journal.jsonl").write_text("".join(line for line in lines if json.loads(line)["kind"] != "end"))
    for name in (*BYTES, "SHA256SUMS", "seen.safetensors"):
        Path("run", name).unlink()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("words", [WORDS, ("resume=run",)], ids=["same command", "resume"])
def test_a_damaged_checkpoint_costs_time_and_no_bit(command, finished, words, damage) -> None:
    interrupted()
    damage(Path("run/checkpoint.pt"), random.Random(2))
    done = command("train", *words)
    assert done.code == 0 and ("no checkpoint of ours, or damaged" in done.err) == (damage is not gone), done.err
    assert {name: Path("run", name).read_bytes() for name in BYTES} == finished


def without_the_third_line(path: Path, rng: random.Random) -> None:
    """Lose a whole line, which no checksum of a line can tell."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))


def zeros_at_the_end(path: Path, rng: random.Random) -> None:
    """Zeros in place of the last lines and their ends look like one line that a kill tore."""
    data = path.read_bytes()
    path.write_bytes(data[:-300] + bytes(300))


@pytest.mark.parametrize("damage", [flipped, cut, without_the_third_line, zeros_at_the_end])
def test_a_damaged_journal_is_refused_or_set_aside(command, finished, damage) -> None:
    interrupted()
    damage(Path("run/journal.jsonl"), random.Random(3))
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    done = command("train", "resume=run")
    assert done.code == 2 and "journal" in done.err and "Traceback" not in done.err, done.err
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    done = command("train", *WORDS)
    assert done.code == 0 and Path("run/journal.1.jsonl").exists() and "damaged, and therefore" in done.err
    assert {name: Path("run", name).read_bytes() for name in BYTES} == finished


def test_every_flipped_bit_of_a_line_is_seen_or_changes_no_value(tmp_path) -> None:
    journal = Journal(tmp_path)
    journal.append("metrics", epoch=3, step=69, values={"train/loss": 0.25})
    journal.close()
    line, wanted = journal.path.read_bytes(), next(read_events(journal.path))
    for place in range(8 * (len(line) - 1)):
        data = bytearray(line)
        data[place // 8] ^= 1 << place % 8
        journal.path.write_bytes(bytes(data))
        try:
            found = next(read_events(journal.path), None)
        except Refusal:
            continue
        assert found is None or {key: found[key] for key in wanted if key in found} == wanted, data


def test_a_large_file_is_read_once_for_each_state(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(integrity, "LARGE", 100)
    reads = []
    monkeypatch.setattr(
        integrity, "sha256_of", lambda path: reads.append(path) or sha256(path.read_bytes()).hexdigest()
    )
    np.save("large.npy", np.arange(100))
    digests = {"large.npy": sha256(Path("large.npy").read_bytes()).hexdigest()}
    for _ in range(2):
        integrity._VERIFIED.clear()  # another process
        assert integrity.changed(tmp_path, digests) == []
    assert len(reads) == 1
    data = bytearray(Path("large.npy").read_bytes())
    data[200] ^= 1
    Path("large.npy").write_bytes(bytes(data))
    assert integrity.changed(tmp_path, digests) == ["large.npy"]


def test_the_checkpoint_is_a_zip_archive_whose_comment_is_its_checksum(command, finished) -> None:
    import zipfile

    data = Path("run/checkpoint.pt").read_bytes()
    comment = zipfile.ZipFile("run/checkpoint.pt").comment
    assert sha256(data[: -len(comment) - struct.calcsize("<H")]).hexdigest().encode() == comment


def test_what_counts_only_when_all_is_there_reaches_the_disk_together(tmp_path, monkeypatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink().name))
    (tmp_path / "journal").write_text("")
    with on_disk_at_the_end(tmp_path / "journal", tmp_path / "nothing"):
        for name in ("a", "b", "a"):
            write_atomic(tmp_path / name, b"1")
        assert synced == []
    assert synced == ["a", tmp_path.name, "b", "journal"]
    write_atomic(tmp_path / "c", b"1")
    assert synced[4:] == ["c.new", tmp_path.name]
