"""Pictures with boxes and points, and the curves of a detector."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from crucible.plots.figures import BLUE, GREY, ORANGE, plain, save

TRUTH, FOUND = "#38a169", ORANGE
Array = np.ndarray[Any, Any]


def compared(
    images: Sequence[Array], truths: Sequence[Any], founds: Sequence[Any], titles: Sequence[str], path: Path
) -> None:
    """Draw images (C, H, W), what is there in green and what was found in orange, four a row.

    Args:
        truths, founds: for each image a list of {box, class, score} or {points}, in the image's pixels.
    """
    rows = -(-len(images) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(11, 2.9 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, truth, found, title in zip(axes.flat, images, truths, founds, titles, strict=False):
        axis.imshow(_shades(image), cmap="gray")
        for marks, colour in ((truth, TRUTH), (found, FOUND)):
            _mark(axis, marks, colour)
        axis.set_title(plain(title), fontsize=7)
    save(figure, path)


def _mark(axis: Any, marks: Any, colour: str) -> None:
    if isinstance(marks, dict) and not marks["points"]:
        return
    if isinstance(marks, dict):
        axis.plot(
            *np.array(marks["points"]).T - 0.5, ".", color=colour, markersize=3
        )  # imshow's pixels lie around whole numbers
        return
    for each in marks:
        x0, y0, x1, y1 = each["box"]
        axis.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1))
        score = f" {each['score']:.2f}" if "score" in each else ""
        axis.text(x0, y0 - 1, plain(f"{each['class']}{score}"), fontsize=5, color=colour)


def precision_recall(curves: Mapping[str, Array], path: Path) -> None:
    """Draw for each class the precision (101,) at recalls 0 to 1, at an overlap of 0.5."""
    figure, axis = plt.subplots(figsize=(5.5, 3.6))
    for name, precision in curves.items():
        axis.plot(np.linspace(0, 1, len(precision)), precision, label=plain(f"{name}: {precision.mean():.3f}"))
    axis.set_xlabel("recall")
    axis.set_ylabel("precision")
    axis.set_ylim(0, 1.03)
    axis.legend(frameon=False, fontsize=7)
    save(figure, path)


def anchors(found: Mapping[str, Mapping[str, Any]], sizes: Array, used: Sequence[Sequence[float]], path: Path) -> None:
    """Draw how well so many anchors fit the boxes of train, and the anchors used among the boxes' sizes (n, 2)."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    axes[0].plot([int(k) for k in found], [each["fit"] for each in found.values()], "o-", color=BLUE)
    axes[0].set_xlabel("anchors")
    axes[0].set_ylabel("mean IoU of a box with its best")
    axes[1].plot(sizes[:, 0], sizes[:, 1], ".", color=GREY, markersize=2)
    for w, h in used:
        axes[1].plot(w, h, "s", color=ORANGE, markersize=7)
    axes[1].set_xlabel("width, pixels")
    axes[1].set_ylabel("height, pixels")
    save(figure, path)


def drawn(image: Array, marks: Any, path: Path) -> None:
    """Write one picture (C, H, W) of 8 bits with boxes or points on it, in its own size."""
    picture = Image.fromarray(_shades(image)).convert("RGB")
    pen, width = ImageDraw.Draw(picture), max(1, min(picture.size) // 200)
    if isinstance(marks, dict):
        for x, y in marks["points"]:
            pen.ellipse((x - 1 - width, y - 1 - width, x + 1 + width, y + 1 + width), fill=FOUND)
    else:
        for each in marks:
            pen.rectangle(each["box"], outline=FOUND, width=width)
            pen.text((each["box"][0] + 2, each["box"][1]), f"{each['class']} {each['score']:.2f}", fill=FOUND)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _shades(image: Array) -> Array:
    """Return an image (C, H, W) as bytes (H, W) or (H, W, 3), stretched where it is none of bytes."""
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = np.rint(255 * (image - low) / max(high - low, 1e-9)).astype(np.uint8)
    return image[0] if len(image) == 1 else np.ascontiguousarray(image[:3].transpose(1, 2, 0))
