"""Answers to new examples as a table, JSON or CSV."""

import json
from collections.abc import Callable, Sequence

from crucible.errors import printable
from crucible.labels.kind import Answer, Kind
from crucible.text import csv_text


def _table(found: Sequence[Answer], kind: Kind) -> str:
    rows = []
    for each in found:
        best = sorted(each.shares.items(), key=lambda pair: -pair[1])[:3]
        row = (each.name, kind.in_words(each.predicted), ", ".join(f"{name} {share:.3f}" for name, share in best))
        rows.append(tuple(map(printable, row)))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    return "".join(
        f"  {name.ljust(widths[0])}  {predicted.ljust(widths[1])}  {shares}".rstrip() + "\n"
        for name, predicted, shares in rows
    )


def _json(found: Sequence[Answer], kind: Kind) -> str:
    rows = [{"input": each.name, "predicted": each.predicted, "probabilities": each.shares} for each in found]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _csv(found: Sequence[Answer], kind: Kind) -> str:
    return csv_text([kind.columns(found), *(row for each in found for row in kind.cells(each))])


FORMATS: dict[str, Callable[[Sequence[Answer], Kind], str]] = {"table": _table, "json": _json, "csv": _csv}
