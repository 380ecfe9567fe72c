"""The run folder: its lock and its atomic files.

flock itself, not filelock: a refusal names the process that holds a folder, and `holder` asks without taking the lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import FileIO
from pathlib import Path

from crucible.errors import Refusal
from crucible.integrity import sync

_LATER: ContextVar[list[Path] | None] = ContextVar("later", default=None)  # what reaches the disk at the end


@contextmanager
def locked(folder: Path, *, fresh: bool = False) -> Iterator[Path]:
    """Hold the run folder for this process and give it; the lock ends with the process, however it ends.

    Args:
        fresh: the folder must be a new one: where it is taken, folder-2, folder-3, ... is made instead.

    Raises:
        Refusal: another process holds it (named by its pid), or the folder cannot be made or written.
    """
    folder, made = _make(folder, fresh)
    new_lock = not (folder / ".lock").exists()
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Refusal(
                str(folder), f"process {file.read().strip()} is training in this folder", allowed="wait, or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield folder
        except BaseException:
            if new_lock and not (folder / "config.yaml").exists():  # the training has not started
                _unmake(folder, made)
            raise


def holder(folder: Path) -> int | None:
    """Return the process that holds the run folder; None where nobody does."""
    if not (folder / ".lock").exists():
        return None
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            return int(file.read().strip() or 0)
    return None


def _make(folder: Path, fresh: bool) -> tuple[Path, list[Path]]:
    """Make the folder; return it and the folders that were not there before, innermost first."""
    missing: list[Path] = []
    try:
        missing = [f for f in folder.parents if not f.exists()]
        while True:
            made = [] if folder.exists() else [folder]
            with suppress(FileExistsError):
                folder.mkdir(parents=True, exist_ok=not fresh)
                break
            if not folder.is_dir():
                raise NotADirectoryError(f"{folder} is a file")
            folder = _next_name(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write in {folder}")
    except OSError as error:
        _unmake(folder, missing)
        raise Refusal(
            str(folder),
            f"cannot be written: {error}",
            allowed="a folder that can",
            example="hydra.run.dir=DIR; of a search hydra.sweep.dir=DIR",
        ) from None
    return folder, [*made, *missing]


def _next_name(folder: Path) -> Path:
    stem, dash, number = folder.name.rpartition("-")
    counted = bool(dash) and number.isdigit() and folder.with_name(stem).exists()
    return folder.with_name(f"{stem}-{int(number) + 1}" if counted else f"{folder.name}-2")


def _unmake(folder: Path, made: list[Path]) -> None:
    """Take away the lock and the folders that this refused run made, as long as nothing else is in them."""
    if folder.exists():
        (folder / ".lock").unlink(missing_ok=True)
    for each in made:
        if each.exists() and not any(each.iterdir()):
            each.rmdir()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one and nothing between."""
    draft, later = path.with_name(path.name + ".new"), _LATER.get()
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            if later is None:
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:  # the disk is full: what was there stays, and no draft takes its room
        draft.unlink(missing_ok=True)
        raise
    if later is None:
        sync(path.parent)
    else:
        later += [path, path.parent]


@contextmanager
def on_disk_at_the_end(*more: Path) -> Iterator[None]:
    """Let what is written in here, and more files, reach the disk together at the end: where nothing counts before all is there."""
    written: list[Path] = []
    token = _LATER.set(written)
    try:
        yield
    finally:
        _LATER.reset(token)
    for path in dict.fromkeys([*written, *(each for each in more if each.exists())]):
        sync(path)


def append_whole(file: FileIO, line: bytes) -> None:
    """Append a line to an unbuffered file: all of it, or where the disk is full nothing."""
    whole = os.fstat(file.fileno()).st_size
    try:
        while line:
            line = line[file.write(line) :]
    except OSError:
        file.truncate(whole)
        raise
