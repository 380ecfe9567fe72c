"""Everything needed to go on, in one file that is whole or not there.

torch writes a zip archive. Its comment, which no reader of the state looks at, holds the sha256 of everything before it:
nothing is unpickled before that was compared.
"""

import io
import math
import pickle
import shlex
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from crucible.errors import Refusal
from crucible.files import CHECKPOINT
from crucible.nested import moved
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import Journal

SHARE, OFTEN = 0.05, 10.0  # of the time, and minutes, where nobody says how often
LENGTH, DIGEST = struct.Struct("<H"), 64  # a zip archive ends with the length of its comment, then the comment
DAMAGED = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, AssertionError,
    OverflowError, MemoryError, ImportError, UnicodeError, pickle.UnpicklingError, struct.error,
)  # fmt: skip


class Checkpoints:
    """When checkpoints of a run are written, and what says whose they are.

    The state is copied aside, and written while the training goes on: it waits for the disk only where the one before is not there yet.

    Args:
        folder: of the run. every: epochs; {steps: 500} or {minutes: 10}, also within an epoch; None: after an epoch as often as costs at
            most 5 % of the time, and within one every ten minutes.
        identity: hashes of configuration, data and code.
    """

    def __init__(
        self, folder: Path, *, every: int | Mapping[str, float] | None = None, identity: Mapping[str, str]
    ) -> None:
        self._folder, self._identity = folder, dict(identity)
        self._epochs, self._thrifty = every if isinstance(every, int) else None, every is None
        within = every if isinstance(every, Mapping) else {"minutes": OFTEN} if every is None else {}
        self._steps, self._seconds = within.get("steps"), 60 * within.get("minutes", math.inf)
        self._saved_at, self._cost = time.monotonic(), 0.0
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None

    def is_due(self, epoch: int) -> bool:
        """Whether it is time after so many epochs."""
        if self._epochs is not None:
            return epoch % self._epochs == 0
        if not self._thrifty:
            return False
        return (time.monotonic() - self._saved_at) * SHARE >= self._cost

    def is_due_within(self, step: int) -> bool:
        """Whether it is time after so many steps in all, within an epoch."""
        if self._steps is not None:
            return step % self._steps == 0
        return time.monotonic() - self._saved_at >= self._seconds

    def save(self, journal: Journal, state: Callable[[], Mapping[str, Any]]) -> None:
        """Let the state be written; the journal reaches the disk first.

        Raises:
            OSError: the one before could not be written.
        """
        start = self._saved_at = time.monotonic()
        self.wait()
        journal.sync()
        known = {"identity": self._identity, "journal_bytes": journal.path.stat().st_size}
        self._written = self._writer.submit(
            self._write, moved({**known, **state()}, torch.device("cpu"), copied=True), start
        )

    def wait(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            OSError: it could not be written.
        """
        if self._written is not None:
            written, self._written = self._written, None
            written.result()

    def _write(self, state: Mapping[str, Any], start: float) -> None:
        save(self._folder, state)
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start


class NoCheckpoints(Checkpoints):
    """Of a training that nobody goes on with."""

    def __init__(self) -> None:
        """Need nothing."""

    def is_due(self, epoch: int) -> bool:
        """Never."""
        return False

    def is_due_within(self, step: int) -> bool:
        """Never."""
        return False

    def save(self, journal: Journal, state: Callable[[], Mapping[str, Any]]) -> None:
        """Write nothing."""

    def wait(self) -> None:
        """There is nothing to wait for."""


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / CHECKPOINT, sealed(buffer.getbuffer()))


def sealed(archive: bytes | memoryview) -> bytes:
    """Return a zip archive without a comment with its checksum as the comment."""
    content = archive[: -LENGTH.size]
    return b"".join([content, LENGTH.pack(DIGEST), sha256(content).hexdigest().encode()])


def load(folder: Path) -> dict[str, Any] | None:
    """Return the state, on the CPU; None where there is no checkpoint. Nothing but data is unpickled.

    Raises:
        Refusal: the file is damaged, or holds more than tensors and plain values: nothing of it has been run.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    data = path.read_bytes()
    end = len(data) - DIGEST
    if sha256(data[: max(0, end - LENGTH.size)]).hexdigest().encode() != data[max(0, end) :]:
        raise _refusal(path, "no checkpoint of ours, or damaged: its checksum differs")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except DAMAGED as error:
        more = isinstance(error, pickle.UnpicklingError)  # torch's own words advise to run it
        what = "it holds more than tensors and plain values" if more else (str(error).splitlines() or [repr(error)])[0]
        raise _refusal(path, f"no checkpoint of ours, or damaged: {what}") from None
    return state


def _refusal(path: Path, what: str) -> Refusal:
    return Refusal(
        str(path), what, example=f"rm {shlex.quote(str(path))}",
        allowed="the file that this run wrote; without it the training begins anew",
    )  # fmt: skip
