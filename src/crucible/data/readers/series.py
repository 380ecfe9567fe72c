"""Reader of series of different lengths: a file with one a line, its class first, as the UCR archive of time series has them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from crucible.data.readers.source import Array, Pool, Source, is_number, require_path
from crucible.errors import Refusal

LINES_PER_CHUNK = 4096
WANTED = "a text file with a series a line: its class, then its numbers, between tabs, commas or spaces"


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read series (L_i,) of float32; NaN at the end of a line is padding of the file, and left out.

    Raises:
        Refusal: missing, a line without numbers, a word that is no number.
    """
    path = require_path(path, WANTED)
    if label is not None or group_by is not None:
        raise Refusal("data.label, data.group_by", "a line has no columns with names", allowed="null")
    labels = [words[0] for _, words in _lines(path)]
    return Source({"all": Pool(labels=np.array(labels), chunks=lambda: _chunks(path), ragged=True)}, {"": path})


def series(path: Path) -> Iterator[tuple[str, Array]]:
    """Give the name and the numbers of each line; a first word that is no number is its class, and passed over."""
    for number, words in _lines(path):
        yield f"line {number}", _numbers(path, number, words if is_number(words[0]) else words[1:])


def _chunks(path: Path) -> Iterator[list[Array]]:
    lines = _lines(path)
    while some := list(islice(lines, LINES_PER_CHUNK)):
        yield [_numbers(path, number, words[1:]) for number, words in some]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if words := line.replace(",", " ").split():
                    yield number, words
    except UnicodeDecodeError as error:
        raise Refusal(str(path), f"it is no text in UTF-8: {error.reason}", allowed=WANTED) from None


def _numbers(path: Path, number: int, words: list[str]) -> Array:
    try:
        values = np.array(words, np.float32)
    except ValueError:
        wrong = next(word for word in words if not is_number(word))
        raise Refusal(f"{path}, line {number}", f"'{wrong[:40]}' is no number", allowed=WANTED) from None
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise Refusal(f"{path}, line {number}", "there are no numbers", allowed=WANTED)
    return values[: known[-1] + 1]
