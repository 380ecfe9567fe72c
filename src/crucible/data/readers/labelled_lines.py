"""Readers of sentences of which each has one class: a file for each class, or tables of sentence and class."""

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

from crucible.data.readers.conll import ROLES, stdlib_lines
from crucible.data.readers.source import Pool, Source, require_path
from crucible.data.readers.text import help_text
from crucible.data.text import Corpus, Punctuation, Reading, Unit, decoded, fitting, spelling, tokens_of
from crucible.errors import Refusal

LAYOUT = "a folder with a text file for each class; or a CSV of sentence,class, or a folder of such for train and test"


class Settings(Reading):
    """What readers of labelled sentences are told, besides Reading: unit and punctuation as in crucible.data.readers.text."""

    unit: Unit
    punctuation: Punctuation


Labelled = list[tuple[str, str, str]]  # sentence, class, where it stands


def read(
    path: Path | None, label: str | None = None, group_by: str | None = None, **settings: Unpack[Settings]
) -> Source:
    """Read sentences and their classes.

    The class of a file is its name without the suffix; of files that differ in the suffix alone (rt.pos, rt.neg), the suffix. Tables
    have no header: the sentence first, its class last.

    Raises:
        Refusal: missing, empty, of another encoding, a row without a class, fewer than two classes.
    """
    path = require_path(path, LAYOUT)
    if label is not None or group_by is not None:
        raise Refusal("data.label, data.group_by", "lines have no columns with names", allowed="null")
    files = (
        [path]
        if path.is_file()
        else sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    )
    tables = [file for file in files if file.suffix.lower() == ".csv"]
    if not files or (path.is_file() and not tables):
        raise Refusal(f"data.path={path}", "there is no file for a second class", allowed=LAYOUT)
    roles = _roles(path, tables) if tables else {file.name: file for file in files}
    texts = {role: decoded(file, settings["encoding"]) for role, file in roles.items()}
    if tables:
        return _source({role: _rows(text, roles[role]) for role, text in texts.items()}, roles, settings)
    classes = _classes(files)
    lines = [
        (line, classes[name], f"{name}, line {i}")
        for name, text in texts.items()
        for i, line in enumerate(text.split("\n"), 1)
    ]
    return _source({"all": lines}, roles, settings)


def prose_or_code(
    path: Path | None, label: str | None = None, group_by: str | None = None, **settings: Unpack[Settings]
) -> Source:
    """Read lines of Python's help topics and of its library: English, or code?"""
    code, files = stdlib_lines()
    prose = [(line, "prose", f"pydoc, line {i}") for i, line in enumerate(help_text().split("\n"), 1)]
    return _source(
        {"all": prose + [(each.text, "code", each.where) for each in code[:: max(1, len(code) // len(prose))]]},
        files,
        settings,
    )


def _roles(path: Path, tables: Sequence[Path]) -> dict[str, Path]:
    if path.is_file() or len(tables) == 1:
        return {"all": tables[0]}
    found = {
        role: file
        for role, names in ROLES.items()
        for file in tables
        if any(name in file.name.lower() for name in names)
    }
    if not {"train", "test"} <= set(found):
        raise Refusal(f"data.path={path}", "of several tables one must be called train and one test", allowed=LAYOUT)
    return found


def _classes(files: Sequence[Path]) -> dict[str, str]:
    """Return the class of each file."""
    stems = {file.stem for file in files}
    if len(files) > 1 and len(stems) == 1:
        return {file.name: file.suffix[1:] for file in files}
    return {file.name: file.stem for file in files}


def _rows(text: str, file: Path) -> Labelled:
    rows = []
    for number, cells in _numbered(text, file):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < 2 or not cells[-1].strip():
            what = "it has one column" if len(cells) < 2 else "its last column, the class, is empty"
            raise Refusal(f"{file}, row {number}", what, allowed="a sentence first, and its class last")
        rows.append((cells[0], cells[-1].strip(), f"{file.name}, row {number}"))
    return rows


def _numbered(text: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """Give the rows of a table, from 1."""
    rows = csv.reader(io.StringIO(text), strict=True)
    number = 0
    try:
        for number, cells in enumerate(rows, start=1):
            yield number, cells
    except csv.Error as error:
        raise Refusal(
            f"{file}, row {number + 1}", f"no CSV: {error}", allowed="a quote at both ends of a cell that has one"
        ) from None


def _source(pools: dict[str, Labelled], files: dict[str, Path], settings: Settings) -> Source:
    examples: dict[str, list[Sequence[str]]] = {}
    made, cut = {}, 0
    for pool, lines in pools.items():
        own = [(tokens, label, where) for line, label, where in lines
               if len(tokens := tokens_of(line.strip(), settings["unit"], settings["punctuation"]))]  # fmt: skip
        if not own:
            raise Refusal(f"data.path, {pool}", "there is no sentence in it", allowed=LAYOUT)
        examples[pool] = [fitting(tokens, settings, partial(str, where)) for tokens, _, where in own]
        cut += sum(len(fit) < len(tokens) for fit, (tokens, *_) in zip(examples[pool], own, strict=True))
        made[pool] = Pool(
            np.array([label for _, label, _ in own]), lambda: iter(()), names=[where for *_, where in own]
        )
    corpus = Corpus(
        made, examples, spelling(lower=settings["lower"]), settings["vocabulary"], settings["min_count"], {"cut": cut}
    )
    return corpus.source(files)
