"""The runs of a project, newest first, and which of them a name means."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from crucible.errors import Refusal
from crucible.files import CARD, CONFIG, SUMMARY
from crucible.inference.saved_run import read_config
from crucible.tracking.folder import holder
from crucible.tracking.journal import MIRRORED, NAME, has_ended, read_events
from crucible.tracking.records import read_state

HOMES = ("outputs/*/*", "multirun/*/*/*", "multirun/*/*", "artifacts/train", "artifacts/*/train")


@dataclass(frozen=True)
class RunLine:
    """A run in a table.

    Attributes:
        began: when. state: finished, training, stopped, or failed. epochs: that were trained. metric, value: the monitored number on dev, or on
            train where there is no dev; None where it has none yet. test: of it, where that split was looked at.
    """

    folder: Path
    began: datetime
    name: str
    data: str
    model: str
    state: str
    epochs: int
    metric: str
    value: float | None
    test: float | None
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {**vars(self), "folder": str(self.folder)}


def run_folders() -> list[Path]:
    """Return every folder of a run in this project."""
    found = {path.parent for home in HOMES for path in Path().glob(f"{home}/{CONFIG}") if (path.parent / CARD).exists()}
    return sorted(each for each in found if not each.is_symlink() and "latest" not in each.parts)


def runs() -> list[RunLine]:
    """Return the runs, the newest first; one whose files are damaged is left out."""
    return sorted(_lines(), key=lambda line: line.began, reverse=True)


def _lines() -> Iterator[RunLine]:
    for folder in run_folders():
        try:
            yield _line(folder)
        except (Refusal, OSError, ValueError, KeyError, TypeError, StopIteration):
            continue


def _line(folder: Path) -> RunLine:
    config, events = read_config(folder), list(read_events(folder / NAME))
    start = next(iter(events))
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8")) if (folder / SUMMARY).exists() else {}
    judged = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8")) if (folder / "metrics.json").exists() else {}
    )
    monitor = str(config["task"]["monitor"])
    last: dict[str, float] = next(
        (event["values"] for event in reversed(events) if event["kind"] == "metrics" and "dev/loss" in event["values"]),
        {},
    )
    value = (summary.get("dev") or summary.get("train") or {}).get(monitor, last.get(f"dev/{monitor}"))
    return RunLine(
        folder, datetime.fromtimestamp(start["time"]), start.get("name", ""), config["data"]["name"],
        config["model"]["_target_"].rpartition(".")[2], _state(folder, events), max((event.get("epoch", 0) for event in events), default=0), monitor, value,
        (judged.get("test") or {}).get(monitor), config["seed"],
    )  # fmt: skip


def _state(folder: Path, events: list[dict[str, Any]]) -> str:
    if has_ended(events):
        return "finished"
    if holder(folder) is not None:
        return "training"
    return "failed" if events[-1]["kind"] == "failed" else "stopped"


def named(name: str) -> Path | None:
    """Return the newest run that was called so (run_name), or that MLflow knows by this id; None where there is none."""
    found = [folder for folder in run_folders() if name in _names(folder)]
    return max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime, default=None)


def _names(folder: Path) -> set[str]:
    try:
        states = read_state(folder / MIRRORED).values() if (folder / MIRRORED).exists() else ()
        names = (read_config(folder).get("run_name"), *(state.get("run_id") for state in states))
        return {str(name) for name in names if name is not None}
    except (Refusal, OSError, ValueError, AttributeError):
        return set()
