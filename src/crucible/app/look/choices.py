"""Words that are suggested, and why; and what words that a person gave leave open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crucible.app.compose import compose, plain
from crucible.app.quoting import GROUPS, flags, key_of, quoted
from crucible.data.readers.source import Source
from crucible.instantiate import build


@dataclass(frozen=True)
class Choice:
    """Words of a command, and why they suit the data."""

    words: tuple[str, ...]
    why: str


def data_node(words: Sequence[str]) -> dict[str, Any]:
    """Return the composed group `data` of some words."""
    node: dict[str, Any] = plain(compose(flags([]), [quoted(word) for word in words]))["data"]
    return node


def source_of(words: Sequence[str]) -> Source:
    """Return the source that some words of the group `data` read."""
    data = data_node(words)
    path = None if data["path"] is None else Path(data["path"]).expanduser()
    source: Source = build("data.reader", data["reader"], path, data["label"], data["group_by"])
    return source


def still_open(choice: Choice, given: Sequence[str]) -> Choice:
    """Return a choice without what a person has decided: a key, or a group whose own keys then go with it."""
    keys = [key_of(word) for word in given]
    groups = {key for key in keys if key in GROUPS}
    words = (word for word in choice.words if key_of(word) not in keys and key_of(word).partition(".")[0] not in groups)
    return replace(choice, words=tuple(words))
