"""Everything needed to go on, in one file that is whole or not there.

torch writes a zip archive. Its comment, which no reader of the state looks at, holds the sha256 of everything before it:
nothing is unpickled before that was compared.
"""

import io
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


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    archive = buffer.getbuffer()[: -LENGTH.size]
    write_atomic(folder / CHECKPOINT, b"".join([archive, LENGTH.pack(DIGEST), sha256(archive).hexdigest().encode()]))


def load(folder: Path) -> dict[str, Any] | None:
    """Return the state, on the CPU; None where there is no checkpoint. Nothing but data is unpickled.

    Raises:
        Refusal: the file is not one that `save` wrote, or it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    data = path.read_bytes()
    end = len(data) - DIGEST
    if sha256(data[: max(0, end - LENGTH.size)]).hexdigest().encode() != data[max(0, end) :]:
        raise Refusal(
            str(path), "the checkpoint is damaged: its checksum differs", allowed="the file as it was written"
        )
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
