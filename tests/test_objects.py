"""Boxes and points from files to a prepared folder and back; the embedded scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATASETS, ROOT, composed
from PIL import Image

from crucible.data.augment import Strong
from crucible.data.card import read_card
from crucible.data.objects import frames, to_model_pixels, to_original
from crucible.data.prepare import PrepareConfig, prepare
from crucible.data.readers import coco, keypoints, scenes, voc, yolo
from crucible.errors import Refusal
from crucible.instantiate import build
from crucible.labels.boxes import Boxes
from crucible.labels.points import Points

SPLIT = {"train": 0.6, "dev": 0.2, "test": 0.2, "train_dev": 0, "seed": 0}
XML = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def picture(path: Path, size: tuple[int, int] = (40, 20), mode: str = "RGB", seed: int = 0) -> None:
    """Write a picture of (width, height), no two alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng([seed, *path.stem.encode()]).integers(0, 255, shape).astype(np.uint8)).save(
        path
    )


def voc_folder(home: Path, objects: dict[str, list], **sizes: tuple[int, int]) -> Path:
    """Write Pascal VOC: for each picture its objects (name, xmin, ymin, xmax, ymax)."""
    (home / "Annotations").mkdir(parents=True, exist_ok=True)
    for stem, found in objects.items():
        picture(home / "JPEGImages" / f"{stem}.png", sizes.get(stem, (40, 20)))
        text = XML.format("".join(OBJECT.format(*each) for each in found))
        (home / "Annotations" / f"{stem}.xml").write_text(text)
    return home


def prepared(source, home: Path, **more) -> Path:
    recipe = {"reader": {}, "label": None, "split": SPLIT, "stratify": False, "group_by": None, "normalize": "standard",
              "duplicates": "refuse", "image_size": [32, 32], "channels": 3, "resize": "letterbox", "targets": "boxes"} | more  # fmt: skip
    return prepare(
        source, KINDS[recipe["targets"]], PrepareConfig(**recipe), "some", lambda key: home, lambda card: None
    )


KINDS = {kind.name: kind for kind in (Boxes(), Points())}
EASY = {f"p{i}": [("cat", 10, 5, 30, 15), ("dog", 0, 0, 8, 8)] for i in range(6)}


def test_voc_is_read_with_classes_splits_and_boxes(tmp_path) -> None:
    voc_folder(tmp_path, EASY | {"p5": []})
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for name, stems in (("train", "p0\np1\n"), ("val", "p2\n"), ("test", "p3\np4\np5\n")):
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(stems)
    source = voc.read(tmp_path)
    assert {name: len(pool.labels) for name, pool in source.pools.items()} == {"train": 2, "dev": 1, "test": 3}
    assert source.classes == ["cat", "dog"] and source.pools["test"].labels.tolist() == [[0, 1], [0, 1], [-1, -1]]
    assert source.pools["dev"].boxes.tolist() == [[[10, 5, 30, 15], [0, 0, 8, 8]]]
    assert "Annotations/p5.xml" in source.files and "JPEGImages/p3.png" in source.files


