"""The learning curves as a table, from the journal."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crucible.files import HISTOGRAMS
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import MEASURED, Event


def write_curves(events: Iterable[Event], path: Path) -> None:
    """Write one row an epoch: epoch, step, then every number of the training that the journal holds for it."""
    rows = [e for e in events if e["kind"] == "metrics" and any(name.startswith("train/") for name in e["values"])]
    names = list(dict.fromkeys(name for row in rows for name in row["values"] if not name.startswith(MEASURED)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["epoch", "step", *names])
    writer.writerows([row["epoch"], row["step"], *(row["values"].get(name, "") for name in names)] for row in rows)
    write_atomic(path, buffer.getvalue().encode())


def read_spread(folder: Path) -> dict[str, Any]:
    """Return how the weights and activations of a run are spread, by moment (`start`, `end`); nothing where that was not kept."""
    try:
        found = json.loads((folder / HISTOGRAMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a run of before, or a file that is damaged: it is only drawn
        return {}
    return found if isinstance(found, dict) else {}


def read_curves(path: Path) -> list[dict[str, float]]:
    """Return the rows of a curves file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
