"""What weights have seen is not what they are judged on."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import toy_npz
from PIL import Image

from crucible.data.seen import Seen, read_seen

FAST = ("model=mlp", "trainer.total_epochs=1", "tracking=none", "model.layers=[4]", "data=npz", "data.path=a.npz")
FROM = ("transfer=from_run", "transfer.freeze=none")


def rows_of(folder: Path, split: str) -> set[bytes]:
    """Return the examples themselves, as an answer that knows of no hash."""
    return {each.tobytes() for each in np.load(folder / split / "x.npy")}


@pytest.fixture
def source(command, tmp_path):
    """A finished run on data of its own; the folder of its prepared data."""
    toy_npz(tmp_path / "a.npz", size=90)
    done = command("train", *FAST, "hydra.run.dir=source")
    assert done.code == 0, done.err
    return next((tmp_path / "artifacts/prepared").iterdir())


def test_another_split_of_the_same_data_is_refused_dropped_or_kept(command, source, tmp_path) -> None:
    words = [*FAST, *FROM, "transfer.source=source", "data.split.seed=1"]
    refused = command("train", *words, "hydra.run.dir=next")
    assert refused.code == 2 and not (tmp_path / "next").exists()
    assert list((tmp_path / "artifacts/prepared").iterdir()) == [source], "a refusal leaves nothing"
    assert command("train", *words, "hydra.run.dir=next", "transfer.seen=drop").code == 0
    other = next(each for each in (tmp_path / "artifacts/prepared").iterdir() if each != source)
    learned, chosen = rows_of(source, "train"), rows_of(source, "dev")
    wanted = {"dev": len(rows_of(other, "dev") & learned), "test": len(rows_of(other, "test") & (learned | chosen))}
    facts = json.loads(Path("next/train.json").read_text())["diagnosis"]["seen"]
    assert facts["counts"] == wanted and facts["policy"] == "drop" and all(wanted.values())
    for split, count in wanted.items():
        assert f"{count} of {len(rows_of(other, split))} {split}" in refused.err
    assert command("evaluate", "run=next", "report=none").code == 0
    rows = [int(line.split(",")[0]) for line in Path("next/predictions.csv").read_text().splitlines()[1:]]
    x = np.load(other / "test" / "x.npy")
    assert rows == [i for i, each in enumerate(x) if each.tobytes() not in learned | chosen]
    assert command("train", *words, "hydra.run.dir=kept", "transfer.seen=keep").code == 0
    done = command("evaluate", "run=kept", "report=none")
    assert done.code == 0 and "the numbers on them flatter" in done.out


def test_the_same_split_is_no_leak(command, source) -> None:
    done = command("train", *FAST, *FROM, "transfer.source=source", "hydra.run.dir=next")
    assert done.code == 0 and not json.loads(Path("next/train.json").read_text())["diagnosis"]["seen"], done.err


def test_a_chain_of_runs_remembers_the_first(command, source, tmp_path) -> None:
    """What the first run learned from may not be tested on by the third, though the second never saw it."""
    toy_npz(tmp_path / "b.npz", size=60, x=np.random.default_rng(5).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    other = [word if word != "data.path=a.npz" else "data.path=b.npz" for word in FAST]
    assert command("train", *other, *FROM, "transfer.source=source", "hydra.run.dir=second").code == 0
    done = command("train", *FAST, *FROM, "transfer.source=second", "data.split.seed=1", "hydra.run.dir=third")
    assert done.code == 2 and "transfer.seen" in done.err
    assert len(read_seen(Path("second")).before_learned) == len(rows_of(source, "train"))


def test_evaluating_a_run_on_what_it_learned_from_is_refused(command, source) -> None:
    words = ("evaluate", "run=source", "data.path=a.npz", "report=none")
    done = command(*words)
    assert done.code == 2 and "72 of 90 test" in done.err  # train and dev: 54 + 18
    assert not Path("source/judged").exists()
    assert command(*words, "transfer.seen=keep").code == command(*words, "data.duplicates=keep").code == 0
    done = command(*words, "transfer.seen=drop")
    assert done.code == 0 and "they are left out" in done.out


def test_a_split_of_which_nothing_would_be_left_is_refused(command, source, tmp_path) -> None:
    x = np.load(source / "train" / "x.npy")[:20, 0]
    np.savez(tmp_path / "seen.npz", x=x, y=np.load(source / "train" / "y.npy")[:20])
    done = command("evaluate", "run=source", "data.path=seen.npz", "transfer.seen=drop")
    assert done.code == 2 and "20 of 20 test" in done.err and "transfer.seen=keep" in done.err


def test_another_size_does_not_hide_a_picture(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for i in range(40):
        home = tmp_path / "pictures" / "ab"[i % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(home / f"{i}.png")
    words = ["data=image_folder", "data.path=pictures", "model=logistic", "trainer.total_epochs=1", "tracking=none"]
    assert command("train", *words, "hydra.run.dir=source").code == 0
    more = ["data.image_size=[4,16]", "data.split.seed=3", *FROM, "transfer.source=source"]
    done = command("train", *words, *more, "hydra.run.dir=next")
    assert done.code == 2 and "has seen" in done.err, done.err


def test_a_source_without_a_record_cannot_be_told(command, source) -> None:
    Path("source/seen.safetensors").unlink()
    Path("source/SHA256SUMS").unlink()
    words = [*FAST, *FROM, "transfer.source=source", "data.split.seed=1"]
    done = command("train", *words, "hydra.run.dir=next")
    assert done.code == 0 and "is unknown" in done.out
    third = command("train", *FAST, *FROM, "transfer.source=next", "data.split.seed=1", "hydra.run.dir=third")
    assert third.code == 0 and "is unknown" in third.out, "a chain does not forget that it does not know"


def test_a_set_is_written_with_the_same_bytes_in_any_order() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (50, 8), dtype=np.uint8)
    assert Seen(learned=hashes).packed() == Seen(learned=np.concatenate([hashes[::-1], hashes])).packed()
