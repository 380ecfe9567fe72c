"""Everything needed to go on, in one file that is whole or not there."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crucible.files import CHECKPOINT
from crucible.tracking.folder import write_atomic


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / CHECKPOINT, buffer.getvalue())


def load(folder: Path) -> dict[str, Any] | None:
    """Return the state, on the CPU; None where there is no checkpoint. Nothing but data is unpickled."""
    path = folder / CHECKPOINT
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
