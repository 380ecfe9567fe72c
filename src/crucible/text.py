"""Text that other programs read: cells that no spreadsheet runs, URLs without passwords."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from crucible.errors import printable

FORMULA = tuple("=+-@＝＋－＠")
PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s/:@'\"]*):[^\s/'\"]+@")
HIDDEN = "***"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; text cells are `spreadsheet_safe`, numbers stay as they are."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue()


def spreadsheet_safe(cell: str) -> str:
    """Return text that a spreadsheet takes for text: an apostrophe before what it would take for a formula.

    What would begin a new line or cell, or turn the reading direction, stands as an escape.
    """
    cell = printable(cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA) and not _is_number(cell) else cell


def steady(value: object) -> object:
    """Return what a page shows for a value: text line by line without characters that hide or turn it."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "\n".join(line if line.isprintable() else printable(line) for line in value.split("\n"))


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def redacted(text: str) -> str:
    """Return text in which the passwords of URLs, scheme://user:password@host, are ***."""
    return PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
