"""Reader of tables as people have them: numbers, yes or no, dates, categories, empty cells; CSV, Parquet, Excel."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np

from crucible.data.cells import Cells, Profile, hashed, profiles, read_columns, require_columns, values_of
from crucible.data.columns import Column, Fitting, TableForm
from crucible.data.frames import reading
from crucible.data.readers.source import Array, Pool, Source
from crucible.data.split_tables import open_tables
from crucible.errors import Refusal
from crucible.schema import Count

UNSEEN = -1.0
DECIMAL = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")
EXAMPLE = "'data.columns={NAME: category}'"


class Settings(TableForm):
    """What the reader is told.

    columns: kinds of columns, where they shall not be found out. drop: columns that are left out. categories: the most frequent
    values of train that a category tells apart. min_count: how often a value must come in train. missing: words for an empty
    cell, beside the usual ones. unlabelled: whether rows without a label are refused or left out (`drop`). known: the columns of
    the run that judges these data.
    """

    columns: dict[str, str] | None
    drop: list[str]
    categories: Count
    min_count: Count
    missing: list[str]
    unlabelled: Literal["refuse", "drop"]
    known: list[dict[str, Any]] | None


def read(
    path: Path | None, label: str | None = None, group_by: str | None = None, **settings: Unpack[Settings]
) -> Source:
    """Read a table, or the tables of a folder by split; `label` names the column of the label, or several: a,b; `group_by` one that is
    no feature.

    Raises:
        Refusal: as `open_tables` and `profiles`; no such column, a row without a label, nothing left to learn from.
    """
    cells, targets, notes = labelled(path, label, group_by, settings)
    if settings["known"] is not None:
        used, out = [Column.of(each) for each in settings["known"]], dict[str, str]()
    else:
        found = features(cells, targets, group_by, settings)
        used, out = (
            [each.column for each in found if each.column is not None],
            {each.name: each.why for each in found if not each.column},
        )
    require_columns(cells, [each.name for each in used])
    _require_in_each_split(cells, [*(each.name for each in used), *([group_by] if group_by else [])])
    wide = [
        replace(each, categories=tuple(values_of(cells, each.name))) if each.kind == "category" else each
        for each in used
    ]
    left_out = {**dict.fromkeys(settings["drop"], "data.drop"), **out}
    if not used:
        raise Refusal(f"data.path={path}", "no column is left to learn from" + "".join(f"; {name}: {why}" for name, why in left_out.items()),
                      allowed="one column or more beside the label", example=EXAMPLE)  # fmt: skip
    ends = np.cumsum([part.length() for part in list(cells.parts.values())[:-1]], dtype=int)
    labels = dict(zip(cells.parts, np.split(_labels(cells, targets), ends), strict=True))
    pools = {split: _pool(part, labels[split], wide, group_by) for split, part in cells.parts.items()}
    files = {"" if part is cells else part.path.name: part.path for part in cells.parts.values()}
    source = Source(pools, files, classes=targets if len(targets) > 1 else None, notes=notes)
    fit = partial(_fitted, source, cells, used, wide, left_out, settings)
    return replace(source, learn=fit)


def _pool(cells: Cells, labels: Array, columns: Sequence[Column], group_by: str | None) -> Pool:
    """Return the columns before anything is fitted: categories as numbers that are the same in every file."""
    numbers = [_table(hashed(each.categories)) if each.kind == "category" else None for each in columns]
    groups = _texts(cells, [group_by])[:, 0] if group_by else None
    return Pool(labels, partial(_in_numbers, cells, columns, numbers), groups, has_gaps=True)


def labelled(
    path: Path | None, label: str | None, group_by: str | None, settings: Settings
) -> tuple[Cells, list[str], list[str]]:
    """Return the rows of a table that have a label, the columns of the label, and what to know of how they were read."""
    table, notes = open_tables(path, settings, label)
    cells = Cells(table, settings["missing"])
    if label is None:
        raise Refusal(
            "data.label",
            "the column of the label is not named",
            allowed=", ".join(cells.types),
            example=f"data.label={list(cells.types)[-1]}",
        )
    targets = [label] if label in cells.types else label.split(",")
    require_columns(cells, targets, "data.label")
    require_columns(cells, [group_by] if group_by else [], "data.group_by")
    if settings["known"] is None:
        require_columns(cells, settings["drop"], "data.drop")
    _require_label_alone(targets, group_by, settings)
    if group_by and (empty := _where(cells, cells.raw(group_by).is_null())):
        raise Refusal(empty[0], f"its group, column '{group_by}', is empty, and so are {empty[1] - 1:,} more",
                      allowed="a group in every row")  # fmt: skip
    unlabelled = _is_unlabelled(cells, targets[0])
    if len(targets) == 1 and (empty := _where(cells, unlabelled)):
        if settings["unlabelled"] == "refuse":
            raise Refusal(empty[0], f"its label, column '{label}', is empty, and so are {empty[1] - 1:,} more",
                          allowed="a label in every row", example="data.reader.unlabelled=drop")  # fmt: skip
        return Cells(table.where(~unlabelled), settings["missing"]), targets, notes
    return cells, targets, notes


def _require_label_alone(targets: Sequence[str], group_by: str | None, settings: Settings) -> None:
    """Refuse a label that is named twice, or is something else besides."""
    if len(set(targets)) < len(targets):
        raise Refusal("data.label", f"{', '.join(targets)}: one column twice", allowed="columns that differ")
    for key, names in (
        ("data.group_by", [group_by]),
        ("data.drop", settings["drop"]),
        ("data.columns", list(settings["columns"] or {})),
    ):
        if settings["known"] is None and (both := next((name for name in names if name in targets), None)):
            raise Refusal(key, f"column '{both}' is the label", allowed="columns beside the label")


def _require_in_each_split(cells: Cells, names: Sequence[str]) -> None:
    """Refuse a split that lacks a column which is used."""
    for part in cells.parts.values():
        if lacking := next((name for name in names if name in part.lacking), None):
            there = [name for name in part.types if name not in part.lacking]
            raise Refusal(str(part.path), f"there is no column '{lacking}', which train has", allowed=", ".join(there),
                          example=f"'data.drop=[{lacking}]'")  # fmt: skip


def _is_unlabelled(cells: Cells, target: str) -> Any:
    """Return whether a row has no label; words such as None, which are classes in some tables, count as one."""
    if not cells.is_text(target):
        return cells.raw(target).is_null()
    return cells.label(target).is_null()


def features(cells: Cells, targets: Sequence[str], group_by: str | None, settings: Settings) -> list[Profile]:
    """Return what the columns hold that may be features."""
    names = [name for name in cells.types if name not in (*targets, group_by, *settings["drop"])]
    return profiles(cells, names, settings["columns"] or {})


def _where(cells: Cells, condition: Any) -> tuple[str, int] | None:
    """Return file and row of the first row for which a condition holds, and how many there are."""
    first, count = "", 0
    for part in cells.parts.values():
        with reading(part.path):
            rows = part.frame.with_row_index("\0").filter(condition).select("\0").collect(engine="streaming")["\0"]
        first = first or (f"{part.path}, row {rows[0]}" if len(rows) else "")
        count += len(rows)
    return (first, count) if count else None


def _labels(cells: Cells, targets: Sequence[str]) -> Array:
    """Return (N,) of one column as text, or (N, T) of several; an empty cell of several is unknown."""
    if len(targets) > 1:
        return _texts(cells, targets)
    with reading(cells.path):
        found = cells.frame.select(cells.label(targets[0]).fill_null("").alias("label")).collect(engine="streaming")
    labels = found["label"].to_list()
    return np.array(_one_way(labels), dtype=str)


def _one_way(labels: list[str]) -> list[str]:
    """Return labels in one way of writing: yes or no as Parquet has it, and numbers with a decimal comma with a point."""
    if {each.lower() for each in labels} == {"true", "false"}:
        return [each.capitalize() for each in labels]
    if any("," in each for each in labels) and all(DECIMAL.fullmatch(each) for each in labels):
        return [each.replace(",", ".") for each in labels]
    return labels


def _texts(cells: Cells, names: Sequence[str]) -> Array:
    with reading(cells.path):
        texts = cells.frame.select(
            cells.text(name).fill_null("").alias(f"text{i}") for i, name in enumerate(names)
        ).collect(engine="streaming")
    return np.stack([np.array(column.to_list(), dtype=str) for column in texts.get_columns()], axis=1)


def _in_numbers(cells: Cells, columns: Sequence[Column], tables: Sequence[Array | None]) -> Iterator[Array]:
    """Give the columns as numbers (n, C), a category's place as its table says."""
    return (_replaced(chunk, tables) for chunk in read_columns(cells, columns))


