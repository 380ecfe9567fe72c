"""The words of commands that compose nothing: key=value, each known, each once."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from crucible.errors import Refusal
from crucible.schema import nearest


def read_arguments(arguments: Iterable[str], defaults: Mapping[str, str], *, example: str) -> dict[str, str]:
    """Return the value of every key, the default where a word does not give one.

    Raises:
        Refusal: a word that is no key=value, a key that is unknown or given twice.
    """
    given: dict[str, str] = {}
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or key not in defaults:
            what = f"there is no key '{key}'" if equals else "it is no key=value"
            raise Refusal(
                word,
                what,
                allowed=", ".join(f"{each}=..." for each in defaults),
                nearest=nearest(key, defaults),
                example=example,
            )
        if key in given:
            raise Refusal(word, f"{key} is given twice", example=example)
        given[key] = value
    return {**defaults, **given}


def whole_number(key: str, value: str, *, least: int = 0) -> int:
    """Return a whole number of at most nine digits.

    Raises:
        Refusal: it is none.
    """
    if not (value.isdecimal() and len(value) < 10) or int(value) < least:
        raise Refusal(
            f"{key}={value}",
            f"it is no whole number from {least}",
            allowed=f"{least}, {least + 1}, ...",
            example=f"{key}=3",
        )
    return int(value)


def whole_numbers(key: str, value: str, *, least: int = 1) -> list[int]:
    """Return whole numbers with commas between them; none of an empty value.

    Raises:
        Refusal: one of them is none.
    """
    return [whole_number(key, each, least=least) for each in value.split(",")] if value else []


def output_file(key: str, value: str) -> Path:
    """Return where to write.

    Raises:
        Refusal: it is a folder, or stands in none.
    """
    path = Path(value).expanduser()
    if path.is_dir() or not path.parent.is_dir():
        what = "it is a folder" if path.is_dir() else "its folder does not exist"
        raise Refusal(f"{key}={value}", what, allowed="a file in a folder that is there")
    return path


def one_of(key: str, value: str, allowed: Iterable[str]) -> str:
    """Return the value.

    Raises:
        Refusal: it is none of those allowed.
    """
    allowed = list(allowed)
    if value not in allowed:
        raise Refusal(f"{key}={value}", "is refused", allowed=", ".join(allowed), nearest=nearest(value, allowed))
    return value


def fraction(key: str, value: str) -> float:
    """Return a number from 0 to 1.

    Raises:
        Refusal: it is none.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise Refusal(f"{key}={value}", "it is no number from 0 to 1", allowed="0 to 1", example=f"{key}=0.5")
    return number


def output_folder(key: str, value: str) -> Path:
    """Return a folder to write into, which need not be there yet.

    Raises:
        Refusal: a file stands in its way.
    """
    path = Path(value).expanduser()
    if any(each.exists() and not each.is_dir() for each in (path, *path.parents)):
        raise Refusal(
            f"{key}={value}", "cannot be written: a file stands in its way", allowed="a folder, there or not yet",
            example=f"{key}=DIR",
        )  # fmt: skip
    if not os.access(next(each for each in (path, *path.absolute().parents) if each.exists()), os.W_OK):
        raise Refusal(f"{key}={value}", "it may not be written", allowed="a folder that may")
    return path
