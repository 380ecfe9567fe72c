"""What the cells of a table hold, and how they become numbers.

Of every column a kind is found out, or declared (`data.columns={age: number}`): a number, yes or no (`boolean`), a date, or a
category. A column that tells rows apart and teaches nothing is left out, by name: one value everywhere, a number for each row,
text that is hardly ever the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from crucible.data.columns import Column
from crucible.data.frames import Table, batches, called, reading
from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.schema import nearest

MISSING = (
    "",
    "?",
    "-",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "-nan",
    "NULL",
    "null",
    "None",
)  # pandas' words, UCI's ?
NO_LABEL = ("", "?", "NA", "<NA>", "NaN", "nan")
YES, NO = ("true", "yes", "y", "t", "1"), ("false", "no", "n", "f", "0")
KINDS = ("number", "boolean", "date", "category")
DECIMALS, THOUSANDS = "decimals", "thousands"
COMMAS = (DECIMALS, THOUSANDS)  # kinds of numbers whose commas are declared
GROUPED = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$"  # thousands parted by commas; of one comma alone nobody knows
DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S%.f",
    "T%H:%M",
    "T%H:%M:%S",
    "T%H:%M:%S%.f",
    "T%H:%M:%SZ",
    "T%H:%M:%S%.fZ",
    "T%H:%M:%S%z",
    "T%H:%M:%S%.f%z",
    " %H:%M:%S%z",
)
HEAD = 1000  # cells on which forms of dates are tried first
MOST_VALUES = 10_000  # of a category: what has more is text
SELDOM = 0.5  # text that is new in more than this share of the rows is no category
NEARLY = 0.95  # from this share of cells that are numbers on, the others are mistakes
ALL_DIFFER = 0.95  # of the rows: different values are counted to a few per cent
OFTEN_EMPTY = 0.05  # of the rows: whether there is text at all then teaches something
SMALL = 20  # rows in which text may differ from row to row and be a category
DAY_US = 86_400_000_000


def said_of(column: Column) -> dict[str, float]:
    """Return the words of a column that is stored as their places, or as yes and no, and what stands for each; else nothing."""
    if column.kind == "category":
        return {name: float(i) for i, name in enumerate(column.categories)}
    words = {**dict.fromkeys(YES, 1.0), **dict.fromkeys(NO, 0.0)} if column.kind == "boolean" else {}
    return {own: value for word, value in words.items() for own in (word, word.capitalize(), word.upper())}


@dataclass(frozen=True)
class Profile:
    """What was found in a column.

    Attributes:
        column: how it is used; None where it is left out, and `why`. empty: cells. distinct: different values, to a few per cent.
    """

    name: str
    column: Column | None
    why: str
    empty: int
    distinct: int


class Cells:
    """The cells of a table as expressions.

    Attributes:
        parts: the cells of each split of a folder of tables; of one table itself, as `all`.
        length: gives the number of rows. lacking: columns that the file does not have.

    Args:
        table: the rows. missing: words that say that a cell is empty, beside the usual ones.
    """

    def __init__(self, table: Table, missing: Sequence[str] = ()) -> None:
        self.frame, self.path, self.separator, self.length = table.frame, table.path, table.separator, table.length
        self.lacking = table.lacking
        self.parts = {split: Cells(part, missing) for split, part in table.parts.items()} or {"all": self}
        with reading(self.path):
            self.types = dict(zip(table.names, self.frame.collect_schema().dtypes(), strict=True))
        self._place = {name: called(i) for i, name in enumerate(table.names)}
        self._missing = [*MISSING, *missing]

    def raw(self, name: str) -> pl.Expr:
        """Return cells as they are, null where they are empty: text without spaces around it, numbers, yes-or-no, dates."""
        kind, cells = self.types[name], pl.col(self._place[name])
        if _is_strange(kind):
            return pl.when(cells.is_not_null()).then(pl.lit(str(kind)))
        if kind.is_float():
            return cells.cast(pl.Float64).fill_nan(None)
        if kind.is_numeric() or kind in (pl.Boolean, pl.Date, pl.Datetime):
            return cells
        text = cells.cast(pl.String, strict=False).str.strip_chars()
        return pl.when(~text.is_in(self._missing)).then(text)

    def text(self, name: str) -> pl.Expr:
        """Return cells as text; whole numbers without a point, however they are stored."""
        cells = self.raw(name)
        if self.types[name].is_float():
            whole = pl.when(cells == cells.floor()).then(cells.cast(pl.Int64, strict=False)).cast(pl.String)
            return whole.fill_null(cells.cast(pl.String))
        return cells.cast(pl.String)

    def label(self, name: str) -> pl.Expr:
        """Return cells as text, null where there is nothing: None or null is a class in some tables."""
        if not self.is_text(name) or _is_strange(self.types[name]):
            return self.text(name)
        text = pl.col(self._place[name]).cast(pl.String, strict=False).str.strip_chars()
        return pl.when(~text.is_in(NO_LABEL)).then(text)

    def number(self, name: str, *, comma: str = "") -> pl.Expr:
        """Return cells as numbers, null where they are none; `comma`: what one stands for, decimals or thousands."""
        cells = self.raw(name)
        if self.types[name] in (pl.Date, pl.Datetime):
            return pl.lit(None, pl.Float64)
        if comma == DECIMALS and self.is_text(name):
            cells = cells.str.replace(",", ".", literal=True)
        if comma == THOUSANDS and self.is_text(name):
            cells = pl.when(cells.str.contains(GROUPED) | ~cells.str.contains(",", literal=True)).then(
                cells.str.replace_all(",", "", literal=True)
            )
        return cells.cast(pl.Float64, strict=False)

    def flag(self, name: str) -> pl.Expr:
        """Return 1 for yes, 0 for no, null for anything else."""
        if self.types[name] == pl.Boolean:
            return self.raw(name).cast(pl.Float64)
        words = self.text(name).str.to_lowercase()
        return pl.when(words.is_in(YES)).then(1.0).when(words.is_in(NO)).then(0.0)

    def days(self, name: str, form: str) -> pl.Expr:
        """Return dates as days since 1970, null where they are none; `form` is that of text."""
        cells = self.raw(name)
        if self.is_text(name):
            forms = (
                [form] if form else [DATES[0] + clock for clock in CLOCKS]
            )  # dates that were no text where the run was trained
            cells = pl.coalesce(_moment(cells, each) for each in forms)
        return cells.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / DAY_US

    def is_text(self, name: str) -> bool:
        """Whether a column holds text, as all do in a CSV."""
        kind = self.types[name]
        return not (kind.is_numeric() or kind in (pl.Boolean, pl.Date, pl.Datetime))

    def encoded(self, column: Column) -> pl.Expr:
        """Return a used column's cells as numbers: null where they are empty, or are not what the column holds."""
        if column.kind == "category":
            place = {value: float(i) for i, value in enumerate(column.categories)}
            text = self.text(column.name)
            return pl.when(text.is_not_null()).then(text.replace_strict(place, default=-1.0, return_dtype=pl.Float64))
        if column.kind == "date":
            return self.days(column.name, column.format)
        return self.flag(column.name) if column.kind == "boolean" else self.number(column.name, comma=column.comma)


