"""Boxes: the one file that owns their conventions, how far two of them overlap, and which of many stay (notes 000, part 11).

A box is four numbers on the last axis. Corners: x0, y0, x1, y1; centre: cx, cy, w, h. x runs to the right and y down from
the upper left corner of the picture, where (0, 0) is; in pixels the pixel in column j covers x from j to j + 1, in fractions
the lower right corner of the picture is (1, 1). A box with x1 <= x0 or y1 <= y0 is empty: it overlaps nothing. Nothing here
loops over boxes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from crucible.constants import constant

BLOCK = 128  # of many boxes so many are compared with all others at a time
MATCHED = 0.5  # intersection over union from which a box is taken for right (notes 000, part 11, section 1)


def to_centre(corners: Tensor) -> Tensor:
    """Return cx, cy, w, h of x0, y0, x1, y1 (..., 4)."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def to_corners(centre: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 of cx, cy, w, h (..., 4)."""
    middle, half = centre[..., :2], centre[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def to_fractions(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Return boxes (..., 4), in either form, as shares of a picture of size (H, W)."""
    return pixels / _sides(pixels, size)


def to_pixels(fractions: Tensor, size: Sequence[int]) -> Tensor:
    """Return boxes (..., 4), in either form, given as shares of a picture of size (H, W), in its pixels."""
    return fractions * _sides(fractions, size)


def clipped(corners: Tensor, size: Sequence[int]) -> Tensor:
    """Return boxes (..., 4) cut at the edges of a picture of size (H, W)."""
    return torch.minimum(corners.clamp(min=0), _sides(corners, size))


def area(corners: Tensor) -> Tensor:
    """Return the areas (...) of boxes (..., 4); 0 of an empty one."""
    x0, y0, x1, y1 = corners.unbind(dim=-1)
    return (x1 - x0).clamp(min=0) * (y1 - y0).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return intersection over union (...) of corners (..., 4), broadcast: iou(a[:, None], b) is every pair's.

    1 for equal boxes, 0 where they do not meet or both are empty.
    """
    return _iou(a, b)[0]


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return IoU - (hull - union) / hull (...): below 0 where boxes do not meet, so that there is a way back.

    Rezatofighi et al., 2019, arXiv:1902.09630. From -1 to 1; `hull` is the smallest box around both.
    """
    value, union = _iou(a, b)
    hull = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1))
    return value - (hull - union) / hull.clamp(min=torch.finfo(hull.dtype).tiny)


def size_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (...) of sizes w, h (..., 2), broadcast, as if the boxes had one centre: how alike their shapes are."""
    common = torch.minimum(a, b).prod(dim=-1)
    union = a.prod(dim=-1) + b.prod(dim=-1) - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny)


def suppress(corners: Tensor, scores: Tensor, classes: Tensor, *, bound: float) -> Tensor:
    """Return which boxes (..., N) stay after non-maximum suppression within each class.

    The notes' steps: take the box with the highest score, drop those of its class that overlap it by more than `bound`,
    repeat with what is left. Of equal scores the first wins. Where `scores` are not above 0 there is no box.

    Args:
        corners: (..., N, 4). scores: (..., N). classes: (..., N). bound: intersection over union.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    boxes, kinds = corners.gather(-2, order[..., None].expand_as(corners)), classes.gather(-1, order)
    alive = scores.gather(-1, order) > 0
    if scores.dim() == 1 and len(scores) > BLOCK:
        kept = torch.zeros_like(alive).index_fill(0, _in_blocks(boxes, kinds, alive.nonzero()[:, 0], bound), True)
    else:
        kept = _first_wins(_over(boxes, boxes, kinds, kinds, bound).triu(diagonal=1), alive)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def _in_blocks(boxes: Tensor, kinds: Tensor, left: Tensor, bound: float) -> Tensor:
    """Return the rows that stay of the rows `left`, the highest score first: a block settles itself, then drops of the rest."""
    settled = []
    while len(left):
        own, rest = left[:BLOCK], left[BLOCK:]
        over = _over(boxes[own], boxes[own], kinds[own], kinds[own], bound).triu(diagonal=1)
        own = own[_first_wins(over, torch.ones_like(own, dtype=torch.bool))]
        left = rest[~_over(boxes[own], boxes[rest], kinds[own], kinds[rest], bound).any(dim=0)]
        settled.append(own)
    return torch.cat([*settled, left])


def _over(a: Tensor, b: Tensor, kinds: Tensor, others: Tensor, bound: float) -> Tensor:
    """Return whether boxes (..., N, 4) and (..., M, 4) of one class overlap by more than the bound (..., N, M)."""
    return (iou(a[..., :, None, :], b[..., None, :, :]) > bound) & (kinds[..., :, None] == others[..., None, :])


def _first_wins(over: Tensor, alive: Tensor) -> Tensor:
    """Return who (..., N) stays where i drops j if over[..., i, j], i before j, and only one that stays drops others.

    Everybody is dropped anew by those that stay, until nothing changes: after k rounds the first k are settled.
    """
    kept = alive
    while True:
        new = alive & ~(over & kept[..., None]).any(dim=-2)
        if torch.equal(new, kept):
            return kept
        kept = new


def _iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.unbind(dim=-1), b.unbind(dim=-1)
    width = (torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)).clamp(min=0)
    common = width * (torch.minimum(ay1, by1) - torch.maximum(ay0, by0)).clamp(min=0)
    union = area(a) + area(b) - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny), union


def _sides(boxes: Tensor, size: Sequence[int]) -> Tensor:
    return constant([size[1], size[0]] * 2, boxes)
