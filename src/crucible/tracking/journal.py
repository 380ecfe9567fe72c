"""The journal of a run: one JSON object a line, only ever appended to, the source of truth for every later reader.

Each line ends with the CRC-32 of what stands before it, so that damage is not read as a result.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any
from zlib import crc32

from crucible.errors import Refusal
from crucible.tracking.folder import append_whole

NAME, MIRRORED = "journal.jsonl", "mirror.json"
PARENT = "crucible.parent"  # the tag of a trial that names its sweep's journal
SEAL = ', "crc32": '
MEASURED = "system/"  # of the machine, not of the training: names that differ from one time to the next
Event = dict[str, Any]


class Journal:
    """The append-only record in a run folder.

    Points that are recorded already are not recorded again: a resumed run computes epochs after its checkpoint anew,
    bit for bit, and may find them here.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        _cut_torn_line(self.path)
        self._recorded = {_identity(event) for event in read_events(self.path)}
        self._file = FileIO(self.path, "a")

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event through to the operating system; where the disk is full, none of it."""
        event = {"kind": kind, "time": time.time(), **fields}
        if kind in ("metrics", "best", "evaluate") and _identity(event) in self._recorded:
            return
        append_whole(self._file, (_sealed(json.dumps(event, allow_nan=False)) + "\n").encode())

    def sync(self) -> None:
        """Force what is written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """Give the events of a journal in order; a torn last line is no event.

    Raises:
        Refusal: a line is damaged.
    """
    if path.exists():
        with path.open("rb") as file:
            yield from (parsed(line, path, number) for number, line in enumerate(file, 1) if line.endswith(b"\n"))


def _sealed(text: str) -> str:
    """Return a JSON object with the checksum of its text as the last key."""
    return f"{text[:-1]}{SEAL}{crc32(text.encode())}}}"


def parsed(line: bytes, path: Path, number: int = 0) -> Event:
    """Return the event of a line; one without a checksum, of a journal of before, is taken as it is.

    Raises:
        Refusal: the line is damaged.
    """
    body, sealed, check = line.rstrip(b"\n").rpartition(SEAL.encode())
    text = body + b"}" if sealed else line
    try:
        if sealed and int(check[:-1]) != crc32(text):
            raise ValueError("its checksum differs")
        event = json.loads(text)
        event["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(
            f"{path}, line {number}", f"the journal is damaged: {error}",
            allowed="the file as it was written: restore it from a copy, or train anew in another folder",
        ) from None  # fmt: skip
    return event


def has_ended(events: Iterable[Event]) -> bool:
    """Whether the run came to its end, and was not asked for more epochs since."""
    ends = [event["kind"] for event in events if event["kind"] in ("end", "extend")]
    return bool(ends) and ends[-1] == "end"


def set_aside(folder: Path) -> None:
    """Move the journal to the first free journal.<n>.jsonl, n from 1, and the mirror's record of it with it."""
    number = next(n for n in range(1, 1_000_000) if not (folder / f"journal.{n}.jsonl").exists())
    (folder / NAME).rename(folder / f"journal.{number}.jsonl")
    if (folder / MIRRORED).exists():
        (folder / MIRRORED).rename(folder / f"mirror.{number}.json")


def _identity(event: Event) -> tuple[Any, ...]:
    return (
        event["kind"],
        event.get("step"),
        tuple(name for name in event.get("values", ()) if not name.startswith(MEASURED)),
    )


def _cut_torn_line(path: Path) -> None:
    """Take away what a killed process left of an unfinished line."""
    if path.exists():
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(path, end)


def working_seconds(events: Iterable[Event]) -> float:
    """Return how long a training worked: from each start or resume to its last event before the next one, and to its end."""
    total, begun, last = 0.0, None, 0.0
    for event in events:
        if event["kind"] in ("start", "resume"):
            total += last - begun if begun is not None else 0.0
            begun = event["time"]
        last = event["time"]
        if event["kind"] == "end":
            break
    return total + (last - begun if begun is not None else 0.0)
