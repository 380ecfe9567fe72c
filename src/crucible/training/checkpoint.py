"""Everything needed to go on, in one file that is whole or not there.

torch writes a zip archive. Its comment, which no reader of the state looks at, holds the sha256 of everything before it:
nothing is unpickled before that was compared.
"""

import io
import pickle
import shlex
import struct
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from crucible.errors import Refusal
from crucible.files import CHECKPOINT
from crucible.tracking.folder import write_atomic

LENGTH, DIGEST = struct.Struct("<H"), 64  # a zip archive ends with the length of its comment, then the comment
DAMAGED = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, AssertionError,
    OverflowError, MemoryError, ImportError, UnicodeError, pickle.UnpicklingError, struct.error,
)  # fmt: skip


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
