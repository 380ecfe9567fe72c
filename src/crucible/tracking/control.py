"""Babysitting one model: changes to a running training, each at the next epoch boundary, each once (notes 000, part 6).

`control.jsonl` in the run folder holds the requests, one JSON object a line: {"id": ..., "change": "optimizer.lr=0.0003"}.
The training journals a request, then does it, then journals that it is done. What is journaled is what happened: a resumed
run does again what its journal tells of boundaries that its checkpoint does not know.
"""

import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from crucible.errors import Refusal
from crucible.files import CONTROL
from crucible.schema import LARGEST, nearest
from crucible.tracking.folder import holder
from crucible.tracking.journal import NAME, Event, Journal, has_ended, read_events

WORDS = ("stop", "checkpoint", "evaluate")
KEYS = ("optimizer.lr", "trainer.total_epochs")


def parse(change: str) -> tuple[str, float | None]:
    """Return what to change, and to what.

    Raises:
        Refusal: it is none of the changes that a running training takes.
    """
    name, equals, text = change.partition("=")
    if change in WORDS:
        return change, None
    allowed = ", ".join([*(f"{key}=..." for key in KEYS), *WORDS])
    if name not in KEYS or not equals:
        close = nearest(name, [*KEYS, *WORDS])
        raise Refusal(change, "a running training does not take this", allowed=allowed, nearest=close)
    try:
        value = float(text) if name == "optimizer.lr" else int(text)
    except ValueError:
        value = math.nan
    if not 0 < value < (math.inf if name == "optimizer.lr" else LARGEST):
        what = "a number" if name == "optimizer.lr" else "a whole number"
        raise Refusal(change, f"{text!r} is refused", allowed=f"{what} above 0", example=f"{name}={EXAMPLES[name]}")
    return name, value


EXAMPLES = {"optimizer.lr": "0.0003", "trainer.total_epochs": "80"}


def send(folder: Path, change: str) -> str:
    """Append a request to the run's control file and return its id."""
    parse(change)
    identity = uuid4().hex[:12]
    with (folder / CONTROL).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": identity, "change": change}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return identity


def extend(folder: Path, schedule: Mapping[str, Any], change: str) -> None:
    """Ask a run that has ended, or was stopped, for more epochs; what is in the folder stays until it ends again.

    Raises:
        Refusal: a process trains in the folder, no more epochs than it has, or a schedule whose rate has come to 0.
    """
    wanted = int(parse(change)[1] or 0)
    events = list(read_events(folder / NAME))
    done = max((event.get("epoch", 0) for event in events), default=0)
    if (process := holder(folder)) is not None:
        raise Refusal(
            str(folder),
            f"process {process} is training in this folder",
            example=f"python src/control.py {shlex.quote(str(folder))} {change}",
        )
    if wanted == done and has_ended(events):
        return  # it is as long as that already
    if wanted <= done:
        raise Refusal(
            change,
            f"this run has trained {done} epochs",
            allowed=f"more than {done}",
            example=f"trainer.total_epochs={2 * done}",
        )
    if "epochs" in schedule and schedule.get("final_share") == 0:
        raise Refusal(change, f"its schedule has brought the rate to 0 by epoch {schedule['epochs']}: longer would change nothing",
                      allowed="a new run of that length, from these weights",
                      example=f"transfer=from_run transfer.source={shlex.quote(str(folder))} {change}")  # fmt: skip
    send(folder, change)
    if has_ended(events):
        journal = Journal(folder)
        journal.append(
            "extend", epoch=done, step=max((event.get("step", 0) for event in events), default=0), change=change
        )
        journal.close()


def control_requests(folder: Path) -> list[dict[str, Any]]:
    """Return the requests in the control file, in order; an unfinished line is not yet one."""
    path = folder / CONTROL
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [request for line in lines if (request := _request(line)) is not None]


def _request(line: str) -> dict[str, Any] | None:
    try:
        request = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(request, dict) and all(isinstance(request.get(key), str) for key in ("id", "change"))
    return request if whole else None


def replayed(events: Iterable[Event], known: Iterable[str]) -> dict[int, list[dict[str, Any]]]:
    """Return what a journal tells was asked, by boundary (epochs completed then), without what is known already.

    `done` says of each whether the journal also tells that it was done.
    """
    recorded = [event for event in events if event["kind"] == "control"]
    done, seen = {event["id"] for event in recorded if event["state"] == "done"}, set(known)
    found: dict[int, list[dict[str, Any]]] = {}
    for event in recorded:
        if event["state"] == "asked" and event["id"] not in seen:
            seen.add(event["id"])
            request = {"id": event["id"], "change": event["change"], "done": event["id"] in done}
            found.setdefault(event["epoch"], []).append(request)
    return found
