"""The page of a comparison: what may be concluded, and the configurations as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crucible.plots.charts import Table
from crucible.report.web import embedded, rendered

COLUMNS = {"name": "configuration", "runs": "runs", "mean": "mean", "sd": "deviation", "low": "from", "high": "to", "difference": "difference from the best",
           "difference_low": "from", "difference_high": "to", "bounds_met": "keeps the bounds"}  # fmt: skip


def compare_page(title: str, conclusion: str, following: str, rows: Sequence[Mapping[str, Any]], picture: Path) -> str:
    """Return the page.

    Args:
        rows: of compare.csv. picture: compare.png.
    """
    cells = [
        [("yes" if row[key] else "no") if isinstance(row[key], bool) else row[key] for key in COLUMNS] for row in rows
    ]
    table = Table(
        "Means with their 95 % intervals",
        list(COLUMNS.values()),
        cells,
        note="A difference whose interval holds 0 may be noise.",
    )
    sections = [("result", "Result"), ("configurations", "Configurations"), ("picture", "Runs")]
    return rendered(
        "compare.html",
        {"table": [table]},
        title=title,
        sections=sections,
        conclusion=conclusion,
        following=following,
        picture=embedded(picture),
    )
