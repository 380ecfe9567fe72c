"""Table files of any usual form as lazy frames: CSV with any separator, packed or not, Parquet, Arrow, Excel.

polars reads them: it starts in 0.10 s (pandas: 0.24 s) and with 25 MB less, parses a million rows of ten columns in 0.2 s, gives
them in batches, and opens Excel where `fastexcel` is installed. Every cell of a CSV comes as text: `crucible.data.columns` says
what a column holds.
"""

import atexit
import codecs
import csv
import gzip
import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from crucible.data.columns import TableForm
from crucible.data.readers.file_names import EXCEL, PACKED, PARQUET, is_table, is_text_table
from crucible.data.readers.source import is_number, require_path
from crucible.errors import Refusal

WANTED = "a table with a header: .csv, .tsv or .txt (also .gz, .zip), .parquet, .feather, .xlsx"
SEPARATORS = (",", ";", "\t", "|")
HEAD_BYTES, HEAD_ROWS = 1 << 18, 100
ROWS_AT_A_TIME = 1 << 15
SAID = re.compile(r"sep=(.)", re.IGNORECASE)
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
DAMAGED = (OSError, EOFError, ValueError, csv.Error, zipfile.BadZipFile, pl.exceptions.PolarsError)


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        frame: cells of text files are text; its columns are called c0, c1, ..., since polars takes some names for patterns. separator:
            between cells of a text file; of others nothing. names: of the columns. parts: the tables by split that stand one below
            the other in it, where it is a folder. lacking: columns that are empty because the file does not have them.
    """

    frame: pl.LazyFrame
    path: Path
    separator: str
    names: tuple[str, ...]
    parts: Mapping[str, "Table"] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: pl.LazyFrame, path: Path) -> "Table":
        """Return the rows of a frame, its columns called by their places.

        Raises:
            Refusal: two columns have one name.
        """
        with reading(path):
            names = frame.collect_schema().names()
        _require_names(path, names)
        return cls(
            frame.rename(dict(zip(names, map(called, range(len(names))), strict=True))),
            path,
            "",
            tuple(name.strip() for name in names),
        )

    @classmethod
    def joined(cls, parts: Mapping[str, "Table"], path: Path) -> "Table":
        """Return tables that have the same columns, one below the other."""
        first, *_ = parts.values()
        frame = pl.concat([part.frame for part in parts.values()], how="vertical_relaxed")
        return cls(frame, path, first.separator, first.names, parts)

    def like(self, other: "Table") -> "Table":
        """Return the columns of another table, in its order; empty ones for those that are not here."""
        kinds = other.frame.collect_schema().dtypes()
        columns = [
            pl.col(called(self.names.index(name))) if name in self.names else pl.lit(None, kind)
            for name, kind in zip(other.names, kinds, strict=True)
        ]
        frame = self.frame.select(each.alias(called(i)) for i, each in enumerate(columns))
        lacking = tuple(name for name in other.names if name not in self.names)
        return replace(self, frame=frame, names=other.names, lacking=lacking)

    def where(self, condition: pl.Expr) -> "Table":
        """Return the rows alone for which a condition holds."""
        parts = {split: part.where(condition) for split, part in self.parts.items()}
        return replace(self, frame=self.frame.filter(condition), parts=parts)

    def length(self) -> int:
        """Return how many rows there are."""
        with reading(self.path):
            return int(self.frame.select(pl.len()).collect(engine="streaming").item())


def called(place: int) -> str:
    """Return what the column at a place is called in a frame."""
    return f"c{place}"


def open_table(path: Path | None, form: TableForm, *, key: str = "data.path") -> Table:
    """Return the rows of a file.

    Raises:
        Refusal: missing, no table by its name, damaged, of another encoding, rows of different lengths, or two columns of one name.
    """
    path = require_path(path, WANTED, key=key)
    if not (path.is_file() and is_table(path)):
        raise Refusal(f"{key}={path}", "it is no table by its name", allowed=WANTED)
    with reading(path):
        return _text(path, form) if is_text_table(path) else Table.of(_typed(path), path)


def table_of(frame: Any) -> Table:
    """Return the rows of a DataFrame of polars or pandas.

    Raises:
        Refusal: two columns have one name, or one holds several types.
    """
    where = Path("the table")
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return Table.of(frame.lazy(), where)
    try:
        return Table.of(pl.from_pandas(frame).lazy(), where)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise Refusal(
            str(where),
            f"no table: {str(error).splitlines()[0]}",
            allowed="a DataFrame whose columns hold one type each",
        ) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what polars cannot read of a file into a refusal."""
    try:
        yield
    except Refusal:
        raise
    except DAMAGED as error:
        raise Refusal(str(path), f"no table, or damaged: {str(error).splitlines()[0]}", allowed=WANTED) from None


