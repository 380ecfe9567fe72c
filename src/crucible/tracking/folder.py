"""The run folder: its lock, its atomic files, and the finding of other run folders."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

from crucible.errors import Refusal


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock ends with the process, however it ends.

    Raises:
        Refusal: another process holds it (named by its pid), or the folder cannot be made or written.
    """
    made = _make(folder)
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
            yield
        except Refusal:
            _unmake(folder, made)
            raise


def _make(folder: Path) -> list[Path]:
    """Make the folder; return the folders that were not there before, innermost first."""
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write in {folder}")
    except OSError as error:
        _unmake(folder, made)
        raise Refusal(
            str(folder), f"cannot be written: {error}", allowed="a folder that can", example="hydra.run.dir=DIR"
        ) from None
    return made


def _unmake(folder: Path, made: list[Path]) -> None:
    """Take away the folders that this refused run made, as long as nothing else is in them."""
    if folder in made and folder.exists():
        (folder / ".lock").unlink(missing_ok=True)
    for each in made:
        if each.exists() and not any(each.iterdir()):
            each.rmdir()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one and nothing between."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
