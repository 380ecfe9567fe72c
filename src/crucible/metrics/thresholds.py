"""What probabilities are worth: curves over every threshold, and whether they are the shares that they say."""

from dataclasses import dataclass

import numpy as np

from crucible.data.readers.source import Array

BINS = 15  # Guo et al., 2017, arXiv:1706.04599


@dataclass(frozen=True)
class Curve:
    """Points of a curve over all thresholds, and the area below it."""

    x: Array
    y: Array
    area: float


def roc(label: Array, score: Array) -> Curve:
    """Return the true positive rate over the false positive rate (Fawcett, 2006); the area is the chance that a positive scores higher.

    Args:
        label: (N,) whether each is positive. score: (N,).
    """
    hits, false = _counts(label, score)
    x, y = (np.concatenate([[0.0], each / max(1, each[-1])]) for each in (false, hits))
    return Curve(x, y, float(np.trapezoid(y, x)))


def precision_recall(label: Array, score: Array) -> Curve:
    """Return precision over recall; the area is the average precision, the sum of precision times what recall grows by."""
    hits, false = _counts(label, score)
    precision, recall = hits / np.maximum(1, hits + false), hits / max(1, hits[-1])
    area = float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))
    return Curve(np.concatenate([[0.0], recall]), np.concatenate([[1.0], precision]), area)


def _counts(label: Array, score: Array) -> tuple[Array, Array]:
    """Return true and false positives at each different score, the highest first."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(label[order].astype(np.int64))[ends]
    return hits, ends + 1 - hits


@dataclass(frozen=True)
class Calibration:
    """How often answers of each confidence are right: means of the bins that hold any, and the expected calibration error."""

    confidence: Array
    right: Array
    counts: Array
    error: float


def calibration(confidence: Array, right: Array, bins: int = BINS) -> Calibration:
    """Return confidence against accuracy in bins of equal width (Guo et al., 2017, eq. 3).

    Args:
        confidence: (N,) the probability of each answer. right: (N,) whether it was right.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    said, hit = (
        np.bincount(place, weights=each, minlength=bins)[filled] / counts[filled] for each in (confidence, right)
    )
    error = float(np.sum(counts[filled] * np.abs(said - hit)) / max(1, len(right)))
    return Calibration(said, hit, counts[filled], error)
