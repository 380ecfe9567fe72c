"""A tensor as a picture file."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def as_bytes(picture: Tensor) -> np.ndarray[Any, Any]:
    """Return a picture (3, H, W) from 0 to 1 as bytes (H, W, 3)."""
    return (picture.clamp(0, 1) * 255).round().byte().cpu().numpy().transpose(1, 2, 0)


def written(lines: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Return lines of text as a picture (3, H, W), black on white, of `size` (W, H)."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).multiline_text((4, 2), "\n".join(lines), "black", ImageFont.load_default(13), spacing=3)
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy()) / 255


def png(picture: Tensor) -> bytes:
    """Return the PNG file of a picture (3, H, W) from 0 to 1."""
    buffer = io.BytesIO()
    Image.fromarray(as_bytes(picture)).save(buffer, format="PNG")
    return buffer.getvalue()
