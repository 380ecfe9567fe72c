"""Readers of sentences whose every token has a tag: files in the format of CoNLL-2003, and the source code of Python's library."""

import io
import keyword
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

import numpy as np

from crucible.data.readers.source import Array, Pool, Source, require_path
from crucible.data.text import Corpus, Reading, decoded, fitting, spelling
from crucible.errors import Refusal
from crucible.schema import Whole, nearest

LAYOUT = "a file of sentences, a token and its tag a line, a blank line between sentences; or a folder of such files for train, dev, test"
START = "-DOCSTART-"
OUTSIDE = "O"
NO_TAG = -1
ROLES = {
    "train": ("train",),
    "dev": ("dev", "valid", "testa"),
    "test": ("test",),
}  # by what a file's name holds, the first that fits
MODULES = ("argparse", "calendar", "configparser", "csv", "difflib", "fractions", "locale", "mailbox", "plistlib", "shutil", "smtplib",
           "statistics", "textwrap", "threading", "uuid")  # fmt: skip


class Settings(Reading):
    """What readers of tagged sentences are told, besides Reading.

    affixes: 3: a word is known by its shape and its first and last 1 to 3 characters, too. scheme: `bio`: B-TYPE begins a name, I-TYPE
    goes on; `io`: I-TYPE alone.
    """

    affixes: Whole
    scheme: Literal["bio", "io"]


@dataclass(frozen=True)
class Sentence:
    """Tokens, their tags, and where they stand."""

    tokens: Sequence[str]
    tags: Sequence[str]
    where: str

    @property
    def text(self) -> str:
        """The tokens, spaces between them."""
        return " ".join(self.tokens)


def read(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    column: Whole | None,
    **settings: Unpack[Settings],
) -> Source:
    """Read sentences; the first column is the token, `column` (null: the last) its tag; -DOCSTART- is dropped.

    Raises:
        Refusal: missing, empty, of another encoding, a line without a tag, a tag outside the scheme.
    """
    path = require_path(path, LAYOUT)
    if label is not None or group_by is not None:
        raise Refusal(
            "data.label, data.group_by", "sentences have no columns with names", allowed="null; data.reader.column"
        )
    files = _files(path)
    pools = {
        pool: list(_sentences(decoded(file, settings["encoding"]), file, column, settings["scheme"]))
        for pool, file in files.items()
    }
    return _source(pools, files, settings)


def stdlib(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    unit: Literal["code"] = "code",
    **settings: Unpack[Settings],
) -> Source:
    """Read lines of code of Python's library: functions, classes, modules, and dotted names that are called are the names to be found.

    Whether a name is called is told by the parenthesis after it: the right context decides.
    """
    if group_by not in (None, "module"):
        raise Refusal(
            f"data.group_by={group_by}",
            "lines of code are of modules",
            allowed="module, or null",
            example="data.group_by=module",
        )
    sentences, files = stdlib_lines()
    groups = np.array([each.where.partition(",")[0] for each in sentences]) if group_by is not None else None
    return _source({"all": sentences}, files, settings, groups)


def stdlib_lines() -> tuple[list[Sentence], dict[str, Path]]:
    """Return the lines of code of some modules of Python's library, each different line once, and their files."""
    files = {name: Path(io.__file__).parent / f"{name.replace('.', '/')}.py" for name in MODULES}
    lines = [each for name, file in files.items() for each in _code(file.read_text("utf-8"), name)]
    return list({each.text: each for each in reversed(lines)}.values())[::-1], files


def _files(path: Path) -> dict[str, Path]:
    """Return the file of each split, by its name; a file alone holds all."""
    if path.is_file():
        return {"all": path}
    files: dict[str, Path] = {}
    for file in sorted(each for each in path.iterdir() if each.is_file()):
        role = next((role for role, names in ROLES.items() if any(name in file.name.lower() for name in names)), "")
        if role in files:
            raise Refusal(
                f"data.path={path}", f"{files[role].name} and {file.name} are both called {role}", allowed=LAYOUT
            )
        if role:
            files[role] = file
    if not {"train", "test"} <= set(files):
        raise Refusal(
            f"data.path={path}", f"there is no file for {'test' if 'train' in files else 'train'}", allowed=LAYOUT
        )
    return {role: files[role] for role in ROLES if role in files}


