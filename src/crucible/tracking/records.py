"""What the mirror keeps in run folders and what it may write: records, locks, names that MLflow takes, no passwords."""

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from crucible.errors import printable
from crucible.text import redacted
from crucible.tracking.folder import holder
from crucible.tracking.journal import NAME, read_events

STORE = "CRUCIBLE_MIRROR_URI"  # how the mirror learns its store: other users of a machine see a process's arguments
STATUS = {"end": "FINISHED", "searched": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "stopped": "KILLED"}
LONGEST_NAME = 250
ODD = re.compile(r"[^\w. :-]")  # in the name of a metric, for MLflow


def behind(root: Path, uri: str) -> list[Path]:
    """Return the journals under the project that belong in this store but are not there to their end, oldest first."""
    return [path for path, state in _mirrored(root, uri) if state["offset"] < path.stat().st_size]


def killed(root: Path, uri: str) -> list[Path]:
    """Return the journals under the project whose runs the store takes for running, though no process is at them."""
    waiting = [(path, state) for path, state in _mirrored(root, uri) if state["run_id"] and not state.get("killed")]
    return [path for path, state in waiting if not _has_ended(path, state) and is_left(path)]


def _mirrored(root: Path, uri: str) -> list[tuple[Path, dict[str, Any]]]:
    """Return the journals under the project that belong in this store, oldest first, and their records."""
    records = sorted(p for home in ("outputs", "multirun", "artifacts") for p in (root / home).rglob("mirror*.json"))
    pairs = [(p.with_name(p.name.replace("mirror", "journal") + "l"), read_state(p)) for p in records]
    return [(path, states[key]) for path, states in pairs if (key := redacted(uri)) in states and path.exists()]


def _has_ended(path: Path, state: dict[str, Any]) -> bool:
    """Whether a run came to an end and was not resumed; records of earlier versions do not tell."""
    kinds = [event["kind"] for event in read_events(path)] if "ended" not in state else []
    ends = [kind in STATUS for kind in kinds if kind in STATUS or kind == "resume"]
    return state["ended"] if "ended" in state else bool(ends and ends[-1])


def is_left(path: Path) -> bool:
    """Whether no process trains what this journal records: it was set aside, or nobody holds its folder."""
    return path.name != NAME or holder(path.parent) is None


def metric_name(name: str) -> str:
    """Return a name as MLflow takes it: what it refuses in one, `c++` or `../x`, as _x2b_, the letter's number."""
    parts = [ODD.sub(lambda odd: f"_x{ord(odd[0]):x}_", part) for part in name.split("/")]
    found = "/".join(part if part.strip(".") else part.replace(".", "_x2e_") or "_" for part in parts)
    short = f"{found[: LONGEST_NAME - 17]}_{sha256(name.encode()).hexdigest()[:16]}"
    return found if len(found) <= LONGEST_NAME else short


def plain(text: str) -> str:
    """Return text without passwords and without characters that hide or steer."""
    return redacted(printable(text))


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a file, waiting for whoever holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Take turns at a sqlite store: its tables are made by one process, and writers do not meet."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_name(path.name + ".lock")):
        yield


@contextmanager
def alone(folder: Path, uri: str) -> Iterator[None]:
    """Hold a run folder's mirror in this store."""
    with lock(folder / f".mirror-{sha256(redacted(uri).encode()).hexdigest()[:8]}.lock"):
        yield


def read_state(path: Path) -> dict[str, Any]:
    """Return the record of each store; earlier versions wrote passwords into it."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {redacted(uri): state for uri, state in found.items()}


def from_yaml(text: str) -> dict[str, Any]:
    """Return what YAML says."""
    import yaml

    return yaml.safe_load(text)


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys: {"data": {"name": "digits"}} gives {"data.name": "digits"}."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


class RedactedStream:
    """A stream that shows no passwords, whatever is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text without passwords."""
        return self._stream.write(redacted(text))

    def flush(self) -> None:
        """Write through."""
        self._stream.flush()
