"""The contact sheet of somebody's data: one self-contained page."""

from collections.abc import Sequence
from typing import Any

from crucible.plots.charts import Part, Table
from crucible.plots.pixels import SIDE, thumbnail
from crucible.report.web import rendered


def sheet(title: str, lines: Sequence[tuple[str, str]], odd: Sequence[str], command: str, choices: Sequence[tuple[str, str]],
          columns: Sequence[Sequence[str]], samples: Sequence[Any]) -> str:  # fmt: skip
    """Return the page.

    Args:
        lines, odd: what was found. command, choices: what is suggested, and why. columns: of a table, the first row names.
        samples: each with title, pixels (C, H, W), boxes and text.
    """
    shown = [{"title": each.title, "text": each.text, "picture": thumbnail(each.pixels, each.boxes) if each.pixels is not None else ""}
             for each in samples]  # fmt: skip
    parts: dict[str, Sequence[Part]] = {
        "columns": [Table("What they hold", columns[0], columns[1:])] if columns else []
    }
    sections = [
        ("result", "Result"),
        *([("columns", "Columns")] if columns else []),
        *([("examples", "Examples")] if shown else []),
    ]
    small = any(each.pixels is not None and max(each.pixels.shape[1:]) < SIDE // 2 for each in samples)
    return rendered(
        "look.html",
        parts,
        title=title,
        sections=sections,
        lines=lines,
        odd=odd,
        command=command,
        choices=choices,
        samples=shown,
        small=small,
    )
