"""Change a running training: python src/control.py RUN optimizer.lr=0.0003 (or trainer.total_epochs=80, stop, checkpoint, evaluate)."""

import shlex
import time
from pathlib import Path
from typing import Any

from crucible.app.finished import finished_run
from crucible.errors import Refusal
from crucible.report.screen import lined
from crucible.tracking.control import parse, send
from crucible.tracking.folder import holder
from crucible.tracking.journal import NAME, has_ended, read_events

WAIT_SECONDS, POLL_SECONDS = 60.0, 0.1
EXAMPLE = "python src/control.py latest optimizer.lr=0.0003"


def main(arguments: list[str]) -> None:
    """Ask the process that trains in a run folder for a change, and tell what came of it."""
    if len(arguments) != 2:
        raise Refusal("control.py", f"it takes a run and one change, not {len(arguments)} words", example=EXAMPLE)
    folder, change = finished_run(arguments[0]), arguments[1]
    parse(change)
    if (process := holder(folder)) is None:
        ended = has_ended(read_events(folder / NAME))
        state = "it has finished" if ended else "nothing is training in this folder"
        raise Refusal(
            f"run={folder}",
            state,
            allowed="a run that is training",
            example=f"python src/train.py resume={shlex.quote(str(folder))}",
        )
    identity = send(folder, change)
    print(f"asked process {process} for {change}; it answers at its next epoch boundary", flush=True)
    print(_last_screen(folder, change, _answer(folder, identity)))


def _answer(folder: Path, identity: str) -> dict[str, Any] | None:
    """Wait for the run to journal that the change was done or refused; None: not yet."""
    patience = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < patience:
        for event in read_events(folder / NAME):
            if event["kind"] == "control" and event["id"] == identity and event["state"] != "asked":
                return event
        if holder(folder) is None:
            return None
        time.sleep(POLL_SECONDS)
    return None


def _last_screen(folder: Path, change: str, event: dict[str, Any] | None) -> str:
    if event is None:
        return lined([("result", f"{change}: no answer yet"), ("files", str(folder / NAME)), ("next", "mlflow ui")])
    following = "" if change == "stop" else " evaluate"
    values = ", ".join(f"{name} {value:.4f}" for name, value in event.get("values", {}).items())
    return lined(
        [
            ("result", f"{change}: {event['state']} after epoch {event['epoch']}, step {event['step']}"),
            ("now", values),
            ("files", str(folder / NAME)),
            (
                "next",
                f"python src/{'evaluate.py run=' if change == 'stop' else 'control.py '}{shlex.quote(str(folder))}{following}",
            ),
        ]
    )
