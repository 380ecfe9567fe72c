"""What is promised of the files, read back: equal bytes, and a journal with each epoch once and in order."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

from crucible.files import CURVES, SUMMARY, WEIGHTS
from crucible.tracking.journal import NAME, Event

BYTES = (WEIGHTS, CURVES, "predictions.csv", "confusion.csv")
NUMBERS = (SUMMARY, "metrics.json")


def promised(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a run whose bytes are promised; measured times do not count."""
    found = {name: _digest((folder / name).read_bytes()) for name in BYTES if (folder / name).exists()}
    for name in NUMBERS:
        if (folder / name).exists():
            facts = json.loads((folder / name).read_text(encoding="utf-8"))
            facts.pop("latency_ms_per_example", None)
            found[name] = _digest(json.dumps(facts, sort_keys=True).encode())
    return found


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): _digest(path.read_bytes()) for path in files}


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def differing(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return the names that are missing or have other bytes."""
    return [
        f"{name} differs" if name in found else f"{name} is missing"
        for name in wanted
        if found.get(name) != wanted[name]
    ]


def events(folder: Path) -> list[Event]:
    """Return the whole lines of a run's journal."""
    return [json.loads(line) for line in (folder / NAME).read_text(encoding="utf-8").split("\n")[:-1]]


def history(folder: Path) -> list[str]:
    """Return what is wrong with a journal: a torn line, an epoch missing, doubled or out of order."""
    text = (folder / NAME).read_text(encoding="utf-8")
    if not text.endswith("\n"):
        return ["the journal's last line is torn"]
    found = [event["epoch"] for event in events(folder) if "train/loss" in event.get("values", ())]
    return [] if found == list(range(1, len(found) + 1)) else [f"the journal's epochs are {found}"]


def has_begun(folder: Path) -> bool:
    """Whether a training has recorded its start: then it can be resumed."""
    return (folder / NAME).exists() and b"\n" in (folder / NAME).read_bytes()


def fresh(folder: Path) -> Path:
    """Return the folder, new and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
