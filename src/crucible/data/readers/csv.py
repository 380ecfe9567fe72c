"""Reader of tables: one CSV file with a header, numeric features and one label column."""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from crucible.data.readers.source import Array, Pool, Source, is_number, require_path
from crucible.errors import Refusal
from crucible.schema import nearest

ROWS_PER_CHUNK = 4096


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read a table; every column but `label` (or several, a,b,c) and `group_by` is a feature (float64).

    Raises:
        Refusal: missing, no such column, a cell that is no number, a row of another length.
    """
    path = require_path(path, "a CSV file with a header")
    header = _header(path)
    if label is None:
        raise Refusal("data.label", "the label column is not named", allowed=", ".join(header), example="data.label=y")
    targets = [label] if label in header else label.split(",")
    for key, column in (*(("data.label", each) for each in targets), ("data.group_by", group_by)):
        if column is not None and column not in header:
            raise Refusal(key, f"no column '{column}'", allowed=", ".join(header), nearest=nearest(column, header))
    columns = [i for i, name in enumerate(header) if name not in (*targets, group_by)]
    pool = Pool(
        labels=_labels(path, [header.index(each) for each in targets]),
        chunks=lambda: _features(path, header, columns),
        groups=_column(path, header.index(group_by)) if group_by else None,
    )
    if not columns:
        raise Refusal(f"data.path={path}", "there is no feature column beside the label", allowed="one or more")
    names = targets if len(targets) > 1 else None
    return Source({"all": pool}, {"": path}, classes=names, columns=[header[i] for i in columns])


def features(path: Path, columns: Sequence[str]) -> Iterator[Array]:
    """Give (n, F) of the named columns of a table, in chunks; further columns are passed over.

    Raises:
        Refusal: a column is missing, or a cell is no number.
    """
    header = _header(require_path(path, "a CSV file with a header"))
    if missing := [name for name in columns if name not in header]:
        raise Refusal(
            str(path),
            f"there is no column '{missing[0]}'",
            allowed=", ".join(columns),
            nearest=nearest(missing[0], header),
        )
    return _features(path, header, [header.index(name) for name in columns])


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"data.path={path}", f"cannot be read as UTF-8 CSV: {error}") from None


def _header(path: Path) -> list[str]:
    header = next(_rows(path), None)
    if not header:
        raise Refusal(f"data.path={path}", "the file is empty", allowed="a header, then one example a line")
    return header


def _column(path: Path, index: int) -> Array:
    width = len(_header(path))
    return np.array([_same_width(path, line, row, width)[index] for line, row in enumerate(_rows(path), 1)][1:])


def _labels(path: Path, indices: list[int]) -> Array:
    """Return (N,) of one column, or (N, T) of several."""
    found = [_column(path, index) for index in indices]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)


def _same_width(path: Path, line: int, row: list[str], width: int) -> list[str]:
    if len(row) != width:
        raise Refusal(f"{path}, line {line}", f"{len(row)} cells, the header has {width}")
    return row


def _features(path: Path, header: list[str], columns: list[int]) -> Iterator[Array]:
    rows = islice(_rows(path), 1, None)
    start = 2
    while block := list(islice(rows, ROWS_PER_CHUNK)):
        cells = [
            [row[i] for i in columns]
            for row in (_same_width(path, start + k, r, len(header)) for k, r in enumerate(block))
        ]
        try:
            yield np.array(cells).astype(np.float64)
        except ValueError:
            raise _bad_cell(path, header, columns, cells, start) from None
        start += len(block)


def _bad_cell(path: Path, header: list[str], columns: list[int], cells: list[list[str]], start: int) -> Refusal:
    for line, row in enumerate(cells, start):
        for column, cell in zip(columns, row, strict=True):
            if not is_number(cell):
                return Refusal(f"{path}, line {line}, column '{header[column]}'", f"{cell!r} is no number")
    return Refusal(str(path), "a cell is no number")
