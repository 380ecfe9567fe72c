"""What a network answers everywhere in the plane of two features: the regions of the classes, or a number as a map."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from crucible.plots.figures import plain, save

Array = np.ndarray[Any, Any]
POINTS, MARGIN = 200, 0.08  # of the grid along each axis; of the axes beyond the examples
MOST_DRAWN = 2000  # examples of a split


def boundary(
    answer: Callable[[Tensor], Tensor],
    splits: Sequence[tuple[str, Array, Array]],
    classes: Sequence[str],
    features: Sequence[str],
    file: Path,
) -> None:
    """Draw the answers over the plane, and examples over them: small those of the first split, circled those that are wrong.

    Args:
        answer: points (n, 2) in the units of the data to probabilities (n, K), or to numbers (n, 1).
        splits: name, x (n, 2) and y (n,) of train and of the split that is shown. classes: their names; none of numbers.
        features: what the axes are called.
    """
    everything = np.concatenate([x for _, x, _ in splits]).astype(np.float64)
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = MARGIN * np.maximum(high - low, 1e-9)
    axes = [np.linspace(*edges, POINTS) for edges in zip(low - room, high + room, strict=True)]
    grid = np.stack([each.ravel() for each in np.meshgrid(*axes)], axis=1)
    found = answer(torch.from_numpy(grid)).numpy().reshape(POINTS, POINTS, -1)
    figure, axis = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
    (_classes if classes else _numbers)(axis, axes, found, splits, answer, classes)
    axis.set_xlabel(plain(features[0]))
    axis.set_ylabel(plain(features[1]))
    axis.set_title("small: train; large: " + splits[-1][0] + ("; circled: wrong" if classes else ""), fontsize=8)
    save(figure, file)


def _classes(axis: Any, axes: Sequence[Array], found: Array, splits: Any, answer: Any, classes: Sequence[str]) -> None:
    """Draw the region of each class, the stronger the surer, and the lines at which the likeliest class changes."""
    likeliest = found.argmax(axis=2)
    colours = plt.cm.tab10(np.arange(10))[likeliest % 10]
    colours[..., 3] = 0.1 + 0.35 * (found.max(axis=2) - 1 / found.shape[2]) / (1 - 1 / found.shape[2])
    reach = [axes[0][0], axes[0][-1], axes[1][0], axes[1][-1]]
    axis.imshow(colours, extent=reach, origin="lower", aspect="auto", interpolation="nearest")
    for k in range(found.shape[2]) if len(np.unique(likeliest)) > 1 else ():
        others = np.delete(found, k, axis=2).max(axis=2)
        axis.contour(*axes, found[..., k] - others, levels=[0.0], colors="black", linewidths=0.8)
    for i, (_, x, y) in enumerate(splits):
        x, y = x[:MOST_DRAWN], np.asarray(y[:MOST_DRAWN])
        last = i == len(splits) - 1
        for k, name in enumerate(classes):
            axis.scatter(*x[y == k].T, s=16 if last else 4, color=f"C{k % 10}", label=plain(name) if last else None,
                         alpha=1.0 if last else 0.5, edgecolors="white" if last else "none", linewidths=0.4)  # fmt: skip
        if last:
            wrong = answer(torch.from_numpy(np.array(x, dtype=np.float64))).numpy().argmax(axis=1) != y
            axis.scatter(*x[wrong].T, s=48, facecolors="none", edgecolors="black", linewidths=0.8)
    axis.legend(frameon=False, fontsize=7, ncols=-(-len(classes) // 10), loc="upper left", bbox_to_anchor=(1, 1))


def _numbers(axis: Any, axes: Sequence[Array], found: Array, splits: Any, answer: Any, classes: Sequence[str]) -> None:
    """Draw a number as a map, and the examples in the colours of their labels."""
    values = [found[..., 0].ravel(), *(y for _, _, y in splits)]
    scale = {
        "vmin": min(float(v.min()) for v in values),
        "vmax": max(float(v.max()) for v in values),
        "cmap": "viridis",
    }
    axis.figure.colorbar(axis.pcolormesh(*axes, found[..., 0], shading="auto", alpha=0.8, **scale), ax=axis)
    for i, (_, x, y) in enumerate(splits):
        last = i == len(splits) - 1
        axis.scatter(*x[:MOST_DRAWN].T, c=y[:MOST_DRAWN], s=20 if last else 5, edgecolors="white" if last else "none", linewidths=0.4, **scale)  # fmt: skip
