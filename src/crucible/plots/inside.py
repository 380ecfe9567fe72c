"""The pictures of what goes on inside a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from crucible.plots.figures import plain, save

Image = np.ndarray[Any, Any]
COLUMNS = 9


def grid(rows: Sequence[Sequence[Image]], titles: Sequence[str], path: Path) -> None:
    """Draw images (C, h, w), a line with a title for each sequence; each image in its own range."""
    wide = max(len(row) for row in rows)
    figure, axes = plt.subplots(len(rows), wide, figsize=(1.0 * wide + 1.6, 1.05 * len(rows) + 0.2), squeeze=False)
    for line, row, title in zip(axes, rows, titles, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, row, strict=False):
            axis.imshow(shown(image), cmap="gray", interpolation="nearest")
        line[0].text(-0.1, 0.5, plain(title), transform=line[0].transAxes, ha="right", va="center", fontsize=7)
    save(figure, path)


def heat(images: Sequence[Image], maps: Sequence[Image], titles: Sequence[str], path: Path) -> None:
    """Draw images (C, H, W), each beside itself under a map (H, W) of where the network looked."""
    across = 3
    lines = -(-len(images) // across)
    figure, axes = plt.subplots(lines, 2 * across, figsize=(9, 1.7 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, (image, found, title) in enumerate(zip(images, maps, titles, strict=True)):
        alone, under = axes[i // across][2 * (i % across)], axes[i // across][2 * (i % across) + 1]
        for axis in (alone, under):
            axis.imshow(shown(image), cmap="gray")
        under.imshow(found, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        alone.set_title(plain(title), fontsize=7)
    save(figure, path)


def scatter(points: Image, labels: Image, names: Sequence[str], shares: Sequence[float], path: Path) -> None:
    """Draw points (N, 2), coloured by class."""
    figure, axis = plt.subplots(figsize=(6, 5))
    for k, name in enumerate(names):
        own = points[labels == k]
        axis.plot(own[:, 0], own[:, 1], ".", markersize=4, label=plain(name), color=plt.cm.tab20(k % 20), alpha=0.7)
    axis.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance")
    axis.set_ylabel(f"second component, {100 * shares[1]:.0f} %")
    axis.legend(frameon=False, fontsize=7, ncols=2)
    save(figure, path)


def shown(image: Image) -> Image:
    """Return an image (C, h, w) as a picture takes it, from 0 to 1: grey (h, w), or colour (h, w, 3)."""
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / max(high - low, 1e-9)
    return scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled[0]
