"""Error analysis: what each kind of mistake costs, and the ceiling that fixing it would lift (notes 000, part 7)."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

MOST = 10


def ceilings(
    mistakes: Tensor, counts: Tensor, groups: Sequence[str], error_of: Callable[[float], float]
) -> list[dict[str, Any]]:
    """Return the costliest kinds of mistake, most first.

    Args:
        mistakes: the error (G, G), rows labels, columns predictions. counts: examples (G, G).
        groups: their names. error_of: from the mean over all examples to the error; for a root mean square the root.

    Returns:
        Rows of label, predicted, count, share (of the whole), and error_if_mended: what would be left.
    """
    total = float(mistakes.sum())
    if total <= 0:
        return []
    cells = [
        (float(mistakes[i, j]), i, j) for i in range(len(groups)) for j in range(len(groups)) if mistakes[i, j] > 0
    ]
    rows = []
    for mass, i, j in sorted(cells, key=lambda cell: (-cell[0], cell[1:]))[:MOST]:
        left = max(0.0, total - mass) / float(counts.sum())
        rows.append(
            {
                "label": groups[i],
                "predicted": groups[j],
                "count": int(counts[i, j]),
                "share": mass / total,
                "error_if_mended": error_of(left),
            }
        )
    return rows
