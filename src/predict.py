"""Ask a finished run about new examples: python src/predict.py run=latest input=picture.png [format=table|json|csv] [out=FILE]."""

import csv
import io
import json
import sys
from pathlib import Path

import torch

import entry
import words
from crucible.errors import Refusal
from crucible.report.screen import lined
from crucible.tasks.answers import Answer, answers, examples
from crucible.tasks.saved import load_run
from crucible.tracking.folder import write_atomic

KEYS = {"run": "latest", "input": "", "format": "table", "out": ""}
EXAMPLE = "python src/predict.py run=latest input=picture.png"
MOST = 20


def main(arguments: list[str]) -> None:
    """Print what the run says of each example, as a table, JSON or CSV; with `out` into a file."""
    given = words.parsed(arguments, KEYS, example=EXAMPLE)
    if not given["input"]:
        raise Refusal("input", "is missing", allowed="a picture, a folder, an array or a table", example=EXAMPLE)
    write = FORMATS[words.one_of("format", given["format"], FORMATS)]
    folder = entry.named_run(given["run"])
    saved = load_run(folder, torch.device("cpu"))
    found, far = answers(saved, examples(Path(given["input"]).expanduser(), saved))
    if given["out"]:
        write_atomic(Path(given["out"]), FORMATS["json" if given["format"] == "json" else "csv"](found).encode())
    if given["format"] != "table":
        if not given["out"]:
            print(write(found), end="")
        return
    print(write(found[:MOST]) + (f"  ... and {len(found) - MOST} more" if len(found) > MOST else ""))
    files = given["out"] or "none: out=FILE writes all of them"
    lines = [
        ("result", f"{len(found)} example(s), by {folder}"),
        ("files", files),
        ("next", f"python src/export.py run={given['run']}"),
    ]
    note = [("note", "far from all this run has learned from: other units, or another kind of picture?")] if far else []
    print(lined([*lines[:1], *note, *lines[1:]]))


def _table(found: list[Answer]) -> str:
    rows = []
    for each in found:
        best = sorted(each.probabilities.items(), key=lambda pair: -pair[1])[:3]
        rows.append((each.name, _said(each), ", ".join(f"{name} {share:.3f}" for name, share in best)))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    return "".join(
        f"  {name.ljust(widths[0])}  {said.ljust(widths[1])}  {shares}".rstrip() + "\n" for name, said, shares in rows
    )


def _json(found: list[Answer]) -> str:
    rows = [{"input": each.name, "predicted": each.said, "probabilities": each.probabilities} for each in found]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _csv(found: list[Answer]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["input", "predicted", *(found[0].probabilities if found else ())])
    writer.writerows([each.name, _said(each), *(f"{q:.6f}" for q in each.probabilities.values())] for each in found)
    return buffer.getvalue()


def _said(each: Answer) -> str:
    return (
        "+".join(each.said)
        if isinstance(each.said, list)
        else f"{each.said:.6g}"
        if isinstance(each.said, float)
        else each.said
    )


FORMATS = {"table": _table, "json": _json, "csv": _csv}


if __name__ == "__main__":
    entry.guarded(lambda: main(sys.argv[1:]))
