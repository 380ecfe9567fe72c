"""The pictures of a report; matplotlib without a window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

BLUE, ORANGE, GREY, RED = "#2b6cb0", "#dd6b20", "#a0aec0", "#c53030"
PLAIN = {"Software": None, "Creation Time": None}
mpl.rcParams.update(
    {
        "figure.dpi": 110,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.sans-serif": ["DejaVu Sans", "Noto Sans CJK SC", "WenQuanYi Zen Hei"],
    }
)


def curves(rows: Sequence[dict[str, float]], monitor: str, best_epoch: int, path: Path) -> None:
    """Draw loss (train and dev) and the monitored number over epochs, with the epoch that was chosen."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    epochs = [row["epoch"] for row in rows]
    for name, colour in (("train/loss", BLUE), ("dev/loss", ORANGE)):
        if name in rows[0]:
            axes[0].plot(epochs, [row[name] for row in rows], color=colour, label=name)
    if f"dev/{monitor}" in rows[0]:
        axes[1].plot(epochs, [row[f"dev/{monitor}"] for row in rows], color=ORANGE, label=f"dev/{monitor}")
    for axis in axes:
        axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"chosen: epoch {best_epoch}")
        axis.set_xlabel("epoch")
        axis.legend(frameon=False)
    _save(figure, path)


def gap(steps: Sequence[tuple[str, float]], tolerance: float, path: Path) -> None:
    """Draw the error rates from human level to test as bars, each step's growth written on it."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    names, values = [name for name, _ in steps], [100 * value for _, value in steps]
    growths = [0.0, *np.diff(values)]
    colours = [GREY, *(RED if growth > 100 * tolerance else BLUE for growth in growths[1:])]
    axis.bar(names, values, color=colours)
    for i, (value, growth) in enumerate(zip(values, growths, strict=True)):
        axis.text(i, value, f"{value:.1f} %" + (f"\n({growth:+.1f})" if i else ""), ha="center", va="bottom")
    axis.set_ylabel("error, per cent")
    axis.margins(y=0.25)
    _save(figure, path)


def confusion(matrix: np.ndarray[Any, Any], classes: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix; the shade is the share of each label."""
    size = min(12.0, 2.5 + 0.45 * len(classes))
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axis.set_xticks(ticks, classes, rotation=60, ha="right")
    axis.set_yticks(ticks, classes)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    for i, j in zip(*np.nonzero(matrix), strict=True):
        shade = "white" if matrix[i, j] > 0.5 * matrix[i].sum() else "black"
        axis.text(j, i, str(matrix[i, j]), ha="center", va="center", color=shade, fontsize=7)
    _save(figure, path)


def mistakes(images: np.ndarray[Any, Any], titles: Sequence[str], path: Path) -> None:
    """Draw images (n, C, H, W) with their titles, six a row."""
    rows = -(-len(images) // 6)
    figure, axes = plt.subplots(rows, 6, figsize=(9, 1.9 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        low, high = image.min(), image.max()
        axis.imshow(((image - low) / max(high - low, 1e-9)).transpose(1, 2, 0).squeeze(-1) if len(image) == 1 else
                    ((image - low) / max(high - low, 1e-9)).transpose(1, 2, 0), cmap="gray")  # fmt: skip
        axis.set_title(title, fontsize=7)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata=PLAIN)
    plt.close(figure)
