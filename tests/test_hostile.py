"""Files, names and servers made to do harm, each met by a refusal or shown without effect (docs/trust.md has the table)."""

import csv
import gzip
import io
import json
import os
import pickle
import re
import shlex
import shutil
import struct
import sys
import zipfile
import zlib
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import card_of, composed
from PIL import Image

from crucible.app.compose import validate
from crucible.data.readers import coco, hdf5, idx, image_folder, npz, source, voc, yolo
from crucible.errors import Refusal
from crucible.inference.saved_run import load_run
from crucible.labels.classes import Classes
from crucible.labels.kind import Answer, Predictions
from crucible.plots import boxes, figures
from crucible.report.answers import FORMATS
from crucible.report.screen import lined
from crucible.text import csv_text, redacted, steady
from crucible.tracking import checkpoint
from crucible.tracking import mlflow as door
from crucible.training.evaluation import Evaluation, confusion_csv
from crucible.transfer import pretrained


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


def test_a_flat_test_folder_is_left_aside_and_reported(tmp_path) -> None:
    tree(tmp_path, "train/cat", "train/dog", "test")
    found = image_folder.read(tmp_path)
    assert set(found.pools) == {"all"} and found.pools["all"].labels.tolist() == ["cat", "dog"]
    assert re.search("test/ holds [0-9]+ pictures without labels: left aside; .*predict.py", found.notes[0])


def test_a_flat_train_folder_beside_labelled_ones_is_refused(tmp_path) -> None:
    tree(tmp_path, "test/cat", "test/dog", "train")
    with pytest.raises(Refusal, match="nothing can be trained on them"):
        image_folder.read(tmp_path)


def test_a_class_may_be_called_train(tmp_path) -> None:
    tree(tmp_path, "bus", "car", "train")
    assert set(image_folder.read(tmp_path).pools["all"].labels) == {"bus", "car", "train"}


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


@pytest.mark.parametrize("read", [image_folder.read, yolo.read])
def test_a_pipe_is_not_read(tmp_path, read) -> None:
    tree(tmp_path, "images/cat", "images/dog", "labels/cat")
    os.mkfifo(tmp_path / "images" / "cat" / "2.png")
    if read is yolo.read:
        assert len(read(tmp_path).pools["all"].labels) == 2
        return
    with pytest.raises(Refusal, match="it is no plain file"):
        read(tmp_path / "images")


def test_names_in_yaml_that_refer_to_themselves_are_refused(tmp_path) -> None:
    tree(tmp_path, "images", "labels")
    lines = "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(30))
    (tmp_path / "data.yaml").write_text(f"a0: &a0 ha\n{lines}names: [*a30]\n")
    with pytest.raises(Refusal, match="a name is no text"):
        yolo.read(tmp_path)


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
    with pytest.raises(Refusal, match=r"1.png\n.*pixels"):
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
    assert [len(chunk) for chunk in image_folder.in_chunks(files)()] == [2, 2, 1]


LAUGHS = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(30))
DECLARED = {
    "laughs": f'<!DOCTYPE a [<!ENTITY a0 "ha">{LAUGHS}]>',
    "file": '<!DOCTYPE a [<!ENTITY a30 SYSTEM "file:///etc/passwd">]>',
    "elsewhere": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("declared", DECLARED.values(), ids=DECLARED)
def test_xml_that_declares_entities_is_refused_before_they_are_read(tmp_path, declared, encoding) -> None:
    name = "&a30;" if "a30" in declared else "cat"
    picture(tmp_path / "JPEGImages" / "1.png")
    (tmp_path / "Annotations").mkdir()
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    (tmp_path / "Annotations" / "1.xml").write_text(
        f"{head}{declared}<a><object><name>{name}</name></object></a>", encoding
    )
    with pytest.raises(Refusal, match="it declares a document type"):
        voc.read(tmp_path)


def test_a_list_that_names_files_elsewhere_is_refused(tmp_path) -> None:
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("../../../etc/passwd\n")
    with pytest.raises(Refusal, match=r"'../../../etc/passwd' is no name"):
        voc.read(tmp_path)


def test_deep_json_and_numbers_without_end_are_refused(tmp_path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" * 100_000)
    with pytest.raises(Refusal, match="no annotations of COCO's form"):
        coco.read(file)
    picture(tmp_path / "1.png")
    one = {"images": [{"id": 1, "file_name": "1.png"}], "categories": [{"id": 1, "name": "cat"}]}
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 10**400]}
    file.write_text(json.dumps({**one, "annotations": [box]}))
    with pytest.raises(Refusal, match="no box or no known class"):
        coco.read(file)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 300, "link.png"])