def test_coco_and_yolo_say_the_same_as_voc(tmp_path) -> None:
    by_voc = voc.read(voc_folder(tmp_path / "voc", EASY))
    images = [{"id": i, "file_name": f"p{i}.png"} for i in range(6)]
    boxes = [
        {"image_id": i, "category_id": 7 if name == "cat" else 9, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for i in range(6) for name, x0, y0, x1, y1 in EASY[f"p{i}"]
    ]  # fmt: skip
    crowd = [{"image_id": 0, "category_id": 7, "bbox": [0, 0, 40, 20], "iscrowd": 1}]
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    for i in range(6):
        picture(tmp_path / "coco" / "images" / f"p{i}.png")
        picture(tmp_path / "yolo" / "images" / f"p{i}.png")
        lines = [
            f"{int(n == 'dog')} {(a + c) / 80} {(b + d) / 40} {(c - a) / 40} {(d - b) / 20}"
            for n, a, b, c, d in EASY[f"p{i}"]
        ]
        (tmp_path / "yolo" / "labels").mkdir(exist_ok=True)
        (tmp_path / "yolo" / "labels" / f"p{i}.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "coco" / "all.json").write_text(
        json.dumps({"images": images, "annotations": boxes + crowd, "categories": categories})
    )
    (tmp_path / "yolo" / "data.yaml").write_text("names: [cat, dog]\n")
    for source in (coco.read(tmp_path / "coco" / "all.json"), yolo.read(tmp_path / "yolo")):
        assert source.classes == by_voc.classes == ["cat", "dog"]
        assert np.array_equal(source.pools["all"].labels, by_voc.pools["all"].labels)
        assert source.pools["all"].boxes == pytest.approx(by_voc.pools["all"].boxes)


def test_keypoints_are_read_and_a_row_without_any_has_none(tmp_path) -> None:
    for name in ("anna_1", "anna_2", "ben_1"):
        picture(tmp_path / "images" / f"{name}.png")
    head = "image,x0,y0,x1,y1\n"
    (tmp_path / "points_train.csv").write_text(f"{head}anna_1.png,1,2,3,4\nanna_2.png,,,,\n")
    (tmp_path / "points_test.csv").write_text(f"{head}ben_1.png,5,6,7,8\n")
    source = keypoints.read(tmp_path, group_by=r"([a-z]+)_\d")
    train = source.pools["train"]
    assert train.labels.tolist() == [1, 0] and train.points[0].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(train.points[1]).all() and train.groups.tolist() == ["anna", "anna"]


def reported(write, read, home: Path) -> str:
    write(home)
    with pytest.raises(Refusal) as refused:
        read(home)
    return str(refused.value)


def damaged_xml(home: Path) -> None:
    voc_folder(home, EASY)
    (home / "Annotations" / "p1.xml").write_text("<annotation><object>")


def no_picture(home: Path) -> None:
    voc_folder(home, EASY)
    (home / "JPEGImages" / "p1.png").unlink()


def nan_box(home: Path) -> None:
    voc_folder(home, EASY | {"p1": [("cat", "nan", 5, 30, 15)]})


def no_json(home: Path) -> None:
    (home / "all.json").write_text('{"images": []}')


def strange_image(home: Path) -> None:
    picture(home / "a.png")
    note = {"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}
    (home / "all.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [note], "categories": [{"id": 1, "name": "x"}]}))  # fmt: skip


def escaping(home: Path) -> None:
    (home / "all.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "../../etc/hosts"}], "annotations": [], "categories": []}))  # fmt: skip


def yolo_line(line: str):
    def write(home: Path) -> None:
        picture(home / "images" / "a.png")
        (home / "labels").mkdir()
        (home / "labels" / "a.txt").write_text(line)
        (home / "data.yaml").write_text("names: [cat]\n")

    return write


def short_row(home: Path) -> None:
    picture(home / "a.png")
    (home / "all.csv").write_text("image,x0,y0\na.png,1\n")


def read_json(home: Path):
    return coco.read(home / "all.json")


@pytest.mark.parametrize(
    ("write", "read", "says"),
    [
        (damaged_xml, voc.read, "p1.xml"),
        (no_picture, voc.read, "JPEGImages/p1"),
        (nan_box, voc.read, "NaN"),
        (lambda home: None, voc.read, "no annotations"),
        (no_json, read_json, "annotations"),
        (strange_image, read_json, "image 5"),
        (escaping, read_json, "not there"),
        (yolo_line("0 0.5 0.5 0.2"), yolo.read, "line 1"),
        (yolo_line("0 0.5 0.5 0.2 1.2"), yolo.read, "no object"),
        (yolo_line("a 0.5 0.5 0.2 0.2"), yolo.read, "more than numbers"),
        (yolo_line("3 0.5 0.5 0.2 0.2"), yolo.read, "class 3 has no name"),
        (short_row, lambda home: keypoints.read(home / "all.csv"), "line 2"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path, write, read, says) -> None:
    assert says in reported(write, read, tmp_path)


def two_names(home: Path) -> None:
    for split, name in (("train", "x"), ("test", "other")):
        text = {"images": [], "annotations": [], "categories": [{"id": 1, "name": name}]}
        (home / f"instances_{split}.json").write_text(json.dumps(text))


def damaged_picture(home: Path) -> None:
    (home / "images").mkdir()
    (home / "labels").mkdir()
    (home / "images" / "a.png").write_text("no picture")
    (home / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")


def eight_numbers(home: Path) -> None:
    picture(home / "a.png")
    note = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1, 2, 2, 3, 3]}
    (home / "all.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [note], "categories": [{"id": 1, "name": "x"}]}))  # fmt: skip


def nameless(home: Path) -> None:
    (home / "all.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}))


def not_utf8(home: Path) -> None:
    picture(home / "images" / "a.png")
    (home / "labels").mkdir()
    (home / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("write", "read", "says"),
    [
        (two_names, coco.read, "two names"),
        (damaged_picture, yolo.read, "damaged"),
        (eight_numbers, read_json, "no box"),
        (nameless, read_json, "no id or name"),
        (not_utf8, yolo.read, "UTF-8"),
    ],
)
def test_what_is_damaged_in_other_ways_says_so_too(tmp_path, write, read, says) -> None:
    assert says in reported(write, read, tmp_path)


def test_a_picture_on_its_side_has_boxes_of_the_upright_one(tmp_path) -> None:
    """Exif says: turn it. A box of the left half of the upright picture, 10 wide and 20 high."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "a.jpg", exif=exif)
    (tmp_path / "labels" / "a.txt").write_text("0 0.25 0.5 0.5 1\n")
    (tmp_path / "classes.txt").write_text("cat\ndog")
    source = yolo.read(tmp_path)
    assert source.pools["all"].boxes.tolist() == [[[0, 0, 5, 20]]] and source.classes == ["cat", "dog"]


def test_classes_that_nothing_is_are_left_out_and_objects_stand_first(tmp_path) -> None:
    boxes = {f"p{i}": [("cat", 10, 5, 10, 5), ("dog", 3, 3, 20, 12)] for i in range(6)}  # the cats have no area
    source = voc.read(voc_folder(tmp_path / "voc", boxes))
    with pytest.raises(Refusal, match="no object in it is a 'cat'"):
        prepared(source, tmp_path / "out")
    some = voc.read(voc_folder(tmp_path / "other", boxes | {f"p{i}": EASY[f"p{i}"] for i in range(4)}))
    home = prepared(some, tmp_path / "there", split=SPLIT | {"dev": 0})
    assert all(
        (np.diff((np.load(home / split / "y.npy") >= 0).astype(int), axis=1) <= 0).all() for split in ("train", "test")
    )


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_frames_are_where_pixels_go_and_come_back_exactly(resize: str) -> None:
    """A white rectangle, resized by Pillow, is where its corners are stated to be; and back within rounding of floats."""
    from crucible.data.images import Fit

    sizes = np.array([[100, 200], [300, 90], [64, 64], [37, 91]])
    own = frames(sizes, (1, 64, 96), resize)
    points = np.random.default_rng(0).uniform(0, 30, (4, 5, 2))
    assert to_original(to_model_pixels(points, own), own) == pytest.approx(points, abs=1e-12)
    for size, frame in zip(sizes, own, strict=True):
        h, w = size
        image = np.zeros((1, h, w), np.uint8)
        image[:, h // 4 : h // 2, w // 4 : 3 * w // 4] = 255
        found = Fit([64, 96], None, resize)([image], lambda i: "")[0, 0] > 184  # brighter than the grey around it
        rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
        corners = to_model_pixels(np.array([[[w // 4, h // 4], [3 * w // 4, h // 2]]], float), frame[None])[0]
        assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx(corners.ravel(), abs=1.5)


def test_boxes_without_area_are_left_out_and_told_and_those_beyond_the_edge_cut(tmp_path) -> None:
    odd = {"p1": [("cat", 10, 5, 10, 5), ("dog", 30, 10, 60, 30)], "p2": [("cat", 50, 0, 60, 9)], "p3": []}
    source = voc.read(voc_folder(tmp_path / "voc", EASY | odd, p4=(80, 40)))
    home = prepared(source, tmp_path / "out", split=SPLIT | {"dev": 0})
    facts = read_card(home).objects
    assert len(facts["dropped"]) == 2 and "p1.png, box 1" in facts["dropped"][0] and facts["clipped"] == 1
    found = {}
    for split in ("train", "test"):
        for name in ("y", "boxes", "size"):
            found[name] = [*found.get(name, []), *np.load(home / split / f"{name}.npy")]
    rows = {int((y >= 0).sum()) for y in found["y"]}
    assert rows == {0, 1, 2} and {tuple(size) for size in found["size"]} == {(20, 40), (40, 80)}
    cut = next(box for y, boxes in zip(found["y"], found["boxes"], strict=True) if (y >= 0).sum() == 1 for box, k in zip(boxes, y, strict=True) if k == 1)  # fmt: skip
    assert cut.tolist() == pytest.approx([24, 16, 32, 24])  # of 40x20 in 32x32: scale 0.8, 8 rows of grey above
    counts = [read_card(home).splits[split] for split in ("train", "test")]
    assert sum(each["empty"] for each in counts) == 2


def test_a_class_that_train_does_not_have_is_refused(tmp_path) -> None:
    source = voc.read(voc_folder(tmp_path / "voc", {f"p{i}": [("cat" if i else "dog", 1, 1, 9, 9)] for i in range(6)}))
    seen = []
    for seed in range(6):
        try:
            prepared(source, tmp_path / f"{seed}", split=SPLIT | {"seed": seed})
        except Refusal as refusal:
            seen.append(str(refusal))
    assert seen and "no object in it is a 'dog'" in seen[0]


def read_scenes(**more):
    own = {"scenes": {"train": 30, "dev": 10, "test": 10}, "side": 64, "objects": [1, 4], "height": [0.2, 0.4],
           "turn_degrees": 10, "noise": 8, "seed": 0} | more  # fmt: skip
    return scenes.digits(ROOT / "data" / "digits", **own)


def test_scenes_are_the_same_at_every_call_and_hold_what_they_say() -> None:
    one, other = read_scenes(noise=0), read_scenes(noise=0)
    for split, pool in one.pools.items():
        images = np.concatenate(list(pool.chunks()))
        assert np.array_equal(images, np.concatenate(list(other.pools[split].chunks())))
        for image, labels, boxes in zip(images[:, 0], pool.labels, pool.boxes, strict=True):
            inside = np.zeros(image.shape, bool)
            for x0, y0, x1, y1 in boxes[labels >= 0]:
                rows, columns = slice(max(0, int(y0) - 1), int(y1) + 2), slice(max(0, int(x0) - 1), int(x1) + 2)
                inside[rows, columns] = True
                assert image[rows, columns].max() > 120
            assert image[~inside].max() <= 61  # outside the boxes there is nothing but ground
    assert not np.array_equal(images, np.concatenate(list(read_scenes(seed=1).pools["test"].chunks())))


def test_corner_points_are_the_boxes_corners_where_nothing_is_turned() -> None:
    pool = read_scenes(objects=[1, 1], turn_degrees=0).pools["train"]
    x0, y0, x1, y1 = pool.boxes[:, 0].T
    assert pool.points == pytest.approx(
        np.stack([np.stack(each, 1) for each in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 1)
    )


def test_boxes_turned_upside_down_stay_on_their_pixels() -> None:
    strong = Strong(False, shift=0, crop=0, rotation_degrees=0, colour=0, noise=0, upside_down=True)
    images = torch.zeros(8, 1, 10, 12)
    images[:, :, 1:3, 2:7] = 100
    boxes = torch.tensor([[[2.0, 1, 7, 3]]]).repeat(8, 1, 1)
    moved = strong({"x": images, "boxes": boxes}, torch.Generator().manual_seed(0))
    tops = set()
    for image, (x0, y0, x1, y1) in zip(moved["x"][:, 0], moved["boxes"][:, 0].round().int().tolist(), strict=True):
        assert image[y0:y1, x0:x1].min() > 50 and image.sum() == pytest.approx(1000, rel=0.01)
        tops.add(y0)
    assert tops == {1, 7}


@pytest.mark.skipif(not (DATASETS / "bccd").is_dir(), reason="the data set bccd is not there")
def test_bccd_has_its_known_counts_and_two_boxes_without_area(tmp_path) -> None:
    source = build("data.reader", {"_target_": "crucible.data.readers.voc.read"}, DATASETS / "bccd")
    assert {name: len(pool.labels) for name, pool in source.pools.items()} == {"train": 205, "dev": 87, "test": 72}
    labels = np.concatenate([pool.labels[pool.labels >= 0] for pool in source.pools.values()])
    assert dict(zip(source.classes, np.bincount(labels).tolist(), strict=True)) == {
        "Platelets": 361,
        "RBC": 4155,
        "WBC": 372,
    }


def test_every_preset_names_a_reader() -> None:
    for name in ("bccd", "face_keypoints", "digit_scenes"):
        assert composed(f"data={name}")["data"]["reader"]["_target_"].startswith("crucible.data.readers.")


def test_official_splits_that_are_judged_keep_their_boxes(tmp_path) -> None:
    voc_folder(tmp_path, EASY)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for name, stems in (("train", "p0\np1\n"), ("test", "p2\np3\np4\np5\n")):
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(stems)
    home = prepared(voc.read(tmp_path), tmp_path / "made", judge=["cat", "dog"], duplicates="keep")
    assert sorted(each.name for each in home.iterdir() if each.is_dir()) == ["test"]
    assert np.load(home / "test" / "boxes.npy").shape == (4, 2, 4) and np.load(home / "test" / "size.npy").shape == (
        4,
        2,
    )
