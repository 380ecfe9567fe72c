"""Folders that a trial reads, brought to a host that does not have them: found by content, fetched in parts, checked, then there.

What lies at the same path with the same content (this machine, a shared disk) costs nothing. Else a host keeps one copy in its cache,
`CRUCIBLE_CACHE` or ~/.cache/crucible, for all its workers.
"""

import fcntl
import io
import shutil
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from typing import IO
from uuid import uuid4

from crucible.errors import Refusal
from crucible.integrity import cache, sha256_of

PART = 32 << 20  # bytes of a file that are asked for at a time
SMALL = 1 << 20  # bytes of a file that is part of what a folder is called by: cards and checksums are
Read = Callable[[str, int, int], bytes]
_HELD: list[IO[str] | None] = []  # locks of this process


def content_of(folder: Path) -> str:
    """Return what a folder is called by (64 letters): names and sizes of its files, and what the small ones hold.

    Cards and checksums are small, and tell the digests of the rest.
    """
    found = sha256()
    for path in files_of(folder):
        size = path.stat().st_size
        found.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        if size < SMALL:
            found.update(path.read_bytes())
    return found.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Return the files below a folder, but for hidden ones, which are its locks and drafts."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def digests_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and sha256 of each file by its path in the folder."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_of(path)) for path in files_of(folder)}


def read_part(path: Path, offset: int, size: int) -> bytes:
    """Return a part of a file."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def brought(folder: str, content: str, listing: Callable[[], dict[str, tuple[int, str]]], read: Read) -> Path:
    """Return where this host has a folder: where it is called, or in its cache, fetched if it is not there yet.

    Args:
        folder: its path at home. content: what it is called by. listing: gives digests_of it. read: a part of one of its files.

    Raises:
        Refusal: a file did not come as it is at home.
    """
    if (own := Path(folder)).is_dir() and content_of(own) == content:
        return own
    home = cache() / content
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f".{content}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            draft = home.with_name(f".{content}.new")
            shutil.rmtree(draft, ignore_errors=True)
            for name, (size, digest) in listing().items():
                _fetch(draft / name, name, size, digest, read)
            draft.replace(home)
    return home


def _fetch(path: Path, name: str, size: int, digest: str, read: Read) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for offset in range(0, size, PART):
            file.write(read(name, offset, min(PART, size - offset)))
    if sha256_of(path) != digest:
        raise Refusal(name, "it did not come as it is at home: it has changed since, or was damaged on the way")


def packed(folder: Path) -> bytes:
    """Return the files of a folder as one archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files_of(folder):
            archive.add(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Write the files of an archive into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as own:
        own.extractall(folder, filter="data")


def scratch() -> Path:
    """Return a new folder for the files of one worker's trials; those of workers of this host that are gone go.

    Hosts may share the cache: a folder is called by its host, and locked as long as its worker lives.
    """
    trials = cache() / "trials"
    trials.mkdir(parents=True, exist_ok=True)
    for folder in trials.glob(f"{gethostname()}-*"):
        if _lock_of(folder).exists() and (lock := _locked(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)
            lock.close()
    own = trials / f"{gethostname()}-{uuid4().hex[:12]}"
    own.mkdir()
    _HELD.append(_locked(own))
    return own


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _locked(folder: Path) -> IO[str] | None:
    """Return the lock of a folder, held; None where another process holds it."""
    file = _lock_of(folder).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
