"""YOLO's cells, anchors, loss and decoding against loops written by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import card_of, composed
from torch import Tensor
from torch.nn import functional as F

from crucible.boxes import iou
from crucible.data.objects import find_anchors
from crucible.errors import Refusal
from crucible.instantiate import build
from crucible.models.yolo import Yolo
from crucible.tasks.detection import PRIOR, Detection

K, ANCHORS, SIDE = 3, [[10.0, 20.0], [24.0, 12.0]], 60
OWN = {"monitor": "map50", "goal": "maximize", "tolerance": 0.02, "near": False, "box_weight": 2.0, "class_weight": 0.5,
       "background_weight": 0.7, "ignore": 0.6, "score": 0.6, "overlap": 0.5, "anchors": ANCHORS}  # fmt: skip


def task(**more: object) -> Detection:
    return Detection(card_of((3, SIDE, SIDE), classes=K), **(OWN | more))


def batch_of(*pictures: list[tuple[int, list[float]]]) -> dict[str, Tensor]:
    """Return a batch of pictures with objects (class, corners); every picture has room for four."""
    boxes, labels = torch.zeros(len(pictures), 4, 4), torch.full((len(pictures), 4), -1)
    for i, objects in enumerate(pictures):
        for j, (kind, corners) in enumerate(objects):
            boxes[i, j], labels[i, j] = torch.tensor(corners), kind
    return {"x": torch.zeros(len(pictures), 3, SIDE, SIDE), "boxes": boxes, "label": labels}


PEDESTRIAN, CAR = (0, [25.0, 22, 34, 41]), (1, [20.0, 26, 43, 37])  # two objects with one centre cell (the notes)
BATCH = batch_of([PEDESTRIAN, CAR], [(2, [0.0, 0, 9, 18]), (2, [41.0, 43, 52, 60])], [])


def by_hand(outputs: Tensor, batch: dict[str, Tensor], near: bool = False) -> tuple[dict[str, float], int]:
    """Return the loss and the number of places, cell after cell, object after object."""
    rows, columns = outputs.shape[2:]
    maps = outputs.view(len(outputs), len(ANCHORS), 5 + K, rows, columns)
    step = SIDE / rows
    parts, places = {"box": 0.0, "class": 0.0, "objectness": 0.0}, 0

    def box(b: int, a: int, y: int, x: int) -> Tensor:
        _, tx, ty, th, tw, *_ = maps[b, a, :, y, x]
        cx, cy = (x + 2 * tx.sigmoid() - 0.5) * step, (y + 2 * ty.sigmoid() - 0.5) * step
        w, h = ANCHORS[a][0] * tw.exp(), ANCHORS[a][1] * th.exp()
        return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])

    for b in range(len(outputs)):
        mine = {}
        objects = [(batch["boxes"][b, j], int(batch["label"][b, j])) for j in range(4) if batch["label"][b, j] >= 0]
        objects = sorted(objects, key=lambda o: -float((o[0][2:] - o[0][:2]).prod()))
        offsets = [lambda x, y: (0, 0)]
        if near:
            offsets += [lambda x, y: (-1 if x % 1 < 0.5 else 1, 0), lambda x, y: (0, -1 if y % 1 < 0.5 else 1)]
        for offset in offsets:
            for corners, kind in objects:
                (w, h), (cx, cy) = (
                    (corners[2:] - corners[:2]).tolist(),
                    ((corners[2:] + corners[:2]) / 2 / step).tolist(),
                )
                fits = [min(w, aw) * min(h, ah) / (w * h + aw * ah - min(w, aw) * min(h, ah)) for aw, ah in ANCHORS]
                dx, dy = offset(cx, cy)
                x, y = int(cx) + dx, int(cy) + dy
                if 0 <= x < columns and 0 <= y < rows:
                    mine.setdefault((fits.index(max(fits)), y, x), (corners, kind))
        places += len(mine)
        for a in range(len(ANCHORS)):
            for y in range(rows):
                for x in range(columns):
                    stated, found = maps[b, a, :, y, x], box(b, a, y, x)
                    z = stated[0] - PRIOR
                    if (a, y, x) in mine:
                        corners, kind = mine[a, y, x]
                        hull = (torch.maximum(found[2:], corners[2:]) - torch.minimum(found[:2], corners[:2])).prod()
                        common = (
                            (torch.minimum(found[2:], corners[2:]) - torch.maximum(found[:2], corners[:2]))
                            .clamp(min=0)
                            .prod()
                        )
                        union = (found[2:] - found[:2]).prod() + (corners[2:] - corners[:2]).prod() - common
                        parts["box"] += 2.0 * float(1 - common / union + (hull - union) / hull)
                        parts["class"] += 0.5 * float(-stated[5:].log_softmax(dim=0)[kind])
                        parts["objectness"] += float(F.softplus(-z))
                    elif all(iou(found, corners) <= 0.6 for corners, _ in objects):
                        parts["objectness"] += 0.7 * float(F.softplus(z))
    return {name: part / max(places, len(outputs)) for name, part in parts.items()}, places


@pytest.mark.parametrize("near", [False, True])
def test_the_loss_is_the_one_of_the_loops(near: bool) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(3, len(ANCHORS) * (5 + K), 3, 3, dtype=torch.float64)
    outputs[:, 0::8] += PRIOR
    for scene in (BATCH, batch_of([(0, [25.0, 22, 34, 41])], [(1, [20.0, 26, 43, 37]), (2, [22.0, 27, 41, 35])], [])):
        expected, _ = by_hand(outputs, scene, near)
        found = task(near=near).loss(outputs, scene)
        assert float(found["loss"]) == pytest.approx(sum(expected.values()), rel=1e-6)
        assert {name: float(found[f"loss/{name}"]) for name in expected} == pytest.approx(expected, rel=1e-6)


def test_two_objects_in_one_cell_have_an_anchor_each_and_a_third_is_a_collision() -> None:
    """The notes' pedestrian and car; then two cars: the larger has the place."""
    outputs = torch.zeros(3, len(ANCHORS) * (5 + K), 3, 3)
    assert outputs.shape[1:] == (16, 3, 3) and task(anchors=ANCHORS[:1]).num_outputs == 8  # 3x3x8, 3x3x16
    assert task().collisions(outputs, BATCH) == 0
    both = batch_of([PEDESTRIAN, CAR, (2, [22.0, 27, 41, 35])])
    assert task().collisions(outputs[:1], both) == 1
    found = task()._targets(task()._split(outputs[:1]), both)
    assert found.mine[0].tolist() == [True, True, False, False]


