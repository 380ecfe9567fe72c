"""The pictures of verification: pairs, their distances, the codes, and recognition among ever more people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from crucible.plots.figures import BLUE, GREY, ORANGE, plain, save
from crucible.plots.inside import grid

Array = np.ndarray[Any, Any]
NAMED = 20  # people in the legend of the codes at most


def roc(false_accept: Tensor, true_accept: Tensor, rate: float, path: Path) -> None:
    """Draw true accepts (T,) over false accepts (T,), on a line of decades, and the equal error rate."""
    figure, axis = plt.subplots(figsize=(5, 3.6))
    axis.plot(false_accept.clamp(min=1e-4), true_accept, color=BLUE)
    axis.plot([max(rate, 1e-4)], [1 - rate], "o", color=ORANGE, label=f"equal error rate {rate:.3f}")
    axis.set_xscale("log")
    axis.set_xlabel("pairs of two people that are accepted")
    axis.set_ylabel("pairs of one person that are accepted")
    axis.set_ylim(0, 1.03)
    axis.legend(frameon=False, loc="lower right")
    save(figure, path)


def distances(same: Tensor, different: Tensor, path: Path) -> None:
    """Draw how often each distance is, of pairs of one person and of two."""
    figure, axis = plt.subplots(figsize=(5, 3.2))
    low, high = min(float(same.min()), float(different.min())), max(float(same.max()), float(different.max()))
    edges = np.linspace(low, max(high, low + 1e-9), 50).tolist()
    for values, colour, name in ((same, BLUE, "one person"), (different, ORANGE, "two people")):
        axis.hist(values, edges, density=True, color=colour, alpha=0.6, label=f"{name} ({len(values):,} pairs)")
    axis.set_xlabel("distance of the codes")
    axis.set_yticks([])
    axis.legend(frameon=False)
    save(figure, path)


def codes(values: Array, labels: Array, names: Sequence[str], path: Path) -> None:
    """Draw codes (N, D) by their first two principal components, coloured by person."""
    centred = values - values.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-12)
    points = np.zeros((len(values), 2))
    points[:, : len(axes[:2])] = centred @ axes[:2].T
    figure, axis = plt.subplots(figsize=(6, 5))
    people = np.unique(labels)
    for i, person in enumerate(people):
        own = points[labels == person]
        name = plain(names[person]) if len(people) <= NAMED else None
        axis.plot(own[:, 0], own[:, 1], ".", markersize=5, color=plt.cm.tab20(i % 20), label=name)
    axis.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance")
    axis.set_ylabel(f"second component, {100 * shares[1]:.0f} %" if len(shares) > 1 else "")
    if len(people) <= NAMED:
        axis.legend(frameon=False, fontsize=7, ncols=2)
    save(figure, path)


def recognition(errors: Tensor, path: Path) -> None:
    """Draw how often the wrong one of 2, 3, ... people (W - 1,) is nearest, of each of whom one picture is known, and guessing."""
    figure, axis = plt.subplots(figsize=(5, 3.2))
    ways = np.arange(2, len(errors) + 2)
    axis.plot(ways, errors, "o-", color=BLUE, markersize=3, label="nearest code")
    axis.plot(ways, 1 - 1 / ways, "--", color=GREY, label="guessing")
    axis.set_xlabel("people, one picture of each")
    axis.set_ylabel("share not recognised")
    axis.set_ylim(0, 1)
    axis.legend(frameon=False)
    save(figure, path)


def pairs(images: Array, hardest: Mapping[bool, Sequence[tuple[int, int, float]]], path: Path) -> None:
    """Draw pairs of images (N, C, H, W), a line for those of one person and one for those of two, each pair side by side."""
    rows, titles = [], []
    for same, found in hardest.items():
        rows.append([np.concatenate([images[i], images[j]], axis=2).astype(np.float32) for i, j, _ in found])
        names = ", ".join(f"{distance:.2f}" for _, _, distance in found)
        titles.append(f"{'one person' if same else 'two people'}\n{names}")
    grid(rows, titles, path)
