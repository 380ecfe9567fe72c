"""Average precision against pycocotools, on random boxes with ties, empty pictures and classes that are not there."""

import contextlib
import io

import numpy as np
import pytest
import torch
from torch import Tensor

from crucible.boxes import iou
from crucible.metrics.detection import (
    BOUNDS,
    SCORES,
    DetectionMetrics,
    curves,
    f1_from,
    kinds_of,
    matched,
    mean_precision,
    shown_from,
)
from crucible.metrics.evidence import Measured, interval_of

K = 3


def scenes(seed: int, images: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Return found boxes near true ones and elsewhere, with scores that tie, and the truth."""
    rng = np.random.default_rng(seed)
    found, boxes, labels = np.zeros((images, 20, 6)), np.zeros((images, 6, 4)), np.full((images, 6), -1)
    for i in range(images):
        for j in range(rng.integers(0, 7)):
            low, size = rng.uniform(0, 60, 2), rng.uniform(5, 40, 2)
            boxes[i, j], labels[i, j] = [*low, *(low + size)], rng.choice([0, 2] if seed % 2 else [0, 1, 2])
        rows = []
        for _ in range(rng.integers(0, 21)):
            near = labels[i].max() >= 0 and rng.random() < 0.7
            at = rng.choice(np.flatnonzero(labels[i] >= 0)) if near else 0
            box = boxes[i, at] + rng.normal(0, 4, 4) if near else np.sort(rng.uniform(0, 90, (2, 2)), axis=0).ravel()
            kind = labels[i, at] if near and rng.random() < 0.8 else rng.integers(0, K)
            rows.append([*box, rng.integers(1, 9) / 8 if seed % 3 == 0 else rng.random() + 0.01, kind])
        rows = sorted((r for r in rows if r[2] > r[0] and r[3] > r[1]), key=lambda r: -r[4])
        found[i, : len(rows)] = np.array(rows).reshape(-1, 6)
    return torch.from_numpy(found), torch.from_numpy(boxes), torch.from_numpy(labels)


def by_pycocotools(found: Tensor, boxes: Tensor, labels: Tensor) -> np.ndarray:
    """Return its precisions (10, 101, K), -1 for a class that is not there."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(box: Tensor) -> list[float]:
        x0, y0, x1, y1 = box.tolist()
        return [x0, y0, x1 - x0, y1 - y0]

    truth = [
        {"image_id": i + 1, "category_id": int(labels[i, j]) + 1, "bbox": xywh(boxes[i, j]), "iscrowd": 0,
         "area": float((boxes[i, j, 2:] - boxes[i, j, :2]).prod())}
        for i, j in (labels >= 0).nonzero().tolist()
    ]  # fmt: skip
    given = [
        {"image_id": i + 1, "category_id": int(found[i, j, 5]) + 1, "bbox": xywh(found[i, j, :4]), "score": float(found[i, j, 4])}
        for i, j in (found[..., 4] > 0).nonzero().tolist()
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i + 1} for i in range(len(found))],
            "categories": [{"id": k + 1} for k in range(K)],
            "annotations": [{**each, "id": n + 1} for n, each in enumerate(truth)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(given), "bbox")
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][:, :, :, 0, 2]


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    found, boxes, labels = scenes(seed)
    ours, theirs = curves(matched(found, boxes, labels), K), by_pycocotools(found, boxes, labels)
    for k in range(K):
        if k in ours:
            assert ours[k].numpy() == pytest.approx(theirs[:, :, k], abs=1e-9)
        else:
            assert (theirs[:, :, k] == -1).all()
    each = mean_precision(matched(found, boxes, labels), K)
    assert float(each.mean()) == pytest.approx(theirs[theirs > -1].mean())
    assert len(each) == len(BOUNDS) == 10


