"""Reader of two pictures for one painting: what it shows, and how (notes 000, part 12)."""

from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from crucible.data.readers.image_folder import SUFFIXES, decode
from crucible.data.readers.source import Array, Pool, Source, require_path
from crucible.errors import Refusal
from crucible.schema import Count

LAYOUT = "a folder with a picture content.* and a picture style.*"
Side = Annotated[int, Field(ge=16, le=4096)]


def pair(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    content: str | None,
    style: str | None,
    size: Side,
    steps: Count,
) -> Source:
    """Read content and style as one example (6, H, W); train holds it `steps` times: so many steps are an epoch.

    Args:
        content, style: files; null: content.* and style.* in the folder. size: pixels of the longer side; the other one keeps the
            shape of the content. The style is cut to that shape around its middle.

    Raises:
        Refusal: a file that is missing, or no picture.
    """
    files = {"content": _file(path, "content", content), "style": _file(path, "style", style)}
    both = {role: _coloured(decode(file)) for role, file in files.items()}
    width, height = both["content"].size
    shape = (max(1, round(width * size / max(width, height))), max(1, round(height * size / max(width, height))))
    planes = [both["content"].resize(shape, Image.Resampling.LANCZOS), _covering(both["style"], shape)]
    example = np.concatenate([np.asarray(each).transpose(2, 0, 1) for each in planes])[None]
    return Source({"train": _pool(example, steps), "dev": _pool(example, 1), "test": _pool(example, 1)}, files)


def _file(folder: Path | None, role: str, named: str | None) -> Path:
    if named is not None:
        return require_path(Path(named).expanduser(), "a picture", key=f"data.reader.{role}")
    folder = require_path(folder, LAYOUT)
    found = sorted(file for file in folder.glob(f"{role}.*") if file.suffix.lower() in SUFFIXES)
    if len(found) != 1:
        what = f"{len(found)} files are called {role}.*" if found else f"there is no picture {role}.*"
        raise Refusal(f"data.path={folder}", what, allowed=LAYOUT, example=f"data.reader.{role}=picture.jpg")
    return found[0]


def _coloured(pixels: Array) -> Image.Image:
    """Return a picture (1 or 3, H, W) in colour."""
    return Image.fromarray(np.repeat(pixels, 4 - len(pixels), axis=0)[:3].transpose(1, 2, 0).copy())


def _covering(picture: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Return a picture of some width and height from the middle of another, as much of it as has that shape."""
    scale = max(shape[0] / picture.width, shape[1] / picture.height)
    width, height = shape[0] / scale, shape[1] / scale
    left, top = (
        max(0.0, (picture.width - width) / 2),
        max(0.0, (picture.height - height) / 2),
    )  # not below 0 by rounding
    box = (left, top, min(left + width, picture.width), min(top + height, picture.height))
    return picture.resize(shape, Image.Resampling.LANCZOS, box=box)


def _pool(example: Array, count: int) -> Pool:
    return Pool(labels=np.zeros(count, np.int64), chunks=lambda: (example for _ in range(count)))
