"""Are files still as they were written? Their sha256 is compared before what they hold is trusted.

A file below 1 GB is read at once, each time a process needs it. A larger one is read once for each state: what was right in that state
is remembered in `artifacts/verified.jsonl`. The state of a file is its size, its inode, and the times at which its bytes and its inode last
changed; the second cannot be set back, so whoever writes bytes of the same number and sets the first back is noticed too.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from crucible.errors import Refusal

SUMS = "SHA256SUMS"  # of a finished run, as `sha256sum --check` reads it
LINE = re.compile(r"([0-9a-f]{64})  ([\w.]+)")
LARGE = 1 << 30  # bytes
LEDGER = Path("artifacts/verified.jsonl")
_VERIFIED: set[tuple[str | int, ...]] = set()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def code_of(folder: Path) -> str:
    """Return the sha256 of all Python files below a folder, with their paths in it."""
    code = sha256()
    for path in sorted(folder.rglob("*.py")):
        code.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return code.hexdigest()


def changed(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Return the files, by their path in the folder, that are missing or have another sha256 than the one given."""
    return [name for name, digest in digests.items() if not _has(folder / name, digest)]


def sums_of(folder: Path, names: Iterable[str]) -> str:
    """Return the text of SHA256SUMS for those of the named files that are there."""
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names) if (folder / name).exists())


def require_unchanged(folder: Path, *, editable: Sequence[str] = ()) -> list[str]:
    """Refuse a run whose files are damaged; return those of the editable ones that were changed.

    Nothing is known about a run without SHA256SUMS, which was made before there were any.

    Raises:
        Refusal: naming the file.
    """
    if not (folder / SUMS).exists():
        return []
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    if not lines or not all(found):
        raise Refusal(str(folder / SUMS), "the checksums of the run are damaged", allowed="the file that the run wrote")
    wrong = changed(folder, {each[2]: each[1] for each in found if each})
    if damaged := [name for name in wrong if name not in editable]:
        raise Refusal(
            str(folder / damaged[0]), f"missing, damaged, or of another model: it is not as the run wrote it ({SUMS})",
            allowed="the file that the run wrote: restore it from a copy or from MLflow, or train anew",
        )  # fmt: skip
    return wrong


def _has(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    size, *_ = now = state_of(path)
    state: tuple[str | int, ...] = (str(path.absolute()), *now, digest)
    if state in _VERIFIED or (size >= LARGE and list(state) in lines_of(LEDGER)):
        return True
    if sha256_of(path) != digest:
        return False
    _VERIFIED.add(state)
    if size >= LARGE:
        remember(LEDGER, state)
    return True


def state_of(path: Path) -> tuple[int, ...]:
    """Return size, inode, and the times (ns) of the last change of a file's bytes and of its inode."""
    facts = path.stat()
    return facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def cache() -> Path:
    """Return the folder in which this machine keeps what it would else find or fetch anew: CRUCIBLE_CACHE, or ~/.cache/crucible."""
    return Path(os.environ.get("CRUCIBLE_CACHE") or Path.home() / ".cache" / "crucible")


def keep_fact(kind: str, name: str, fact: Mapping[str, Any]) -> None:
    """Keep what is known of something; where it cannot be written it is found anew."""
    with suppress(OSError):
        (cache() / kind).mkdir(parents=True, exist_ok=True)
        draft = cache() / kind / f".{name}.{os.getpid()}"
        draft.write_text(json.dumps(fact), encoding="utf-8")
        draft.replace(cache() / kind / f"{name}.json")


def read_fact(kind: str, name: str) -> dict[str, Any]:
    """Return what is known of something; nothing where it is not, or cannot be read."""
    with suppress(OSError, ValueError):
        fact = json.loads((cache() / kind / f"{name}.json").read_text(encoding="utf-8"))
        return fact if isinstance(fact, dict) else {}
    return {}


def remember(ledger: Path, entry: Any) -> None:
    """Add a line to a ledger; where it cannot be written what it would say is found anew."""
    with suppress(OSError):
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def lines_of(ledger: Path) -> list[Any]:
    """Return the entries of a ledger; a line that cannot be read is none: what it would say is found anew."""
    found = []
    for line in ledger.read_text(encoding="utf-8", errors="replace").splitlines() if ledger.is_file() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
