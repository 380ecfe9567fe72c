"""The pictures of a report; matplotlib without a window."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

mpl.use("Agg")
import matplotlib.pyplot as plt

from crucible.plots.charts import Lines
from crucible.text import steady

BLUE, ORANGE, GREY, RED = "#2b6cb0", "#dd6b20", "#a0aec0", "#c53030"
PLAIN = {"Software": None, "Creation Time": None}
FRAMES = 6  # of a filmstrip
DOTS = 30  # points of a line, below which each is marked
mpl.rcParams.update(
    {
        "figure.dpi": 110,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.sans-serif": ["DejaVu Sans", "Noto Sans CJK SC", "WenQuanYi Zen Hei"],
    }
)


def curves(rows: Sequence[dict[str, float]], monitor: str, best_epoch: int, meaning: str | None, path: Path) -> None:
    """Draw loss, its parts and the monitored number over epochs, the epoch chosen, and what the losses say."""
    parts = [name.removeprefix("train/") for name in (rows[0] if rows else ()) if name.startswith("train/loss/")]
    figure, axes = plt.subplots(1, 3 if parts else 2, figsize=(13 if parts else 9, 3.4))
    monitor = (
        "perplexity" if rows and monitor == "loss" and "dev/perplexity" in rows[0] else monitor
    )  # the loss is drawn anyway
    epochs = [row["epoch"] for row in rows]
    for name, colour in (("train/loss", BLUE), ("dev/loss", ORANGE)):
        if rows and name in rows[0]:
            axes[0].plot(epochs, [row[name] for row in rows], color=colour, label=name)
    sampled = [(row["epoch"], row[name]) for row in rows if (name := f"train/{monitor}") in row and monitor != "loss"]
    if sampled:
        axes[1].plot(*zip(*sampled, strict=True), color=BLUE, marker=".", label=f"train/{monitor}")
    if rows and f"dev/{monitor}" in rows[0]:
        axes[1].plot(epochs, [row[f"dev/{monitor}"] for row in rows], color=ORANGE, label=f"dev/{monitor}")
    for part, colour in ((part, f"C{i}") for i, part in enumerate(parts)):
        axes[2].plot(epochs, [row[f"train/{part}"] for row in rows], color=colour, label=f"train/{part}")
        if f"dev/{part}" in rows[0]:
            axes[2].plot(
                epochs, [row[f"dev/{part}"] for row in rows], color=colour, linestyle="--", label=f"dev/{part}"
            )
    for axis in axes:
        axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"chosen: epoch {best_epoch}")
        axis.set_xlabel("epoch")
        axis.legend(frameon=False)
    if meaning:
        figure.suptitle(meaning, fontsize=9)
        axes[0].axvspan(epochs[-1] - (epochs[-1] - epochs[0]) / 3, epochs[-1], color=GREY, alpha=0.15, linewidth=0)
    save(figure, path)


def gap(steps: Sequence[tuple[str, float]], tolerance: float, name: str, path: Path, *, is_rate: bool) -> None:
    """Draw the errors from human level to test as bars, each step's growth written on it, red above the tolerance.

    Args:
        name: of the error. is_rate: whether it is drawn as per cent.
    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    factor, sign = (100.0, " %") if is_rate else (1.0, "")
    names, values = [name for name, _ in steps], [factor * value for _, value in steps]
    growths = [0.0, *np.diff(values)]
    colours = [GREY, *(RED if growth > factor * tolerance else BLUE for growth in growths[1:])]
    axis.bar(names, values, color=colours)
    for i, (value, growth) in enumerate(zip(values, growths, strict=True)):
        axis.text(i, value, f"{value:.1f}{sign}" + (f"\n({growth:+.1f})" if i else ""), ha="center", va="bottom")
    axis.set_ylabel(f"{name}, per cent" if is_rate else name)
    axis.margins(y=0.25)
    save(figure, path)


