"""Reader of numpy arrays: one .npz file, or a folder of .npy files, streamed without loading them whole."""

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from crucible.data.readers.source import (
    Array,
    Pool,
    Source,
    channels_first,
    require_path,
    require_room,
    require_whole,
    rows_per_chunk,
    same_length,
)
from crucible.errors import Refusal

DAMAGED = (
    ValueError, EOFError, OSError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, RuntimeError,
    zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
)  # fmt: skip
LAYOUT = "arrays x_train y_train [x_dev y_dev] x_test y_test, or x y; perhaps classes, their names"


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read arrays `x`, `y`, or `x_<split>`, `y_<split>`; `group_by` names a further array (with the same suffix).

    Raises:
        Refusal: missing, truncated, of another layout, or of unequal length.
    """
    path = require_path(path, "a .npz file, or a folder of .npy files")
    names = _array_names(path)
    suffixes = {"all": ""} if "x" in names else {s: f"_{s}" for s in ("train", "dev", "test") if f"x_{s}" in names}
    if "all" not in suffixes and not {"train", "test"} <= set(suffixes):
        raise Refusal(f"data.path={path}", f"it holds {sorted(names) or 'no arrays'}", allowed=LAYOUT)
    pools = {split: _pool(path, suffix, label or "y", group_by, names) for split, suffix in suffixes.items()}
    classes = _names(load(path, "classes")) if "classes" in names else None
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


def _pool(path: Path, suffix: str, label: str, group_by: str | None, names: set[str]) -> Pool:
    for need in (f"{label}{suffix}", *([f"{group_by}{suffix}"] if group_by else [])):
        if need not in names:
            raise Refusal(f"data.path={path}", f"array '{need}' is missing; there are {sorted(names)}", allowed=LAYOUT)
    labels = load(path, f"{label}{suffix}")
    shape, dtype = _announced(path, f"x{suffix}")
    require_room(shape, dtype, f"{path}, array x{suffix}")
    size = shape[0] if shape else 0
    same_length(size, len(labels), f"{path}, x{suffix} and {label}{suffix}")
    groups = load(path, f"{group_by}{suffix}") if group_by else None
    if groups is not None:
        same_length(size, len(groups), f"{path}, x{suffix} and {group_by}{suffix}")
    arrange = channels_first(shape, f"{path}, x{suffix}")
    return Pool(labels=labels, chunks=lambda: map(arrange, _rows(path, f"x{suffix}")), groups=groups)


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


def _rows(path: Path, name: str) -> Iterator[Array]:
    """Give the rows of an array in chunks."""
    with _member(path, name) as file:
        shape, fortran, dtype = _header(file)
        if fortran:  # columns first on disk: rows cannot be streamed
            yield load(path, name)
            return
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        step = rows_per_chunk(row_bytes)
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            data = file.read(count * row_bytes)
            if len(data) < count * row_bytes:
                raise ValueError("the file is truncated")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
