"""Reader of the course's HDF5 layout: train_set_x, train_set_y, test_set_x, test_set_y, list_classes."""

import math
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from crucible.data.readers.source import (
    EXAMPLE_BYTES,
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

LAYOUT = "train_set_x train_set_y test_set_x test_set_y list_classes, in one file or in the files of a folder"


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read one HDF5 file, or all of a folder; `<split>_set_<group_by>` holds the groups.

    Raises:
        Refusal: missing, truncated, of another layout, or of unequal length.
    """
    path = require_path(path, "an HDF5 file, or a folder of them")
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.suffix in (".h5", ".hdf5"))
    home = {name: file for file in files for name in _datasets(file)}
    splits = [split for split in ("train", "dev", "test") if f"{split}_set_x" in home]
    if not {"train", "test"} <= set(splits):
        raise Refusal(f"data.path={path}", f"it holds {sorted(home) or 'no data sets'}", allowed=LAYOUT)
    pools = {split: _pool(home, f"{split}_set", label or "y", group_by) for split in splits}
    classes = [_text(each) for each in _load(home, "list_classes")] if "list_classes" in home else None
    return Source(pools, {"" if path.is_file() else file.name: file for file in files}, classes)


def _pool(home: dict[str, Path], prefix: str, label: str, group_by: str | None) -> Pool:
    x = f"{prefix}_x"
    labels = _load(home, f"{prefix}_{label}")
    labels = labels.reshape(-1) if labels.ndim == 2 and 1 in labels.shape else labels
    with ExitStack() as stack:
        rows = _open(stack, home, x)
        shape, dtype = rows.shape, rows.dtype
        require_room(shape, dtype, f"{home[x]}, {x}")
    same_length(shape[0], len(labels), f"{home[x]}, {x} and {prefix}_{label}")
    arrange = channels_first(shape, f"{home[x]}, {x}")
    groups = _load(home, f"{prefix}_{group_by}") if group_by else None
    if groups is not None:
        same_length(shape[0], len(groups), f"{home[x]}, {x} and {prefix}_{group_by}")
    chunks = Chunks(row_parts(shape, dtype), lambda part: map(arrange, [_part(home, x, part)]))
    return Pool(labels=labels, chunks=chunks, groups=groups)


def _datasets(file: Path) -> list[str]:
    try:
        with h5py.File(file, "r") as opened:
            return list(opened)
    except OSError as error:
        raise Refusal(str(file), f"no HDF5 file, or truncated ({_short(error)})", allowed=LAYOUT) from None


def _open(stack: ExitStack, home: dict[str, Path], name: str) -> h5py.Dataset:
    if name not in home:
        raise Refusal("data.path", f"data set '{name}' is missing; there are {sorted(home)}", allowed=LAYOUT)
    file = stack.enter_context(h5py.File(home[name], "r"))
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(
        rows := _found(file, name), h5py.Dataset
    ):
        raise Refusal(f"{home[name]}, {name}", "it is no data set of this file", allowed=LAYOUT)
    if rows.external or rows.is_virtual or not rows.shape or rows.dtype.kind == "V":
        raise Refusal(
            f"{home[name]}, {name}",
            "its values stand in other files, or are no rows",
            allowed="arrays of numbers or text",
        )
    if math.prod(rows.chunks or ()) * rows.dtype.itemsize > EXAMPLE_BYTES:
        raise Refusal(
            f"{home[name]}, {name}",
            f"chunks of {rows.chunks} are announced",
            allowed=f"at most {EXAMPLE_BYTES:,} bytes",
        )
    return rows


def _found(file: h5py.File, name: str) -> object:
    try:
        return file[name]
    except (OSError, KeyError, RuntimeError) as error:
        raise Refusal(f"{file.filename}, {name}", f"cannot be read: {error}", allowed=LAYOUT) from None


def _load(home: dict[str, Path], name: str) -> Array:
    with ExitStack() as stack:
        rows = _open(stack, home, name)
        require_whole(rows.shape, rows.dtype, f"{home[name]}, {name}")
        return _slice(rows, slice(None), home, name)


def _part(home: dict[str, Path], name: str, part: Part) -> Array:
    with ExitStack() as stack:
        return _slice(_open(stack, home, name), slice(part.start, part.stop), home, name)


def _slice(rows: h5py.Dataset, part: slice, home: dict[str, Path], name: str) -> Array:
    try:
        return np.asarray(rows[part])
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise Refusal(f"{home[name]}, {name}", f"cannot be read, is it truncated? ({_short(error)})") from None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _short(error: Exception) -> str:
    return str(error).split("(")[-1].rstrip(")")
