"""Everything needed to go on, in one file that is whole or not there."""

import io
import pickle
import shlex
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crucible.errors import Refusal
from crucible.files import CHECKPOINT
from crucible.tracking.folder import write_atomic

DAMAGED = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, AssertionError,
    OverflowError, MemoryError, ImportError, UnicodeError, pickle.UnpicklingError, struct.error,
)  # fmt: skip


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / CHECKPOINT, buffer.getvalue())


def load(folder: Path) -> dict[str, Any] | None:
    """Return the state, on the CPU; None where there is no checkpoint. Nothing but data is unpickled.

    Raises:
        Refusal: the file is damaged, or holds more than tensors and plain values: nothing of it has been run.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except DAMAGED as error:
        more = isinstance(error, pickle.UnpicklingError)  # torch's own words advise to run it
        what = "it holds more than tensors and plain values" if more else (str(error).splitlines() or [repr(error)])[0]
        raise Refusal(
            str(path), f"no checkpoint of ours, or damaged: {what}", example=f"rm {shlex.quote(str(path))}",
            allowed="the file that this run wrote; without it the training begins anew",
        ) from None  # fmt: skip
    return state
