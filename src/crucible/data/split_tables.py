"""The tables of a folder, one for each split, as one table: train.csv, val.csv, test.csv."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from crucible.data.columns import TableForm
from crucible.data.frames import Table, open_table, reading
from crucible.data.readers.file_names import is_table, split_of
from crucible.data.readers.source import require_path
from crucible.errors import Refusal
from crucible.schema import nearest

LAYOUT = (
    "a table with a header; or a folder with train.csv, and val.csv, test.csv or both, of any form that tables have"
)


def open_tables(path: Path | None, form: TableForm, label: str | None) -> tuple[Table, list[str]]:
    """Return the rows of a file, or of the tables of a folder, and what a person should know of how they were read.

    A table without the label's column is left aside. Columns that train does not have are left out, those that only train has are
    empty there.

    Args:
        label: the column of the label, or several of them: a,b; without one, only train of a folder is read.

    Raises:
        Refusal: as `open_table` and `split_files`; a table is written in another way than train, has no row, or calls the label nearly so.
    """
    path = require_path(path, LAYOUT)
    if path.is_file():
        return open_table(path, form), []
    files = split_files(path)
    train = open_table(files["train"], form)
    if label is None:
        return train, []
    labels = [label] if label in train.names else label.split(",")
    parts, notes = {"train": train}, list[str]()
    for split in (each for each in ("dev", "test") if each in files):
        table = open_table(files[split], form)
        _require_alike(train, table)
        notes += _left_out(table, train)
        if _is_labelled(table, [each for each in labels if each in train.names], train):
            parts[split] = table.like(train)
        else:
            notes.append(_left_aside(table, labels))
    if len(parts) == 1:
        return train, notes
    with reading(path):
        return Table.joined(parts, path), notes


def split_files(folder: Path) -> dict[str, Path]:
    """Return the tables of a folder by split.

    Raises:
        Refusal: none of them is train, two are one split, or one may be dev or test.
    """
    tables = sorted(each for each in folder.iterdir() if each.is_file() and is_table(each))
    files: dict[str, Path] = {}
    for file in tables:
        split = split_of(file)
        if split == "":
            raise Refusal(str(file), "it may be dev or test", allowed="a name that says which: val.csv, test.csv")
        if split is not None and (other := files.setdefault(split, file)) != file:
            raise Refusal(f"data.path={folder}", f"{other.name} and {file.name} are both {split}", allowed=LAYOUT)
    if "train" not in files:
        there = ", ".join(each.name for each in tables[:4])
        raise Refusal(f"data.path={folder}", f"of its tables none is called train: {there}" if tables else "there is no table in it",
                      allowed=LAYOUT, example=f"data.path={shlex.quote(str(tables[0]))}" if tables else "")  # fmt: skip
    return files


def _is_labelled(table: Table, labels: Sequence[str], train: Table) -> bool:
    """Whether a table has a column of the label; of several labels one is enough, the others are unknown in it.

    Raises:
        Refusal: it has a column that is called nearly so.
    """
    more = [name for name in table.names if name not in train.names]
    for label in (each for each in labels if each not in table.names):
        if close := nearest(label, more):
            raise Refusal(str(table.path), f"there is no column '{label}', which {train.path.name} has", nearest=close,
                          allowed="one name in all splits")  # fmt: skip
    return not labels or any(label in table.names for label in labels)


def _left_aside(table: Table, labels: Sequence[str]) -> str:
    command = f"python src/predict.py run=latest input={shlex.quote(str(table.path))}"
    return f"{table.path.name} has no column {' or '.join(labels)}: left aside; {command} answers for it"


def _left_out(table: Table, train: Table) -> list[str]:
    more = ", ".join(name for name in table.names if name not in train.names)
    return [f"{table.path.name} has columns that {train.path.name} has not: {more}; they are left out"] if more else []


def _require_alike(train: Table, table: Table) -> None:
    """Refuse a table that is written in another way than train, so that its cells may mean something else, or that has no row."""
    if table.separator != train.separator:
        said = [
            f"between cells stands {each.separator!r}" if each.separator else "columns have types"
            for each in (table, train)
        ]
        raise Refusal(str(table.path), f"its {said[0]}; of {train.path.name}, {said[1]}", allowed="splits that are written in one way")  # fmt: skip
    if not table.length():
        raise Refusal(str(table.path), "there is no row below the header", allowed="one example a row")
