"""Sliding windows against YOLO on the same pictures: python benchmarks/windows_yolo.py RUN [--pictures 200].

RUN is a finished run of task=detection on data=digit_scenes. From its train scenes windows are cut, digits and background, a classifier of
windows is trained on them (`model=convnet`, 20 epochs), and it slides over the test scenes in five sizes (notes 000, part 11, section 3).
Told are the mean average precision of both on these scenes, and the seconds a picture, one thread, in turn.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from crucible.app.cli import perform
from crucible.app.project import ROOT
from crucible.boxes import iou
from crucible.data.images import resized
from crucible.inference.saved_run import Predictor, load_run
from crucible.inference.windows import Windows
from crucible.instantiate import build
from crucible.metrics.detection import BOUNDS, matched, mean_precision, shown_from

HIGH, SIZES, BACKGROUND = 24, 5, "background"
MOST = 100  # boxes of a picture
LAYERS = "[{conv: 16, f: 5}, {max_pool: 2}, {conv: 32, f: 3}, {max_pool: 2}, flatten, {fc: 96}]"


def cut(image: np.ndarray, box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the window (1, h, w) of a picture (1, H, W) at corners, within the picture."""
    h, w = image.shape[1:]
    x0, y0 = (int(min(max(0, value), side - 2)) for value, side in zip(box[:2], (w, h), strict=True))
    x1, y1 = (int(max(low + 2, min(value, side))) for low, value, side in zip((x0, y0), box[2:], (w, h), strict=True))
    return resized(image[:, y0:y1, x0:x1], shape)


def around(box: np.ndarray, aspect: float) -> np.ndarray:
    """Return the window of the given width for each height around a box, as high as the box."""
    x, y, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[3] - box[1]
    return np.array([x - aspect * h / 2, y - h / 2, x + aspect * h / 2, y + h / 2])


def windows_of(
    x: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    aspect: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return windows (n, 1, h, w) and their classes: each digit a little off twice, and three windows that hold none, or a part of one."""
    found, kinds = [], []
    for image, own, kind in zip(x, boxes, labels, strict=True):
        own, kind = own[kind >= 0], kind[kind >= 0]
        for box, k in zip(own, kind, strict=True):
            for _ in range(2):
                h = box[3] - box[1]
                window = around(box + np.tile(rng.uniform(-0.08, 0.08, 2) * h, 2), aspect)
                found.append(cut(image, window, shape))
                kinds.append(str(k))
        for _ in range(3 * max(1, len(own))):
            h = rng.uniform(0.15, 0.5) * image.shape[1]
            near = own[rng.integers(len(own))] if len(own) and rng.random() < 0.6 else None
            at = (
                (near[:2] + rng.uniform(-0.8, 0.8, 2) * (near[3] - near[1]))
                if near is not None
                else rng.uniform(0, 0.8, 2) * image.shape[1]
            )
            window = np.array([*at, at[0] + aspect * h, at[1] + h])
            if not len(own) or float(iou(torch.tensor(window)[None], torch.tensor(own)).max()) < 0.4:
                found.append(cut(image, window, shape))
                kinds.append(BACKGROUND)
    return np.stack(found), np.array(kinds)


def as_found(boxes: list[dict], names: list[str]) -> torch.Tensor:
    """Return boxes as the metrics take them (100, 6)."""
    rows = torch.zeros(MOST, 6)
    for i, each in enumerate(boxes[:MOST]):
        rows[i] = torch.tensor([*each["box"], each["score"], names.index(each["class"])])
    return rows


def main() -> None:
    """Train the windows, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    detector = load_run(given.run.resolve(), torch.device("cpu"))
    source = build("data.reader", detector.config["data"]["reader"], ROOT / detector.config["data"]["path"], None, None)
    x, boxes, labels = {}, {}, {}
    for split in ("train", "test"):
        pool = source.pools[split]
        x[split], boxes[split], labels[split] = np.concatenate(list(pool.chunks())), pool.boxes, pool.labels
    sides = boxes["train"][labels["train"] >= 0]
    heights = sides[:, 3] - sides[:, 1]
    aspect = float(np.median((sides[:, 2] - sides[:, 0]) / heights))
    shape = (HIGH, round(HIGH * aspect))
    rng, home = np.random.default_rng(0), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        few = slice(0, 1500)
        windows, kinds = windows_of(x["train"][few], boxes["train"][few], labels["train"][few], aspect, shape, rng)
        np.savez("windows.npz", x=windows, y=kinds)
        perform("train", ["data=npz", "data.path=windows.npz", "data.duplicates=drop", "model=convnet", f"model.layers={LAYERS}",
                          "trainer.total_epochs=20", "trainer.threads=1", "tracking=none", "hydra.run.dir=windows"])  # fmt: skip
        classifier = load_run(Path("windows"), torch.device("cpu"))
        os.chdir(home)
    sizes = sorted({round(each) for each in np.quantile(heights, np.linspace(0.1, 0.9, SIZES))})
    slides, asked = Windows(classifier, sizes=sizes, background=BACKGROUND), Predictor(detector)
    pictures, taken, found = x["test"][: given.pictures], {"windows": [], "yolo": []}, {"windows": [], "yolo": []}
    count = 0
    for image in pictures:
        start = time.perf_counter()
        seen, count = slides.found(image, score=0.3, overlap=0.3)
        taken["windows"].append(time.perf_counter() - start)
        found["windows"].append(as_found(seen, detector.card.classes))
        start = time.perf_counter()
        with torch.inference_mode():
            answer = asked(torch.from_numpy(image)[None].float())[0]
        taken["yolo"].append(time.perf_counter() - start)
        found["yolo"].append(answer[:MOST].float())
    truth = torch.tensor(boxes["test"][: given.pictures]), torch.tensor(labels["test"][: given.pictures])
    print(
        f"windows {shape[0]} x {shape[1]}, heights {sizes}, {slides.step} pixels apart: {count:,} a picture; classifier {len(windows):,} windows"
    )
    for name, rows in found.items():
        match = matched(torch.stack(rows), *truth, BOUNDS)
        first = matched(torch.stack(rows), *truth, BOUNDS[:1])
        means, shown = mean_precision(match, len(detector.card.classes)), shown_from(first, 0.6)
        print(f"{name:>8}: mAP50 {float(means[0]):.4f}, mAP50:95 {float(means.mean()):.4f}, mean IoU of hits {shown['mean_iou']:.4f}, "
              f"{median(taken[name]) * 1000:.1f} ms a picture")  # fmt: skip
    ratios = sorted(a / b for a, b in zip(taken["windows"], taken["yolo"], strict=True))
    print(
        f"windows take {median(ratios):.2f} times as long [{ratios[len(ratios) // 10]:.2f}, {ratios[-len(ratios) // 10]:.2f}]"
    )


if __name__ == "__main__":
    main()
