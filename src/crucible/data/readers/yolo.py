"""Reader of YOLO's text files: a line for each object, class, then centre and size as shares; the layouts of Ultralytics and Roboflow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crucible.data.readers.annotated import Annotated, files_of, pool, require_finite, text_of
from crucible.data.readers.file_names import SPLITS, meant_split
from crucible.data.readers.image_folder import SUFFIXES, opened
from crucible.data.readers.source import Array, Source, official, require_path
from crucible.errors import Refusal

LAYOUT = (
    "data.yaml with train, val, test and names; or images/ and labels/ with files of the same names, both perhaps in train/, "
    "val/, test/; or train/, valid/, test/ with images/ and labels/ in each"
)
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # Exif: pictures that stand on their side
ROUNDING = 1e-3  # of shares, as other tools write them


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read pictures with boxes; a picture without a text file, or with an empty one, has no objects; an outline is its box; of a pose
    (`kpt_shape` in data.yaml) the box is read, and its points are not.

    Raises:
        Refusal: missing, another layout, a line that is no object, a class that has no name, shares beyond the picture.
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "the classes stand in the text files", example="data.label=null")
    sheet = (
        path
        if path.is_file()
        else next((f for f in (path / "data.yaml", path / "data.yml", path / "dataset.yaml") if f.is_file()), None)
    )
    said = _said(sheet) if sheet is not None else {}
    root = path if path.is_dir() else _root(path, said)
    found, notes = _by_sheet(root, sheet, said)
    found = found or _by_folders(root)
    if not found or not all(found.values()):
        raise Refusal(f"data.path={path}", "there are no pictures in an images/ beside a labels/", allowed=LAYOUT)
    names = _names(root, sheet, said)
    objects = {
        split: [_annotated(file, root, poses="kpt_shape" in said) for file in files]
        for split, files in official(found, f"data.path={path}", LAYOUT).items()
    }
    top = max((max(each.labels, default=-1) for split in objects.values() for each in split), default=-1)
    if names is not None and top >= len(names):
        raise Refusal(
            f"data.path={path}",
            f"class {top} has no name",
            allowed=f"0 to {len(names) - 1}, as in classes.txt or data.yaml",
        )
    pools = {split: pool(each, root, group_by) for split, each in objects.items()}
    texts = sorted(
        {text for split in objects.values() for each in split if (text := _text_of(each.file, root)).exists()}
    )
    sheets = [f for f in (sheet, root / "classes.txt") if f is not None and f.exists() and f.is_relative_to(root)]
    return Source(
        pools, files_of(pools, root, [*texts, *sheets]), classes=names or [str(i) for i in range(top + 1)], notes=notes
    )


def _said(sheet: Path) -> Mapping[str, Any]:
    """Return what a data.yaml says."""
    try:
        said = yaml.safe_load(text_of(sheet))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refusal(
            str(sheet), f"it names no classes: {str(error).splitlines()[0]}", allowed="names: [cat, dog]"
        ) from None
    if not isinstance(said, dict):
        raise Refusal(str(sheet), "it names no classes", allowed="names: [cat, dog]")
    return said


def _root(sheet: Path, said: Mapping[str, Any]) -> Path:
    """Return the folder that a data.yaml is about: its `path`, from where it lies or from here; else where it lies."""
    own = said.get("path")
    if not isinstance(own, str):
        return sheet.parent
    return next((place for place in (sheet.parent / own, Path(own).expanduser()) if place.is_dir()), sheet.parent)


def _by_sheet(root: Path, sheet: Path | None, said: Mapping[str, Any]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the pictures of each split that a data.yaml names, and what to tell; nothing where it names none.

    Raises:
        Refusal: it names a folder that is not there.
    """
    found: dict[str, list[Path]] = {}
    notes = []
    for key, split in SPLITS.items():
        entries = said.get(key)
        if not entries or sheet is None:
            continue
        files = [
            file
            for entry in (entries if isinstance(entries, list) else [entries])
            for file in _named(str(entry), root, sheet)
        ]
        if same := next((other for other, own in found.items() if own == files), None):
            notes.append(f"{sheet.name} names the same pictures for {same} and {key}: they are taken once")
        else:
            found[split] = files
    return found, notes