def measured(found: Tensor, boxes: Tensor, labels: Tensor, *, score: float = 0.5) -> DetectionMetrics:
    """Return an accumulator that has seen these, in two batches."""
    metrics = DetectionMetrics(
        ["a", "b", "c"],
        lambda outputs, batch: {"loss": torch.tensor(2.0)},
        lambda outputs: outputs,
        score=score,
        collisions=lambda outputs, batch: torch.tensor(1),
    )
    for part in (slice(0, 5), slice(5, None)):
        metrics.update(found[part], {"x": found[part], "boxes": boxes[part], "label": labels[part]})
    return metrics


def test_numbers_of_a_split_have_their_names() -> None:
    found, boxes, labels = scenes(0)
    reported = measured(found, boxes, labels).compute()
    theirs = by_pycocotools(found, boxes, labels)
    assert reported["loss"] == 2 and reported["error"] == 1 - reported["map50"]
    assert reported["map50"] == pytest.approx(theirs[0][theirs[0] > -1].mean())
    assert reported["map50_95"] == pytest.approx(theirs[theirs > -1].mean())
    assert reported["per_class/b"] == pytest.approx(theirs[0, :, 1].mean())
    nothing = measured(torch.zeros_like(found), boxes, torch.full_like(labels, -1)).compute()
    assert nothing["map50"] == 0 and nothing["error"] == 1  # there is no class, so nothing was found


def f1_by_hand(found: Tensor, boxes: Tensor, labels: Tensor, score: float) -> float:
    """Return the F1 of the boxes from a score on, each the best free true box of its class, picture after picture."""
    hits = shown = 0
    for rows, truth, kinds in zip(found, boxes, labels, strict=True):
        free = set((kinds >= 0).nonzero()[:, 0].tolist())
        for row in (each for each in rows if each[4] > 0 and each[4] >= score):
            shown += 1
            fits = {j: float(iou(row[:4], truth[j])) for j in free if kinds[j] == row[5]}
            best = max(fits, key=lambda j: fits[j], default=None)
            if best is not None and fits[best] >= 0.5:
                hits += 1
                free.remove(best)
    return 2 * hits / (shown + int((labels >= 0).sum()))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_score_that_is_suggested_has_the_best_f1_of_all(seed: int) -> None:
    found, boxes, labels = scenes(seed)
    reported = measured(found, boxes, labels, score=0.6).suggested()
    every = {s / 100: f1_by_hand(found, boxes, labels, s / 100) for s in range(1, 100)}  # of seed 0 some are scores
    assert reported["f1"] == pytest.approx(max(every.values())) == every[reported["task.score"]]
    assert reported["now"] == {"task.score": 0.6, "f1": pytest.approx(every[0.6])} and reported["f1"] > every[0.6]
    exact = f1_from(matched(found, boxes, labels, BOUNDS[:1]), SCORES)
    assert exact.tolist() == pytest.approx(list(every.values()))
    again = measured(found, boxes, labels, score=reported["task.score"]).suggested()
    assert again["task.score"] == again["now"]["task.score"] == reported["task.score"]  # nothing to change
    assert measured(torch.zeros_like(found), boxes, labels).suggested() == {}


def box(*values: float) -> list[float]:
    return list(values)


SQUARE, SHIFTED, FAR = box(0, 0, 10, 10), box(6, 0, 16, 10), box(50, 50, 60, 60)
TWO = torch.tensor([[SQUARE, box(30, 30, 40, 40)]])


@pytest.mark.parametrize(
    ("rows", "kinds", "missed"),
    [
        ([[*SQUARE, 0.9, 0], [*SQUARE, 0.8, 0]], [-1, 2], 1),  # hit, duplicate
        ([[*SQUARE, 0.9, 1]], [0], 1),  # wrong class
        ([[*SHIFTED, 0.9, 0]], [1], 1),  # overlap 0.25: badly placed
        ([[*FAR, 0.9, 0]], [3], 2),  # background
        ([[*SQUARE, 0.9, 0], [30, 30, 40, 40, 0.8, 1]], [-1, -1], 0),
    ],
)
def test_each_mistake_has_its_kind(rows, kinds, missed) -> None:
    given = torch.tensor([rows])
    found = matched(given, TWO, torch.tensor([[0, 1]]), BOUNDS[:1])
    kind, lost = kinds_of(found)
    assert kind[0].tolist() == kinds and int(lost.sum()) == missed


