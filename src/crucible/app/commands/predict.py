"""Ask a finished run about new examples: python src/predict.py run=latest input=picture.png [format=table|json|csv] [out=FILE]."""

import shlex
from dataclasses import replace
from pathlib import Path

import torch

from crucible.app.arguments import fraction, one_of, output_file, output_folder, read_arguments
from crucible.app.unfinished import usable_run
from crucible.errors import Refusal, printable
from crucible.inference.predict import Answers, answers, examples
from crucible.inference.saved_run import Saved, answering_run
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
    one_of("format", given["format"], FORMATS)
    out = output_file("out", given["out"]) if given["out"] else None
    score = fraction("score", given["score"]) if given["score"] else None
    draw = output_folder("draw", given["draw"]) if given["draw"] != "none" else None
    folder = usable_run(given["run"])
    saved = answering_run(folder, torch.device("cpu"))
    said = answers(saved, examples(Path(given["input"]).expanduser(), saved))
    found = _shown(said.found, saved, score)
    files = _drawn(found, saved, draw) if saved.task.kind.where and draw is not None else []
    _write(found, saved, given["format"], out)
    if out is not None or given["format"] == "table":
        _last_screen(given, folder, said, [*([given["out"]] if out else []), *files], text=saved.card.holds_symbols)


def _shown(found: list[Answer], saved: Saved, score: float | None) -> list[Answer]:
    """Return answers with only what is sure enough to be shown."""
    least = saved.task.score if score is None else score
    return [replace(each, predicted=saved.task.kind.shown(each.predicted, least)) for each in found]


def _write(found: list[Answer], saved: Saved, form: str, out: Path | None) -> None:
    """Write all answers into a file, or print them; of a table the first ones."""
    kind = saved.task.kind
    if out is not None:
        write_atomic(
            out, FORMATS["json" if form == "json" or out.suffix.lower() == ".json" else "csv"](found, kind).encode()
        )
    elif form != "table":
        print(FORMATS[form](found, kind), end="")
    if form == "table":
        print(FORMATS[form](found[:MOST], kind) + (f"  ... and {len(found) - MOST} more" if len(found) > MOST else ""))


def _last_screen(given: dict[str, str], folder: Path, said: Answers, files: list[str], *, text: bool) -> None:
    print(lined([("result", f"{len(said.found)} example(s), by {folder}"), *(("note", note) for note in said.notes),
                 ("files", "  ".join(files) or "none: out=FILE writes all of them"),
                 ("next", f"python src/{'evaluate' if text else 'export'}.py run={shlex.quote(given['run'])}")]))  # fmt: skip


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
