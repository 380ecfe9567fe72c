"""Surfaces and the ways that points went over them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from crucible.plots.figures import GREY, plain, save

POINTS, LEVELS = 201, 24


def descents(
    height: Callable[[Tensor], Tensor],
    reach: Sequence[tuple[float, float]],
    paths: Mapping[str, Sequence[Sequence[float]]],
    file: Path,
) -> None:
    """Draw the height over one axis, or its lines of equal height over two, and each path with a dot a step.

    Args:
        height: points (n, d) to heights (n,). reach: of each axis; where a path leads out of it, it is cut off.
        paths: of each run, by its name.
    """
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    axes = [torch.linspace(*each, POINTS) for each in reach]
    if len(axes) == 1:
        axis.plot(axes[0], height(axes[0][:, None]), color=GREY)
        axis.set_ylabel("J")
    else:
        grid = torch.cartesian_prod(*axes)
        heights = height(grid).view(POINTS, POINTS).T.numpy()
        axis.contour(*(each.numpy() for each in axes), heights, levels=_levels(heights), colors=GREY, linewidths=0.7)
        axis.set_ylabel("w2")
    for i, (name, path) in enumerate(paths.items()):
        points = np.array(path)
        ys = points[:, 1] if len(axes) == 2 else height(torch.tensor(points, dtype=torch.float32)).numpy()
        axis.plot(points[:, 0], ys, ".-", color=f"C{i % 10}", markersize=4, linewidth=1, label=plain(name))
        axis.plot(points[-1, 0], ys[-1], "s", color=f"C{i % 10}", markersize=6)
    axis.set_xlabel("w1" if len(axes) == 2 else "w")
    axis.set_xlim(*reach[0])
    if len(axes) == 2:
        axis.set_ylim(*reach[1])
    if len(paths) > 1 or "" not in paths:
        figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=2)
    axis.set_title("a dot a step, a square where it ended", fontsize=8)
    save(figure, file)


def _levels(heights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return heights of lines that stand closer where it is low, so that flat ground shows."""
    low, high = float(heights.min()), float(heights.max())
    levels: np.ndarray[Any, Any] = low + (high - low) * np.linspace(0.02, 1, LEVELS) ** 2
    return levels