def test_what_the_loss_wants_is_decoded_to_the_objects() -> None:
    """Outputs that say the objects exactly: every object is found, and nothing else."""
    wanted = torch.zeros(3, len(ANCHORS), 5 + K, 3, 3)
    wanted[:, :, 0] = -10
    for b, a, (kind, box) in ((0, 0, PEDESTRIAN), (0, 1, CAR), (1, 0, (2, [0.0, 0, 9, 18]))):
        x, y = ((box[0] + box[2]) / 2 / 20, (box[1] + box[3]) / 2 / 20)
        cell = wanted[b, a, :, int(y), int(x)]
        inside = [math.log(p / (1 - p)) for p in ((x % 1 + 0.5) / 2, (y % 1 + 0.5) / 2)]
        sizes = [math.log((box[3] - box[1]) / ANCHORS[a][1]), math.log((box[2] - box[0]) / ANCHORS[a][0])]
        cell[:5], cell[5 + kind] = torch.tensor([PRIOR + 5, *inside, *sizes]), 10
    found = task().postprocess(wanted.flatten(1, 2))
    assert (found[..., 4] >= 0.6).sum(dim=1).tolist() == [2, 1, 0]
    assert sorted(found[0, :2, 5].tolist()) == [0, 1]
    own = {int(row[5]): row[:4] for row in found[0, :2]}
    assert torch.allclose(own[0], torch.tensor(PEDESTRIAN[1]), atol=1e-3)
    assert torch.allclose(own[1], torch.tensor(CAR[1]), atol=1e-3)
    assert torch.allclose(found[1, 0, :4], torch.tensor([0.0, 0, 9, 18]), atol=1e-3)


def test_cells_that_see_an_object_already_are_left_alone() -> None:
    outputs = torch.zeros(3, len(ANCHORS) * (5 + K), 3, 3, requires_grad=True)
    scene = batch_of([(0, [25.0, 20, 35, 40])], [], [])  # the first anchor, in the middle cell, to the pixel
    task(near=False, ignore=0.3).loss(outputs, scene)["loss"].backward()
    gradient = outputs.grad.view(3, 2, 8, 3, 3)[0, :, 0]
    assert gradient[0, 1, 1] < 0 and gradient[1, 1, 1] == 0 and gradient[0, 0, 0] > 0  # own; overlaps 0.36; background


def test_pictures_without_objects_only_learn_background() -> None:
    outputs = torch.zeros(2, 16, 3, 3, requires_grad=True)
    task().loss(outputs, batch_of([], []))["loss"].backward()
    gradient = outputs.grad.view(2, 2, 8, 3, 3)
    assert (gradient[:, :, 0] > 0).all() and (gradient[:, :, 1:] == 0).all()


