"""Reader of pictures with landmarks: a CSV of image, x0, y0, x1, y1, ... in pixels, one file or one for each split."""

import csv
from contextlib import suppress
from pathlib import Path

import numpy as np

from crucible.data.readers.annotated import by_split, files_of, pictures, require_short
from crucible.data.readers.source import Array, Pool, Source, require_path
from crucible.errors import Refusal

LAYOUT = "a CSV file, or a folder with CSV files whose names hold train, perhaps val, and test; pictures in images/ or beside"


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read pictures with P points each; a row without coordinates has none: there is no face.

    `group_by` is a regular expression on the picture's path whose first group names the group (a person, a recording).

    Raises:
        Refusal: missing, another layout, a picture that is not there, a cell that is no number, rows of different lengths.
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "the points are the labels", example="data.label=null")
    files, root = by_split(path, sorted(path.glob("*.csv")), LAYOUT), path if path.is_dir() else path.parent
    pools = {split: _pool(file, root, group_by) for split, file in files.items()}
    if len(widths := {pool.points.shape[1] for pool in pools.values() if pool.points is not None}) > 1:
        raise Refusal(
            f"data.path={path}", f"the files have {sorted(widths)} points", allowed="the same points everywhere"
        )
    return Source(pools, files_of(pools, root, list(files.values())))


def _pool(file: Path, root: Path, group_by: str | None) -> Pool:
    require_short(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            header, *rows = (row for row in csv.reader(text) if row)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise Refusal(str(file), f"cannot be read as UTF-8 CSV: {error}", allowed=LAYOUT) from None
    if len(header) < 3 or len(header) % 2 == 0 or not rows:
        raise Refusal(str(file), f"{len(header)} columns and {len(rows)} rows", allowed="image, x0, y0, x1, y1, ...")
    points = np.stack([_points(row, len(header), f"{file}, line {line}") for line, row in enumerate(rows, 2)])
    found = [_picture(row[0], root, f"{file}, line {line}") for line, row in enumerate(rows, 2)]
    present = (~np.isnan(points).any(axis=(1, 2))).astype(np.int64)
    return pictures(found, root, group_by, labels=present, points=points)


def _points(row: list[str], width: int, where: str) -> Array:
    if len(row) != width:
        raise Refusal(where, f"{len(row)} cells, the header has {width}")
    if not any(cell.strip() for cell in row[1:]):
        return np.full(((width - 1) // 2, 2), np.nan)
    try:
        values = np.array([float(cell) for cell in row[1:]]).reshape(-1, 2)
    except ValueError as error:
        raise Refusal(where, str(error), allowed="numbers, or nothing at all where there are no points") from None
    if not np.isfinite(values).all():
        raise Refusal(where, "a coordinate is NaN or infinite", allowed="finite numbers")
    return values


def _picture(name: str, root: Path, where: str) -> Path:
    file = None
    with suppress(OSError, ValueError):  # a name that no file can have
        file = next((place for place in (root / name, root / "images" / name) if place.is_file()), None)
    if file is None or not file.resolve().is_relative_to(root.resolve()):
        raise Refusal(where, f"its picture {name} is not there", allowed=f"under {root}, or in images/ there")
    return file