def read_columns(cells: Cells, columns: Sequence[Column]) -> Iterator[Array]:
    """Give the used columns as numbers (n, C), in chunks.

    Raises:
        Refusal: a column is missing; a cell that is not what its column holds, with its row.
    """
    require_columns(cells, [each.name for each in columns])
    places = range(len(columns))
    wanted = [cells.encoded(each).alias(f"value{i}") for i, each in enumerate(columns)]
    given = [cells.raw(each.name).is_not_null().alias(f"there{i}") for i, each in enumerate(columns)]
    texts = [cells.text(each.name).alias(f"text{i}") for i, each in enumerate(columns)]
    start = 0
    for batch in batches(cells.frame.select(*wanted, *given, *texts), cells.path):
        values = batch.select(f"value{i}" for i in places).to_numpy()
        there = batch.select(f"there{i}" for i in places).to_numpy()
        if len(wrong := np.argwhere((np.isnan(values) & there) | np.isinf(values))):
            row, place = wrong[0]
            raise no_cell(cells.path, start + row, columns[place], batch[f"text{place}"][int(row)])
        yield np.ascontiguousarray(values)
        start += len(values)


def no_cell(path: Path, row: int, column: Column, cell: str) -> Refusal:
    """Return the refusal of a cell that is not what its column holds."""
    form = f" of the form {column.format}" if column.format else ""
    return Refusal(f"{path}, row {row}, column '{column.name}'", f"{cell!r} is no {column.kind}{form}",
                   allowed=f"a {column.kind}, or an empty cell")  # fmt: skip


