"""Reader of pictures in folders: one folder per class, or train/, dev/ and test/ above them."""

import re
import shlex
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from crucible.data.readers.file_names import meant_split
from crucible.data.readers.source import Array, Chunks, Part, Pool, Source, official, require_inside, require_path
from crucible.errors import Refusal

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # Pillow knows more, and one of them runs programs
MOST_PIXELS = 1 << 26  # of a picture: 8192 x 8192; a few bytes can announce more than any memory holds
MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB"}
DEEP = {
    "I;16": np.uint16,
    "I;16L": np.uint16,
    "I;16B": np.uint16,
    "I;16N": np.uint16,
    "I": np.int32,
    "F": np.float32,
}  # more than 8 bits
LAYOUT = "a folder for each class with pictures in it, or train/, dev|val|valid/, test/ above those"
PICTURES_PER_CHUNK = 64
BYTES_PER_CHUNK = 256 << 20
DAMAGED = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, struct.error)


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read a tree of pictures; a class is a folder, `group_by` a regular expression whose first group names the group.

    Hidden files and files that are no pictures by their suffix are passed over.

    Raises:
        Refusal: missing, empty, of another layout; a picture that cannot be decoded (when its chunk is read).
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "in an image folder the class is the name of the folder", example="data.label=null")
    splits, flat = _splits(path)
    pools = official(splits, f"data.path={path}", LAYOUT) if splits else {"all": path}
    files = {split: _pictures(root) for split, root in pools.items()}
    require_inside([file for found in files.values() for _, file in found], path)
    return Source(
        {split: _pool(found, path, group_by) for split, found in files.items()},
        {f.relative_to(path).as_posix(): f for found in files.values() for _, f in found},
        notes=[_left_aside(folder) for folder in flat],
    )


def _splits(path: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the folders of the splits, and those with pictures of a split that have no labels; none where folders are classes.

    Raises:
        Refusal: two folders mean one split, one may mean dev or test, there is more beside them, or those of train have no labels.
    """
    folders = _folders(path)
    named = [folder for folder in folders if meant_split(folder.name) is not None]
    with_classes = [folder for folder in named if _folders(folder)]
    if not with_classes:  # a class may be called train, where car and bus stand beside it
        return {}, []
    flat = [folder for folder in named if folder not in with_classes and _pictures_in(folder)]
    splits = {meant_split(folder.name) or "": folder for folder in with_classes}
    if "" in splits or len(splits) < len(with_classes) or len(with_classes) + len(flat) < len(folders):
        raise Refusal(
            f"data.path={path}",
            f"{', '.join(folder.name for folder in named)} are splits, and not train and test with nothing beside them",
            allowed=LAYOUT,
        )
    if unlabelled := next((folder for folder in flat if meant_split(folder.name) == "train"), None):
        raise Refusal(str(unlabelled), "it holds pictures without class folders, so without labels: nothing can be trained on them",
                      allowed="class folders in it")  # fmt: skip
    return splits, flat


def _left_aside(folder: Path) -> str:
    command = f"python src/predict.py run=latest input={shlex.quote(str(folder))}"
    return f"{folder.name}/ holds {len(_pictures_in(folder)):,} pictures without labels: left aside; {command} answers for them"


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise Refusal(f"data.path={path}", "is a file", allowed=LAYOUT)
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _pictures(root: Path) -> list[tuple[str, Path]]:
    """Return the pictures of class folders with their class.

    Raises:
        Refusal: there are none, or a folder holds none.
    """
    found = {folder: _pictures_in(folder) for folder in _folders(root)}
    if not any(found.values()):
        loose = len([file for file in _files(root) if file.suffix.lower() in SUFFIXES])
        where = f"; the {loose} in it stand in no class folder" if loose else ""
        raise Refusal(f"data.path={root}", f"there are no pictures{where}{_kinds(root)}", allowed=LAYOUT)
    if empty := [folder for folder, files in found.items() if not files]:
        raise Refusal(
            str(empty[0]), f"this class folder holds no picture that is read{_kinds(empty[0])}",
            allowed=f"{', '.join(sorted(SUFFIXES))} in any letter case; or take the folder away",
        )  # fmt: skip
    return [(folder.name, file) for folder, files in found.items() for file in files]


def _pictures_in(folder: Path) -> list[Path]:
    return [file for file in _files(folder) if file.suffix.lower() in SUFFIXES]


def _files(folder: Path) -> list[Path]:
    """Return what lies below a folder, without what is hidden."""
    found = sorted(folder.rglob("*"))
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _kinds(folder: Path) -> str:
    """Return a few words about the files that are no pictures."""
    counts = Counter(file.suffix for file in _files(folder) if file.suffix and file.suffix.lower() not in SUFFIXES)
    return "".join(f", but {count} {suffix}" for suffix, count in counts.most_common(1))


def _pool(labelled: list[tuple[str, Path]], root: Path, group_by: str | None) -> Pool:
    files = [file for _, file in labelled]
    return Pool(
        labels=np.array([folder for folder, _ in labelled]),
        chunks=in_chunks(files),
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


def in_chunks(files: Sequence[Path]) -> Chunks:
    """Return the pictures of files, in lists of up to 64, fewer where they are large."""
    starts = range(0, len(files), PICTURES_PER_CHUNK)
    stops = [min(start + PICTURES_PER_CHUNK, len(files)) for start in starts]
    return Chunks([Part(start, stop, files[start:stop]) for start, stop in zip(starts, stops, strict=True)], _decoded)


def _decoded(part: Part) -> Iterator[list[Array]]:
    chunk: list[Array] = []
    for file in part.what:
        chunk.append(decode(file))
        if sum(each.nbytes for each in chunk) >= BYTES_PER_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def decode(file: Path) -> Array:
    """Return one picture (C, H, W), upright: uint8, or of more bits as it is; C is 1 or 3.

    Raises:
        Refusal: no picture, or a damaged one, or one of more than 67 million pixels.
    """
    with opened(file) as picture:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in DEEP:
            pixels = np.asarray(upright).astype(DEEP[upright.mode])
        elif upright.mode in MODES:
            pixels = np.asarray(upright.convert(MODES[upright.mode]))
        else:
            raise Refusal(
                str(file),
                f"pictures of mode {upright.mode} are not read",
                allowed="grey of 8, 16 or 32 bits, or colour of 8",
            )
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """Open a picture, of the formats that are read alone, whatever its name says; its size is checked before it is decoded.

    Raises:
        Refusal: as `decode`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bounds, which we do not rely on, and remarks about metadata
            with Image.open(file, formats=FORMATS) as picture:
                if (pixels := picture.width * picture.height) > MOST_PIXELS:
                    raise Refusal(
                        str(file), f"it announces {picture.width} x {picture.height}, {pixels:,} pixels",
                        allowed=f"at most {MOST_PIXELS:,}", example="make it smaller, or take it away",
                    )  # fmt: skip
                yield picture
    except Refusal:
        raise
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise Refusal(str(file), f"no picture, or damaged: {error}", allowed="repair it, or take it away") from None
