"""What the loss curves say: the six patterns of the notes (002, 4.3), recognised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from crucible.diagnosis.averages import averages

WINDOW, LEAST = 1 / 3, 4  # the last third of the epochs, at least four of them
CHANGE = 0.05  # a curve that changes less over the window is level
SIGNIFICANT = 2.5  # standard errors of its slope
SMOOTHING = 0.5
FLOOR = 1e-4  # a loss below has nothing left to fall to


@dataclass(frozen=True)
class Pattern:
    """A pattern, and what the notes make of it."""

    name: str
    meaning: str


PATTERNS = {
    ("falling", "falling"): Pattern("still_learning", "train and dev loss still fall: the network is learning"),
    ("falling", "level"): Pattern(
        "overfitting_or_uneven", "train loss falls, dev loss is level: overfitting, or uneven data"
    ),
    ("falling", "rising"): Pattern("overfitting", "train loss falls, dev loss rises: overfitting"),
    ("level", "rising"): Pattern("overfitting", "train loss has fallen, dev loss rises: overfitting"),
    ("level", "falling"): Pattern(
        "data_problem", "train loss is level, dev loss falls: something is wrong with the data"
    ),
    ("level", "level"): Pattern(
        "bottleneck",
        "train and dev loss are level: a bottleneck; a smaller rate or batch, another optimizer or network",
    ),
    ("rising", "rising"): Pattern("diverging", "train and dev loss rise: the network or its settings are wrong"),
}


def recognise(rows: Sequence[Mapping[str, float]]) -> Pattern | None:
    """Return the pattern at the end of the curves; None for too few epochs, no dev, or none of the six.

    Args:
        rows: one an epoch, with `train/loss` and `dev/loss`.
    """
    if not rows or "dev/loss" not in rows[0]:
        return None
    train, dev = (trend([row[name] for row in rows]) for name in ("train/loss", "dev/loss"))
    return PATTERNS.get((train or "", dev or ""))


def still_falls(rows: Sequence[Mapping[str, float]], best_epoch: int) -> bool:
    """Whether the losses fell to the end, so that more epochs would have given more.

    Of fewer than four epochs, whose trend cannot be known: whether train loss never rose and the last epoch is the best.

    Args:
        rows: as of `recognise`. best_epoch: the one that was chosen, from 1.
    """
    train = [row["train/loss"] for row in rows]
    if len(rows) < LEAST:
        return bool(rows) and best_epoch == len(rows) and train == sorted(train, reverse=True)
    dev = trend([row["dev/loss"] for row in rows]) if "dev/loss" in rows[0] else "falling"
    return trend(train) == "falling" and dev == "falling"


def trend(losses: Sequence[float]) -> str | None:
    """Return whether a curve is `falling`, `level` or `rising` at its end; None for fewer than four epochs.

    A line is fitted to the last third, the noise smoothed by an exponentially weighted average. The change along it
    counts if it is more than 5 % of the loss, and more than 2.5 times what the noise of the points could feign.
    """
    count = max(LEAST, round(len(losses) * WINDOW))
    if len(losses) < count:
        return None
    smooth = list(averages(losses, SMOOTHING, corrected=True))[-count:]
    slope, error = _line(smooth)
    scale = sum(smooth) / count
    if max(smooth) < FLOOR or abs(slope) * (count - 1) <= CHANGE * scale or abs(slope) <= SIGNIFICANT * error:
        return "level"
    return "rising" if slope > 0 else "falling"


def _line(values: Sequence[float]) -> tuple[float, float]:
    """Return the least-squares slope and its standard error; smoothed neighbours share half their noise."""
    (slope, _), covariance = np.polyfit(range(len(values)), values, 1, cov=True)
    correlated = (1 + SMOOTHING) / (1 - SMOOTHING)
    return float(slope), sqrt(correlated * covariance[0, 0])