def test_coco_pictures_that_are_not_in_the_folder_are_refused(tmp_path, name) -> None:
    home = tmp_path / "home"
    picture(home / "1.png")
    (home / "link.png").symlink_to("/etc/passwd")
    one = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": []}
    (home / "a.json").write_text(json.dumps(one))
    with pytest.raises(Refusal, match="is not there"):
        coco.read(home / "a.json")


def test_a_picture_with_objects_without_end_does_not_fill_the_memory(tmp_path, monkeypatch) -> None:
    for i in range(9):
        picture(tmp_path / f"{i}.png")
    box = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]}
    content = {"images": [{"id": i, "file_name": f"{i}.png"} for i in range(9)], "annotations": [box] * 9}
    (tmp_path / "a.json").write_text(json.dumps({**content, "categories": [{"id": 1, "name": "cat"}]}))
    monkeypatch.setattr(source, "WHOLE_BYTES", 9 * 9 * 4 * 8 - 1)
    with pytest.raises(Refusal, match="a place for 9 objects in every picture"):
        coco.read(tmp_path / "a.json")


def header(shape: tuple[int, ...] | str, descr: str = "|u1") -> bytes:
    """Return the start of a .npy file, as numpy writes it, or with any text for a shape."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10**6, 10**6), "bytes unpacked, the disk has"),
        ((4, 10**13), "one example takes 10,000,000,000,000 bytes"),
        ((-4, 3), "announced"),
        ((4, -3), "announced"),
        ((2**70, 2), "bytes unpacked, the disk has"),
        ("(" * 3000, "cannot be read"),
        ("1, " * 20_000, "cannot be read"),
        ("__import__('os').abort()", "cannot be read"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_arrays_that_announce_what_cannot_be_are_refused(tmp_path, shape, message, folder) -> None:
    members = {"x.npy": header(shape) + bytes(99), "y.npy": header((4,)) + bytes(4)}
    if folder:
        [(tmp_path / name).write_bytes(data) for name, data in members.items()]
    else:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            [archive.writestr(name, data) for name, data in members.items()]
    with pytest.raises(Refusal, match=message):
        npz.read(tmp_path if folder else tmp_path / "a.npz")


def test_labels_that_announce_terabytes_and_objects_are_refused(tmp_path) -> None:
    (tmp_path / "x.npy").write_bytes(header((4, 2)) + bytes(8))
    (tmp_path / "y.npy").write_bytes(header((10**12,)))
    with pytest.raises(Refusal, match="at most 8,589,934,592 bytes"):
        npz.read(tmp_path)
    (tmp_path / "y.npy").write_bytes(header((4,), "|O") + b"cos\nabort\n(tR.")
    with pytest.raises(Refusal, match="Python objects"):
        npz.read(tmp_path)


def test_what_inflates_beyond_the_disk_is_refused(tmp_path, monkeypatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((40, 1000), np.uint8), y=np.arange(40) % 2)
    assert (tmp_path / "a.npz").stat().st_size < 1000
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(39_999))
    with pytest.raises(Refusal, match="40,000 bytes unpacked, the disk has 39,999 left"):
        npz.read(tmp_path / "a.npz")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("axes", [(2**31, 2**31, 2), (5, 2**31, 2**31), (2**32 - 1, 2**32 - 1, 2**32 - 1)])
def test_idx_files_that_announce_what_cannot_be_are_refused(tmp_path, axes, packed) -> None:
    for prefix in ("train", "t10k"):
        for kind, shape in (("images-idx3", axes), ("labels-idx1", (5,))):
            data = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(5)
            (tmp_path / f"{prefix}-{kind}-ubyte{'.gz' if packed else ''}").write_bytes(
                gzip.compress(data) if packed else data
            )
    with pytest.raises(Refusal, match=r"one example takes|bytes unpacked"):
        idx.read(tmp_path)


def hdf5_file(path: Path, x: object) -> Path:
    """Write a file in the course's layout; `x` makes train_set_x."""
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            file[f"{split}_set_y"] = np.arange(6) % 2
        file["test_set_x"] = np.zeros((6, 4), np.uint8)
        x(file)
    return path