@pytest.mark.parametrize("backbone", ["resnet", "vgg16", "inception", "alexnet", "lenet5", "convnet"])
def test_every_network_of_the_vision_family_is_a_backbone(backbone: str) -> None:
    settings = {"resnet": {"width": 8}, "convnet": {"layers": [{"conv": 8, "f": 3, "p": "same"}, {"max_pool": 2}]}}
    stride, shape = {"convnet": 2, "lenet5": 2, "alexnet": 32}.get(backbone, 8), (3, 64, 96)
    if backbone in ("lenet5", "alexnet"):
        stride = None
    for each in (stride,) if stride else (2, 4, 8, 16, 32):
        try:
            model = Yolo(
                shape, 16, backbone=backbone, settings=settings.get(backbone, {}), stride=each, width=8, context=True
            )
        except Refusal:
            continue
        out = model.eval()(torch.zeros(2, *shape))
        assert out.shape[:2] == (2, 16) and -(-64 // each) <= out.shape[2] < 2 * -(-64 // each)
        return
    raise AssertionError("no stride fits")


def test_the_default_is_as_wide_as_the_recipes_and_a_quarter_of_the_papers_parameters() -> None:
    own = composed("model=yolo")["model"]
    sizes = [
        sum(p.numel() for p in build("model", own | {"settings": settings}, (3, 64, 64), 24).parameters())
        for settings in (own["settings"], {"depth": 18, "width": 32}, {"depth": 18, "width": 64})
    ]
    assert sizes[0] == sizes[1] < 3.3e6 and sizes[2] == pytest.approx(4 * sizes[0], rel=0.01)


def test_a_backbone_that_cannot_says_why() -> None:
    with pytest.raises(Refusal, match="resnet has no such key") as refused:
        Yolo((3, 64, 64), 16, backbone="resnet", settings={"dept": 8}, stride=8, width=None, context=True)
    assert "depth" in str(refused.value)
    for width in (10**30, "wide"):
        with pytest.raises(Refusal, match=r"model\.settings\.width"):
            Yolo((3, 64, 64), 16, backbone="resnet", settings={"width": width}, stride=8, width=None, context=True)
    with pytest.raises(Refusal, match=r"model\.stride"):
        Yolo((3, 64, 64), 16, backbone="resnet", settings={"width": 8}, stride=64, width=None, context=True)


def test_anchors_are_those_of_clear_groups_and_fit_better_the_more_there_are() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([[10.0, 20], [40, 30], [80, 90]])
    sizes = np.concatenate([each * rng.uniform(0.95, 1.05, (100, 2)) for each in groups])
    found = find_anchors(sizes, 3)
    assert np.array(found["sizes"]) == pytest.approx(groups, rel=0.02) and found["fit"] > 0.93
    fits = [find_anchors(sizes, k)["fit"] for k in range(1, 6)]
    assert all(b >= a - 0.005 for a, b in pairwise(fits))
    assert find_anchors(sizes[:1].repeat(5, axis=0), 2) == {}


def test_more_anchors_than_sizes_are_refused() -> None:
    with pytest.raises(Refusal, match="9 are asked for"):
        task(anchors=9)


def test_it_learns_one_picture_by_heart() -> None:
    """Twenty seconds of Adam on three pictures: every object is found."""
    torch.manual_seed(0)
    goal, scene = task(), BATCH | {"x": torch.randn(3, 3, SIDE, SIDE)}
    model = Yolo(
        (3, SIDE, SIDE),
        goal.num_outputs,
        backbone="resnet",
        settings={"depth": 8, "width": 8},
        stride=4,
        width=None,
        context=True,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        goal.losses(model, scene)["loss"].backward()
        optimizer.step()
    metrics = goal.metrics()
    model.train()  # the statistics of these three pictures are all there is
    with torch.no_grad():
        metrics.update(model(scene["x"]), scene)
    assert metrics.compute()["map50"] > 0.99


def notes_by_hand(outputs: Tensor, batch: dict[str, Tensor]) -> float:
    """Return the notes' loss (000, part 11): squares of all numbers where there is an object, of p_c alone elsewhere."""
    rows, columns = outputs.shape[2:]
    maps, step, total, places = outputs.view(len(outputs), len(ANCHORS), 5 + K, rows, columns), SIDE / rows, 0.0, 0
    for b in range(len(outputs)):
        mine = {}
        objects = [(batch["boxes"][b, j], int(batch["label"][b, j])) for j in range(4) if batch["label"][b, j] >= 0]
        for corners, kind in sorted(objects, key=lambda o: -float((o[0][2:] - o[0][:2]).prod())):
            (w, h), (cx, cy) = (corners[2:] - corners[:2]).tolist(), ((corners[2:] + corners[:2]) / 2 / step).tolist()
            fits = [min(w, aw) * min(h, ah) / (w * h + aw * ah - min(w, aw) * min(h, ah)) for aw, ah in ANCHORS]
            wanted = [cx - int(cx), cy - int(cy), h / step, w / step]  # b_x and b_y in the cell, b_h and b_w in cells
            mine.setdefault((fits.index(max(fits)), int(cy), int(cx)), (wanted, kind))
        places += len(mine)
        for a in range(len(ANCHORS)):
            for y in range(rows):
                for x in range(columns):
                    said = maps[b, a, :, y, x]
                    p = float(said[0].sigmoid())
                    if (a, y, x) not in mine:
                        total += OWN["background_weight"] * p**2
                        continue
                    wanted, kind = mine[a, y, x]
                    box = [float(said[1].sigmoid()), float(said[2].sigmoid()), float(said[3]), float(said[4])]
                    total += (p - 1) ** 2 + OWN["box_weight"] * sum(
                        (s - t) ** 2 for s, t in zip(box, wanted, strict=True)
                    )
                    shares = said[5:].softmax(0)
                    total += OWN["class_weight"] * sum((float(shares[k]) - (k == kind)) ** 2 for k in range(K))
    return total / max(places, len(outputs))


def test_the_notes_form_is_the_sum_of_squares_cell_after_cell() -> None:
    torch.manual_seed(0)
    goal = task(form="notes")
    for scene in (BATCH, batch_of([PEDESTRIAN], [], [CAR, (2, [1.0, 1, 9, 30])])):
        outputs = torch.randn(len(scene["x"]), len(ANCHORS) * (5 + K), 3, 3, requires_grad=True)
        found = goal.loss(outputs, scene)
        assert float(found["loss"].detach()) == pytest.approx(notes_by_hand(outputs.detach(), scene), rel=1e-5)
        assert float(found["loss"]) == pytest.approx(sum(float(v) for k, v in found.items() if k != "loss"), rel=1e-5)
        found["loss"].backward()
        assert outputs.grad.isfinite().all()


def test_the_notes_form_says_boxes_in_cells_and_drops_what_is_unsure_before_suppression() -> None:
    goal, side = task(form="notes"), SIDE / 3
    outputs = torch.full((1, 2, 5 + K, 3, 3), -9.0)
    outputs[0, 1, :, 1, 2] = torch.tensor([0.9, 0.0, 1.0, 1.5, 0.5, 0.0, 5.0, 0.0])  # p_c 0.71: shown
    outputs[0, 0, :, 1, 2] = torch.tensor([0.3, 0.0, 1.0, 1.5, 0.5, 0.0, 5.0, 0.0])  # p_c 0.57: dropped, not suppressed
    outputs[0, 0, :, 0, 0] = torch.tensor(
        [3.0, 0.0, 0.0, 1.0, 1.0, 2.0, 1.9, 1.8]
    )  # its class is unsure, which counts for nothing
    found = goal.postprocess(outputs.flatten(1, 2))[0]
    assert (found[:, 4] > 0).sum() == 2 and found[:2, 4].tolist() == pytest.approx([0.9526, 0.7109], abs=1e-4)
    cx, cy, w, h = (2 + 0.5) * side, (1 + 1 / (1 + math.exp(-1))) * side, 0.5 * side, 1.5 * side
    assert found[1, :4].tolist() == pytest.approx([cx - w / 2, cy - h / 2, cx + w / 2, min(SIDE, cy + h / 2)], abs=1e-3)
    assert found[:2, 5].tolist() == [0, 1]


def test_the_notes_form_learns_one_scene() -> None:
    torch.manual_seed(0)
    goal, outputs = (
        task(form="notes", box_weight=1.0, class_weight=1.0, background_weight=1.0),
        torch.zeros(3, 16, 3, 3, requires_grad=True),
    )
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(800):
        optimizer.zero_grad()
        goal.loss(outputs, BATCH)["loss"].backward()
        optimizer.step()
    metrics = goal.metrics()
    metrics.update(outputs.detach(), BATCH)
    found = metrics.compute()
    assert found["map50"] == found["recall"] == found["precision"] == 1 and found["mean_iou"] > 0.97


def test_in_the_notes_form_an_unsure_cell_is_dropped_before_suppression() -> None:
    """Notes 000, part 11: every p_c below 0.6 is discarded first; the class counts for nothing there."""
    outputs = torch.full((1, len(ANCHORS), 5 + K, 3, 3), -10.0)
    for column, p_c in ((0, 0.8), (1, 0.59), (2, 0.61)):
        outputs[0, 0, :, 1, column] = torch.tensor(
            [math.log(p_c / (1 - p_c)), 0, 0, 1, 1, 0, 0, 0]
        )  # of 3 classes none
    found = task(form="notes").postprocess(outputs.flatten(1, 2))
    assert found[0, :, 4][found[0, :, 4] > 0].tolist() == pytest.approx([0.8, 0.61])
