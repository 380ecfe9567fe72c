"""Reader of YOLO's text files: images/ and labels/, a line for each object: class, then centre and size as shares."""

from pathlib import Path

import numpy as np
import yaml

from crucible.data.readers.annotated import Annotated, files_of, pool, require_finite, text_of
from crucible.data.readers.image_folder import SUFFIXES, meant_split, opened
from crucible.data.readers.source import Array, Source, require_path
from crucible.errors import Refusal

LAYOUT = "images/ and labels/ with files of the same names, perhaps both with train/, val/, test/; data.yaml with names"
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # Exif: pictures that stand on their side
ROUNDING = 1e-3  # of shares, as other tools write them


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read pictures with boxes; a picture without a text file, or with an empty one, has no objects.

    Raises:
        Refusal: missing, another layout, a line that is not five numbers, a class that has no name, shares beyond the picture.
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "the classes stand in the text files", example="data.label=null")
    if not (path / "images").is_dir() or not (path / "labels").is_dir():
        raise Refusal(f"data.path={path}", "there are no folders images and labels", allowed=LAYOUT)
    folders = _splits(path)
    names, found = _names(path), {}
    for split, folder in (folders or {"all": path / "images"}).items():
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        found[split] = [_annotated(file, path) for file in files]
    if not all(found.values()):
        raise Refusal(f"data.path={path}", "there are no pictures", allowed=LAYOUT)
    top = max((max(each.labels, default=-1) for split in found.values() for each in split), default=-1)
    if names is not None and top >= len(names):
        raise Refusal(
            f"data.path={path}",
            f"class {top} has no name",
            allowed=f"0 to {len(names) - 1}, as in classes.txt or data.yaml",
        )
    pools = {split: pool(each, path, group_by) for split, each in found.items()}
    texts = [*sorted((path / "labels").rglob("*.txt"))] + [
        f for f in (path / "data.yaml", path / "classes.txt") if f.exists()
    ]
    return Source(pools, files_of(pools, path, texts), classes=names or [str(i) for i in range(top + 1)])


def _splits(path: Path) -> dict[str, Path]:
    """Return the folders of the splits; nothing where there are none."""
    named = [f for f in sorted((path / "images").iterdir()) if f.is_dir() and meant_split(f.name) is not None]
    folders = {meant_split(f.name) or "": f for f in named}
    if named and not ({"train", "test"} <= set(folders) <= {"train", "dev", "test"} and len(folders) == len(named)):
        raise Refusal(
            f"data.path={path}",
            f"images/ holds {', '.join(f.name for f in named)}",
            allowed="train and test, perhaps val",
        )
    return folders


def _names(path: Path) -> list[str] | None:
    if (file := path / "classes.txt").exists():
        return text_of(file).rstrip().splitlines() or None
    if not (file := path / "data.yaml").exists():
        return None
    try:
        names = yaml.safe_load(text_of(file))["names"]
        found = [names[i] for i in range(len(names))]
        if not all(isinstance(name, str | int | float) for name in found):
            raise TypeError("a name is no text")  # what refers to itself ten times, ten deep, fills any memory as text
        return [str(name) for name in found]
    except (yaml.YAMLError, KeyError, TypeError, IndexError, ValueError, RecursionError) as error:
        raise Refusal(str(file), f"it names no classes: {error}", allowed="names: [cat, dog]") from None


def _annotated(file: Path, root: Path) -> Annotated:
    text = (root / "labels" / file.relative_to(root / "images")).with_suffix(".txt")
    lines = text_of(text).splitlines() if text.exists() else []
    rows = np.array([_row(text, i, line) for i, line in enumerate(lines, 1) if line.strip()]).reshape(-1, 5)
    w, h = _size(file)
    middle, half = rows[:, 1:3] * (w, h), rows[:, 3:] * (w, h) / 2
    return Annotated(file, np.concatenate([middle - half, middle + half], axis=1), rows[:, 0].astype(int).tolist())


def _size(file: Path) -> tuple[int, int]:
    """Return width and height of a picture, upright."""
    with opened(file) as picture:
        w, h = picture.size
        return (h, w) if picture.getexif().get(ORIENTATION, 1) in TURNED else (w, h)


def _row(file: Path, number: int, line: str) -> Array:
    allowed = "class cx cy w h: a whole number and four shares of the picture from 0 to 1"
    try:
        values = np.array([float(cell) for cell in line.split()])
    except ValueError:
        raise Refusal(f"{file}, line {number}", f"{line!r} holds more than numbers", allowed=allowed) from None
    require_finite(values, f"{file}, line {number}")
    if (
        len(values) != 5
        or values[0] < 0
        or values[0] % 1
        or (values[1:] < 0).any()
        or (values[1:] > 1 + ROUNDING).any()
    ):
        raise Refusal(f"{file}, line {number}", f"{line!r} is no object", allowed=allowed)
    return np.minimum(values, [np.inf, 1, 1, 1, 1])