def require_columns(cells: Cells, names: Sequence[str], key: str = "") -> None:
    """Refuse a table that lacks a column.

    Raises:
        Refusal: naming it, and the nearest that there is.
    """
    there = list(cells.types)
    if lacking := next((name for name in names if name not in there), None):
        raise Refusal(
            key or str(cells.path),
            f"there is no column '{lacking}'",
            allowed=", ".join(there),
            nearest=nearest(lacking, there),
        )


def hashed(values: Sequence[str]) -> Array:
    """Return a number (K,) for each category that is the same in every file: for finding examples that are equal."""
    digests = b"".join(blake2b(value.encode(), digest_size=8).digest() for value in values)
    return (np.frombuffer(digests, np.uint64) >> np.uint64(12)).astype(np.float64)  # 52 bits: exact in 64


def values_of(cells: Cells, name: str) -> list[str]:
    """Return the different values of a column as text, sorted."""
    with reading(cells.path):
        found = cells.frame.select(cells.text(name).alias("value").unique().drop_nulls()).collect(engine="streaming")
    return sorted(found["value"].to_list())


def profiles(cells: Cells, names: Sequence[str], declared: Mapping[str, str]) -> list[Profile]:
    """Return what columns hold, from one pass over the file; of those that may hold dates from a few more.

    Args:
        declared: kinds by column.

    Raises:
        Refusal: no such column or kind, cells that are not what is declared, a few cells among numbers that are none, dates of
            which nobody knows whether day or month comes first.
    """
    require_columns(cells, list(declared), "data.columns")
    for name, kind in declared.items():
        if kind not in (*KINDS, *COMMAS) and not kind.startswith("%"):
            close = nearest(kind, [*KINDS, *COMMAS])
            raise Refusal(f"data.columns.{name}", f"{kind!r} is no kind", allowed=f"{', '.join([*KINDS, *COMMAS])} (numbers with commas), or the form of its dates, as %d/%m/%Y",
                          nearest=close, example=_declaring(name, close or KINDS[0]))  # fmt: skip
    found = _profiles(cells, names, declared)
    if "train" not in cells.parts:
        return found
    # what tells the rows of train apart, or says one thing in all of them, teaches nothing, whatever stands in the other splits
    alone = {each.name: each.why for each in _profiles(cells.parts["train"], names, declared) if each.column is None}
    return [replace(each, column=None, why=alone[each.name]) if each.name in alone else each for each in found]


def _profiles(cells: Cells, names: Sequence[str], declared: Mapping[str, str]) -> list[Profile]:
    with reading(cells.path):
        counted = cells.frame.select(pl.len().alias("\0"), *(_counts(cells, name) for name in names)).collect(
            engine="streaming"
        )
    counts = counted.row(0, named=True)
    return [_profile(cells, name, counts["\0"], counts[name], declared.get(name)) for name in names]


def _declaring(name: str, kind: str) -> str:
    return f"'data.columns={{{name}: {kind}}}'"