def ceiling(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the share of the error that each kind of mistake makes up, the costliest on top."""
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.32 * max(2, len(rows))))
    names = [plain(f"{row['label']}, predicted {row['predicted']} ({row['count']})") for row in rows]
    axis.barh(names[::-1], [100 * row["share"] for row in rows][::-1], color=RED)
    axis.set_xlabel("share of the error, per cent: what fixing this kind would save")
    save(figure, path)


def flow(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw each layer's gradient and activation over the layers, at the first, middle and last epoch."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    chosen = sorted({0, len(rows) // 2, len(rows) - 1})
    for axis, kind, what in zip(axes, ("gradient", "activation"), ("root mean square", "deviation"), strict=True):
        for shade, i in zip((0.35, 0.65, 1.0), chosen, strict=False):
            found = {name.partition("/")[2]: v for name, v in rows[i].items() if name.startswith(f"{kind}/")}
            axis.plot(list(found), [max(v, 1e-12) for v in found.values()], "o-", color=BLUE, alpha=shade,
                      label=f"epoch {rows[i]['epoch']:.0f}")  # fmt: skip
        axis.set_yscale("log")
        axis.set_ylabel(f"{kind}, {what}")
        axis.tick_params(axis="x", rotation=60)
        axis.legend(frameon=False)
    save(figure, path)


def compared(rows: Sequence[dict[str, Any]], metric: str, path: Path) -> None:
    """Draw every run of each configuration, their mean and its 95 % interval."""
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.6 * max(2, len(rows))))
    for place, row in enumerate(reversed(rows)):
        colour = BLUE if row["bounds_met"] else GREY
        axis.plot(row["values"], [place] * len(row["values"]), "|", color=colour, markersize=14)
        axis.plot(row["mean"], place, "o", color=colour)
        if np.isfinite(row["low"]):
            axis.plot([row["low"], row["high"]], [place, place], "-", color=colour)
    axis.set_yticks(range(len(rows)), [plain(fill(row["name"], 40)) for row in reversed(rows)])
    axis.set_xlabel(f"{metric}: runs, mean, 95 % interval of the mean; grey: a bound is not met")
    axis.margins(y=0.2)
    save(figure, path)


def lines(charts: Sequence[Lines], path: Path) -> None:
    """Draw charts of lines beside each other, with their bands; the legend stands below, once."""
    figure, axes = plt.subplots(1, len(charts), figsize=(4.6 * len(charts) + 0.6, 3.8), squeeze=False,
                                layout="constrained")  # fmt: skip
    for axis, chart in zip(axes[0], charts, strict=True):
        for i, each in enumerate(chart.series):
            colour = f"C{(i if each.colour is None else each.colour) % 10}"
            y = [np.nan if value is None else value for value in each.y]
            axis.plot(
                each.x, y, "--" if each.dashed else ".-" if len(y) < DOTS else "-", color=colour, label=plain(each.name)
            )
            if each.low is not None and each.high is not None:
                low, high = ([np.nan if v is None else v for v in edge] for edge in (each.low, each.high))
                axis.fill_between(each.x, low, high, color=colour, alpha=0.15, linewidth=0)
        if chart.ticks is not None:
            axis.set_xticks(range(len(chart.ticks)), [plain(tick) for tick in chart.ticks])
        axis.set_xscale("log" if chart.log_x else "linear")
        axis.set_yscale("log" if chart.log_y else "linear")
        axis.set_xlabel(plain(chart.x))
        axis.set_title(plain(chart.title), fontsize=9)
    if any(each.name for each in charts[0].series):
        figure.legend(
            *axes[0][0].get_legend_handles_labels(), frameon=False, fontsize=7, loc="outside lower center", ncols=2
        )
    save(figure, path)


def back(rows: Sequence[dict[str, float]], path: Path) -> bool:
    """Draw the gradient at each lag as a share of that at lag 0, at the first, middle and last epoch; return whether there is one."""
    lags = sorted(
        int(name.rpartition("/")[2]) for name in (rows[0] if rows else ()) if name.startswith("gradient_at_lag/")
    )
    if len(lags) < 2:
        return False
    figure, axis = plt.subplots(figsize=(5.5, 3.4))
    for shade, i in zip((0.35, 0.65, 1.0), sorted({0, len(rows) // 2, len(rows) - 1}), strict=False):
        values = [rows[i][f"gradient_at_lag/{lag}"] for lag in lags]
        axis.plot(lags, [value / values[0] if values[0] else 0.0 for value in values], "o-", color=BLUE, alpha=shade,
                  label=f"epoch {rows[i]['epoch']:.0f}")  # fmt: skip
    axis.set_xscale("symlog", linthresh=1)
    axis.set_yscale("log")
    axis.set_xlabel("steps between")
    axis.set_ylabel("share of the gradient")
    axis.legend(frameon=False)
    save(figure, path)
    return True


def confusion(matrix: np.ndarray[Any, Any], classes: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix; the shade is the share of each label."""
    size = min(12.0, 2.5 + 0.45 * len(classes))
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    ticks, names = range(len(classes)), [plain(name) for name in classes]
    axis.set_xticks(ticks, names, rotation=60, ha="right")
    axis.set_yticks(ticks, names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    for i, j in zip(*np.nonzero(matrix), strict=True):
        shade = "white" if matrix[i, j] > 0.5 * matrix[i].sum() else "black"
        axis.text(j, i, str(matrix[i, j]), ha="center", va="center", color=shade, fontsize=7)
    save(figure, path)


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
        axis.set_title(plain(title), fontsize=7)
    save(figure, path)


def plain(text: str) -> str:
    """Return text as it is drawn letter by letter: a dollar in a name begins no formula, a hidden character shows."""
    return str(steady(text)).replace("$", r"\$")


def filmstrip(frames: Sequence[Path], path: Path) -> None:
    """Draw the pictures that a training kept, at even distances, the first and the last among them.

    Args:
        frames: files whose names begin with the epoch.
    """
    chosen = [frames[i] for i in sorted(set(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int).tolist()))]
    pictures = [np.asarray(Image.open(file)) for file in chosen]
    height, width = pictures[0].shape[:2]
    figure, axes = plt.subplots(1, len(chosen), figsize=(1.9 * len(chosen), 1.9 * height / width + 0.3), squeeze=False)
    for axis, file, pixels in zip(axes[0], chosen, pictures, strict=True):
        axis.imshow(pixels)
        axis.set_title(f"epoch {int(file.stem)}", fontsize=8)
        axis.axis("off")
    save(figure, path)


def save(figure: Any, path: Path) -> Path:
    """Write a figure, equal bytes for equal figures, and return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    figure.savefig(path, metadata=PLAIN)
    plt.close(figure)
    return path
