"""Boxes against slow references and by their properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crucible.boxes import (
    area,
    clipped,
    generalised_iou,
    iou,
    size_iou,
    suppress,
    to_centre,
    to_corners,
    to_fractions,
    to_pixels,
)

CASES = 10_000
numbers = st.floats(-100, 100, width=32)
sides = st.floats(0.125, 100, width=32)
boxes = st.tuples(numbers, numbers, sides, sides).map(
    lambda b: torch.tensor([b[0], b[1], b[0] + b[2], b[1] + b[3]]).double()
)


def random_boxes(count: int, seed: int = 0, extent: float = 20.0) -> Tensor:
    """Return corners on a coarse grid, so that touching, equal and nested boxes are frequent; some are empty."""
    low = torch.randint(0, int(extent), (count, 2), generator=torch.Generator().manual_seed(seed)).double()
    size = torch.randint(0, 8, (count, 2), generator=torch.Generator().manual_seed(seed + 1)).double()
    return torch.cat([low, low + size], dim=1)


def slow_iou(a: list[float], b: list[float]) -> float:
    """Count unit squares: the corners are whole numbers."""
    squares = [{(x, y) for x in range(int(c[0]), int(c[2])) for y in range(int(c[1]), int(c[3]))} for c in (a, b)]
    union = len(squares[0] | squares[1])
    return len(squares[0] & squares[1]) / union if union else 0.0


def slow_suppress(corners: Tensor, scores: Tensor, classes: Tensor, bound: float) -> list[int]:
    """The notes' steps, one box after the other."""
    left = sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: -float(scores[i]))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [
            i for i in left
            if classes[i] != classes[best] or slow_iou(corners[i].tolist(), corners[best].tolist()) <= bound
        ]  # fmt: skip
    return sorted(kept)


def test_iou_counts_squares_in_10_000_random_cases() -> None:
    a, b = random_boxes(CASES), random_boxes(CASES, seed=7)
    expected = [slow_iou(one, other) for one, other in zip(a.tolist(), b.tolist(), strict=True)]
    assert torch.allclose(iou(a, b), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    assert sum(value > 0 for value in expected) > 500


def test_suppression_is_the_slow_one_in_10_000_random_cases() -> None:
    """Sets of up to 9 boxes, with ties, empty boxes and scores of 0, at bounds from 0 to 1."""
    dice, seen, dropped = torch.Generator().manual_seed(0), 0, 0
    for case in range(CASES):
        count = int(torch.randint(1, 10, (1,), generator=dice))
        corners = random_boxes(count, seed=10 * case, extent=8)
        scores = torch.randint(0, 6, (count,), generator=dice).double() / 5
        classes = torch.randint(0, 3, (count,), generator=dice)
        bound = float(torch.rand(1, generator=dice))
        kept = suppress(corners, scores, classes, bound=bound).nonzero()[:, 0].tolist()
        assert kept == slow_suppress(corners, scores, classes, bound), case
        seen, dropped = seen + count, dropped + count - len(kept)
    assert seen > 4 * CASES and dropped > 0.9 * CASES


def test_blocks_and_batches_change_nothing(monkeypatch) -> None:
    import crucible.boxes

    corners, dice = random_boxes(300), torch.Generator().manual_seed(3)
    scores, classes = torch.rand(300, generator=dice).double(), torch.randint(0, 2, (300,), generator=dice)
    whole = suppress(corners, scores, classes, bound=0.3)
    monkeypatch.setattr(crucible.boxes, "BLOCK", 7)
    assert torch.equal(suppress(corners, scores, classes, bound=0.3), whole)
    many = [each.view(3, 100, *each.shape[1:]) for each in (corners, scores, classes)]
    batched = suppress(*many, bound=0.3)
    assert all(torch.equal(batched[i], suppress(*(each[i] for each in many), bound=0.3)) for i in range(3))


@settings(max_examples=300, deadline=None)
@given(boxes, boxes, numbers, numbers, st.floats(0.25, 4))
def test_iou_is_symmetric_bounded_and_does_not_see_shift_or_scale(a, b, right, down, scale) -> None:
    value = iou(a, b)
    assert 0 <= value <= 1 and torch.equal(value, iou(b, a)) and iou(a, a) == pytest.approx(1)
    moved = [each * scale + torch.tensor([right, down, right, down]) for each in (a, b)]
    assert iou(*moved) == pytest.approx(float(value), abs=1e-6)
    assert -1 <= generalised_iou(a, b) <= value + 1e-12 and generalised_iou(a, a) == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=12), st.floats(0, 1), st.randoms(use_true_random=False))
def test_suppression_keeps_the_highest_and_leaves_no_pair_above_the_bound(found, bound, dice) -> None:
    corners = torch.stack(found)
    scores = torch.tensor([dice.random() + 0.01 for _ in found])
    kept = suppress(corners, scores, torch.zeros(len(found)), bound=bound)
    assert kept[scores.argmax()]
    left = corners[kept]
    assert (iou(left[:, None], left).fill_diagonal_(0) <= bound).all()


@settings(max_examples=200, deadline=None)
@given(boxes)
def test_conversions_come_back(box) -> None:
    assert torch.allclose(to_corners(to_centre(box)), box, atol=1e-9)
    assert torch.allclose(to_pixels(to_fractions(box, (480, 640)), (480, 640)), box, atol=1e-9)


def test_conventions_by_hand() -> None:
    """The notes' car: its middle at 0.5 and 0.7, 0.3 high and 0.4 wide, in a picture of 100x200."""
    car = torch.tensor([0.5, 0.7, 0.4, 0.3])
    assert to_pixels(to_corners(car), (100, 200)).tolist() == pytest.approx([60, 55, 140, 85])
    assert area(torch.tensor([[0.0, 0, 3, 2], [3, 0, 0, 2]])).tolist() == [6, 0]
    assert clipped(torch.tensor([-1.0, 2, 300, 50]), (40, 200)).tolist() == [0, 2, 200, 40]
    assert size_iou(torch.tensor([2.0, 4]), torch.tensor([4.0, 2])) == pytest.approx(4 / 12)


def test_generalised_iou_by_hand() -> None:
    """Two unit squares, one empty square between them: IoU 0, hull 3, union 2."""
    apart = generalised_iou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([2.0, 0, 3, 1]))
    assert apart == pytest.approx(-1 / 3)