HDF5 = {
    "shape": (
        lambda file: file.create_dataset("train_set_x", (10**9, 10**6), "u1", chunks=(1, 1000)),
        "bytes unpacked",
    ),
    "example": (
        lambda file: file.create_dataset("train_set_x", (6, 2**40), "u1", chunks=(1, 1000)),
        "one example takes",
    ),
    "chunk": (lambda file: file.create_dataset("train_set_x", (6, 2**29), "u1", chunks=(4, 2**29)), "chunks of"),
    "group": (lambda file: file.create_group("train_set_x"), "no data set of this file"),
    "scalar": (lambda file: file.create_dataset("train_set_x", data=3), "are no rows"),
    "compound": (lambda file: file.create_dataset("train_set_x", data=np.zeros(6, [("a", "u1")])), "are no rows"),
    "link": (
        lambda file: file.__setitem__("train_set_x", h5py.ExternalLink("/etc/other.h5", "x")),
        "no data set of this file",
    ),
    "external": (
        lambda file: file.create_dataset("train_set_x", (6, 4), "u1", external=[("/etc/passwd", 0, 24)]),
        "stand in other files",
    ),
    "virtual": (lambda file: file.create_virtual_dataset("train_set_x", _layout()), "stand in other files"),
}


def _layout() -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout((6, 4), "u1")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (6, 4))
    return layout


@pytest.mark.parametrize(("make", "message"), HDF5.values(), ids=HDF5)
def test_hdf5_that_announces_what_cannot_be_or_lies_elsewhere_is_refused(tmp_path, make, message) -> None:
    with pytest.raises(Refusal, match=message):
        hdf5.read(hdf5_file(tmp_path / "a.h5", make))


def test_hdf5_labels_without_end_are_refused(tmp_path) -> None:
    path = hdf5_file(tmp_path / "a.h5", lambda file: file.create_dataset("train_set_x", (6, 4), "u1"))
    with h5py.File(path, "a") as file:
        del file["train_set_y"]
        file.create_dataset("train_set_y", (10**12,), "u1", chunks=(1000,), compression="gzip")
    with pytest.raises(Refusal, match="at most 8,589,934,592 bytes"):
        hdf5.read(path)


