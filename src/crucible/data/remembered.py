"""Which data key raw files have given: as long as nothing has changed them, a later start reads none of their bytes.

A file is known by its state (crucible.integrity), a folder by the states of all files and folders in it. What was changed shortly before
it was read is not remembered: a second change within one tick of the clock would not show.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from crucible.integrity import lines_of, remember, state_of

LEDGER = Path("artifacts/sources.jsonl")
SETTLED = 2.0  # seconds


class Question:
    """Which data key is that of these raw files, read in this way?

    Args:
        path: what `data.path` names; None: there are no files to be read. recipe: all settings that change the prepared bytes.
    """

    def __init__(self, path: Path | None, recipe: Mapping[str, Any]) -> None:
        self._path, self._asked_at = path, time.time()
        words = [str(path and path.absolute()), json.dumps(recipe, sort_keys=True, default=list)]
        self._asked = sha256(json.dumps(words).encode()).hexdigest()

    def answer(self) -> str | None:
        """Return the key; None where it is not known, or where anything has changed."""
        told = [each for each in lines_of(LEDGER) if isinstance(each, dict) and each.get("asked") == self._asked]
        if not told or (found := _states(self._path, map(Path, told[-1]["files"]))) is None:
            return None
        key: str = told[-1]["key"]
        return key if _digest(found) == told[-1]["state"] else None

    def remember(self, files: Iterable[Path], key: str) -> None:
        """Remember the key, if the files, and what lies beside them, had not been changed for a while when this was asked."""
        named = [file.absolute() for file in files]
        found = _states(self._path, named) if named else None
        if found and max(max(times) for _, (_, _, *times) in found) < (self._asked_at - SETTLED) * 1e9:
            outside = [str(file) for file in named if self._path is None or self._path.absolute() not in file.parents]
            remember(LEDGER, {"asked": self._asked, "state": _digest(found), "files": outside, "key": key})


def _states(path: Path | None, files: Iterable[Path]) -> list[tuple[str, tuple[int, ...]]] | None:
    """Return the state of all that lies below a folder, and of the files and the folders they are in; None where it cannot be told."""
    try:
        places = set(_below(path.absolute())) if path is not None and path.is_dir() else set[Path]()
        for file in files:  # where a reader has looked beside the file that was named, another may come to lie
            places |= {file} if path is not None and file == path.absolute() else {file, file.parent}
        return [(str(place), state_of(place)) for place in sorted(places)]
    except OSError:
        return None


def _below(folder: Path) -> Iterable[Path]:
    """Give a folder and all that lies in it.

    Raises:
        OSError: a folder in it cannot be read, or is a link: what lies beyond it is not seen.
    """
    yield folder
    for entry in os.scandir(folder):
        if entry.is_symlink() and entry.is_dir():
            raise OSError(f"{entry.path} is a link to a folder")
        yield from _below(Path(entry.path)) if entry.is_dir() else (Path(entry.path),)


def _digest(found: Any) -> str:
    return sha256(json.dumps(found).encode()).hexdigest()
