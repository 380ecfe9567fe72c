"""Opening a run folder: a new journal, or the old one and its checkpoint where the same training was interrupted."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.files import CARD, CHECKPOINT, CONFIG, CONTROL, CURVES, EVALUATION, SUMMARY, WEIGHTS
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, Event, Journal, has_ended, read_events, set_aside
from crucible.training import checkpoint

STALE = (CHECKPOINT, WEIGHTS, SUMMARY, CURVES, *EVALUATION)


@dataclass(frozen=True)
class Identity:
    """What makes two trainings the same: hashes of the configuration, the data and the code."""

    config: str
    data: str
    code: str


@dataclass(frozen=True)
class Opened:
    """A run folder ready to train in.

    Attributes:
        journal: open for appending. state: the checkpoint to go on from, or None. interrupted: whether the same
            training was here before. threads: what the interrupted training used, or None.
    """

    journal: Journal
    state: dict[str, Any] | None
    interrupted: bool
    threads: int | None


def open_run(folder: Path, who: Identity, config: str, card: Card) -> Opened:
    """Go on where the same training was interrupted; else set the old journal aside and begin anew."""
    events = list(read_events(folder / NAME))
    same = bool(events) and not has_ended(events) and _of(events[0]) == who
    if events and not same:
        set_aside(folder)
    if not same:
        (folder / CONTROL).unlink(missing_ok=True)
    state = checkpoint.load(folder) if same else None
    state = state if state and state.get("identity") == asdict(who) else None
    if state is None:
        for stale in STALE:
            (folder / stale).unlink(missing_ok=True)
    write_atomic(folder / CONFIG, config.encode())
    card.write(folder / CARD)
    threads = events[0]["threads"] if same else None
    return Opened(Journal(folder), state, same, threads)


def begin(opened: Opened, who: Identity, **facts: Any) -> None:
    """Record the start, unless this is the continuation of one."""
    if not opened.interrupted:
        opened.journal.append("start", journal=uuid4().hex, identity=asdict(who), **facts)
    elif opened.state is None:
        opened.journal.append("resume", epoch=0, step=0)


def require_same(folder: Path, who: Identity) -> None:
    """Refuse to resume a run whose data or code are not what they were.

    Raises:
        Refusal: naming what differs.
    """
    first = next(read_events(folder / NAME), None)
    if first is None:
        raise Refusal(f"resume={folder}", f"there is no {NAME}", allowed="the folder of a run that was interrupted")
    was = _of(first)
    differing = [name for name in ("config", "data", "code") if getattr(was, name) != getattr(who, name)]
    if differing:
        raise Refusal(
            f"resume={folder}",
            f"the {' and '.join(differing)} differ from those this run started with: its bits could not be had again",
            allowed="the code and data it started with (the journal's start event names the commit), or a new run",
        )


def _of(start: Event) -> Identity:
    return Identity(**start["identity"])
