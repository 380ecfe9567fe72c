"""Ask a finished run about new examples: python src/predict.py run=latest input=picture.png [format=table|json|csv] [out=FILE]."""

import shlex
import sys
from pathlib import Path

import torch

import entry
import words
from crucible.errors import Refusal
from crucible.report.answers import FORMATS
from crucible.report.screen import lined
from crucible.tasks.answers import answers, examples
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
    out = words.file("out", given["out"]) if given["out"] else None
    folder = entry.named_run(given["run"])
    saved = load_run(folder, torch.device("cpu"))
    found, far = answers(saved, examples(Path(given["input"]).expanduser(), saved))
    if out is not None:
        write_atomic(out, FORMATS["json" if given["format"] == "json" else "csv"](found).encode())
    elif given["format"] != "table":
        print(write(found), end="")
        return
    if given["format"] == "table":
        print(write(found[:MOST]) + (f"  ... and {len(found) - MOST} more" if len(found) > MOST else ""))
    files = given["out"] or "none: out=FILE writes all of them"
    lines = [
        ("result", f"{len(found)} example(s), by {folder}"),
        ("files", files),
        ("next", f"python src/export.py run={shlex.quote(given['run'])}"),
    ]
    note = [("note", "far from all this run has learned from: other units, or another kind of picture?")] if far else []
    print(lined([*lines[:1], *note, *lines[1:]]))


if __name__ == "__main__":
    entry.guarded(lambda: main(sys.argv[1:]))
