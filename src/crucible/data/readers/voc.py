"""Reader of Pascal VOC's XML: JPEGImages/, Annotations/ and lists of splits (Everingham et al., 2010), or as labelImg leaves it."""

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
from crucible.data.readers.file_names import meant_split
from crucible.data.readers.image_folder import SUFFIXES
from crucible.data.readers.source import Source, official, require_path
from crucible.errors import Refusal

LAYOUT = "a folder with JPEGImages/, Annotations/ and ImageSets/Main/; or pictures with an .xml each, beside them or in annotations/"
SPLITS = {"train": "train", "dev": "val", "test": "test"}
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Objects = list[tuple[str, list[float]]]


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read pictures with boxes; lists of train and val or test are official splits, without them all is one pool.

    Without JPEGImages/ every .xml below the folder belongs to the picture of its name, beside it, in images/, or anywhere else if there is
    one of that name; folders named as splits are splits. Corners are taken as they stand in the file.

    `group_by` is a regular expression on the picture's path whose first group names the group.

    Raises:
        Refusal: missing, another layout, a picture or an annotation that is not there or damaged, a box without numbers.
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "the classes stand in the annotations", example="data.label=null")
    if not any((path / name).is_dir() for name in ("JPEGImages", "ImageSets")):
        return _loose(path, group_by)
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
    return found if "train" in found and len(found) > 1 else {}


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
    return _one(files[stem], path / "Annotations" / f"{stem}.xml", objects, classes)


def _one(picture: Path, file: Path, objects: Objects, classes: list[str]) -> Annotated:
    boxes = np.array([box for _, box in objects], dtype=np.float64)
    require_finite(boxes, str(file))
    return Annotated(picture, boxes, [classes.index(name) for name, _ in objects])


def _loose(path: Path, group_by: str | None) -> Source:
    """Read pictures with an .xml each, wherever below a folder, as labelImg and Roboflow leave them."""
    files = sorted(path.rglob("*.xml")) if path.is_dir() else []
    if not files:
        raise Refusal(f"data.path={path}", "there are no annotations", allowed=LAYOUT)
    pictures = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    found: dict[str, list[tuple[Path, Path, Objects]]] = {}
    for file in files:
        split = next((meant_split(part) for part in file.relative_to(path).parts[:-1] if meant_split(part)), None)
        objects = _objects(file)
        found.setdefault(split or "all", []).append((_picture_of(file, pictures, path), file, objects))
    if "all" in found and len(found) > 1:
        raise Refusal(f"data.path={path}", f"{found['all'][0][1].relative_to(path)} stands in no split, others in {', '.join(sorted({*found} - {'all'}))}",
                      allowed="all in folders named as splits, or none")  # fmt: skip
    classes = sorted({name for own in found.values() for _, _, objects in own for name, _ in objects})
    pools = {split: pool([_one(picture, file, objects, classes) for picture, file, objects in own], path, group_by)
             for split, own in official(found, f"data.path={path}", LAYOUT).items()}  # fmt: skip
    without = len(pictures) - len(files)
    notes = [f"{without:,} pictures have no .xml: left aside"] if without > 0 else []
    return Source(pools, files_of(pools, path, files), classes=classes, notes=notes)


def _picture_of(file: Path, pictures: list[Path], root: Path) -> Path:
    """Return the picture that an .xml is about: of its name, the one that stands nearest.

    Raises:
        Refusal: there is none.
    """
    own = [picture for picture in pictures if picture.stem == file.stem]
    near = [
        picture for picture in own if picture.parent in (file.parent, file.parent.parent / "images", file.parent.parent)
    ]
    if not near and len(own) != 1:
        what = f"{len(own)} pictures have its name" if own else "there is no picture of its name"
        raise Refusal(str(file), what, allowed=f"one below {root}, best beside it or in images/")
    return (near or own)[0]
