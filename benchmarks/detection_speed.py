"""Suppression, decoding, sliding windows and the network, against plain loops, interleaved: python benchmarks/detection_speed.py.

The loops are what one writes first: they take one box, one cell, one window after the other.
"""

import argparse
import time
from collections.abc import Callable
from math import exp
from statistics import median

import torch
from torch import Tensor

from crucible.boxes import iou, suppress
from crucible.data.card import Card
from crucible.inference.sliding import convolutional
from crucible.models.convnet import ConvNet
from crucible.models.yolo import Yolo
from crucible.tasks.detection import PRIOR, Detection

OWN = {"monitor": "map50", "goal": "maximize", "tolerance": 0.02, "near": True, "box_weight": 2.0, "class_weight": 1.0,
       "background_weight": 1.0, "ignore": 0.6, "score": 0.6, "overlap": 0.5}  # fmt: skip
ANCHORS = [[10.0, 10], [20, 30], [30, 20], [60, 60], [90, 110]]


def task(size: tuple[int, int], classes: int, anchors: list[list[float]]) -> Detection:
    """Return the task for pictures of a size (H, W)."""
    counts = {"size": 1, "class_counts": [1] * classes}
    normal = {"kind": "none", "mean": [0.0], "std": [1.0]}
    names = [str(i) for i in range(classes)]
    return Detection(
        Card("", "", {}, {"train": counts}, names, [3, *size], "uint8", normal, {}, {}), anchors=anchors, **OWN
    )


def loop_suppress(corners: Tensor, scores: Tensor, bound: float) -> list[int]:
    """Suppress box after box, each against all that are left at once."""
    left, kept = scores.argsort(descending=True), []
    while len(left):
        kept.append(int(left[0]))
        left = left[1:][iou(corners[left[0]], corners[left[1:]]) <= bound]
    return sorted(kept)


def loop_decode(outputs: Tensor, size: int) -> list[tuple[float, ...]]:
    """Decode cell after cell."""
    found, (rows, columns) = [], outputs.shape[2:]
    step, numbers = size / rows, outputs.unflatten(1, (len(ANCHORS), -1)).tolist()
    for picture in numbers:
        for (aw, ah), maps in zip(ANCHORS, picture, strict=True):
            for y in range(rows):
                for x in range(columns):
                    p, tx, ty, th, tw, *c = (channel[y][x] for channel in maps)
                    cx, cy = ((i + 2 / (1 + exp(-t)) - 0.5) * step for i, t in ((x, tx), (y, ty)))
                    w, h = aw * exp(max(-4, min(4, tw))), ah * exp(max(-4, min(4, th)))
                    found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, 1 / (1 + exp(PRIOR - p)), max(c)))
    return found


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(name: str, ours: Callable[[], object], plain: Callable[[], object], repeats: int) -> None:
    """Print the median of plain / ours, interleaved."""
    ours(), plain()
    pairs = [(seconds(plain), seconds(ours)) for _ in range(repeats)]
    ratios = sorted(a / b for a, b in pairs)
    print(f"{name:50} {median(ratios):8.1f} times as fast [{ratios[0]:.1f}, {ratios[-1]:.1f}]; "
          f"{1000 * median(b for _, b in pairs):.1f} ms", flush=True)  # fmt: skip


def suppression(extent: float, what: str, repeats: int) -> None:
    """Suppress 10,000 boxes of 20 to 80 pixels on a square of this extent."""
    low = extent * torch.rand(10_000, 2)
    corners, scores = torch.cat([low, low + 20 + 60 * torch.rand(10_000, 2)], 1), torch.rand(10_000)

    def ours() -> list[int]:
        return suppress(corners, scores, torch.zeros(10_000), bound=0.5).nonzero()[:, 0].tolist()

    def plain() -> list[int]:
        return loop_suppress(corners, scores, 0.5)

    assert ours() == plain()
    compared(f"suppression of 10,000 boxes, {what}, {len(ours())} stay", ours, plain, repeats)


def windows(side: int, repeats: int) -> None:
    """Look at every window of 14x14 in an image of this side, two pixels apart (the notes' network)."""
    layers = [{"conv": 16, "f": 5}, {"max_pool": 2}, "flatten", {"fc": 400}, {"fc": 400}]
    model = ConvNet((3, 14, 14), 4, layers=layers, activation="relu", batch_norm=False, keep_prob=1.0).eval()
    net, images = convolutional(model), torch.randn(1, 3, side, side)
    starts = range(0, side - 13, net.stride)

    def plain() -> list[Tensor]:
        return [model(images[:, :, y : y + 14, x : x + 14]) for y in starts for x in starts]

    assert torch.allclose(net(images).flatten(2)[0].T, torch.cat(plain()), atol=1e-5)
    compared(f"windows of 14x14 in {side}x{side}, {len(starts)}x{len(starts)}", lambda: net(images), plain, repeats)


def main() -> None:
    """Print every ratio, and images a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    suppression(1000, "crowded", repeats)
    suppression(5000, "sparse", repeats)
    goal, outputs = task((608, 608), 80, ANCHORS), torch.randn(32, 5 * 85, 19, 19)
    with torch.inference_mode():
        compared(
            "decoding 19x19x5 for a batch of 32",
            lambda: goal._boxes(goal._split(outputs)),
            lambda: loop_decode(outputs, 608),
            3,
        )
        for side in (28, 112):
            windows(side, repeats)
    goal = task((240, 320), 3, ANCHORS[:3])
    yolo = Yolo(
        (3, 240, 320),
        goal.num_outputs,
        backbone="resnet",
        settings={"depth": 18, "width": 32},
        stride=16,
        width=None,
        context=True,
    )
    x, boxes = torch.randn(8, 3, 240, 320), torch.tensor([[[30.0, 30, 80, 80]] * 13]).repeat(8, 1, 1)
    batch = {"x": x, "boxes": boxes + 8 * torch.rand(8, 13, 1), "label": torch.zeros(8, 13, dtype=torch.long)}
    optimizer = torch.optim.Adam(yolo.parameters())

    def step() -> None:
        optimizer.zero_grad()
        goal.losses(yolo, batch)["loss"].backward()
        optimizer.step()

    def ask() -> Tensor:
        with torch.inference_mode():
            return goal.postprocess(yolo(x))

    for name, work in (("training", step), ("prediction", ask)):
        work()
        print(
            f"{name} of YOLO on 240x320, one thread: {8 / median(seconds(work) for _ in range(repeats)):.1f} images a second"
        )


if __name__ == "__main__":
    main()
