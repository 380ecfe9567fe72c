"""What every reader gives: pools of examples that can be streamed, with their labels."""

import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from crucible.errors import Refusal
from crucible.schema import nearest

Array = np.ndarray[Any, Any]
T = TypeVar("T")
CHUNK_BYTES = 8 << 20
EXAMPLE_BYTES = 1 << 30  # no example is larger
WHOLE_BYTES = 8 << 30  # no labels or groups, which are loaded whole, are larger


@dataclass(frozen=True)
class Part:
    """Rows of a pool, from `start` to `stop`, that are read by themselves; `what` is whatever their reader needs to know of them."""

    start: int
    stop: int
    what: Any = None


@dataclass(frozen=True)
class Chunks:
    """The chunks of a pool whose parts are read each by itself, in any order and by any process.

    Attributes:
        parts: in order. read: gives the chunks of a part; other processes call it, too.
    """

    parts: Sequence[Part]
    read: Callable[[Part], Iterator[Any]]

    def __call__(self) -> Iterator[Any]:
        """Give the chunks of all parts."""
        return (chunk for part in self.parts for chunk in self.read(part))


@dataclass(frozen=True)
class Pool:
    """Examples in their stored order.

    Attributes:
        labels: (N,) integers or strings.
        chunks: gives (n, C, H, W) or (n, F) arrays in order, anew at each call; a list of (C, H, W) where sizes differ. `Chunks` where
            parts can be read by themselves: then several processes prepare them.
        groups: (N,) what must stay together (person, video, recording), or None.
        names: what to call an example in a message.
        boxes: (N, M, 4) corners in pixels; then `labels` is (N, M), below 0 where there is no object.
        ragged: whether examples have different lengths: then chunks are lists of (L,) or (L, F) arrays.
        points: (N, P, 2) x and y in pixels, NaN where an example has none.
        has_gaps: whether NaN says that a value is not there.
        words: of each example of text its tokens as they were written, for people to read; None where symbols say as much.
    """

    labels: Array
    chunks: Callable[[], Iterator[Any]]
    groups: Array | None = None
    names: Sequence[str] | None = None
    boxes: Array | None = None
    points: Array | None = None
    ragged: bool = False
    has_gaps: bool = False
    words: Sequence[Sequence[str]] | None = None

    def name(self, start: int, offset: int) -> str:
        """Return what the example `offset` after `start` is called: its file, or its row."""
        return self.names[start + offset] if self.names is not None else f"row {start + offset}"

    @property
    def parts(self) -> "list[tuple[Part, Callable[[], Iterator[Any]]]]":
        """What can be read by itself, with what reads it: all at once where a reader knows no parts."""
        if isinstance(self.chunks, Chunks):
            return [(part, partial(self.chunks.read, part)) for part in self.chunks.parts]
        return [(Part(0, len(self.labels)), self.chunks)]


@dataclass(frozen=True)
class Source:
    """Pools named `all`, or by the official splits `train`, `dev`, `test`; the files they came from, by role.

    Attributes:
        columns: the names of the features: of a table its columns, of a text its vocabulary. learn: gives the source with what is
            fitted on train (a vocabulary), from the split of each example by pool and the columns of the run that judges the data,
            if one does. facts: what the card tells besides lengths. notes: what a person should know of how the files were read.
            bayes_error: computes the least error that anybody can reach, where it is known how the data are made.
    """

    pools: Mapping[str, Pool]
    files: Mapping[str, Path]
    classes: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    learn: "Callable[[Mapping[str, Array], Sequence[str] | None], Source] | None" = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    bayes_error: Callable[[], float] | None = None

    def learned(self, split_of: Mapping[str, Array], known: Sequence[str] | None) -> "Source":
        """Return the source with what is fitted on train; as it is where there is nothing to fit."""
        return self if self.learn is None else self.learn(split_of, known)