def batches(frame: pl.LazyFrame, path: Path) -> Iterator[pl.DataFrame]:
    """Give the rows in their order, a bounded number at a time."""
    with reading(path):
        for batch in frame.collect_batches(chunk_size=ROWS_AT_A_TIME, maintain_order=True):
            yield from batch.iter_slices(ROWS_AT_A_TIME)


def _typed(path: Path) -> pl.LazyFrame:
    """Return the rows of a file whose columns have types."""
    if (suffix := path.suffix.lower()) in EXCEL:
        return _excel(path)
    return pl.scan_parquet(path) if suffix in PARQUET else pl.scan_ipc(path)


def _excel(path: Path) -> pl.LazyFrame:
    try:
        from fastexcel import FastExcelError
    except ModuleNotFoundError as error:
        raise Refusal(str(path), f"{error.name or 'fastexcel'} is not installed", allowed="pip install 'crucible-dl[excel]'; or save it as CSV",
                      example="pip install fastexcel") from None  # fmt: skip
    try:
        return pl.read_excel(path).lazy()
    except FastExcelError as error:
        raise Refusal(str(path), f"no workbook, or damaged: {str(error).splitlines()[0]}", allowed=WANTED) from None


def _text(path: Path, form: TableForm) -> Table:
    """Return a text file's cells: read as it lies where it is UTF-8 and not packed, else from a copy that is."""
    encoding = form["encoding"] or _encoding(path)
    file = path
    if path.suffix.lower() in PACKED or encoding.replace("-", "").replace("_", "").lower() not in ("utf8", "utf8sig"):
        file = _plain(path, encoding, *_stamp(path))
    head = _head(path, file)
    told = SAID.fullmatch(head[0].strip()) if head else None  # Excel's first line, sep=;
    separator = form["separator"] or (told[1] if told else separator_of(head))
    rows = [row for row in csv.reader(head[1:] if told else head, delimiter=separator) if row]
    if not rows or not any(map(str.strip, rows[0])):
        raise Refusal(str(path), "the file is empty", allowed="a header, then one example a line")
    names = _names(path, rows[0], header=form["header"])
    blank = _require_equal_rows(path, file, separator, len(names), 1 if told else 0, *_stamp(file))
    if blank or told or any(line.endswith("\r") for line in head):
        file = _without_blank_lines(file, separator, 1 if told else 0, *_stamp(file))
    columns = list(map(called, range(len(names))))
    frame = pl.scan_csv(file, separator=separator, has_header=form["header"], new_columns=columns, infer_schema=False)
    return Table(frame, path, separator, tuple(names))


def _encoding(path: Path) -> str:
    with _unpacked(path) as file:
        start = file.read(4)
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")


def _head(path: Path, file: Path) -> list[str]:
    """Return the first lines of a UTF-8 file, those that are whole."""
    with file.open("rb") as opened:
        start = opened.read(HEAD_BYTES)
    if len(start) == HEAD_BYTES:
        start = start[: start.rfind(b"\n") + 1]
    try:
        return list(io.StringIO(start.decode("utf-8-sig"), newline=""))
    except UnicodeDecodeError:
        raise _misread(path, file) from None


def _misread(path: Path, file: Path) -> Refusal:
    """Return the refusal of the first line of a file that is no UTF-8."""
    where, what = str(path), "it is no UTF-8"
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where, what = f"{path}, line {number}", f"byte 0x{line[error.start]:02x} is no UTF-8"
                break
    return Refusal(where, what, allowed="the encoding that the file was written in: cp1252 is that of Excel in Western Europe, gb18030 of Chinese",
                   example="data.reader.encoding=cp1252")  # fmt: skip


def separator_of(head: Sequence[str]) -> str:
    """Return what separates cells: what cuts every row into the same number of them, the most; else what the header has most of."""
    lines = list(head)

    def evenly(separator: str) -> tuple[int, int]:
        widths = {len(row) for row in list(csv.reader(lines, delimiter=separator))[:HEAD_ROWS] if row}
        return (widths.pop() if len(widths) == 1 else 1), lines[0].count(separator) if lines else 0

    return max(SEPARATORS, key=evenly)


