"""Reader that puts the embedded digits on canvases: pictures with boxes, classes and corner points, the same at every call."""

from dataclasses import dataclass
from math import cos, radians, sin
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from crucible.data.readers import npz
from crucible.data.readers.annotated import NOTHING
from crucible.data.readers.source import Array, Pool, Source
from crucible.errors import Refusal
from crucible.schema import NonNegative, Positive, Seed, Share, Whole

SPLITS = ("train", "dev", "test")
SHARES = (0.6, 0.2, 0.2)  # of the digits that each split's scenes are made of: none stands in two splits
APART = 0.05  # the largest overlap of two boxes in a scene
FAINT = 0.2  # the share of the darkest ink below which a row or column is edge
TRIES = 50  # places tried for a digit before it is left out
Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Scenes = dict[Literal["train", "dev", "test"], Annotated[int, Field(ge=1, le=1_000_000)]]


@dataclass(frozen=True)
class _Look:
    """How scenes are drawn: side of the canvas, digits a scene, their height as a share of it, turn, noise, empty scenes."""

    side: int
    objects: tuple[int, int]
    height: tuple[float, float]
    turn: float
    noise: float
    empty: float


def digits(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    scenes: Scenes,
    side: Annotated[int, Field(ge=16, le=65535)],
    objects: Annotated[list[Whole], Field(min_length=2, max_length=2)],
    height: Range,
    turn_degrees: NonNegative,
    noise: NonNegative,
    empty: Share = 0.0,
    seed: Seed,
) -> Source:
    """Draw grey scenes (1, side, side), official splits of different digits.

    Args:
        scenes: how many in each split. side: of the canvas in pixels. objects: fewest and most digits of a scene.
        height: smallest and largest height of a digit as a share of the side. turn_degrees: the largest turn to either side.
        noise: deviation of the noise, in grey values. empty: share of scenes without any digit. seed: draws everything.

    Raises:
        Refusal: as the reader of arrays does; a range that is upside down.
    """
    for name, (low, high) in (("objects", objects), ("height", height)):
        if low > high:
            raise Refusal(f"data.reader.{name}", f"{low} is more than {high}", allowed="the smaller number first")
    source = npz.read(path, label, group_by)
    pool = source.pools["all"]
    images = np.concatenate(list(pool.chunks()))[:, 0]
    order = np.random.default_rng(seed).permutation(len(images))
    look = _Look(side, (objects[0], objects[1]), (height[0], height[1]), turn_degrees, noise, empty)
    bounds = np.cumsum([0, *(round(share * len(images)) for share in SHARES[:-1]), len(images)])
    counts, pools = {str(split): count for split, count in scenes.items()}, {}
    for i, split in enumerate(each for each in SPLITS if each in counts):
        own = order[bounds[i] : bounds[i + 1]]
        pools[split] = _pool(images[own], pool.labels[own], counts[split], look, np.random.default_rng([seed, i]))
    return Source(pools, source.files, classes=[str(k) for k in range(int(pool.labels.max()) + 1)])


def _pool(images: Array, labels: Array, count: int, look: _Look, rng: np.random.Generator) -> Pool:
    drawn = [_scene(images, labels, look, rng) for _ in range(count)]
    canvases = np.stack([canvas for canvas, _ in drawn])[:, None]
    most = max(1, look.objects[1])
    boxes, kinds, points = np.zeros((count, most, 4)), np.full((count, most), NOTHING), np.full((count, 4, 2), np.nan)
    for row, (_, found) in enumerate(drawn):
        for place, (kind, corners) in enumerate(found):
            kinds[row, place], boxes[row, place] = kind, [*corners.min(axis=0), *corners.max(axis=0)]
        if found:
            points[row] = found[0][1]
    return Pool(labels=kinds, chunks=lambda: iter([canvases]), boxes=boxes, points=points)


def _scene(
    images: Array, labels: Array, look: _Look, rng: np.random.Generator
) -> tuple[Array, list[tuple[int, Array]]]:
    """Return a canvas and, for each digit on it, class and corners (4, 2) from its upper left, clockwise."""
    canvas = np.full((look.side, look.side), rng.uniform(0, 60))
    found: list[tuple[int, Array]] = []
    count = rng.integers(look.objects[0], look.objects[1] + 1) if rng.random() >= look.empty else 0
    for _ in range(count):
        chosen = rng.integers(len(images))
        ink = _cut(images[chosen])
        for _ in range(TRIES):
            corners = _corners(ink.shape, look, rng)
            if corners.min() >= 0 and corners.max() <= look.side and all(_apart(corners, other) for _, other in found):
                canvas = np.maximum(canvas, rng.uniform(0.6, 1) * _placed(ink, corners, look.side))
                found.append((int(labels[chosen]), corners))
                break
    noisy = canvas + rng.normal(0, look.noise, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), found


def _cut(image: Array) -> Array:
    """Return the part of a digit that has ink, as grey values to 255."""
    rows, columns = (np.flatnonzero(image.max(axis=axis) > FAINT * image.max()) for axis in (1, 0))
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    return np.rint(255 * ink / ink.max()).astype(np.uint8)


def _corners(shape: tuple[int, ...], look: _Look, rng: np.random.Generator) -> Array:
    h = rng.uniform(*look.height) * look.side
    w, turn = h * shape[1] / shape[0], radians(rng.uniform(-look.turn, look.turn))
    middle = rng.uniform(0, look.side, 2)
    flat = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return flat @ np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]]) + middle


def _apart(one: Array, other: Array) -> bool:
    low, high = np.maximum(one.min(axis=0), other.min(axis=0)), np.minimum(one.max(axis=0), other.max(axis=0))
    common = np.prod(np.maximum(high - low, 0))
    sizes = [np.prod(each.max(axis=0) - each.min(axis=0)) for each in (one, other)]
    return bool(common <= APART * (sum(sizes) - common))


def _placed(ink: Array, corners: Array, side: int) -> Array:
    """Return the ink on an empty canvas, its corners where they shall be; the edge fades over half a source pixel."""
    h, w = ink.shape
    right, down = (corners[1] - corners[0]) / w, (corners[3] - corners[0]) / h  # a step of the ink, in pixels
    back = np.linalg.inv(np.column_stack([right, down]))
    start = -back @ corners[0]
    framed = np.pad(ink, 1)  # so that what lies outside is 0
    coefficients = (back[0, 0], back[0, 1], start[0] + 1, back[1, 0], back[1, 1], start[1] + 1)
    picture = Image.fromarray(framed).transform(
        (side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(picture, dtype=np.float64)
