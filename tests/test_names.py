"""Examples are called by their files: in refusals, predictions, near copies, mistakes; and each data set judged keeps its own folder."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, composed, toy_npz
from PIL import Image
from sklearn.datasets import load_sample_image

from crucible.app.overrides import overrides_of
from crucible.data.duplicates import hashes, near, signatures
from crucible.data.likeness import compared, copies
from crucible.data.names import read_names
from crucible.errors import printable

QUICK = ["model=logistic", "trainer.total_epochs=1", "tracking=none", "trainer.threads=1"]
LATEST = Path("outputs/latest")
SCENE = load_sample_image("china.jpg")


def parts(count: int, side: int = 32, move: int = 0) -> list[np.ndarray]:
    """Return the parts (side, side, 3) of a photograph of 427 x 640 with the most contrast; none overlaps another."""
    places = [(top, left) for top in range(0, 425 - side, side) for left in range(0, 638 - side, side)]
    places.sort(key=lambda place: -SCENE[place[0] : place[0] + side, place[1] : place[1] + side].std())
    return [SCENE[top + move : top + move + side, left + move : left + move + side] for top, left in places[:count]]


def folder(home: Path, *, splits: bool = True, side: int = 32) -> Path:
    """Write 2 classes, in train/ (10 each) and test/ (5 each), as PNG."""
    images = iter(parts(30, side))
    for split, count in (("train", 10), ("test", 5)) if splits else (("", 15),):
        for kind in ("cat", "dog"):
            (home / split / kind).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(next(images)).save(home / split / kind / f"{kind}{i}.png")
    return home


def test_predictions_carry_the_names_of_the_files_and_bytes_do_not_tell_where_the_data_lie(command, tmp_path) -> None:
    folder(tmp_path / "pics", splits=False)
    assert command("train", "data=image_folder", "data.path=pics", *QUICK).code == 0
    assert command("evaluate", "run=latest", "report=none").code == 0
    header, *rows = csv.reader((LATEST / "predictions.csv").open())
    assert header == ["index", "label", "predicted", "cat", "dog", "name"]
    prepared = next(Path("artifacts/prepared").iterdir())
    stored = np.load(prepared / "test" / "x.npy")
    for row in rows:  # the picture of that name is the one in that row
        picture = np.asarray(Image.open(tmp_path / "pics" / row[-1])).transpose(2, 0, 1)
        assert np.array_equal(picture, stored[int(row[0])]) and row[-1].startswith(row[1])
    shutil.copytree(tmp_path / "pics", tmp_path / "else where")
    command("prepare", "data=image_folder", f"data.path={tmp_path}/else where", "prepared=two")
    files = [each.relative_to(prepared) for each in prepared.rglob("*") if each.is_file()]
    assert Path("test/names.txt") in files and "pics" not in (prepared / "card.json").read_text()
    assert all((prepared / each).read_bytes() == (tmp_path / "two" / each).read_bytes() for each in files)


@pytest.mark.slow
def test_names_that_were_lost_are_prepared_again(command, tmp_path) -> None:
    folder(tmp_path / "pics", splits=False)
    command("train", "data=image_folder", "data.path=pics", *QUICK)
    for file in Path("artifacts/prepared").rglob("names.txt"):
        file.unlink()
    done = command("evaluate", "run=latest")
    assert done.code == 0 and "prepared again" in done.err
    assert next(csv.reader((LATEST / "predictions.csv").open()))[-1] == "name"


def test_a_list_of_names_that_does_not_fit_its_split_is_none(tmp_path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    assert read_names(tmp_path, 2) == ["a", "b"] and read_names(tmp_path, 3) is None


def test_a_name_takes_one_line_and_steers_no_terminal() -> None:
    assert printable("a\nb\x1b[2J\u202e\udc80 é 猫.png") == "a\\nb\\x1b[2J\\u202e\\udc80 é 猫.png"


def test_exact_copies_are_refused_by_the_names_of_their_files(command, tmp_path) -> None:
    home = folder(tmp_path / "pics")
    for i in range(2):
        shutil.copy(home / f"train/cat/cat{i}.png", home / f"test/cat/copy{i}.png")
    refused = command("prepare", "data=image_folder", "data.path=pics")
    assert refused.code == 2
    assert "test/cat/copy0.png = train/cat/cat0.png; test/cat/copy1.png = train/cat/cat1.png" in refused.err
    assert command("prepare", "data=image_folder", "data.path=pics", "data.duplicates=drop").code == 0
    card = json.loads(next(Path("artifacts/prepared").glob("*/card.json")).read_text())
    assert [each["names"] for each in card["duplicates"]["found"]] == [
        [f"test/cat/copy{i}.png", f"train/cat/cat{i}.png"] for i in range(2)
    ]


def test_the_pictures_of_another_size_are_all_named_and_most_decide(command, tmp_path) -> None:
    home = folder(tmp_path / "pics", splits=False)
    odd = {"cat/cat0.png": (20, 10), "cat/cat7.png": (30, 30), "dog/dog3.png": (20, 10)}
    for name, size in odd.items():  # the first of all is among them: its size is not that of the others
        Image.open(home / name).resize(size).save(home / name)
    refused = command("train", "data=image_folder", "data.path=pics", *QUICK)
    assert refused.code == 2 and "3 of 30 differ from most" in refused.err
    assert all(name in refused.err for name in odd) and "[3, 10, 20]" in refused.err and "[3, 30, 30]" in refused.err
    assert "the others' is [3, 32, 32]" in refused.err and "data.image_size=[32,32]" in refused.err


@pytest.mark.slow
def test_a_picture_saved_anew_in_another_split_is_told_by_name_before_and_after(command, tmp_path) -> None:
    home = folder(tmp_path / "pics", side=48)
    Image.open(home / "train/dog/dog4.png").save(home / "test/dog/again.jpg", quality=90)
    trained = command("train", "data=image_folder", "data.path=pics", *QUICK)
    judged = command("evaluate", "run=latest")
    for words in (trained.out, judged.out, (LATEST / "report.html").read_text()):
        assert re.search(r"a near copy stands in two splits: \S+ \(\w+\) ~ \S+ \(\w+\) 0\.9", words), words
        assert "train/dog/dog4.png" in words and "test/dog/again.jpg (test)" in words and "data.group_by" in words
    assert "2 classes in train: cat (" in trained.out


def saved_anew(image: np.ndarray, quality: int = 70) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_nearly_all_copies_of_photographs_are_found_and_no_other_pair() -> None:
    some = parts(40, side=60)
    changed = {
        "saved anew": [saved_anew(image) for image in some],
        "brighter": [np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8) for image in some],
        "moved": parts(40, side=60, move=2),
    }
    images = np.stack(some).transpose(0, 3, 1, 2)
    for change, each in changed.items():
        assert copies(images, np.stack(each).transpose(0, 3, 1, 2))[1].mean() >= 0.9, change
    a, b = np.triu_indices(len(images), 1)
    assert not copies(images[a], images[b])[1].any()


def test_handwritten_digits_hold_no_near_copies(tmp_path) -> None:
    """Of 1,797 digits by 43 people none is a copy, though many look alike; one made brighter is found."""
    x = np.load(ROOT / "data/digits/x.npy").reshape(-1, 1, 8, 8)
    split = np.random.default_rng(0).integers(0, 3, len(x))
    x = np.concatenate([x[:1], x[:1] + 1, x[1:-1]])
    split[:2] = 0, 2
    for number, name in enumerate(("train", "dev", "test")):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", x[split == number])
    found = near(split, signatures(x), hashes(x), compared(tmp_path, split), str)
    assert [each["names"] for each in found] == [["0", "1"]]


def test_each_data_set_that_is_judged_keeps_its_own_folder(command, tmp_path) -> None:
    for name in ("own", "b", "c"):
        toy_npz(
            tmp_path / f"{name}.npz",
            x=np.random.default_rng(len(name) + ord(name[0])).integers(0, 99, (60, 4, 4), "u1"),
        )
    command("train", "data=npz", "data.path=own.npz", *QUICK)
    judge = ["evaluate", "run=latest", "data=npz", "report=none"]
    for name, place in (("b", "npz"), ("c", "npz-2"), ("b", "npz"), ("c", "npz-2")):
        done = command(*judge, f"data.path={name}.npz")
        assert done.code == 0 and f"judged/{place}/metrics.json" in done.out, done.err or done.out
    assert sorted(each.name for each in (LATEST / "judged").iterdir()) == ["npz", "npz-2"]
    texts = [(LATEST / "judged" / place / "predictions.csv").read_bytes() for place in ("npz", "npz-2")]
    assert texts[0] != texts[1]


def test_a_declared_name_holds_for_data_prepared_under_another(command, tmp_path) -> None:
    toy_npz(tmp_path / "a.npz")
    assert command("train", "data=npz", "data.path=a.npz", *QUICK).code == 0
    done = command("train", "data=npz", "data.path=a.npz", "data.name=signs", *QUICK)
    assert "examples of signs" in done.out and "  result  signs, logistic" in done.out
    assert json.loads((LATEST / "train.json").read_text())["data"] == "signs"
    assert json.loads((LATEST / "card.json").read_text())["name"] == "signs"


def test_a_name_of_another_choice_does_not_make_a_command_another_one() -> None:
    cfg = composed(
        "data=image_folder", "data.path=pics", "data.name=signs", "data.split.dev=0.1", "data.flip_keeps_label=true"
    )
    words = overrides_of(cfg)
    assert "data=image_folder" in words and "data.name=signs" in words
    assert composed(*words)["data"] == cfg["data"]
