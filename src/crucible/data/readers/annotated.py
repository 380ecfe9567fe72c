"""What readers of pictures with boxes or points have in common: lists of objects become arrays of one width."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crucible.data.readers.file_names import SPLITS, meant_split
from crucible.data.readers.image_folder import SUFFIXES, group_of, in_chunks
from crucible.data.readers.source import Array, Pool, official, require_inside, require_whole
from crucible.errors import Refusal

MOST_TEXT = 1 << 30  # bytes of a file of annotations
NOTHING = -1  # the label of a place in an array where there is no object


@dataclass(frozen=True)
class Annotated:
    """A picture and what is in it.

    Attributes:
        file: of the picture. boxes: (n, 4) corners in its pixels. labels: (n,) class numbers.
    """

    file: Path
    boxes: Array
    labels: Sequence[int]


def pool(found: Sequence[Annotated], root: Path, group_by: str | None) -> Pool:
    """Return a pool: labels (N, M) and boxes (N, M, 4), M the most objects of a picture, -1 and 0 where there is none."""
    most = max((len(each.labels) for each in found), default=0)
    require_whole((len(found), most, 4), np.dtype(float), f"{root}, a place for {most} objects in every picture")
    labels, boxes = np.full((len(found), most), NOTHING), np.zeros((len(found), most, 4))
    for row, each in enumerate(found):
        labels[row, : len(each.labels)] = each.labels
        boxes[row, : len(each.labels)] = np.reshape(each.boxes, (-1, 4))
    return pictures([each.file for each in found], root, group_by, labels=labels, boxes=boxes)


def pictures(files: Sequence[Path], root: Path, group_by: str | None, **arrays: Any) -> Pool:
    """Return a pool of pictures with their `labels`, and `boxes` or `points`."""
    return Pool(
        chunks=in_chunks(files),
        groups=np.array([group_of(file.relative_to(root), group_by) for file in files]) if group_by else None,
        names=[str(file) for file in files],
        **arrays,
    )


def by_split(path: Path, files: Sequence[Path], layout: str) -> dict[str, Path]:
    """Return the file of each split, the first whose name, or whose folder's, holds the split's; a file alone holds all.

    Raises:
        Refusal: there is no file, or none for train among several.
    """
    if path.is_file():
        return {"all": path}
    if len(files) == 1:
        return {"all": files[0]}
    found: dict[str, Path] = {}
    for file in files:
        word = re.search("|".join(SPLITS), file.stem)
        split = SPLITS[word[0]] if word is not None else meant_split(file.parent.name) if file.parent != path else None
        if split:
            found.setdefault(split, file)
    return official(found, f"data.path={path}", layout)


def files_of(pools: Mapping[str, Pool], root: Path, further: Sequence[Path]) -> dict[str, Path]:
    """Return every file that was read by its place under `root`.

    Raises:
        Refusal: one of them is a symbolic link that leads out of it.
    """
    read = [Path(name) for each in pools.values() for name in each.names or []]
    require_inside([*read, *further], root)
    return {file.relative_to(root).as_posix(): file for file in (*read, *further)}


def pictures_of(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by name, without their endings; none where there is no folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {file.stem: file for file in files if file.suffix.lower() in SUFFIXES}


def text_of(file: Path) -> str:
    """Return what a text file says.

    Raises:
        Refusal: it cannot be read as UTF-8.
    """
    require_short(file)
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(str(file), f"cannot be read as UTF-8: {error}") from None


def require_short(file: Path) -> None:
    """Refuse a text file that is too long to be read whole.

    Raises:
        Refusal: naming the file.
    """
    if file.is_file() and (size := file.stat().st_size) > MOST_TEXT:
        raise Refusal(str(file), f"it has {size:,} bytes", allowed=f"annotations of at most {MOST_TEXT:,}")


def require_finite(boxes: Array, where: str) -> None:
    """Refuse boxes that hold no numbers.

    Raises:
        Refusal: naming the file.
    """
    if not np.isfinite(boxes).all():
        raise Refusal(where, "a coordinate is NaN or infinite", allowed="finite numbers")
