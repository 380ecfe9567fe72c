"""Reader of numpy arrays: one .npz file, or a folder of .npy files, streamed without loading them whole."""

import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from crucible.data.readers.file_names import SPLITS
from crucible.data.readers.source import (
    Array,
    Chunks,
    Part,
    Pool,
    Source,
    channels_first,
    official,
    require_path,
    require_room,
    require_whole,
    row_parts,
    same_length,
)
from crucible.errors import Refusal

DAMAGED = (
    ValueError, EOFError, OSError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, RuntimeError,
    zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
)  # fmt: skip
LAYOUT = "arrays x_train y_train [x_dev y_dev] [x_test y_test], or x y (or X y, data target, images labels); perhaps classes, their names"
FORMS = ("{0}_{1}", "{1}_{0}")  # of a split: x_train, train_x
CLASSES = ("classes", "target_names", "label_names")
PAIRS = (
    ("x", "y"),
    ("X", "y"),
    ("X", "Y"),
    ("data", "target"),
    ("data", "labels"),
    ("images", "labels"),
    ("x", "labels"),
)


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read arrays `x`, `y`, or `x_<split>`, `y_<split>`, or other names of PAIRS; `group_by` names a further array (with the same suffix).

    Raises:
        Refusal: missing, truncated, of another layout, or of unequal length.
    """
    path = require_path(path, "a .npz file, or a folder of .npy files")
    names = _array_names(path)
    layout = _layout(names, label, group_by)
    if not layout:
        raise Refusal(f"data.path={path}", f"it holds {sorted(names) or 'no arrays'}", allowed=LAYOUT)
    pools = {split: _pool(path, *each, names) for split, each in official(layout, f"data.path={path}", LAYOUT).items()}
    named = next((name for name in CLASSES if name in names), None)
    classes = _names(load(path, named)) if named else None
    files = {"": path} if path.is_file() else {f.name: f for f in sorted(path.glob("*.npy"))}
    return Source(pools, files, classes=classes)


def load(path: Path, name: str) -> Array:
    """Return one array of a .npz file, or of a folder the one in NAME.npy, or the only one of a .npy file.

    Raises:
        Refusal: it cannot be read, or is above 8 GiB.
    """
    with _member(path, name) as file:
        shape, _, dtype = _header(file)
        require_whole(shape, dtype, f"{path}, array {name}")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _names(array: Array) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1).tolist()]


def _layout(names: set[str], label: str | None, group_by: str | None) -> dict[str, tuple[str, str, str | None]]:
    """Return by split the names of its examples, labels and groups; of several pairs the first that is whole."""
    found: list[dict[str, tuple[str, str, str | None]]] = []
    for x, y in ((x, label or y) for x, y in PAIRS):
        found += [{"all": (x, y, group_by)}] if x in names else []
        for form in FORMS:
            of_word = {word: split for word, split in SPLITS.items() if form.format(x, word) in names}
            found += [{split: (form.format(x, word), form.format(y, word), group_by and form.format(group_by, word))
                       for word, split in of_word.items()}] if of_word else []  # fmt: skip
    whole = [each for each in found if all(y in names for _, y, _ in each.values())]
    return next(iter(whole or [each for each in found if "all" in each]), {})


def _pool(path: Path, x: str, y: str, group_by: str | None, names: set[str]) -> Pool:
    for need in (y, *([group_by] if group_by else [])):
        if need not in names:
            raise Refusal(f"data.path={path}", f"array '{need}' is missing; there are {sorted(names)}", allowed=LAYOUT)
    labels = load(path, y)
    shape, dtype = _announced(path, x)
    require_room(shape, dtype, f"{path}, array {x}")
    size = shape[0] if shape else 0
    same_length(size, len(labels), f"{path}, {x} and {y}")
    groups = load(path, group_by) if group_by else None
    if groups is not None:
        same_length(size, len(groups), f"{path}, {x} and {group_by}")
    arrange = channels_first(shape, f"{path}, {x}")
    return Pool(labels=labels, chunks=_chunks(path, x, arrange), groups=groups)


def _array_names(path: Path) -> set[str]:
    if path.is_dir():
        return {file.stem for file in path.glob("*.npy")}
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except DAMAGED:
        raise Refusal(f"data.path={path}", "not a .npz file, or truncated", allowed=LAYOUT) from None


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        if path.is_dir() or path.suffix.lower() == ".npy":
            with (path / f"{name}.npy" if path.is_dir() else path).open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
                yield file
    except Refusal:
        raise
    except DAMAGED as error:
        raise Refusal(f"{path}, array {name}", f"cannot be read: {error}", allowed=LAYOUT) from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects; store numbers or text")
    return shape, fortran, dtype


def _announced(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with _member(path, name) as file:
        shape, _, dtype = _header(file)
        return shape, dtype


def _chunks(path: Path, name: str, arrange: Callable[[Array], Array]) -> Callable[[], Iterator[Array]]:
    """Return what gives the rows of an array in chunks: of a plain file in parts, of a member of an archive from the first on."""
    with _member(path, name) as file:
        shape, fortran, dtype = _header(file)
        in_parts = not isinstance(file, zipfile.ZipExtFile)
    if fortran:  # columns first on disk: rows cannot be streamed
        return lambda: map(arrange, [load(path, name)])
    parts = row_parts(shape, dtype)
    if in_parts:
        return Chunks(parts, lambda part: map(arrange, _rows(path, name, [part])))
    return lambda: map(arrange, _rows(path, name, parts))


def _rows(path: Path, name: str, parts: Sequence[Part]) -> Iterator[Array]:
    """Give parts of the rows of an array that follow each other."""
    with _member(path, name) as file:
        shape, _, dtype = _header(file)
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        if parts and parts[0].start:
            file.seek(parts[0].start * row_bytes, os.SEEK_CUR)
        for part in parts:
            count = part.stop - part.start
            data = file.read(count * row_bytes)
            if len(data) < count * row_bytes:
                raise ValueError("the file is truncated")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
