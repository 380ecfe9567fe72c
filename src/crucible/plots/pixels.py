"""A tensor as a picture file."""

import io
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor


def as_bytes(picture: Tensor) -> np.ndarray[Any, Any]:
    """Return a picture (3, H, W) from 0 to 1 as bytes (H, W, 3)."""
    return (picture.clamp(0, 1) * 255).round().byte().cpu().numpy().transpose(1, 2, 0)


def png(picture: Tensor) -> bytes:
    """Return the PNG file of a picture (3, H, W) from 0 to 1."""
    buffer = io.BytesIO()
    Image.fromarray(as_bytes(picture)).save(buffer, format="PNG")
    return buffer.getvalue()