def test_mending_the_only_kind_of_mistake_leaves_no_error() -> None:
    """One box with the wrong class, one true box: with the right class the average precision is 1."""
    for row, kind in (([*SQUARE, 0.9, 1], "wrong class"), ([*SHIFTED, 0.9, 0], "badly placed")):
        found, boxes, labels = torch.tensor([[row]]), torch.tensor([[SQUARE]]), torch.tensor([[0]])
        metrics = measured(found, boxes, labels)
        metrics._taken = metrics._taken[:1]
        costs = metrics.costs()
        assert [(each["predicted"], each["share"], each["error_if_mended"]) for each in costs] == [(kind, 1, 0)]


def test_the_matrix_counts_every_object_once_and_knows_background() -> None:
    given = torch.tensor([[[*SQUARE, 0.9, 1], [*FAR, 0.8, 2], [*FAR, 0.3, 2]]])
    metrics = measured(given, TWO, torch.tensor([[0, 1]]))
    matrix = metrics.matrix()
    assert matrix[0, 1] == 1 and matrix[1, 3] == 1 and matrix[3, 2] == 1 and matrix.sum() == 3
    found, boxes, labels = scenes(4)
    matrix = measured(found, boxes, labels).matrix()
    assert torch.equal(matrix[:3].sum(dim=1), torch.bincount(labels[labels >= 0], minlength=3).double())
    assert matrix.sum() - matrix[:3, 3].sum() == (found[..., 4] >= 0.5).sum()


@pytest.mark.parametrize("seed", range(6))
def test_what_is_shown_is_counted_box_by_box(seed: int) -> None:
    """Precision, recall, F1 and mean IoU from a score on, by the rule itself: the surest box takes the free one it overlaps most."""
    given, boxes, labels = scenes(seed)
    for score in (0.3, 0.6):
        right, shown, overlaps = 0, 0, []
        for i in range(len(given)):
            free = [j for j in range(labels.shape[1]) if labels[i, j] >= 0]
            for row in sorted((r for r in given[i].tolist() if r[4] >= score), key=lambda r: -r[4]):
                shown += 1
                fits = {
                    j: float(iou(torch.tensor(row[:4]).double(), boxes[i, j].double()))
                    for j in free
                    if labels[i, j] == row[5]
                }
                best = max(fits, key=fits.get, default=None)
                if best is not None and fits[best] >= 0.5:
                    right, free = right + 1, [j for j in free if j != best]
                    overlaps.append(fits[best])
        objects = int((labels >= 0).sum())
        found = shown_from(matched(given, boxes, labels, BOUNDS[:1]), score)
        assert found["precision"] == pytest.approx(right / shown) and found["recall"] == pytest.approx(right / objects)
        assert found["f1"] == pytest.approx(2 * right / (shown + objects))
        assert found["mean_iou"] == pytest.approx(np.mean(overlaps))
        assert found["f1"] == pytest.approx(
            float(f1_from(matched(given, boxes, labels, BOUNDS[:1]), torch.tensor([score]).double())[0])
        )


def test_the_f1_of_boxes_has_no_interval_of_the_error() -> None:
    measured = Measured(0.3, 100, 0.02)  # 1 - mAP50
    assert interval_of("f1", 0.85, measured, None) is None and interval_of("mean_iou", 0.8, measured, None) is None
    low, high = interval_of("f1", 0.7, measured, None)  # of spans: 1 - f1 is the error
    assert (low, high) == pytest.approx((0.7 - 1.96 * 0.02, 0.7 + 1.96 * 0.02))


def test_nothing_shown_and_nothing_there_are_0() -> None:
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "mean_iou": 0.0}
    given, boxes, labels = scenes(1)
    assert shown_from(matched(given * 0, boxes, labels, BOUNDS[:1]), 0.5) == nothing
    assert shown_from(matched(given, boxes[:, :0], labels[:, :0], BOUNDS[:1]), 0.5) == nothing