def _named(entry: str, root: Path, sheet: Path) -> list[Path]:
    """Return the pictures of a folder, or of a list of them, as a data.yaml names it; Roboflow's has one ../ too many."""
    names = [entry, entry.removeprefix("../")]
    places = [home / name for name in names for home in dict.fromkeys((root, sheet.parent))]
    place = next((each for each in places if each.exists() and each.resolve().is_relative_to(root.resolve())), None)
    if place is None:
        raise Refusal(
            str(sheet),
            f"it names {entry}, which is not there",
            allowed=f"a folder of pictures under {root}, or a text file that lists them",
        )
    if place.is_dir():
        return _pictures(place)
    lines = [line.strip() for line in text_of(place).splitlines() if line.strip()]
    files = [next((home / line for home in (place.parent, root) if (home / line).is_file()), None) for line in lines]
    if lacking := next((line for line, file in zip(lines, files, strict=True) if file is None), None):
        raise Refusal(str(place), f"its picture {lacking} is not there", allowed=f"pictures under {root}")
    return [file for file in files if file is not None]


def _by_folders(root: Path) -> dict[str, list[Path]]:
    """Return the pictures of each split by the folders: images/, with splits in it or not; or splits with images/ in each.

    Raises:
        Refusal: two folders mean one split, or one may mean dev or test.
    """
    if (root / "images").is_dir() and (root / "labels").is_dir():
        named = [folder for folder in _folders(root / "images") if meant_split(folder.name) is not None]
        if not named:
            return {"all": _pictures(root / "images")}
    else:
        named = [
            folder for folder in _folders(root) if meant_split(folder.name) is not None and (folder / "images").is_dir()
        ]
    splits = {meant_split(folder.name) or "": folder for folder in named}
    if "" in splits or len(splits) < len(named):
        raise Refusal(
            f"data.path={root}",
            f"it holds {', '.join(folder.name for folder in named)}",
            allowed="train, perhaps val and test",
        )
    return {split: _pictures(folder) for split, folder in splits.items()}


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir())


def _pictures(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())


def _names(root: Path, sheet: Path | None, said: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the classes: of data.yaml a list, or a name by number; or the lines of classes.txt."""
    if "names" not in said:
        file = root / "classes.txt"
        return text_of(file).rstrip().splitlines() or None if file.exists() else None
    try:
        names = said["names"]
        found = [names[i] for i in range(len(names))]
        if not all(isinstance(name, str | int | float) for name in found):
            raise TypeError("a name is no text")  # what refers to itself ten times, ten deep, fills any memory as text
        return [str(name) for name in found]
    except (KeyError, TypeError, IndexError) as error:
        raise Refusal(
            str(sheet), f"it names no classes: {error}", allowed="names: [cat, dog], or a name for each number from 0"
        ) from None


def _text_of(file: Path, root: Path) -> Path:
    """Return the text file of a picture: in labels/ where the picture is in images/, else beside it."""
    parts = list(file.relative_to(root).parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _annotated(file: Path, root: Path, *, poses: bool) -> Annotated:
    text = _text_of(file, root)
    lines = text_of(text).splitlines() if text.exists() else []
    rows = np.array(
        [
            _row(text, i, " ".join(line.split()[:5]) if poses else line)
            for i, line in enumerate(lines, 1)
            if line.strip()
        ]
    ).reshape(-1, 5)
    w, h = upright_size(file)
    middle, half = rows[:, 1:3] * (w, h), rows[:, 3:] * (w, h) / 2
    return Annotated(file, np.concatenate([middle - half, middle + half], axis=1), rows[:, 0].astype(int).tolist())


def upright_size(file: Path) -> tuple[int, int]:
    """Return width and height of a picture, upright."""
    with opened(file) as picture:
        w, h = picture.size
        return (h, w) if picture.getexif().get(ORIENTATION, 1) in TURNED else (w, h)


def _row(file: Path, number: int, line: str) -> Array:
    """Return class, centre and size, as shares, of a box or of an outline: class, then x and y of three points or more."""
    allowed = "class cx cy w h, or class x y x y x y ...: a whole number and shares of the picture from 0 to 1"
    try:
        values = np.array([float(cell) for cell in line.split()])
    except ValueError:
        raise Refusal(f"{file}, line {number}", f"{line!r} holds more than numbers", allowed=allowed) from None
    require_finite(values, f"{file}, line {number}")
    is_outline = len(values) >= 7 and len(values) % 2 == 1
    if (
        not (len(values) == 5 or is_outline)
        or values[0] < 0
        or values[0] % 1
        or (values[1:] < 0).any()
        or (values[1:] > 1 + ROUNDING).any()
    ):
        raise Refusal(f"{file}, line {number}", f"{line!r} is no object", allowed=allowed)
    shares = np.minimum(values[1:], 1)
    if is_outline:
        low, high = shares.reshape(-1, 2).min(axis=0), shares.reshape(-1, 2).max(axis=0)
        shares = np.concatenate([(low + high) / 2, high - low])
    return np.concatenate([values[:1], shares])