def row_parts(shape: Sequence[int], dtype: np.dtype[Any]) -> list[Part]:
    """Return the rows of an array of that shape in parts of bounded size."""
    step = rows_per_chunk(dtype.itemsize * math.prod(shape[1:]))
    return [Part(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def rows_per_chunk(example_bytes: int) -> int:
    """Return how many examples make one chunk of bounded size, at least one."""
    return max(1, CHUNK_BYTES // max(1, example_bytes))


def require_path(path: Path | None, wanted: str, *, key: str = "data.path") -> Path:
    """Return the path; refuse one that is not given or does not exist.

    Raises:
        Refusal: naming the path and what is wanted there.
    """
    if path is None:
        raise Refusal(key, "is missing", allowed=wanted, example=f"{key}=~/signs")
    if not path.exists():
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        raise Refusal(
            f"{key}={path}", "does not exist", allowed=wanted, nearest=str(path.parent / close) if close else ""
        )
    if not (path.is_file() or path.is_dir()):
        raise Refusal(f"{key}={path}", "it is neither a file nor a folder", allowed=wanted)
    return path


def official(found: Mapping[str, T], where: str, layout: str) -> dict[str, T]:
    """Return what was found for each split as pools: one split alone is all there is; of several train must be one.

    Where there is no test or no dev, prepare takes it out of train, and the card says so.

    Raises:
        Refusal: several splits, and none of them is train.
    """
    if len(found) == 1:
        return {"all": next(iter(found.values()))}
    if "train" not in found:
        raise Refusal(where, f"there is {' and '.join(found) or 'no split'}, and no train", allowed=layout)
    return {split: found[split] for split in ("train", "dev", "test") if split in found}


def require_room(shape: Sequence[int], dtype: np.dtype[Any], where: str) -> None:
    """Refuse an array whose announced shape no data set of this machine can have, before a byte of it is read.

    What is small in a file may be without end once it is unpacked.

    Raises:
        Refusal: a negative axis, an example above 1 GiB, or more than fits on this disk.
    """
    total, example = (dtype.itemsize * math.prod(axes) for axes in (shape, shape[1:]))
    if min(shape, default=0) < 0:
        raise Refusal(where, f"the shape {tuple(shape)} is announced", allowed="axes of 0 or more")
    if example > EXAMPLE_BYTES:
        raise Refusal(where, f"one example takes {example:,} bytes", allowed=f"at most {EXAMPLE_BYTES:,}")
    if total > (free := shutil.disk_usage(Path.cwd()).free):
        raise Refusal(where, f"it takes {total:,} bytes unpacked, the disk has {free:,} left", allowed="data that fit")


def require_whole(shape: Sequence[int], dtype: np.dtype[Any], where: str) -> None:
    """Refuse an array that is loaded whole and cannot be.

    Raises:
        Refusal: a negative axis, or more than 8 GiB.
    """
    total = dtype.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or total > WHOLE_BYTES:
        raise Refusal(
            where, f"the shape {tuple(shape)} of {dtype} is announced", allowed=f"at most {WHOLE_BYTES:,} bytes"
        )


def require_inside(files: Sequence[Path], root: Path) -> None:
    """Refuse what is no plain file (a pipe is never read to its end), and symbolic links, of files or of the folders they
    stand in, that lead out of a data set.

    Raises:
        Refusal: naming it.
    """
    if strange := next((file for file in files if not file.is_file()), None):
        raise Refusal(str(strange), "it is no plain file", allowed="files; pipes and devices are not read")
    home, near = root.resolve(), {file.parent for file in files}
    folders = {each for folder in near for each in (folder, *folder.parents) if root in each.parents}
    for path in (*sorted(folders), *files):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            raise Refusal(
                str(path), f"a symbolic link to {path.readlink()} leads out of {root}", allowed="files of the folder itself",
                example=f"cp -rL {shlex.quote(str(root))} copied",
            )  # fmt: skip


def channels_first(shape: tuple[int, ...], where: str) -> Callable[[Array], Array]:
    """Return how to bring chunks of arrays shaped (N, ...) to (n, F) or (n, C, H, W).

    (N, F) stays; (N, H, W) gains a channel; (N, H, W, C) with C of 1, 3 or 4 is transposed; (N, C, H, W) with C of 1
    or 3 stays, and so do volumes (N, C, D, H, W).

    Raises:
        Refusal: any other shape.
    """
    if len(shape) == 2:
        return lambda chunk: chunk
    if len(shape) == 3:
        return lambda chunk: chunk[:, None]
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return lambda chunk: np.ascontiguousarray(chunk[..., :3].transpose(0, 3, 1, 2))
    if len(shape) in (4, 5) and shape[1] in (1, 3):
        return lambda chunk: chunk
    raise Refusal(
        where,
        f"an array of shape {shape} holds no examples",
        allowed="(N, F), (N, H, W), (N, H, W, C), (N, C, H, W), or volumes (N, C, D, H, W)",
    )


def same_length(x: int, y: int, where: str) -> None:
    """Refuse examples and labels of different number.

    Raises:
        Refusal: naming both numbers.
    """
    if x != y:
        raise Refusal(where, f"{x} examples but {y} labels", allowed="one label for each example")


def is_number(text: str) -> bool:
    """Whether a text says a number; NaN and infinity are numbers here."""
    try:
        float(text)
    except ValueError:
        return False
    return True