NAMES = {
    "script": "<script>alert(1)</script>",
    "path": "../../etc",
    "newline": "a\nb",
    "nul": "a\0b",
    "right to left": "a\u202egpj.exe",
    "escape": "\x1b]0;owned\x07\x1b[2J",
    "c1": "\x9b2J",
    "formula": "=cmd|' /C calc'!A0",
    "dollars": r"$\frac$",
    "shell": "$(touch owned); `touch owned` 'x\"",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_name_steers_a_terminal(name) -> None:
    table = FORMATS["table"]([Answer(f"{name}.png", name, {name: 0.5})], Classes())
    for screen in (lined([("result", name)]), table.removesuffix("\n")):
        assert screen.isprintable(), screen


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_name_is_code_in_a_page(name) -> None:
    from crucible.labels.kind import Mistake
    from crucible.plots.charts import Table
    from crucible.report.page import gallery_of, page
    from crucible.report.web import rendered

    scores = {"loss": 1.0, "error": 0.5}
    signs = {"dead_units": {}, "flow": [name], "shifts": {}, "curves": name}
    row = {"label": name, "predicted": name, "count": 1, "share": 1.0, "error_if_mended": 0.0}
    diagnosis = {"verdict": name, "reasons": [], "signs": signs, "controls": [], "satisficing": {}, "error_analysis": [row],
                 "advice": [{"why": name, "command": name}]}  # fmt: skip
    summary = {"data": name, "model": name, "monitor": {"name": "error", "goal": "minimize"}, "train": scores, "dev": scores,
               "test": scores, "human": {"error": 0.0, "assumed": True}, "gap": {}, "parameters": 1, "diagnosis": diagnosis,
               "latency_ms_per_example": 1.0}  # fmt: skip
    table = {"trials": [Table(name, [name], [[name]])], "charts": []}
    searched = rendered("search.html", table, title=name, screen=name, best=name, pictures=[], sections=[("a", name)])
    gallery = gallery_of([Mistake(0, name, name, label=name, predicted=name, score=0.5)], [name], None, None)
    report = page(summary, {"name": name}, f"name: {name}", "", [name], [], 1, 0.02, {}, gallery, "dev", {}, {})
    for html in (report, searched):
        assert html.count("<script") == 2 and "<script>alert" not in html
        assert all(line.isprintable() for line in html.split("\n")), html


def test_a_page_keeps_its_lines() -> None:
    assert steady("a: 1\nb: \x1b") == "a: 1\nb: \\x1b"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_can_be_drawn_and_gets_no_meaning(tmp_path, name) -> None:
    figures.confusion(np.eye(2, dtype=int), [name, "b"], tmp_path / "a.png")
    figures.mistakes(np.zeros((1, 1, 4, 4)), [f"{name}, predicted {name}"], tmp_path / "b.png")
    box = [{"box": [0, 0, 2, 2], "class": name, "score": 0.5}]
    boxes.compared([np.zeros((1, 4, 4), np.uint8)], [box], [box], [name], tmp_path / "c.png")
    boxes.drawn(np.zeros((1, 9, 9), np.uint8), box, tmp_path / "d.png")


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1"])
def test_no_cell_of_a_table_is_a_formula(name) -> None:
    card = replace(card_of((4,), classes=2), classes=[name, "b"])
    found = Predictions(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.eye(2), {}, [0, 1], [name, "b"])
    answers = FORMATS["csv"]([Answer(name, name, {name: 0.5})], Classes())
    confusion = confusion_csv(Evaluation({}, torch.eye(2), torch.eye(2)), [name, "b"])
    for text in (*Classes().tables(found, card).values(), confusion, answers):
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert (f"'{name}" if name.isprintable() else repr(name)[1:-1]) in cells
        assert not any(cell.strip(" ").startswith(tuple("=+-@\t\r＝")) for cell in cells)


def test_numbers_in_tables_stay_numbers() -> None:
    assert csv_text([["-1.5", -2, "1e-3", "+4", "nan"]]) == "-1.5,-2,1e-3,+4,nan\n"


def test_passwords_of_urls_are_hidden() -> None:
    text = "at postgresql+psycopg2://me:pa:ss/w@host:5432/db, http://u:x@y and http://host:5000/a@b"
    assert redacted("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert "pa:ss" not in redacted(text.replace("ss/w", "ssw")) and "http://host:5000/a@b" in redacted(text)


class Harm:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch owned",)


def pickles() -> dict[str, bytes]:
    """Return files that would run code, and broken ones, by what they are."""
    zipped, legacy, plain = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"identity": Harm()}, zipped)
    torch.save({"identity": Harm()}, legacy, _use_new_zipfile_serialization=False)
    torch.save([1, 2], plain)
    whole = plain.getvalue()
    return {
        "zip": zipped.getvalue(),
        "legacy": legacy.getvalue(),
        "pickle": pickle.dumps(Harm()),
        "list": whole,
        "cut": whole[:-30],
        "empty": b"",
        "words": b"dear friend",
        "script": b"PK\x03\x04" + bytes(40),
    }


