"""Reader of pictures in folders: one folder per class, or train/, dev/ and test/ above them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from crucible.data.readers.source import Array, Pool, Source, require_path
from crucible.errors import Refusal

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "test": "test"}
MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB"}
LAYOUT = "a folder for each class with pictures in it, or train/, dev|val|valid/, test/ above those"
PICTURES_PER_CHUNK = 64


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read a tree of pictures; a class is a folder, `group_by` a regular expression whose first group names the group.

    Hidden files and files that are no pictures by their suffix are passed over.

    Raises:
        Refusal: missing, empty, of another layout; a picture that cannot be decoded (when its chunk is read).
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "in an image folder the class is the name of the folder", example="data.label=null")
    folders = _folders(path)
    splits = {SPLITS[f.name.lower()]: f for f in folders if f.name.lower() in SPLITS}
    _require_layout(path, folders, splits)
    roots = splits or {"all": path}
    files = {split: _pictures(root) for split, root in roots.items()}
    if not all(files.values()):
        raise Refusal(f"data.path={path}", "there are no pictures", allowed=LAYOUT)
    pools = {split: _pool(found, path, group_by) for split, found in files.items()}
    return Source(pools, {f.relative_to(path).as_posix(): f for found in files.values() for _, f in found})


def _require_layout(path: Path, folders: list[Path], splits: dict[str, Path]) -> None:
    """Refuse split folders that are incomplete, named twice, or that stand beside class folders."""
    named = [folder.name for folder in folders if folder.name.lower() in SPLITS]
    complete = {"train", "test"} <= set(splits) and len(named) == len(splits) == len(folders)
    if named and not complete:
        raise Refusal(
            f"data.path={path}",
            f"{', '.join(named)} are splits, and not train and test with nothing beside them",
            allowed=LAYOUT,
        )


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise Refusal(f"data.path={path}", "is a file", allowed=LAYOUT)
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _pictures(root: Path) -> list[tuple[str, Path]]:
    return [
        (folder.name, file)
        for folder in _folders(root)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]


def _pool(labelled: list[tuple[str, Path]], root: Path, group_by: str | None) -> Pool:
    files = [file for _, file in labelled]
    return Pool(
        labels=np.array([folder for folder, _ in labelled]),
        chunks=lambda: chunks_of(files),
        groups=np.array([group_of(file.relative_to(root), group_by) for file in files]) if group_by else None,
        names=[str(file) for file in files],
    )


def group_of(file: Path, pattern: str) -> str:
    """Return the group that a file's path names: the first group of the regular expression.

    Raises:
        Refusal: the pattern is none, or the file does not match it.
    """
    try:
        if found := re.search(pattern, file.as_posix()):
            return found[1]
    except (re.error, IndexError) as error:
        raise Refusal(
            f"data.group_by={pattern}",
            f"no regular expression with one group ({error})",
            example=r"data.group_by='(person\d+)_'",
        ) from None
    raise Refusal(f"data.group_by={pattern}", f"{file} does not match it", allowed="a pattern that every file matches")


def chunks_of(files: Sequence[Path]) -> Iterator[list[Array]]:
    """Give the pictures of files in lists of up to 64."""
    for start in range(0, len(files), PICTURES_PER_CHUNK):
        yield [decode(file) for file in files[start : start + PICTURES_PER_CHUNK]]


def decode(file: Path) -> Array:
    """Return one picture (C, H, W) uint8, upright; C is 1 or 3.

    Raises:
        Refusal: no picture, or a damaged one.
    """
    try:
        with Image.open(file) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            pixels = np.asarray(upright.convert(MODES[upright.mode]))
    except KeyError as error:
        raise Refusal(str(file), f"pictures of mode {error} are not read", allowed="8-bit grey or colour") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(str(file), f"no picture, or damaged: {error}", allowed="mend it, or take it away") from None
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
