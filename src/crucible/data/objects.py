"""Boxes and points on their way into a prepared folder: from the pixels of a picture to those of the stored one, and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crucible.data.labels import distinct
from crucible.data.readers.annotated import NOTHING
from crucible.data.readers.source import Array, Pool
from crucible.errors import Refusal

Resize = Literal["stretch", "letterbox"]
MOST_ANCHORS, MOST_SIZES, ROUNDS, STARTS = 10, 5000, 100, 4


@dataclass(frozen=True)
class Objects:
    """What a pool says of its pictures, in stored pixels.

    Attributes:
        labels: (N, M) classes, -1 for none; (N,) 1 or 0 for points. arrays: `boxes` (N, M, 4) or `points` (N, P, 2), and
            `size` (N, 2), height and width of each picture as it came. dropped: what was left out, and why. clipped: boxes
            that went beyond their picture.
    """

    labels: Array
    arrays: dict[str, Array]
    dropped: list[str]
    clipped: int


def frames(sizes: Array, shape: Sequence[int], resize: Resize) -> Array:
    """Return scale and offset (N, 4) as x, y, x, y by which pictures of sizes (N, 2) stand in stored ones (C, H, W)."""
    height, width = shape[-2:]
    target = np.tile([height, width], (len(sizes), 1))
    if resize == "letterbox":
        target = np.stack([inner_size(size, (height, width)) for size in sizes]).reshape(-1, 2)
    offset = (np.array([height, width]) - target) // 2
    scale = target / np.maximum(1, sizes)
    return np.concatenate([scale[:, ::-1], offset[:, ::-1]], axis=1)


def inner_size(size: Sequence[int] | Array, outer: Sequence[int]) -> tuple[int, int]:
    """Return the largest (H, W) of the shape of `size` that stands in `outer`."""
    share = min(outer[0] / size[0], outer[1] / size[1])
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def to_model_pixels(points: Array, frames: Array) -> Array:
    """Return points (N, ..., 2) of pictures where they stand in the stored ones."""
    scale, offset = _spread(frames, points.ndim)
    return points * scale + offset


def to_original(points: Array, frames: Array) -> Array:
    """Return points (N, ..., 2) of stored pictures in the pixels of the pictures as they came: the inverse of `to_model_pixels`."""
    scale, offset = _spread(frames, points.ndim)
    return (points - offset) / scale


def _spread(frames: Array, dims: int) -> tuple[Array, Array]:
    shape = (len(frames), *(1 for _ in range(dims - 2)), 2)
    return frames[:, :2].reshape(shape), frames[:, 2:].reshape(shape)


def named(
    labels: Mapping[str, Array], names: Sequence[str] | None, *, judge: Sequence[str] | None = None
) -> tuple[list[str], dict[str, Array]]:
    """Return the classes that there are, and each pool's labels (N, M); in the order of the run that judges them, if one does.

    Raises:
        Refusal: there are no objects, or one of a class that the run does not know.
    """
    own = distinct(names or [])
    if judge is None:
        if not own or not any((array >= 0).any() for array in labels.values()):
            raise Refusal("the labels", "there is no object in any picture", allowed="pictures with boxes")
        seen = sorted({int(k) for array in labels.values() for k in np.unique(array) if k >= 0})
        place = np.full(len(own) + 1, NOTHING)
        place[seen] = range(len(seen))
        return [own[k] for k in seen], {pool: place[array] for pool, array in labels.items()}
    there = {own[k] for array in labels.values() for k in np.unique(array) if k >= 0}
    if unknown := sorted(there - set(judge)):
        raise Refusal("the labels", f"class {unknown[0]!r} is unknown", allowed=", ".join(judge))
    order = np.array([*(judge.index(name) if name in judge else NOTHING for name in own), NOTHING])
    return list(judge), {pool: order[array] for pool, array in labels.items()}


def require_boxes(pools: Iterable[Pool]) -> None:
    """Refuse data without boxes.

    Raises:
        Refusal: with where there are some.
    """
    if any(pool.boxes is None for pool in pools):
        raise Refusal("task", "these data have no boxes", allowed="data=digit_scenes, bccd, or the readers voc, coco, yolo",
                      example="task=classification")  # fmt: skip


def boxes_of(
    pools: Mapping[str, tuple[Pool, Array, Array]], shape: Sequence[int], resize: Resize
) -> dict[str, Objects]:
    """Return each pool's boxes in stored pixels, cut at the edge of their picture; those without area are left out.

    Args:
        pools: of each its labels (N, M), and the sizes (N, 2) of its pictures. shape: of the stored pictures.
    """
    found = {name: _boxes(*each, shape, resize) for name, each in pools.items()}
    width = max(1, *(int((each.labels >= 0).sum(axis=1).max(initial=0)) for each in found.values()))
    return {name: _as_wide(each, width) for name, each in found.items()}


def _boxes(pool: Pool, labels: Array, sizes: Array, shape: Sequence[int], resize: Resize) -> Objects:
    assert pool.boxes is not None
    edge = np.tile(sizes[:, None, ::-1], 2)
    inside = np.clip(pool.boxes, 0, edge)
    real = labels >= 0
    empty = real & ((inside[..., 2:] - inside[..., :2]).min(axis=-1, initial=np.inf) <= 0)
    clipped = int((real & ~empty & (inside != pool.boxes).any(axis=-1)).sum())
    dropped = [
        f"{Path(pool.name(0, row)).name}, box {place + 1} {pool.boxes[row, place].tolist()}: no area within the picture"
        for row, place in np.argwhere(empty).tolist()
    ]
    kept = np.where(empty, NOTHING, labels)
    stored = to_model_pixels(inside.reshape(*inside.shape[:2], 2, 2), frames(sizes, shape, resize)).reshape(
        inside.shape
    )
    stored = np.where((kept >= 0)[..., None], stored, 0).astype(np.float32)
    return Objects(kept, {"boxes": stored, "size": sizes.astype(np.int32)}, dropped, clipped)


def _as_wide(found: Objects, width: int) -> Objects:
    """Return the objects of every picture first, in rows of one width."""
    order = np.argsort(found.labels < 0, axis=1, kind="stable")[:, :width]
    labels = np.take_along_axis(found.labels, order, axis=1)
    boxes = np.take_along_axis(found.arrays["boxes"], order[..., None], axis=1)
    extra = width - labels.shape[1]
    labels = np.pad(labels, ((0, 0), (0, extra)), constant_values=NOTHING)
    return replace(found, labels=labels, arrays={**found.arrays, "boxes": np.pad(boxes, ((0, 0), (0, extra), (0, 0)))})


def with_points(pool: Pool) -> Array:
    """Return 1 (N,) for the pictures that have points, else 0.

    Raises:
        Refusal: the data tell no points.
    """
    if pool.points is None:
        raise Refusal("task=landmarks", "these data have no points", allowed="data=digit_scenes, or the reader keypoints",
                      example="data=face_keypoints")  # fmt: skip
    return np.asarray(np.isfinite(pool.points).all(axis=(1, 2))).astype(np.int64)


def points_of(pool: Pool, sizes: Array, shape: Sequence[int], resize: Resize) -> Objects:
    """Return a pool's points in stored pixels, and whether each picture (N,) has them; 0 where it has none."""
    labels = with_points(pool)
    there = labels[:, None, None] == 1
    stored = to_model_pixels(np.where(there, np.asarray(pool.points), 0), frames(sizes, shape, resize))
    stored = np.where(there, stored, 0).astype(np.float32)
    return Objects(labels, {"points": stored, "size": sizes.astype(np.int32)}, [], 0)