def _counts(cells: Cells, name: str) -> pl.Expr:
    raw, number = cells.raw(name), cells.number(name)
    comma, thousands = (cells.number(name, comma=each) for each in (DECIMALS, THOUSANDS))
    text = cells.text(name)
    return pl.struct(
        cells=raw.count(),
        distinct=raw.drop_nulls().approx_n_unique(),
        numbers=number.count(),
        commas=comma.count() if cells.separator != "," else number.count(),
        thousands=thousands.count(),
        grouped=text.str.contains(GROUPED).sum(),
        with_comma=text.str.contains(",", literal=True).sum(),
        codes=text.str.contains(r"^0\d").sum(),
        flags=cells.flag(name).count(),
        low=number.min(),
        high=number.max(),
        whole=(number == number.floor()).all(),
    ).alias(name)


def _profile(cells: Cells, name: str, rows: int, counts: Mapping[str, Any], declared: str | None) -> Profile:
    found = _declared(cells, name, counts, declared) if declared else _found(cells, name, rows, counts)
    column, why = (found, "") if isinstance(found, Column) else (None, found)
    return Profile(name, column, why, rows - counts["cells"], min(counts["distinct"], counts["cells"]))


def _declared(cells: Cells, name: str, counts: Mapping[str, Any], kind: str) -> Column:
    """Return a column as it is declared."""
    if kind in COMMAS or kind == "number":
        column = Column(name, "number", comma=kind if kind in COMMAS else _comma(cells, name, counts))
    elif kind == "date" or kind.startswith("%"):
        form = kind if kind.startswith("%") else _date_format(cells, name, counts["cells"]) or DATES[0]
        column = (
            Column(name, "date", format=form, clock="%H" in form) if cells.is_text(name) else _typed_date(cells, name)
        )
    else:
        column = Column(name, kind)
    if kind != "category" and (odd := _first_odd(cells, column)):
        raise no_cell(*odd[:2], column, odd[2])
    return column


def _typed_date(cells: Cells, name: str) -> Column:
    return Column(name, "date", clock=cells.types[name] == pl.Datetime)


def _found(cells: Cells, name: str, rows: int, counts: Mapping[str, Any]) -> Column | str:
    """Return a column as its cells say, or why it is left out."""
    kind, filled, numbers = (
        cells.types[name],
        counts["cells"],
        max(counts[each] for each in ("numbers", "commas", "thousands")),
    )
    if filled == 0:
        return "it is empty"
    if _is_strange(kind):
        return f"it holds {kind}"
    if counts["distinct"] == 1 and filled == rows:
        return "one value everywhere"
    if kind in (pl.Date, pl.Datetime):
        return _typed_date(cells, name)
    if numbers == filled and kind != pl.Boolean and not counts["codes"]:
        number = Column(name, "number", comma=_comma(cells, name, counts))
        return "a number for each row" if _is_counter(name, rows, counts) else number
    if counts["flags"] == filled:
        return Column(name, "boolean")
    if form := _date_format(cells, name, filled):
        return Column(name, "date", format=form, clock="%H" in form)
    if numbers >= NEARLY * filled and not counts["codes"]:
        raise _stray(cells, Column(name, "number", comma=_comma(cells, name, counts)), filled - numbers, filled)
    seldom_same = counts["distinct"] > SELDOM * filled > SELDOM * SMALL
    if counts["distinct"] > MOST_VALUES or (seldom_same and rows - filled < OFTEN_EMPTY * rows):
        return "text, another in nearly every row"
    return Column(name, "category")


def _comma(cells: Cells, name: str, counts: Mapping[str, Any]) -> str:
    """Return what a comma in a column's numbers stands for; nothing where there is none.

    Raises:
        Refusal: it may begin decimals, or part thousands.
    """
    if counts["numbers"] >= max(counts["commas"], counts["thousands"]):
        return ""
    if cells.separator == "," or counts["commas"] < counts["thousands"]:
        return THOUSANDS
    if counts["with_comma"] == counts["grouped"]:
        raise Refusal(f"{cells.path}, column '{name}'", "its commas may begin decimals or part thousands: 1,234", allowed="which of both, said",
                      example=f"{_declaring(name, 'decimals')}, or thousands")  # fmt: skip
    return DECIMALS


