"""Reader of MNIST's IDX files, plain or gzip (LeCun et al., 1998)."""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from crucible.data.readers.source import (
    Array,
    Chunks,
    Part,
    Pool,
    Source,
    channels_first,
    require_path,
    require_room,
    require_whole,
    row_parts,
    same_length,
)
from crucible.errors import Refusal

PREFIX = {"train": "train", "test": "t10k"}
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
LAYOUT = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, or .gz"


def read(
    path: Path | None, label: str | None = None, group_by: str | None = None, *, classes: list[str] | None = None
) -> Source:
    """Read the four files of a folder; `classes` names the labels 0, 1, ...

    Raises:
        Refusal: a file is missing, truncated or no IDX file; `label` or `group_by` is given (IDX holds no such thing).
    """
    path = require_path(path, LAYOUT)
    if label or group_by:
        raise Refusal("data.label" if label else "data.group_by", "IDX files hold images and labels, nothing else")
    images = {split: _file(path, f"{prefix}-images") for split, prefix in PREFIX.items()}
    labels = {split: _file(path, f"{prefix}-labels") for split, prefix in PREFIX.items()}
    pools = {split: _pool(images[split], labels[split]) for split in PREFIX}
    return Source(pools, {f.name.removesuffix(".gz"): f for f in [*images.values(), *labels.values()]}, classes)


def _file(folder: Path, stem: str) -> Path:
    found = sorted(f for f in folder.iterdir() if f.name.startswith(stem)) if folder.is_dir() else []
    if not found:
        raise Refusal(f"data.path={folder}", f"there is no {stem}-*", allowed=LAYOUT)
    return found[0]


def _pool(images: Path, labels: Path) -> Pool:
    require_whole(*_announced(labels), str(labels))
    values = np.concatenate([np.zeros(0, np.int64), *_rows(labels, row_parts(*_announced(labels)))]).astype(np.int64)
    shape, dtype = _announced(images)
    require_room(shape, dtype, str(images))
    same_length(shape[0], len(values), f"{images.name} and {labels.name}")
    arrange = channels_first(shape, str(images))
    parts = row_parts(shape, dtype)
    if images.suffix == ".gz":  # is unpacked from the first byte on
        return Pool(labels=values, chunks=lambda: map(arrange, _rows(images, parts)))
    return Pool(labels=values, chunks=Chunks(parts, lambda part: map(arrange, _rows(images, [part]))))


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error, struct.error, KeyError) as error:
        raise Refusal(str(path), f"no IDX file, or truncated ({error})", allowed=LAYOUT) from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], str]:
    """Read the magic number: two zero bytes, the type, the number of axes; then each axis as a big-endian integer."""
    zeros, kind, axes = struct.unpack(">HBB", file.read(4))
    if zeros:
        raise OSError("the first two bytes are not zero")
    return struct.unpack(f">{axes}I", file.read(4 * axes)), TYPES[kind]


def _announced(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _open(path) as file:
        shape, kind = _header(file)
        return shape, np.dtype(kind)


def _rows(path: Path, parts: Sequence[Part]) -> Iterator[Array]:
    """Give parts of the rows that follow each other."""
    with _open(path) as file:
        shape, kind = _header(file)
        dtype = np.dtype(kind)
        row_bytes = dtype.itemsize * math.prod(shape[1:])
        if parts and parts[0].start:
            file.seek(parts[0].start * row_bytes, os.SEEK_CUR)
        for part in parts:
            count = part.stop - part.start
            data = file.read(count * row_bytes)
            if len(data) < count * row_bytes:
                raise EOFError(f"{shape[0]} rows announced, the file ends before row {part.stop}")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)
        if (not parts or parts[-1].stop == shape[0]) and file.read(1):  # reading to the end also checks gzip's sum
            raise OSError("there are bytes after the last row")