def box_facts(found: Mapping[str, Objects], train: Array, labels: Array) -> dict[str, Any]:
    """Return what the card tells of boxes: what was left out, and anchors found in the boxes of train (n, M, 4)."""
    sizes = (train[..., 2:] - train[..., :2])[labels >= 0].astype(np.float64)
    return {
        "most": train.shape[1],
        "dropped": [each for objects in found.values() for each in objects.dropped],
        "clipped": sum(objects.clipped for objects in found.values()),
        "anchors": {str(k): anchors for k in range(1, MOST_ANCHORS + 1) if (anchors := find_anchors(sizes, k))},
    }


def point_facts(train: Array, there: Array, shape: Sequence[int]) -> dict[str, Any]:
    """Return the mean points (P, 2) of train as shares of the picture, and the deviation of all from them."""
    shares = train[there == 1].astype(np.float64) / np.array(shape[:0:-1])
    mean = shares.mean(axis=0) if len(shares) else np.full(train.shape[1:], 0.5)
    deviation = float(np.sqrt(((shares - mean) ** 2).mean())) if len(shares) else 1.0
    return {"points": train.shape[1], "mean": mean.tolist(), "deviation": deviation or 1.0}


def find_anchors(sizes: Array, count: int, *, seed: int = 0) -> dict[str, Any]:
    """Return `count` anchors w, h, the smallest first, and how well they fit: the mean IoU of each box with its best.

    k-means with 1 - IoU as distance (Redmon and Farhadi, 2017, arXiv:1612.08242, section 2), the best of four starts; at
    most 5000 boxes are looked at. Nothing where there are fewer different boxes.
    """
    rng = np.random.default_rng(seed)
    some = sizes[rng.permutation(len(sizes))[:MOST_SIZES]]
    if len(np.unique(some, axis=0)) < count:
        return {}
    fit, best = max((_clustered(some, count, rng) for _ in range(STARTS)), key=lambda found: found[0])
    order = np.argsort(best.prod(axis=1), kind="stable")
    return {"sizes": np.round(best[order], 2).tolist(), "fit": round(fit, 4)}


def _clustered(sizes: Array, count: int, rng: np.random.Generator) -> tuple[float, Array]:
    centres = sizes[rng.integers(len(sizes))][None]
    while len(centres) < count:
        far = (1 - _size_iou(sizes, centres).max(axis=1)) ** 2
        centres = np.concatenate([centres, sizes[rng.choice(len(sizes), p=far / far.sum())][None]])
    nearest = np.full(len(sizes), -1)
    for _ in range(ROUNDS):
        before, nearest = nearest, _size_iou(sizes, centres).argmax(axis=1)
        if (before == nearest).all():
            break
        members = np.eye(count)[nearest]
        sums = members.T @ sizes
        centres = np.where(
            members.sum(axis=0)[:, None] > 0, sums / np.maximum(1, members.sum(axis=0))[:, None], centres
        )
    return float(_size_iou(sizes, centres).max(axis=1).mean()), centres


def _size_iou(a: Array, b: Array) -> Array:
    common = np.minimum(a[:, None], b[None]).prod(axis=2)
    return common / (a.prod(axis=1)[:, None] + b.prod(axis=1)[None] - common)
