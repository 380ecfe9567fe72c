"""Any data a person has: told apart, looked at, and trained on in two commands; every set is made on the spot."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from crucible.app.look.recognition import recognised
from crucible.data.readers import coco, image_folder, npz, voc, yolo
from crucible.errors import Refusal

XML = "<annotation><filename>{}</filename>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
QUICK = ["trainer.total_epochs=1", "tracking=none", "trainer.threads=1"]
SMALL_YOLO = ["model=yolo", "model.settings={depth: 8, width: 8}", "model.stride=8", "data.image_size=[64,64]"]


def picture(
    path: Path, kind: int, seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 32), **more: object
) -> None:
    """Write a picture (width, height) of noise that is brighter in one half, by its kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": (), "RGB": (3,), "RGBA": (4,), "I;16": ()}[mode]
    pixels = np.random.default_rng(seed).integers(0, 90, (size[1], size[0], *bands))
    pixels[:, : size[0] // 2] += 150 * kind
    pixels[:, size[0] // 2 :] += 150 * (1 - kind)
    if mode == "I;16":
        Image.fromarray((pixels * 200).astype(np.uint16)).save(path)
    else:
        Image.fromarray(pixels.astype(np.uint8), mode).save(path, **more)


def faces(home: Path) -> tuple[list[str], str]:
    for person in range(3):
        for i in range(12):
            picture(home / f"s{person}" / f"{i}.pgm", person % 2, 100 * person + i, "L", (46, 56))
    return [], "data=image_folder"


def titanic(home: Path) -> tuple[list[str], str]:
    home.mkdir()
    passengers().to_csv(home / "train.csv", index=False)
    passengers(seed=1).drop(columns="Survived").to_csv(home / "test.csv", index=False)
    return [], "data.label=Survived: the label: test.csv has all columns but this one"


def passengers(rows: int = 150, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sex = rng.choice(["male", "female"], rows)
    age = np.where(rng.random(rows) < 0.2, np.nan, rng.normal(30, 10, rows).round())
    return pd.DataFrame({"PassengerId": np.arange(rows) + 1, "Survived": ((sex == "female") ^ (rng.random(rows) < 0.2)).astype(int),
                         "Name": [f"Doe, Mr. {i}" for i in rng.integers(0, 10**6, rows)], "Sex": sex, "Age": age,
                         "Fare": np.exp(rng.normal(3, 1, rows)).round(2)})  # fmt: skip


def parquet(home: Path) -> tuple[list[str], str]:
    home.mkdir()
    passengers().rename(columns={"Survived": "target"}).to_parquet(home / "people.parquet")
    return [], "data.label=target: the label: by its name"


def mixed_pictures(home: Path) -> tuple[list[str], str]:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in range(2):
        for i in range(12):
            picture(
                home / "both" / f"kind{kind}" / f"{i}.png",
                kind,
                i + 50 * kind,
                ("L", "RGB", "RGBA")[i % 3],
                (30 + i, 32),
            )
            picture(home / "both" / f"kind{kind}" / f"{i}.JPG", kind, i + 500 + 50 * kind, exif=exif)
    return [], "data.channels=3"


def arrays(home: Path) -> tuple[list[str], str]:
    home.mkdir()
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    np.savez(home / "a.npz", X=(rng.integers(0, 60, (90, 12, 12)) + 60 * y[:, None, None]).astype(np.uint8), y=y)
    return [], "data=npz"


def boxes(home: Path, kinds: int = 2) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Return for each of 12 pictures the class of its square and its corners."""
    rng = np.random.default_rng(0)
    return [
        (i % kinds, (int(x), int(y), int(x) + 16, int(y) + 16)) for i, (x, y) in enumerate(rng.integers(2, 40, (12, 2)))
    ]


def scene(path: Path, corners: tuple[int, int, int, int], kind: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 60, (60, 80, 3)).astype(np.uint8)
    x0, y0, x1, y1 = corners
    pixels[y0:y1, x0:x1, kind] = 250
    Image.fromarray(pixels).save(path)


def line_of(kind: int, corners: tuple[int, int, int, int]) -> str:
    x0, y0, x1, y1 = corners
    return f"{kind} {(x0 + x1) / 160} {(y0 + y1) / 120} {(x1 - x0) / 80} {(y1 - y0) / 60}\n"


def ultralytics(home: Path) -> tuple[list[str], str]:
    for i, (kind, corners) in enumerate(boxes(home)):
        split = "val" if i > 8 else "train"
        scene(home / "images" / split / f"{i}.jpg", corners, kind, i)
        (home / "labels" / split).mkdir(parents=True, exist_ok=True)
        (home / "labels" / split / f"{i}.txt").write_text(line_of(kind, corners))
    (home / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: green\n")
    return SMALL_YOLO, "data=yolo"


def roboflow(home: Path) -> tuple[list[str], str]:
    for i, (kind, corners) in enumerate(boxes(home)):
        split = "train" if i < 7 else "valid" if i < 10 else "test"
        scene(home / split / "images" / f"{i}.jpg", corners, kind, i)
        (home / split / "labels").mkdir(parents=True, exist_ok=True)
        (home / split / "labels" / f"{i}.txt").write_text(line_of(kind, corners))
    (home / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['red', 'green']\n"
    )
    return SMALL_YOLO, "data=yolo"


def label_img(home: Path) -> tuple[list[str], str]:
    for i, (kind, corners) in enumerate(boxes(home)):
        scene(home / f"{i}.jpg", corners, kind, i)
        (home / f"{i}.xml").write_text(XML.format(f"{i}.jpg", OBJECT.format(("red", "green")[kind], *corners)))
    return SMALL_YOLO, "data=voc"


def in_coco(home: Path) -> tuple[list[str], str]:
    for split, rows in (("train", range(8)), ("val", range(8, 12))):
        found = [(i, *boxes(home)[i]) for i in rows]
        for i, kind, corners in found:
            scene(home / "images" / f"{i}.jpg", corners, kind, i)
        annotations = [
            {"id": i, "image_id": i, "category_id": kind + 1, "bbox": [c[0], c[1], 16, 16]} for i, kind, c in found
        ]
        content = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in rows], "annotations": annotations,
                   "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]}  # fmt: skip
        (home / "annotations").mkdir(exist_ok=True)
        (home / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return SMALL_YOLO, "data=coco"


MAKERS = {
    make.__name__: make
    for make in (faces, titanic, parquet, mixed_pictures, arrays, ultralytics, roboflow, label_img, in_coco)
}


@pytest.mark.parametrize("kind", MAKERS)
def test_from_data_to_report_in_two_commands(command, tmp_path, kind) -> None:
    words, said = MAKERS[kind](tmp_path / "own")
    done = command("train", "data=auto", "data.path=own", *words, *QUICK)
    assert done.code == 0, done.err
    assert said in done.err.replace("'", ""), done.err
    done = command("evaluate", "run=latest", "tracking=none")
    assert done.code == 0 and "report.html" in done.out, done.err
    assert next((tmp_path / "outputs").glob("*/*/report.html")).stat().st_size < 3 << 20


@pytest.mark.parametrize("kind", MAKERS)
def test_look_says_what_it_is_draws_it_and_names_the_command(command, tmp_path, kind) -> None:
    _, said = MAKERS[kind](tmp_path / "own")
    done = command("look", "own")
    assert done.code == 0 and said in done.out.replace("'", ""), done.err
    page = (tmp_path / "outputs/look/look.html").read_text()
    assert "http" not in page.split("</style>")[1] and page.count("<figure>") == (
        0 if kind in ("titanic", "parquet") else page.count("<img")
    )
    following = done.out.splitlines()[-1].partition("src/train.py ")[2]
    assert f'<pre class="command">python src/train.py {following}</pre>'.replace("'", "&#39;") in page
    assert sorted(each.name for each in tmp_path.iterdir()) == ["outputs", "own"]
    assert sorted(each.name for each in (tmp_path / "outputs").iterdir()) == ["look"]


def test_counts_sizes_and_oddities_are_those_that_were_made(command, tmp_path) -> None:
    faces(tmp_path / "own")
    picture(tmp_path / "own/s1/other.png", 0, 7, "RGB", (64, 64))
    (tmp_path / "own/s2/0.pgm").unlink()
    (tmp_path / "own/s2/copy.pgm").write_bytes((tmp_path / "own/s2/1.pgm").read_bytes())
    (tmp_path / "own/s0/torn.png").write_bytes(b"no picture")
    out = command("look", "own").out
    assert (
        "3: s0 (13), s1 (13), s2 (12)" in out
        and "56 x 46 (36), 64 x 64 (1)" in out
        and "grey (36) and colour (1)" in out
    )
    assert (
        "1 of 37 pictures are not 56 x 46: other.png" in out
        and "1 picture(s) are there twice: s2/copy.pgm is s2/1.pgm" in out
    )
    assert "1 files are no pictures, or damaged: torn.png" in out
    assert "data.image_size=[56,56]" in out and "data.channels=3" in out


def test_copies_across_splits_are_told_and_the_command_drops_them(command, tmp_path) -> None:
    for split in ("train", "test"):
        for kind in range(2):
            for i in range(8):
                picture(
                    tmp_path / "own" / split / f"kind{kind}" / f"{i}.png",
                    kind,
                    i + 100 * kind + (0 if i == 3 else 1000 * len(split)),
                )
    done = command("look", "own")
    assert "2 picture(s) are there twice" in done.out and "data.duplicates=drop" in done.out
    assert command("train", "data=auto", "data.path=own", *QUICK).code == 0


def test_what_a_person_says_stays(command, tmp_path) -> None:
    arrays(tmp_path / "own")
    done = command(
        "train", "data=auto", "data.path=own/a.npz", "model=mlp", "model.layers=[4]", "optimizer=sgd", *QUICK
    )
    assert done.code == 0, done.err
    config = yaml.safe_load(next((tmp_path / "outputs").glob("*/*/config.yaml")).read_text())
    assert (
        config["model"]["layers"] == [4]
        and config["optimizer"]["_target_"].endswith(".sgd")
        and config["data"]["reader"]["_target_"].endswith("npz.read")
    )


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["data=auto"], "data.path=FILE or FOLDER"),
        (["data=auto", "data.path=nowhere"], "does not exist"),
        (["data=auto", "data.path=."], "nothing that is read: no file"),
    ],
)
def test_what_auto_cannot_decide_is_refused(command, words, wanted) -> None:
    done = command("train", *words)
    assert done.code == 2 and wanted in done.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], "is missing"),
        (["a", "b"], "2 are given"),
        (["own", "label=x"], "nearest: data.label"),
        (["own", "data.labell=x"], "nearest: label"),
    ],
)
def test_look_refuses_what_it_is_not_told(command, tmp_path, words, wanted) -> None:
    titanic(tmp_path / "own")
    done = command("look", *words)
    assert done.code == 2 and wanted in done.err, done.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["own"]


def test_loose_pictures_and_other_files_are_named(tmp_path) -> None:
    picture(tmp_path / "a.png", 0, 0)
    with pytest.raises(Refusal, match=r"1 \.png; pictures need a folder for each class, or boxes"):
        recognised(tmp_path)


def test_a_folder_in_a_folder_is_found(tmp_path) -> None:
    faces(tmp_path / "archive" / "faces")
    assert recognised(tmp_path).path == tmp_path / "archive" / "faces"


def test_ultralytics_and_roboflow_say_the_same_as_coco_and_label_img(tmp_path) -> None:
    found = {}
    for make, read in ((ultralytics, yolo.read), (roboflow, yolo.read), (in_coco, coco.read), (label_img, voc.read)):
        make(tmp_path / make.__name__)
        source = read(tmp_path / make.__name__)
        found[make] = {Path(name).stem: (source.classes[int(label[0])], box[0].tolist())
                       for pool in source.pools.values() for name, label, box in zip(pool.names, pool.labels, pool.boxes, strict=True)}  # fmt: skip
    wanted = {
        str(i): (("red", "green")[kind], pytest.approx(list(corners)))
        for i, (kind, corners) in enumerate(boxes(tmp_path))
    }
    assert all(each == wanted for each in found.values())
    assert yolo.read(tmp_path / "ultralytics" / "data.yaml").pools.keys() == {"train", "dev"}
    assert yolo.read(tmp_path / "roboflow").pools.keys() == {"train", "dev", "test"}


def test_an_outline_is_the_box_around_it(tmp_path) -> None:
    ultralytics(tmp_path)
    (tmp_path / "labels/train/0.txt").write_text("1 0.1 0.2 0.5 0.1 0.3 0.6\n")
    pool = yolo.read(tmp_path).pools["train"]
    assert pool.labels[0].tolist() == [1] and pool.boxes[0][0] == pytest.approx([8, 6, 40, 36])


def test_a_data_yaml_that_names_the_same_for_train_and_val_is_taken_once(tmp_path) -> None:
    ultralytics(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [red, green]\n")
    source = yolo.read(tmp_path / "data.yaml")
    assert set(source.pools) == {"all"} and "the same pictures for train and val" in source.notes[0]


def test_a_data_yaml_that_names_what_is_not_there_is_refused(tmp_path) -> None:
    ultralytics(tmp_path)
    (tmp_path / "data.yaml").write_text("train: pictures/train\nnames: [red, green]\n")
    with pytest.raises(Refusal, match="it names pictures/train, which is not there"):
        yolo.read(tmp_path)


def test_a_test_split_that_is_not_there_is_taken_out_of_train_and_said(command, tmp_path) -> None:
    for split in ("train", "val"):
        for kind in range(2):
            for i in range(10):
                picture(tmp_path / "own" / split / f"kind{kind}" / f"{i}.png", kind, i + 50 * kind + 500 * len(split))
    done = command("train", "data=image_folder", "data.path=own", "model=convnet", "hydra.run.dir=run", *QUICK)
    assert done.code == 0 and "the data bring train and dev: test is 4 examples of train" in done.out, done.err
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert {split: each["size"] for split, each in card["splits"].items()} == {"train": 16, "dev": 20, "test": 4}


def test_pictures_of_sixteen_bits_keep_them(tmp_path) -> None:
    for kind in range(2):
        picture(tmp_path / f"kind{kind}" / "a.png", kind, kind, "I;16")
    chunk = next(iter(image_folder.read(tmp_path).pools["all"].chunks()))
    written = np.asarray(Image.open(tmp_path / "kind0" / "a.png"))
    assert chunk[0].dtype == np.uint16 and chunk[0].max() > 40_000 and np.array_equal(chunk[0][0], written)


def test_a_run_on_pictures_of_sixteen_bits_with_shifts(command, tmp_path) -> None:
    for kind in range(2):
        for i in range(12):
            picture(tmp_path / "own" / f"kind{kind}" / f"{i}.png", kind, i + 50 * kind, "I;16")
    assert (done := command("train", "data=auto", "data.path=own", *QUICK)).code == 0, done.err
    assert (done := command("predict", "run=latest", "input=own/kind1")).code == 0, done.err


@pytest.mark.parametrize(
    ("names", "splits"),
    [(("x", "y"), {"all"}), (("X", "y"), {"all"}), (("data", "target"), {"all"}), (("images", "labels"), {"all"}),
     (("x_train", "y_train", "x_val", "y_val"), {"train", "dev"}), (("train_images", "train_labels", "test_images", "test_labels"), {"train", "test"}),
     (("X_train", "y_train", "X_test", "y_test"), {"train", "test"})],
)  # fmt: skip
def test_arrays_of_every_usual_name_are_read(tmp_path, names, splits) -> None:
    made = {name: np.full((6, 3), i) if i % 2 == 0 else np.arange(6) % 2 for i, name in enumerate(names)}
    np.savez(tmp_path / "a.npz", **made)
    source = npz.read(tmp_path / "a.npz")
    assert set(source.pools) == splits
    assert [next(iter(pool.chunks()))[0, 0] for pool in source.pools.values()] == [0, 2][: len(splits)]


def test_the_label_of_a_kaggle_folder_is_what_the_test_table_lacks(command, tmp_path) -> None:
    titanic(tmp_path / "own")
    pd.DataFrame({"PassengerId": [1], "Survived": [0]}).to_csv(tmp_path / "own/sample_submission.csv", index=False)
    assert "data.label=Survived: the label: test.csv has all columns but this one" in command("look", "own").out


def test_several_labels_are_several(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    pd.DataFrame({"x": rng.normal(size=90), "cat": rng.integers(0, 2, 90), "dog": rng.integers(0, 2, 90)}).to_csv(
        tmp_path / "a.csv", index=False
    )
    out = command("look", "a.csv", "data.label=cat,dog").out
    assert out.count("data.label=") == 1 and "task=multitask" in out, out
    done = command("train", "data=auto", "data.path=a.csv", "data.label=cat,dog", *QUICK)
    assert done.code == 0, done.err
    assert command("evaluate", "run=latest", "tracking=none").code == 0
    page = next((tmp_path / "outputs").glob("*/*/report.html")).read_text()
    assert "cat: area" in page and "dog: area" in page


def test_of_a_pose_the_box_is_read(tmp_path) -> None:
    ultralytics(tmp_path)
    (tmp_path / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [red, green]\nkpt_shape: [2, 2]\n"
    )
    (tmp_path / "labels/train/0.txt").write_text("0 0.5 0.5 0.2 0.1 0.45 0.5 0.55 0.52\n")
    assert yolo.read(tmp_path).pools["train"].boxes[0][0] == pytest.approx([32, 27, 48, 33])