def _table(numbers: Array) -> Array:
    """Return what the places of categories become; the last one is for what is in none."""
    return np.append(numbers, UNSEEN)


def _replaced(chunk: Array, tables: Sequence[Array | None]) -> Array:
    """Replace places by what the tables say; empty cells stay."""
    for i, table in enumerate(tables):
        if table is not None:
            known = ~np.isnan(chunk[:, i])
            chunk[known, i] = table[chunk[known, i].astype(np.int64)]
    return chunk


def _fitted(source: Source, cells: Cells, used: Sequence[Column], wide: Sequence[Column], left_out: Mapping[str, str], settings: Settings,
            split_of: Mapping[str, Array], known: Sequence[str] | None) -> Source:  # fmt: skip
    """Return the source in what train has fitted; or, for a run that judges it, in what its own train has."""
    fitting = Fitting(wide)
    for split, own in split_of.items():
        start = 0
        for chunk in read_columns(cells.parts[split], wide):
            fitting.add(chunk, own[start : start + len(chunk)])
            start += len(chunk)
    columns = (
        used
        if settings["known"] is not None
        else fitting.fitted(most=settings["categories"], min_count=settings["min_count"])
    )
    tables = [
        _places(before, after) if after.kind == "category" else None
        for before, after in zip(wide, columns, strict=True)
    ]
    facts = {"columns": [each.facts() for each in columns], "left_out": left_out, "unseen": fitting.unseen(columns)}
    pools = {
        split: replace(pool, chunks=partial(_in_numbers, cells.parts[split], wide, tables))
        for split, pool in source.pools.items()
    }
    return replace(source, pools=pools, columns=[each.name for each in columns], facts={"table": facts}, learn=None)


def _places(before: Column, after: Column) -> Array:
    """Return for each category of a file its place in what was fitted."""
    place = {name: float(i) for i, name in enumerate(after.categories)}
    return _table(np.array([place.get(name, UNSEEN) for name in before.categories]))