def _is_strange(kind: pl.DataType) -> bool:
    """Whether a column holds what is neither text, number, yes or no, nor a date."""
    return kind.is_nested() or kind in (pl.Binary, pl.Time, pl.Duration, pl.Object)


def _moment(cells: pl.Expr, form: str) -> pl.Expr:
    """Return text of a form as a moment; one with an offset from UTC as that of UTC."""
    if "%z" in form:
        return cells.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None)
    return cells.str.to_datetime(form, strict=False, time_unit="us")


def _is_counter(name: str, rows: int, counts: Mapping[str, Any]) -> bool:
    """Whether whole numbers number the rows: all of them differ, and they have no gaps or the column is called an id."""
    if (
        rows < 3
        or counts["low"] is None
        or not counts["whole"]
        or counts["cells"] < rows
        or counts["distinct"] < ALL_DIFFER * rows
    ):
        return False
    called_id = name.lower() in ("id", "index") or name.endswith(("_id", " id", "Id", "ID"))
    return called_id or counts["high"] - counts["low"] + 1 == rows


def _stray(cells: Cells, column: Column, wrong: int, filled: int) -> Refusal:
    path, row, cell = _first_odd(cells, column) or (cells.path, 0, "")
    where = f"row {row}" if path == cells.path else f"{path.name}, row {row}"
    return Refusal(f"{cells.path}, column '{column.name}'", f"{wrong:,} of {filled:,} cells are no numbers, the first in {where}: {cell!r}",
                   allowed=f"numbers alone; words for an empty cell in data.reader.missing; or a category: {_declaring(column.name, 'category')}",
                   example=f"'data.reader.missing=[\"{cell}\"]'")  # fmt: skip


def _first_odd(cells: Cells, column: Column) -> tuple[Path, int, str] | None:
    """Return file, row and text of the first cell that is not what the column holds."""
    for part in cells.parts.values():
        odd = part.encoded(column).is_null() & part.raw(column.name).is_not_null()
        text = part.text(column.name).alias("\1")
        with reading(part.path):
            rows = part.frame.with_row_index("\0").filter(odd).select("\0", text).head(1).collect()
        if len(rows):
            return part.path, *rows.row(0)
    return None


def _date_format(cells: Cells, name: str, filled: int) -> str:
    """Return the form of a column of text in which every cell is a date; nothing where there is none.

    Raises:
        Refusal: there are two: nobody knows whether day or month comes first.
    """
    if not cells.is_text(name):
        return ""
    head = cells.frame.filter(cells.raw(name).is_not_null()).head(HEAD)
    some = [
        form for form, count in _dates(cells, head, name, [date + clock for date in DATES for clock in CLOCKS]) if count
    ]
    whole = [form for form, count in _dates(cells, cells.frame, name, some) if count == filled] if some else []
    if len(whole) > 1 and _differ(cells, name, whole[0], whole[1]):
        raise Refusal(f"{cells.path}, column '{name}'", f"its dates may be {whole[0]} or {whole[1]}", allowed="the form of its dates, said",
                      example=_declaring(name, whole[0]))  # fmt: skip
    return whole[0] if whole else ""


def _dates(cells: Cells, frame: pl.LazyFrame, name: str, forms: Sequence[str]) -> list[tuple[str, int]]:
    """Return how many cells are dates of each form."""
    with reading(cells.path):
        counts = (
            frame.select(cells.days(name, form).count().alias(form) for form in forms)
            .collect(engine="streaming")
            .row(0)
        )
    return list(zip(forms, counts, strict=True))


def _differ(cells: Cells, name: str, one: str, other: str) -> bool:
    """Whether two forms read different dates out of a column."""
    with reading(cells.path):
        return bool(
            cells.frame.select((cells.days(name, one) != cells.days(name, other)).any())
            .collect(engine="streaming")
            .item()
        )