@pytest.mark.parametrize("seal", [bytes, checkpoint.sealed], ids=["as it is", "with a right checksum"])
@pytest.mark.parametrize("kind", pickles())
def test_a_pickle_for_a_checkpoint_is_refused_and_runs_nothing(tmp_path, monkeypatch, kind, seal) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(seal(pickles()[kind]))
    with pytest.raises(Refusal, match="no checkpoint of ours, or damaged") as found:
        checkpoint.load(tmp_path)
    assert "weights_only" not in str(found.value)  # torch advises to run what it is
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", pickles())
def test_a_pickle_for_weights_is_refused_and_runs_nothing(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(pickles()[kind])
    with pytest.raises(Refusal, match="no safetensors file, or damaged"):
        pretrained(tmp_path / "w.pt").tensors()
    with pytest.raises(Refusal, match="no tensors by name, or damaged"):
        pretrained(tmp_path / "w.pt").published()
    assert not (tmp_path / "owned").exists()


class Store:
    """A tracking store that answers what it likes."""

    def __init__(self, run_id: str = "a" * 32, sent: Callable[[Path, str], object] = lambda home, name: None) -> None:
        self.run_id, self.sent = run_id, sent

    def get_model_version(self, name: str, version: str) -> Any:
        return SimpleNamespace(run_id=self.run_id)

    get_model_version_by_alias = get_model_version

    def list_artifacts(self, run_id: str) -> list[Any]:
        return [SimpleNamespace(path="weights.safetensors", is_dir=False)]

    def download_artifacts(self, run_id: str, name: str, home: str) -> None:
        (Path(home) / name).write_text(name)
        self.sent(Path(home), name)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """Let the client of MLflow be a store of the test's."""

    def use(**answers: Any) -> Store:
        made = Store(**answers)
        monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda uri: made))
        return made

    return use


@pytest.mark.parametrize(
    "run", ["..", ".", "", "../../x", "/etc", "a" * 31, "A" * 32, f"{'a' * 32}\n", "..%2f..", "a" * 32 + "/../.."]
)
@pytest.mark.parametrize("way", ["runs", "version", "alias"])
def test_a_run_id_that_is_a_path_is_refused(tmp_path, store, run, way) -> None:
    (tmp_path / "home").mkdir()
    store(run_id=run)
    source = {"runs": f"runs:/{run}", "version": "models:/m/1", "alias": "models:/m@a"}[way]
    if way == "runs" and run.startswith(f"{'a' * 32}/"):
        assert door.fetch(source, "http://x", tmp_path / "home") == tmp_path / "home" / ("a" * 32)
        return
    with pytest.raises(LookupError, match="is no id of a run"):
        door.fetch(source, "http://x", tmp_path / "home")
    assert [*tmp_path.rglob("*")] == [tmp_path / "home"]


@pytest.mark.parametrize("source", ["models:/..", "models:/m", "models:/m/..", "models:/../../x"])
def test_a_model_without_a_version_is_refused(tmp_path, store, source) -> None:
    store()
    with pytest.raises(LookupError, match="names no version of a model"):
        door.fetch(source, "http://x", tmp_path)


SENT = {
    "link": lambda home, name: ((home / name).unlink(), (home / name).symlink_to("/etc/passwd")),
    "folder": lambda home, name: ((home / name).unlink(), (home / name).mkdir()),
    "more": lambda home, name: (home / "sitecustomize.py").write_text("x"),
}


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_artifacts_that_are_no_plain_files_of_ours_are_refused_and_nothing_stays(tmp_path, store, sent) -> None:
    store(sent=sent)
    with pytest.raises(LookupError, match="the store sent"):
        door.fetch("models:/m/1", "http://x", tmp_path / "home")
    assert [*tmp_path.rglob("*")] == [tmp_path / "home"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".hidden", "a\nb", "a\0b", "x" * 101, ""])
def test_a_data_name_that_is_a_path_is_refused(name) -> None:
    cfg = composed()
    with pytest.raises(Refusal, match=r"data\.name"):
        validate({**cfg, "data": {**cfg["data"], "name": name}})


def test_a_file_is_never_replaced_by_prepared_data(command, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    done = command("prepare", "prepared=thesis.txt")
    assert done.code == 2 and "it is no folder" in done.err
    assert (tmp_path / "thesis.txt").read_text() == "three years" and len([*tmp_path.iterdir()]) == 1


def test_printed_commands_are_quoted(command, tmp_path) -> None:
    folder = "runs/a b; $(touch owned) 'x"
    words = ["tracking=none", "trainer.total_epochs=1", "model.layers=[4]", f"hydra.run.dir={folder}"]
    done = command("train", *words)
    commands = [line[line.index("python src/") :] for line in done.out.splitlines() if "python src/" in line]
    values = [word.partition("=")[2] for line in commands for word in shlex.split(line)]
    assert folder in values, commands
    (tmp_path / folder / "train.json").unlink()
    with pytest.raises(Refusal) as found:
        load_run(Path(folder), torch.device("cpu"))
    assert shlex.split(found.value.lines["example"]) == ["python", "src/train.py", f"resume={folder}"]