def _sentences(text: str, file: Path, column: int | None, scheme: str) -> Iterator[Sentence]:
    tokens: list[str] = []
    tags: list[str] = []
    began = 1
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        cells = line.split("\t") if "\t" in line.strip(" ") else line.split()
        if any(cell.strip() for cell in cells) and cells[0] != START:
            token, tag = _cells(cells, column, scheme, f"{file}, line {number}")
            began = number if not tokens else began
            tokens.append(token)
            tags.append(tag)
        elif tokens:
            yield Sentence(tokens, tags, f"{file.name}, line {began}")
            tokens, tags = [], []


def _cells(cells: Sequence[str], column: int | None, scheme: str, where: str) -> tuple[str, str]:
    """Return the token and the tag of a line."""
    if len(cells) <= max(1, column or 0):
        raise Refusal(
            where,
            f"{len(cells)} column(s)",
            allowed="a token, and its tag in the last column, or in data.reader.column",
        )
    tag = cells[-1 if column is None else column].strip()
    require_tag(tag, scheme, where)
    return cells[0], tag


def require_tag(tag: str, scheme: str, where: str) -> None:
    """Refuse a tag outside the scheme."""
    begun = ("B-", "I-") if scheme == "bio" else ("I-",)
    if tag != OUTSIDE and not (tag.startswith(begun) and len(tag) > 2):
        allowed = "O, B-TYPE, I-TYPE" if scheme == "bio" else "O, I-TYPE"
        raise Refusal(where, f"{tag[:40]!r} is no tag of the scheme {scheme}", allowed=allowed, nearest=nearest(tag, [OUTSIDE]),
                      example="data.reader.scheme=bio" if scheme == "io" else "data.reader.column=1")  # fmt: skip


def _code(text: str, module: str) -> Iterator[Sentence]:
    """Give the logical lines of a module: tokens, and tags of the names in them."""
    line: list[tuple[str, int]] = []
    began = 1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING):
            continue
        if token.type not in (tokenize.NEWLINE, tokenize.ENDMARKER):
            began = token.start[0] if not line else began
            line.append((token.string, token.type))
            continue
        words = [word for word, _ in line]
        if len(line) > 1:
            yield Sentence(words, _code_tags(words), f"{module}, line {began}")
        line = []


def _code_tags(words: Sequence[str]) -> list[str]:
    """Return a tag for each token of a line of code."""
    tags = [OUTSIDE] * len(words)
    i = 0
    while i < len(words):
        end = _dotted(words, i)
        before = words[i - 1] if i else ""
        kind = {"def": "function", "class": "class", "import": "module", "from": "module"}.get(before)
        if kind is None and end < len(words) and words[end] == "(":
            kind = "call"
        if end > i and kind:
            tags[i:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - i - 1)]
        i = max(end, i + 1)
    return tags


def _dotted(words: Sequence[str], start: int) -> int:
    """Return where a name with its dots ends, which begins at `start`; `start` where none does."""
    end = start
    while end < len(words) and words[end].isidentifier() and not keyword.iskeyword(words[end]):
        end += 1
        if end + 1 < len(words) and words[end] == "." and words[end + 1].isidentifier():
            end += 1
        else:
            break
    return end


def _source(
    pools: dict[str, list[Sentence]], files: dict[str, Path], settings: Settings, groups: Array | None = None
) -> Source:
    empty = next((pool for pool, own in pools.items() if not own), None)
    if empty is not None:
        raise Refusal(f"data.path, {empty}", "there is no sentence in it", allowed=LAYOUT)
    fit = {
        pool: [fitting(each.tokens, settings, partial(str, each.where)) for each in own] for pool, own in pools.items()
    }
    cut = sum(
        len(tokens) < len(each.tokens)
        for pool, own in pools.items()
        for tokens, each in zip(fit[pool], own, strict=True)
    )
    names = sorted({tag for own in pools.values() for each in own for tag in each.tags} - {OUTSIDE})
    tags = [OUTSIDE, *sorted(names, key=lambda tag: (tag[2:], tag))]
    width = max(len(tokens) for own in fit.values() for tokens in own)
    place = {tag: i for i, tag in enumerate(tags)}
    made = {}
    for pool, own in pools.items():
        labels = np.full((len(own), width), NO_TAG)
        for row, (each, tokens) in enumerate(zip(own, fit[pool], strict=True)):
            labels[row, : len(tokens)] = [place[tag] for tag in each.tags[: len(tokens)]]
        made[pool] = Pool(labels, lambda: iter(()), groups, [each.where for each in own])
    spell = spelling(lower=settings["lower"], affixes=settings["affixes"])
    corpus = Corpus(made, fit, spell, settings["vocabulary"], settings["min_count"], {"cut": cut})
    return corpus.source(files, tags)
