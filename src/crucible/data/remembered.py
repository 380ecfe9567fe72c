"""Which data key raw files have given: as long as nothing has changed them, a later start reads none of their bytes.

A file is known by its state (crucible.integrity), a folder by the states of all files and folders in it. Nothing is remembered

- where a reader has read beside what `data.path` names: what else it would find there is not known;
- of what was changed shortly before it was read: a second change within one tick of the clock would not show;
- on file systems whose times are another machine's, or do not tell of what is written through memory.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from crucible.integrity import keep_fact, read_fact, state_of, sync

SETTLED = 2.0  # seconds
LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay")  # file systems
MOUNTS = Path("/proc/self/mountinfo")


class Question:
    """Which data key is that of these raw files, read in this way?

    Args:
        path: what `data.path` names; None: there are no files to be read. recipe: all settings that change the prepared bytes.
    """

    def __init__(self, path: Path | None, recipe: Mapping[str, Any]) -> None:
        self._path, self._asked_at = path and path.absolute(), time.time()
        words = [str(self._path), json.dumps(recipe, sort_keys=True, default=list)]
        self._asked = sha256(json.dumps(words).encode()).hexdigest()
        self._found = _states(self._path)

    def answer(self) -> str | None:
        """Return the key; None where it is not known, or where anything has changed."""
        told = read_fact("sources", self._asked)
        if self._found is None or told.get("state") != _digest(self._found):
            return None
        key: str | None = told.get("key")
        return key

    def settle(self) -> None:
        """Before the files are read: let what others have written through memory reach the disk, so that a later change has a later time."""
        if self._path is not None and self._found is not None:
            with suppress(OSError):
                for file in _below(self._path):
                    sync(file)
            self._found = _states(self._path)

    def remember(self, files: Iterable[Path], key: str) -> None:
        """Remember the key, if these files are all that was read, and are as they were when this was asked, and for a while before."""
        before = self._found
        if before is None or _states(self._path) != before:
            return
        if not {str(file.absolute()) for file in files} <= {place for place, _ in before}:
            return
        if max(max(times) for _, (_, _, *times) in before) < (self._asked_at - SETTLED) * 1e9:
            keep_fact("sources", self._asked, {"state": _digest(before), "key": key})


def _states(path: Path | None) -> list[tuple[str, tuple[int, ...]]] | None:
    """Return the state of a file, or of all that lies below a folder, and of the folder; None where it cannot be told."""
    try:
        if path is None or _file_system(path) not in LOCAL:
            return None
        return [(str(each), state_of(each)) for each in sorted(_below(path))]
    except OSError:
        return None


def _below(path: Path) -> Iterator[Path]:
    """Give a file; or a folder, and all that lies in it.

    Raises:
        OSError: a folder in it cannot be read, or is a link: what lies beyond it is not seen.
    """
    yield path
    for entry in os.scandir(path) if path.is_dir() else ():
        if entry.is_symlink() and entry.is_dir():
            raise OSError(f"{entry.path} is a link to a folder")
        yield from _below(Path(entry.path)) if entry.is_dir() else (Path(entry.path),)


def _file_system(path: Path) -> str:
    """Return the kind of the file system that a path lies on; empty where this machine does not say."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in MOUNTS.read_text(encoding="utf-8").splitlines() if MOUNTS.exists() else ():
        facts, _, more = line.partition(" - ")
        if facts.split()[2] == number:
            return more.split()[0]
    return ""


def _digest(found: Any) -> str:
    return sha256(json.dumps(found).encode()).hexdigest()
