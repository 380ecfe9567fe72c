"""Readers of text: a file with a sentence, a name, ... a line; one long text; or text of Python's own documentation."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np

from crucible.data.readers.source import Pool, Source, require_path
from crucible.data.text import Corpus, Punctuation, Reading, Unit, decoded, fitting, spelling, tokens_of
from crucible.errors import Refusal
from crucible.schema import Count, NonNegative

WANTED = "a text file"


Parts = dict[Literal["train", "dev", "test"], NonNegative]


class Cut(TypedDict):
    """How a text becomes examples.

    unit: its tokens: each `character`, each `word` and sign, or what stands between spaces (`space`). punctuation: `keep`, or `drop`
    what is no letter or digit. item: `line`: each line is an example that ends in <EOS>; `file`: the whole text is one, in windows.
    window: tokens of one in train: back-propagation goes no further. passage: tokens of one in dev and test. parts: shares of the whole
    text, in its order: what is tested comes after what is learned from.
    """

    unit: Unit
    punctuation: Punctuation
    item: Literal["line", "file"]
    window: Count
    passage: Count
    parts: Parts


class Settings(Cut, Reading):
    """All that a reader of text is told."""


def read(path: Path | None, label: str | None = None, group_by: str | None = None, **settings: Unpack[Settings]) -> Source:  # fmt: skip
    """Read a text file.

    Raises:
        Refusal: missing, empty, of another encoding, a line that is too long, a part of the text without a token.
    """
    path = require_path(path, WANTED)
    if path.is_dir():
        raise Refusal(f"data.path={path}", "it is a folder", allowed=WANTED, example="data.path=~/shakespeare.txt")
    return _source(decoded(path, settings["encoding"]), str(path), {"": path}, label, group_by, settings)


def pydoc(path: Path | None, label: str | None = None, group_by: str | None = None, **settings: Unpack[Settings]) -> Source:  # fmt: skip
    """Read the English of Python's help topics, which come with every Python; no path is needed."""
    from pydoc_data import topics  # half a megabyte that nobody else needs

    return _source(help_text(), "pydoc", {"": Path(topics.__file__)}, label, group_by, settings)


def help_text() -> str:
    """Return the paragraphs of Python's help topics, headings and examples of code left out."""
    from pydoc_data import topics

    paragraphs = (part for name in sorted(topics.topics) for part in topics.topics[name].split("\n\n"))
    prose = (
        " ".join(part.split()) for part in paragraphs if part[:1].isalpha() and "\n*" not in part and "==" not in part
    )
    return "\n".join(part for part in prose if len(part.split()) > 4)


def _source(text: str, name: str, files: dict[str, Path], label: str | None, group_by: str | None, settings: Settings) -> Source:  # fmt: skip
    if label is not None or group_by is not None:
        raise Refusal("data.label, data.group_by", "a text has no columns with names", allowed="null")
    if not text.strip():
        raise Refusal(f"data.path={name}", "there is no text in it", allowed="one line or more")
    by_line = settings["item"] == "line"
    examples, names, cut = (_lines if by_line else _windows)(text, name, settings)
    pools = {pool: Pool(np.zeros(len(own), np.int64), lambda: iter(()), names=names[pool]) for pool, own in examples.items()}  # fmt: skip
    spell = spelling(lower=settings["lower"])
    facts = {"cut": cut, "of_one_text": not by_line}
    written = by_line and settings["unit"] != "character"
    corpus = Corpus(pools, examples, spell, settings["vocabulary"], settings["min_count"], facts, written)
    return corpus.source(files)


Examples = dict[str, list[Sequence[str]]]


def _lines(text: str, name: str, settings: Settings) -> tuple[Examples, dict[str, list[str]], int]:
    """Return the examples of each pool, their names, and how many were cut."""
    examples, names, cut = [], [], 0
    for number, line in enumerate(text.split("\n"), start=1):
        if len(tokens := tokens_of(line.strip(), settings["unit"], settings["punctuation"])):
            examples.append(fitting(tokens, settings, partial("{}, line {}".format, name, number), ends=True))
            names.append(f"line {number}")
            cut += len(examples[-1]) < len(tokens) + 1
    return {"all": examples}, {"all": names}, cut


def _windows(text: str, name: str, settings: Settings) -> tuple[Examples, dict[str, list[str]], int]:
    """Return the windows of train and the passages of dev and test, in the order of the text."""
    tokens, parts = tokens_of(text, settings["unit"], settings["punctuation"]), settings["parts"]
    shares = [parts.get("train", 0.0), parts.get("dev", 0.0), parts.get("test", 0.0)]
    whole = sum(shares) or 1.0
    ends = [round(len(tokens) * part / whole) for part in accumulate(shares, initial=0.0)]
    examples: Examples = {}
    names: dict[str, list[str]] = {}
    for pool, share, (start, end) in zip(("train", "dev", "test"), shares, pairwise(ends), strict=True):
        size = settings["window" if pool == "train" else "passage"]
        starts = range(start, end, size)
        if share > 0 and not starts:
            raise Refusal(
                f"data.split.{pool}", f"this share of {len(tokens):,} tokens is none of them", allowed="a longer text"
            )
        if starts:
            examples[pool] = [tokens[i : min(i + size, end)] for i in starts]
            names[pool] = [f"token {i}" for i in starts]
    return examples, names, 0
