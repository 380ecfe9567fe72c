"""Whether two splits come from one distribution (notes 000, part 7, section 3): a permutation test.

The statistic is the largest Kolmogorov-Smirnov distance over a few features of an example; how large it gets by chance
is found by drawing the split anew. So the share of false alarms is the level, whatever the data are like.
"""

from dataclasses import dataclass

import numpy as np

from crucible.data.readers.source import Array

LEVEL = 0.01  # of each of the two tests, features and labels
DOUBTFUL = 0.05  # below, the middle one of three tests counts
DRAWS, MOST, PROJECTIONS, COLUMNS, REPEATS = 400, 1000, 16, 1024, 3


@dataclass(frozen=True)
class Shift:
    """How likely chance alone makes two splits this different: p-values of features and of labels."""

    features: float
    labels: float

    @property
    def differs(self) -> bool:
        """Whether either is below the level."""
        return min(self.features, self.labels) < LEVEL


def two_samples(x: tuple[Array, Array], y: tuple[Array, Array], *, seed: int = 0) -> Shift:
    """Test two splits against each other; what one test finds unlikely, two more must confirm: no single projection decides.

    Args:
        x: examples (N, ...) and (M, ...). y: labels (N,) and (M,), or (N, T) and (M, T). At most 1000 of each are looked at.
        seed: of the samples, the projections and the draws.
    """
    tests = [_once(x, y, np.random.default_rng(seed))]
    if min(tests[0].features, tests[0].labels) < DOUBTFUL:
        tests += [_once(x, y, np.random.default_rng([seed, repeat])) for repeat in range(1, REPEATS)]
    features, labels = (float(np.median([getattr(test, part) for test in tests])) for part in ("features", "labels"))
    return Shift(features, labels)


def _once(x: tuple[Array, Array], y: tuple[Array, Array], rng: np.random.Generator) -> Shift:
    rows = [rng.permutation(len(part))[:MOST] for part in y]
    features = describe(np.concatenate([np.asarray(part[np.sort(r)]) for part, r in zip(x, rows, strict=True)]), rng)
    labels = np.concatenate([part[np.sort(r)] for part, r in zip(y, rows, strict=True)])
    first = len(rows[0])
    return Shift(p_value(features, first, rng), p_value(labels.reshape(len(labels), -1).astype(np.float64), first, rng))


def describe(x: Array, rng: np.random.Generator) -> Array:
    """Return features (N, F) of examples (N, ...): mean, deviation, and the columns, or 16 random sums of up to 1024."""
    flat = x.reshape(len(x), -1)
    columns = flat[:, np.sort(rng.permutation(flat.shape[1])[:COLUMNS])].astype(np.float64)
    deviation = columns.std(axis=0)
    standard = (columns - columns.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    if columns.shape[1] > PROJECTIONS:
        standard = standard @ rng.normal(size=(columns.shape[1], PROJECTIONS))
    sizes = [(row.mean(dtype=np.float64), row.std(dtype=np.float64)) for row in flat]  # row by row: no copy of all
    return np.column_stack([np.array(sizes), standard])


def p_value(features: Array, first: int, rng: np.random.Generator) -> float:
    """Return the share of random splits of the rows (N, F) that are at least as far apart as the first `first` and the rest."""
    draws = np.zeros((DRAWS + 1, len(features)), bool)
    draws[0, :first] = True
    for draw in draws[1:]:
        draw[rng.permutation(len(features))[:first]] = True
    distances = np.zeros(DRAWS + 1)
    for column in features.T:
        order = np.argsort(column, kind="stable")
        last_of_ties = np.append(np.diff(column[order]) > 0, True)
        seen = draws[:, order].cumsum(axis=1, dtype=np.int64)[:, last_of_ties]
        others = np.arange(1, len(column) + 1)[last_of_ties] - seen
        distances = np.maximum(distances, np.abs(seen / first - others / (len(column) - first)).max(axis=1))
    return float((distances >= distances[0] - 1e-12).mean())
