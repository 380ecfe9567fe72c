"""Opening a run folder: a new journal, or the old one and its checkpoint where the same training was interrupted."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.files import CARD, CHECKPOINT, CONFIG, CONTROL, CURVES, EVALUATION, SEEN, SUMMARY, WEIGHTS, frames_of
from crucible.integrity import SUMS
from crucible.tracking import checkpoint
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, Event, Journal, has_ended, read_events, set_aside

STALE = (CHECKPOINT, WEIGHTS, SUMMARY, CURVES, SEEN, SUMS, *EVALUATION)


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
            training was here before. threads: what the interrupted training used, or None. damage: what was there and
            could not be trusted, so that it is computed again; empty where nothing is.
    """

    journal: Journal
    state: dict[str, Any] | None
    interrupted: bool
    threads: int | None
    damage: str = ""


def open_run(folder: Path, who: Identity, config: str, card: Card) -> Opened:
    """Go on where the same training was interrupted; else set the old journal aside and begin anew.

    What is damaged is not trusted: its epochs are computed again, with the same bits.
    """
    events, state, damage = _interrupted(folder, who)
    if (folder / NAME).exists() and not events:
        set_aside(folder)
        (folder / CONTROL).unlink(missing_ok=True)
    if state is None:
        for stale in STALE:
            (folder / stale).unlink(missing_ok=True)
        for frame in frames_of(folder):
            frame.unlink()
    write_atomic(folder / CONFIG, config.encode())
    card.write(folder / CARD)
    return Opened(Journal(folder), state, bool(events), events[0]["threads"] if events else None, damage)


def _interrupted(folder: Path, who: Identity) -> tuple[list[Event], dict[str, Any] | None, str]:
    """Return the events and the checkpoint of the same training, where it was interrupted, and what is damaged."""
    try:
        events = list(read_events(folder / NAME))
    except Refusal as refusal:
        return [], None, str(refusal)
    if not events and (folder / NAME).exists() and (folder / CHECKPOINT).exists():
        return [], None, f"{folder / NAME} holds no whole line"
    if not events or has_ended(events) or _of(events[0]) != who:
        return [], None, ""
    try:
        state = checkpoint.load(folder)
    except Refusal as refusal:
        return events, None, str(refusal)
    if state is None or state.get("identity") != asdict(who):
        return events, None, ""
    size = (folder / NAME).read_bytes().rfind(b"\n") + 1  # of whole lines
    if size < state.get("journal_bytes", 0):  # it reaches the disk before the checkpoint
        return [], None, f"{folder / NAME} holds {size} bytes, at the checkpoint it held {state['journal_bytes']}"
    return events, state, ""


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
    events, _, damage = _interrupted(folder, who)
    if damage and not events:
        raise Refusal(f"resume={folder}", f"it cannot go on: {damage}", allowed="a new run in another folder")
    was = _of(first)
    differing = [name for name in ("config", "data", "code") if getattr(was, name, None) != getattr(who, name)]
    if differing:
        raise Refusal(
            f"resume={folder}",
            f"the {' and '.join(differing)} differ from those this run started with: its bits could not be had again",
            allowed="the code and data it started with (the journal's start event names the commit), or a new run",
        )


def _of(first: Event) -> Identity | None:
    """Return the identity in a journal's first event; None where that is no start."""
    return Identity(**first["identity"]) if first["kind"] == "start" else None
