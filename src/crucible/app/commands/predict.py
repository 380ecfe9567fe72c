"""Ask a finished run about new examples: python src/predict.py run=latest input=picture.png [format=table|json|csv] [out=FILE]."""

import shlex
from dataclasses import replace
from pathlib import Path

import torch

from crucible.app.arguments import fraction, one_of, output_file, output_folder, read_arguments
from crucible.app.finished import finished_run
from crucible.errors import Refusal, printable
from crucible.inference.predict import answers, examples
from crucible.inference.saved_run import Saved, load_run
from crucible.labels.kind import Answer
from crucible.report.answers import FORMATS
from crucible.report.screen import lined
from crucible.tracking.folder import write_atomic

KEYS = {"run": "latest", "input": "", "format": "table", "out": "", "score": "", "draw": "outputs/predict"}
EXAMPLE = "python src/predict.py run=latest input=picture.png"
MOST = 20


def main(words: list[str]) -> None:
    """Print what the run says of each example, as a table, JSON or CSV; with `out` into a file.

    Of boxes and points it says those from `score` on, and draws them on each picture in the folder `draw` ("none": nowhere).
    """
    given = read_arguments(words, KEYS, example=EXAMPLE)
    if not given["input"]:
        raise Refusal("input", "is missing", allowed="a picture, a folder, an array or a table", example=EXAMPLE)
    write = FORMATS[one_of("format", given["format"], FORMATS)]
    out = output_file("out", given["out"]) if given["out"] else None
    score = fraction("score", given["score"]) if given["score"] else None
    draw = output_folder("draw", given["draw"]) if given["draw"] != "none" else None
    folder = finished_run(given["run"])
    saved = load_run(folder, torch.device("cpu"))
    kind = saved.task.kind
    found, far = answers(saved, examples(Path(given["input"]).expanduser(), saved))
    drawn = []
    if kind.where:
        least = saved.task.score if score is None else score
        found = [replace(each, predicted=kind.shown(each.predicted, least)) for each in found]
        drawn = _drawn(found, saved, draw) if draw is not None else []
    if out is not None:
        write_atomic(out, FORMATS["json" if given["format"] == "json" else "csv"](found, kind).encode())
    elif given["format"] != "table":
        print(write(found, kind), end="")
        return
    if given["format"] == "table":
        print(write(found[:MOST], kind) + (f"  ... and {len(found) - MOST} more" if len(found) > MOST else ""))
    files = "  ".join([*([given["out"]] if given["out"] else []), *drawn]) or "none: out=FILE writes all of them"
    lines = [
        ("result", f"{len(found)} example(s), by {folder}"),
        ("files", files),
        ("next", f"python src/export.py run={shlex.quote(given['run'])}"),
    ]
    note = [("note", "far from all this run has learned from: other units, or another kind of picture?")] if far else []
    print(lined([*lines[:1], *note, *lines[1:]]))


def _drawn(found: list[Answer], saved: Saved, home: Path) -> list[str]:
    """Draw what was found on the pictures that were files, and write predictions.json beside them; return what was made."""
    from crucible.data.readers.image_folder import SUFFIXES, decode
    from crucible.plots.boxes import drawn  # matplotlib: only where something is drawn

    pictures = [each for each in found if Path(each.name).suffix.lower() in SUFFIXES]
    for i, each in enumerate(pictures):
        same = sum(Path(other.name).stem == Path(each.name).stem for other in pictures[:i])
        name = f"{printable(Path(each.name).stem)}{f'-{same}' if same else ''}.png"
        drawn(decode(Path(each.name)), each.predicted, home / name)
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(home / "predictions.json", FORMATS["json"](found, saved.task.kind).encode())
    return [*([f"{home}/*.png"] if pictures else []), str(home / "predictions.json")]