def _names(path: Path, first: Sequence[str], *, header: bool) -> list[str]:
    """Return the names of the columns; one without a name is called by its place.

    Raises:
        Refusal: two have one name, or the first line is no header but numbers.
    """
    if not header:
        return [f"column {i + 1}" for i in range(len(first))]
    names = [name.strip() or f"column {i + 1}" for i, name in enumerate(first)]
    if all(map(is_number, names)):
        raise Refusal(f"{path}, line 1", f"the header holds only numbers, as '{names[0]}'", allowed="a first line with the names of the columns",
                      example="data.reader.header=false, and the columns are called 'column 1', 'column 2', ...")  # fmt: skip
    _require_names(path, names)
    return names


def _require_names(path: Path, names: Sequence[str]) -> None:
    stripped = [name.strip() for name in names]
    if twice := next((name for i, name in enumerate(stripped) if name in stripped[:i]), None):
        raise Refusal(str(path), f"two columns are called '{twice}'", allowed="a name of its own for each column")


@cache
def _require_equal_rows(
    path: Path, file: Path, separator: str, width: int, passed_over: int, mtime_ns: int, size: int
) -> bool:
    """Refuse a row that has more or fewer cells than the header: polars would fill it up without a word. Once for a file that stays as it is.

    Return whether there are blank lines, which are no rows.
    """
    blank = False
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.reader(opened, delimiter=separator)
            for row in islice(reader, passed_over, None):
                blank = blank or not row
                if row and len(row) != width:
                    raise Refusal(f"{path}, line {reader.line_num}", f"{len(row)} cells, the header has {width} (separator {separator!r})",
                                  allowed="the same number in every row; or another data.reader.separator")  # fmt: skip
    except UnicodeDecodeError:
        raise _misread(path, file) from None
    except csv.Error as error:
        raise Refusal(f"{path}, line {reader.line_num}", f"it cannot be read as CSV: {error}") from None
    return blank


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells whether a file has changed."""
    return path.stat().st_mtime_ns, path.stat().st_size


@cache
def _without_blank_lines(file: Path, separator: str, passed_over: int, mtime_ns: int, size: int) -> Path:
    """Return a copy of a UTF-8 table without blank lines and first lines that are no rows, each line ended in one way."""
    copy = _home() / f"{len(list(_home().iterdir()))}.csv"
    with file.open(newline="", encoding="utf-8-sig") as opened, copy.open("w", encoding="utf-8", newline="") as written:
        rows = islice(csv.reader(opened, delimiter=separator), passed_over, None)
        csv.writer(written, delimiter=separator, lineterminator="\n").writerows(row for row in rows if row)
    return copy


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or what it holds packed; of a .zip its only member."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as packed:
            yield cast(IO[bytes], packed)
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [
                each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX")
            ]
            if len(members) != 1:
                raise Refusal(str(path), f"it holds {len(members)} files", allowed="one table in a .zip")
            with archive.open(members[0]) as file:
                yield file
    else:
        with path.open("rb") as file:
            yield file


@cache
def _home() -> Path:
    """Return a folder for unpacked copies, which goes with the process."""
    folder = tempfile.mkdtemp(prefix="crucible-table-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _plain(path: Path, encoding: str, mtime_ns: int, size: int) -> Path:
    """Return a copy of a text file, unpacked and in UTF-8; made once for a file that stays as it is.

    Raises:
        Refusal: an encoding that nobody knows, or bytes that are none of it.
    """
    copy = _home() / f"{len(list(_home().iterdir()))}.csv"
    try:
        with _unpacked(path) as raw, copy.open("w", encoding="utf-8", newline="") as written:
            _copy(codecs.getreader(encoding)(raw), written, path)
    except LookupError:
        raise Refusal("data.reader.encoding", f"{encoding!r} is no encoding", allowed="utf-8, cp1252, utf-16, gb18030, ...",
                      example="data.reader.encoding=cp1252") from None  # fmt: skip
    except UnicodeDecodeError as error:
        raise Refusal(str(path), f"byte 0x{error.object[error.start]:02x} is no {encoding}", allowed="the encoding that the file was written in",
                      example="data.reader.encoding=utf-8") from None  # fmt: skip
    return copy


def _copy(text: Any, written: IO[str], path: Path) -> None:
    """Copy text in pieces; what grows beyond the disk is refused before the disk is full."""
    free, done = shutil.disk_usage(_home()).free // 2, 0
    while piece := text.read(1 << 20):
        if (done := done + len(piece)) > free:
            raise Refusal(
                str(path), f"unpacked it takes more than {free:,} bytes", allowed="a table that fits on the disk"
            )
        written.write(piece)
