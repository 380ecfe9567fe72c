"""Answers of a finished run to new examples: from files to what it says of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crucible.data.columns import TableForm, columns_of, is_numeric
from crucible.data.images import Fit, native
from crucible.data.ragged import Lengths, Padded
from crucible.data.readers import csv, image_folder, npz, series
from crucible.data.readers.source import Array, channels_first, require_path
from crucible.data.text import decoded
from crucible.errors import Refusal
from crucible.inference.language import cut, padded, symbols_of
from crucible.inference.saved_run import Predictor, Saved, input_dtype
from crucible.labels.kind import Answer
from crucible.tasks.language import Language

WANTED = "a picture, a folder of pictures, an array (.npy, .npz), a table (.csv, .parquet, .xlsx), or text"
AT_A_TIME = 64
Examples = tuple[list[str], Array, Array]
FAR = 10.0  # deviations of train from its mean


@dataclass(frozen=True)
class Answers:
    """What a run says of examples, and how far it can be trusted.

    Attributes:
        found: in the order of the examples. far: whether some are far from all that the run has learned from. unseen: cells of a table
            that hold a category which its train split did not.
    """

    found: list[Answer]
    far: bool
    unseen: int

    @property
    def notes(self) -> list[str]:
        """What a person should know before trusting them."""
        far = "far from all this run has learned from: other units, or another kind of picture?" if self.far else ""
        unseen = (
            f"{self.unseen:,} cell(s) hold a category that its train split did not: answered as unknown"
            if self.unseen
            else ""
        )
        return [note for note in (far, unseen) if note]


@torch.inference_mode()
def answers(saved: Saved, examples: Iterator[Examples]) -> Answers:
    """Return the run's answers.

    Args:
        examples: names, stored values (n, ...) and sizes, as `examples` gives them.
    """
    predictor, found, far, unseen = Predictor(saved).eval(), list[Answer](), False, 0
    categories = [i for i, each in enumerate(columns_of(saved.card.table)) if not is_numeric(each)]
    device, symbols, kind = next(saved.model.parameters()).device, saved.card.holds_symbols, saved.task.kind
    stored = torch.int64 if symbols else input_dtype(saved.card)
    for names, values, sizes in examples:
        x = torch.from_numpy(values).to(device, stored)
        far = far or (not symbols and bool((predictor.normalized(x).flatten(1).nanmean(dim=1).abs() > FAR).any()))
        unseen += int((values[:, categories] < 0).sum()) if categories else 0
        said = kind.say(predictor(x).cpu(), sizes, saved.card)
        if symbols:
            said = [
                (kind.with_tokens(each, cut(name, saved.card)), shares)
                for name, (each, shares) in zip(names, said, strict=True)
            ]
        found += [Answer(name, *each) for name, each in zip(names, said, strict=True)]
    return Answers(found, far, unseen)


def examples(path: Path, saved: Saved) -> Iterator[Examples]:
    """Give names, values (n, ...) brought to the shape the run knows, and sizes (n, 2) as they came, of what a path holds.

    Raises:
        Refusal: nothing is there, it is none of what is read, or examples of another shape.
    """
    require_path(path, WANTED, key="input")
    shape = saved.card.feature_shape
    if saved.card.holds_symbols:
        yield from _lines(path, saved)
    elif saved.card.is_ragged:
        yield from _series(path, saved)
    elif path.is_dir() or path.suffix.lower() in image_folder.SUFFIXES:
        if not saved.card.is_images:
            raise Refusal(f"input={path}", f"this run takes examples of shape {shape}", allowed="an array or a table")
        yield from _pictures(path, saved)
    elif saved.card.table is not None:
        yield from _rows(path, saved)
    elif path.suffix.lower() == ".csv":
        yield from _numbers(path, saved)
    elif path.suffix.lower() in (".npy", ".npz"):
        yield from _array(path, saved)
    else:
        raise Refusal(f"input={path}", f"files of the kind '{path.suffix}' are not read", allowed=WANTED)


def examples_of(inputs: Any, saved: Saved) -> Iterator[Examples]:
    """Give examples as `examples`: of a file or folder, of several, of an array, of a DataFrame, or of lines of text.

    Raises:
        Refusal: as `examples`; nothing of these.
    """
    if isinstance(inputs, np.ndarray | torch.Tensor):
        yield from _values(np.asarray(inputs), "input", saved)
    elif hasattr(inputs, "columns"):
        from crucible.data.frames import table_of

        yield from _table_rows(table_of(inputs), saved)
    elif isinstance(inputs, str | Path) and not (saved.card.holds_symbols and not Path(inputs).is_file()):
        yield from examples(Path(inputs).expanduser(), saved)
    elif saved.card.holds_symbols:
        yield from _texts([inputs] if isinstance(inputs, str) else list(inputs), "input", saved)
    elif isinstance(inputs, Sequence) and inputs:
        for each in inputs:
            yield from examples_of(each, saved)
    else:
        raise Refusal(
            "input",
            f"{type(inputs).__name__} is none of what is read",
            allowed=f"{WANTED}; an array, a DataFrame, or a list of paths",
        )


def _series(path: Path, saved: Saved) -> Iterator[Examples]:
    """Give examples of different lengths: one array, or a file with one a line."""
    suffix = path.suffix.lower()
    if saved.card.example_shape or suffix not in (".npy", ".tsv", ".csv", ".txt"):
        raise Refusal(
            f"input={path}",
            "this run takes examples of different lengths",
            allowed="an array (L), or a text file of series",
        )
    named = iter([(str(path), npz.load(path, "x").reshape(-1))]) if suffix == ".npy" else series.series(path)
    fit, dtype = Lengths(), np.dtype(saved.card.dtype)
    while some := list(islice(named, AT_A_TIME)):
        names, values = zip(*some, strict=True)
        examples = fit([each.astype(dtype) for each in values], names.__getitem__)
        offsets = torch.from_numpy(np.cumsum([0, *examples.lengths]))
        yield list(names), Padded(torch.from_numpy(examples.values), offsets)[:].numpy(), _sizes([])


def _lines(path: Path, saved: Saved) -> Iterator[Examples]:
    """Give the lines of a text file that hold a token, in the symbols of the run."""
    if not path.is_file():
        raise Refusal(f"input={path}", "this run takes text", allowed="a text file with an example a line")
    if isinstance(saved.task, Language) and saved.task.answers:
        raise Refusal(f"input={path}", "this run answers: it does not judge texts", allowed="src/sample.py", example='python src/sample.py run=latest prefix="3 May 1979"')  # fmt: skip
    yield from _texts(decoded(path, saved.card.recipe["reader"].get("encoding")).split("\n"), f"input={path}", saved)


def _texts(texts: Sequence[str], where: str, saved: Saved) -> Iterator[Examples]:
    """Give the texts that hold a token, in the symbols of the run."""
    lines = [line.strip() for line in texts if len(cut(line, saved.card))]
    if not lines:
        raise Refusal(where, "there is no text in it", allowed="a text file with an example a line")
    for start in range(0, len(lines), AT_A_TIME):
        some = lines[start : start + AT_A_TIME]
        yield some, padded([symbols_of(cut(line, saved.card), saved.card) for line in some]), _sizes([])


def _pictures(path: Path, saved: Saved) -> Iterator[Examples]:
    files = (
        [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix.lower() in image_folder.SUFFIXES)
    )
    if not files:
        raise Refusal(f"input={path}", "there are no pictures", allowed=WANTED)
    for start in range(0, len(files), AT_A_TIME):
        some = files[start : start + AT_A_TIME]
        images = [image_folder.decode(file) for file in some]
        yield [str(file) for file in some], _fitted(images, saved, map(str, some)), _sizes(images)


def _rows(path: Path, saved: Saved) -> Iterator[Examples]:
    """Give the rows of a table in the columns of the run, whatever others it has; or what is stored of some, an array."""
    if path.suffix.lower() in (".npy", ".npz"):
        yield from _array(path, saved)
        return
    from crucible.data.frames import open_table  # polars: only where a table is read

    reader = saved.card.recipe["reader"]
    form: TableForm = {"separator": None, "encoding": reader["encoding"], "header": reader["header"]}
    table, wanted = (open_table(path, form, key="input"), {each.name for each in columns_of(saved.card.table)})
    if reader["separator"] is not None and not wanted <= set(table.names):
        table = open_table(path, {**form, "separator": reader["separator"]}, key="input")
    yield from _table_rows(table, saved)


def _table_rows(table: Any, saved: Saved) -> Iterator[Examples]:
    from crucible.data.cells import Cells, read_columns

    if saved.card.table is None:
        raise Refusal("input", "this run was not trained on a table (data=table)", allowed="pictures, or arrays")
    cells, start = Cells(table, saved.card.recipe["reader"]["missing"]), 0
    for rows in read_columns(cells, columns_of(saved.card.table)):
        yield [f"row {start + i}" for i in range(len(rows))], rows, _sizes([])
        start += len(rows)


def _numbers(path: Path, saved: Saved) -> Iterator[Examples]:
    if saved.card.is_images or saved.card.columns is None:
        raise Refusal(f"input={path}", "this run was not trained on a table", allowed="a picture, a folder, an array")
    start = 0
    for rows in csv.features(path, saved.card.columns):
        if not np.isfinite(rows).all():
            bad = start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise Refusal(f"input={path}, row {bad}", "a value is NaN or infinite", allowed="finite numbers")
        yield [f"row {start + i}" for i in range(len(rows))], rows, _sizes([])
        start += len(rows)


def _array(path: Path, saved: Saved) -> Iterator[Examples]:
    yield from _values(npz.load(path, "x"), f"input={path}", saved)


def _values(values: Array, where: str, saved: Saved) -> Iterator[Examples]:
    """Give the examples of an array."""
    if values.dtype.kind not in "buif" or values.dtype.itemsize > 8:
        raise Refusal(where, f"an array of {values.dtype} holds no numbers that are read")
    sound = ~np.isinf(values) if saved.card.table is not None else np.isfinite(values)
    if not sound.all() or values.size == 0:
        what = "there are no examples" if values.size == 0 else "a value is NaN or infinite"
        raise Refusal(where, what, allowed="one example or more, of finite numbers")
    values = native(_as_many(values, saved.card.stored_shape), lambda i: f"{where}, row {i}")
    arranged = channels_first(values.shape, where)(values) if values.ndim < 5 else values
    sizes = _sizes(arranged)
    if saved.card.is_images and arranged.ndim == 4:
        arranged = _fitted(list(arranged), saved, (f"row {i}" for i in range(len(arranged))))
    if list(arranged.shape[1:]) != saved.card.stored_shape:
        raise Refusal(
            where, f"an example has shape {list(arranged.shape[1:])}, the run's have {saved.card.stored_shape}"
        )
    for start in range(0, len(arranged), AT_A_TIME):
        some = np.ascontiguousarray(arranged[start : start + AT_A_TIME])
        yield [f"row {start + i}" for i in range(len(some))], some, sizes[start : start + AT_A_TIME]


def _sizes(images: Sequence[Array] | Array) -> Array:
    """Return height and width (n, 2) of images (C, H, W)."""
    return np.array([image.shape[-2:] for image in images if image.ndim == 3]).reshape(-1, 2)


def _as_many(values: Array, shape: Sequence[int]) -> Array:
    """Return one example alone as an array of one: (H, W), (H, W, C) or (C, H, W) for images, (F,) for vectors."""
    images = len(shape) == 3
    if len(shape) > 1 and values.ndim == 2 and values.shape[1] == prod(shape):  # flattened
        return values.reshape(-1, *shape)
    alone = values.ndim == len(shape) or (images and values.ndim == 2)
    if images and values.ndim == 3:  # many grey images, or one of several channels
        alone = values.shape[-1] in (3, 4) or len(values) == shape[0] == 3 or list(values.shape) == list(shape)
    return values[None] if alone else values


def _fitted(images: list[Array], saved: Saved, names: Any) -> Array:
    """Bring images to the size and channels that the run was trained on."""
    c, *size = saved.card.feature_shape
    channels = c if c in (1, 3) else None
    names = list(names)
    values = Fit(size, channels, saved.card.recipe.get("resize", "stretch"))(images, lambda i: names[i])
    if list(values.shape[1:]) != saved.card.feature_shape:
        raise Refusal(names[0], f"its shape is {list(values.shape[1:])}, the run's have {saved.card.feature_shape}")
    return values
