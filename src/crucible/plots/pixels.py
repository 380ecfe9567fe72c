"""A tensor as a picture file."""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE = 160  # pixels of a thumbnail's longer side


def as_bytes(picture: Tensor) -> np.ndarray[Any, Any]:
    """Return a picture (3, H, W) from 0 to 1 as bytes (H, W, 3)."""
    return (picture.clamp(0, 1) * 255).round().byte().cpu().numpy().transpose(1, 2, 0)


def sheet(
    images: Sequence[np.ndarray[Any, Any]], captions: Sequence[str], boxes: Sequence[Any], points: Sequence[Any]
) -> bytes:
    """Return images (C, H, W) side by side as a PNG file, each with a caption, boxes (M, 4) and points (P, 2) in its pixels."""
    columns, line = min(8, len(images)), 14
    rows = -(-len(images) // columns)
    cell = SIDE
    whole = Image.new("RGB", (columns * (cell + 4), rows * (cell + line + 4)), "white")
    draw = ImageDraw.Draw(whole)
    for i, image in enumerate(images):
        scale = cell / max(image.shape[1:])
        picture = Image.fromarray(_spread(image))
        picture = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
            Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR,
        )
        left, top = (i % columns) * (cell + 4), (i // columns) * (cell + line + 4)
        whole.paste(picture, (left, top))
        for x0, y0, x1, y1 in boxes[i]:
            draw.rectangle(
                [left + x0 * scale, top + y0 * scale, left + x1 * scale, top + y1 * scale],
                outline=(56, 161, 105),
                width=2,
            )
        for x, y in points[i]:
            draw.ellipse(
                [left + x * scale - 3, top + y * scale - 3, left + x * scale + 3, top + y * scale + 3],
                fill=(56, 161, 105),
            )
        draw.text((left, top + cell), captions[i][: cell // 6], "black", ImageFont.load_default(11))
    return encoded(np.asarray(whole))


def _spread(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an image (C, H, W) as bytes (H, W, 3); values that are no bytes are spread from the least to the largest."""
    values = pixels.astype(np.float64)
    if pixels.dtype != np.uint8:
        low, high = values.min(), values.max()
        values = (values - low) * (255 / (high - low) if high > low else 0)
    shown = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    return shown.clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


def written(lines: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Return lines of text as a picture (3, H, W), black on white, of `size` (W, H)."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).multiline_text((4, 2), "\n".join(lines), "black", ImageFont.load_default(13), spacing=3)
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy()) / 255


def png(picture: Tensor) -> bytes:
    """Return the PNG file of a picture (3, H, W) from 0 to 1."""
    return encoded(as_bytes(picture))


def encoded(pixels: np.ndarray[Any, Any]) -> bytes:
    """Return the PNG file of pixels (H, W, 3); Pillow's own writer first imports those of every other format, at each start."""
    height, width = pixels.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 6)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def thumbnail(pixels: np.ndarray[Any, Any], boxes: Sequence[Sequence[float]] = ()) -> str:
    """Return a small PNG of an image (C, H, W) with boxes, in base64; values that are no bytes are spread from the least to the largest."""
    picture = Image.fromarray(_spread(pixels))
    scale = min(1.0, SIDE / max(picture.size))
    if scale < 1:
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    draw = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in boxes:
        draw.rectangle(
            [min(x0, x1) * scale, min(y0, y1) * scale, max(x0, x1) * scale, max(y0, y1) * scale], outline=(66, 211, 146)
        )
    return base64.b64encode(encoded(np.asarray(picture))).decode()
