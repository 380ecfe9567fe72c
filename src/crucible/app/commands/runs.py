"""The runs of this project, newest first: python src/runs.py [format=table|json|csv]."""

import json

from crucible.app.arguments import one_of, read_arguments
from crucible.app.runs import RunLine, runs
from crucible.errors import printable
from crucible.report.screen import lined
from crucible.text import csv_text

KEYS = {"format": "table"}
EXAMPLE = "python src/runs.py format=csv"
MOST = 30
COLUMNS = ("began", "state", "data", "model", "metric", "dev", "test", "epochs", "name", "run")


def main(words: list[str]) -> None:
    """Print a line for each run."""
    form = one_of("format", read_arguments(words, KEYS, example=EXAMPLE)["format"], ("table", "json", "csv"))
    found = runs()
    if form == "json":
        print(
            json.dumps(
                [{**each.as_dict(), "began": each.began.isoformat(timespec="seconds")} for each in found],
                indent=2,
                ensure_ascii=False,
            )
        )
    elif form == "csv":
        print(csv_text([COLUMNS, *map(_cells, found)]), end="")
    else:
        print(_table(found[:MOST]))
        more = f"; the {MOST} newest are shown" if len(found) > MOST else ""
        print(lined([("result", f"{len(found)} run(s){more}"),
                     ("next", f"python src/evaluate.py run={found[0].folder}" if found else "python src/train.py model=mlp")]))  # fmt: skip


def _cells(line: RunLine) -> list[str]:
    numbers = ["" if each is None else f"{each:.4f}" for each in (line.value, line.test)]
    return [
        f"{line.began:%Y-%m-%d %H:%M}",
        line.state,
        line.data,
        line.model,
        line.metric,
        *numbers,
        str(line.epochs),
        line.name,
        str(line.folder),
    ]


def _table(found: list[RunLine]) -> str:
    rows = [list(COLUMNS), *([printable(cell) for cell in _cells(line)] for line in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    widths[COLUMNS.index("name")] = min(40, widths[COLUMNS.index("name")])
    return "\n".join(
        "  " + "  ".join(cell[:width].ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
