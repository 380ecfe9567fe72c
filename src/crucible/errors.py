"""What the user must fix, shown on one screen."""

import re
import sys
from collections.abc import Sequence
from typing import Any
from unicodedata import category

INTERRUPTED = 130  # the exit code that shells expect of a process that was
MOST, ENDING = 1000, 100  # letters of a line on the screen, and of those the last ones where it is cut
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats such as the marks of direction, lone surrogates, separators


class Refusal(ValueError):
    """A refusal before any work: where, what, what is allowed, what is nearest, and an example to copy.

    Args:
        where: the key, file or row that holds the fault.
        what: the value and the rule it breaks.
        allowed, nearest, example: empty when there is nothing useful to say.
    """

    def __init__(self, where: str, what: str, *, allowed: str = "", nearest: str = "", example: str = "") -> None:
        lines = {
            "where": where or "an empty word",
            "what": what,
            "allowed": allowed,
            "nearest": nearest,
            "example": example,
        }
        super().__init__("\n".join(f"{name:>8}: {_shown(as_called(text))}" for name, text in lines.items() if text))
        self.lines = lines

    def __reduce__(self) -> tuple[Any, ...]:
        """Be the same in another process."""
        return _told, (type(self), self.lines)


class Stopped(Refusal):
    """A training that had started and cannot go on: what it recorded stays."""


class Pruned(Exception):
    """A trial that a search stopped, and why; no failure."""


def _told(kind: type[Refusal], lines: dict[str, str]) -> Refusal:
    return kind(**lines)


def as_called(text: str) -> str:
    """Return text with its commands as this process was called: `crucible train` where it was not `python src/train.py`."""
    return re.sub(r"(?:python )?src/(\w+)\.py", r"crucible \1", text) if sys.argv[0].startswith("crucible ") else text


def _shown(text: str) -> str:
    long = len(text) > MOST
    return printable(f"{text[: MOST - ENDING]}...({len(text)} letters)...{text[-ENDING:]}" if long else text)


def printable(text: str) -> str:
    r"""Return text that a terminal only shows: each character that would steer it or hide stands as an escape, as \x1b."""
    return "".join(c.encode("unicode_escape").decode() if category(c) in HIDDEN else c for c in text)


def few(names: Sequence[str], most: int) -> str:
    """Return names in a row, of many the first."""
    return ", ".join(map(printable, names[:most])) + (f", and {len(names) - most} more" if len(names) > most else "")
