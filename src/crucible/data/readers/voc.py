"""Reader of Pascal VOC: JPEGImages/, Annotations/*.xml, ImageSets/Main/train.txt, val.txt, test.txt (Everingham et al., 2010)."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from crucible.data.readers.annotated import (
    Annotated,
    files_of,
    pictures_of,
    pool,
    require_finite,
    require_short,
    text_of,
)
from crucible.data.readers.source import Source, require_path
from crucible.errors import Refusal

LAYOUT = "a folder with JPEGImages/, Annotations/ and ImageSets/Main/"
SPLITS = {"train": "train", "dev": "val", "test": "test"}
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Objects = list[tuple[str, list[float]]]


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read pictures with boxes; lists of train, test and perhaps val are official splits, without them all is one pool.

    Corners are taken as they stand in the file.

    `group_by` is a regular expression on the picture's path whose first group names the group.

    Raises:
        Refusal: missing, another layout, a picture or an annotation that is not there or damaged, a box without numbers.
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "the classes stand in the annotations", example="data.label=null")
    stems, files = _stems(path), pictures_of(path / "JPEGImages")
    annotations = {stem: _objects(path / "Annotations" / f"{stem}.xml") for names in stems.values() for stem in names}
    classes = sorted({name for objects in annotations.values() for name, _ in objects})
    pools = {
        split: pool([_annotated(path, stem, files, annotations[stem], classes) for stem in names], path, group_by)
        for split, names in stems.items()
    }
    further = [*(path / "Annotations" / f"{stem}.xml" for stem in annotations), *_lists(path).values()]
    return Source(pools, files_of(pools, path, further), classes=classes)


def _lists(path: Path) -> dict[str, Path]:
    files = {split: path / "ImageSets" / "Main" / f"{name}.txt" for split, name in SPLITS.items()}
    found = {split: file for split, file in files.items() if file.exists()}
    return found if {"train", "test"} <= set(found) else {}


def _stems(path: Path) -> dict[str, list[str]]:
    if lists := _lists(path):
        return {split: _listed(file) for split, file in lists.items()}
    stems = sorted(file.stem for file in (path / "Annotations").glob("*.xml"))
    if not stems:
        raise Refusal(f"data.path={path}", "there are no annotations", allowed=LAYOUT)
    return {"all": stems}


def _listed(file: Path) -> list[str]:
    stems = [line.split()[0] for line in text_of(file).splitlines() if line.strip()]
    if wrong := next((stem for stem in stems if Path(stem).name != stem or "\0" in stem), None):
        raise Refusal(str(file), f"{wrong!r} is no name", allowed="names of pictures, without folders or endings")
    return stems


class _Plain(ElementTree.TreeBuilder):
    """A tree of elements and text: what can declare entities, which grow without bound when they are read, is no annotation."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the declaration before what it declares is read."""
        raise ValueError(f"it declares a document type, {name}, which annotations have no use for")


def _objects(file: Path) -> Objects:
    require_short(file)
    try:
        root = ElementTree.parse(file, ElementTree.XMLParser(target=_Plain())).getroot()
        return [
            (_text(each, "name"), [float(_text(each, f"bndbox/{key}")) for key in CORNERS])
            for each in root.iter("object")
        ]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise Refusal(str(file), f"no annotation, or damaged: {error}", allowed="Pascal VOC's XML") from None


def _text(node: ElementTree.Element, key: str) -> str:
    if (text := node.findtext(key)) is None:
        raise ValueError(f"an object has no {key}")
    return text.strip()


def _annotated(path: Path, stem: str, files: dict[str, Path], objects: Objects, classes: list[str]) -> Annotated:
    if stem not in files:
        raise Refusal(f"data.path={path}", f"there is no picture JPEGImages/{stem}.*", allowed=LAYOUT)
    boxes = np.array([box for _, box in objects], dtype=np.float64)
    require_finite(boxes, f"{path / 'Annotations' / stem}.xml")
    return Annotated(files[stem], boxes, [classes.index(name) for name, _ in objects])
