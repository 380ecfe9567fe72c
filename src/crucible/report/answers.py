"""Answers to new examples as a table, JSON or CSV."""

import json
from collections.abc import Callable
from itertools import chain

from crucible.errors import printable
from crucible.tasks.answers import Answer
from crucible.tasks.placed import counted
from crucible.text import csv_text


def _table(found: list[Answer]) -> str:
    rows = []
    for each in found:
        best = sorted(each.probabilities.items(), key=lambda pair: -pair[1])[:3]
        row = (each.name, _said(each), ", ".join(f"{name} {share:.3f}" for name, share in best))
        rows.append(tuple(map(printable, row)))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    return "".join(
        f"  {name.ljust(widths[0])}  {said.ljust(widths[1])}  {shares}".rstrip() + "\n" for name, said, shares in rows
    )


def _json(found: list[Answer]) -> str:
    rows = [{"input": each.name, "predicted": each.said, "probabilities": each.probabilities} for each in found]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _csv(found: list[Answer]) -> str:
    return csv_text([_header(found), *_rows(found)])


def _header(found: list[Answer]) -> list[str]:
    if found and isinstance(found[0].said, dict):
        return ["input", "score", *(f"{axis}{i}" for i in range(len(found[0].said["points"])) for axis in "xy")]
    if found and _is_boxes(found):
        return ["input", "class", "score", "x0", "y0", "x1", "y1"]
    return ["input", "predicted", *(found[0].probabilities if found else ())]


def _rows(found: list[Answer]) -> list[list[object]]:
    if found and isinstance(found[0].said, dict):
        return [[each.name, each.said["score"], *chain(*each.said["points"])] for each in found]
    if found and _is_boxes(found):
        return [[each.name, row["class"], row["score"], *row["box"]] for each in found for row in each.said]
    return [[each.name, _said(each), *(f"{q:.6f}" for q in each.probabilities.values())] for each in found]


def _is_boxes(found: list[Answer]) -> bool:
    return any(isinstance(row, dict) for each in found if isinstance(each.said, list) for row in each.said)


def _said(each: Answer) -> str:
    if isinstance(each.said, dict) or (
        isinstance(each.said, list) and (not each.said or isinstance(each.said[0], dict))
    ):
        return counted(each.said)
    return (
        "+".join(each.said)
        if isinstance(each.said, list)
        else f"{each.said:.6g}"
        if isinstance(each.said, float)
        else each.said
    )


FORMATS: dict[str, Callable[[list[Answer]], str]] = {"table": _table, "json": _json, "csv": _csv}
