"""Let a classifier look at every window of a picture: python src/slide.py run=latest input=picture.png [sizes=14,20,28] [step=4]."""

import json
import shlex
from pathlib import Path

import torch

from crucible.app.arguments import fraction, output_folder, read_arguments, whole_number, whole_numbers
from crucible.app.unfinished import usable_run
from crucible.data.images import Fit
from crucible.data.readers.image_folder import decode
from crucible.data.readers.source import Array
from crucible.errors import Refusal, printable
from crucible.inference.saved_run import Saved, load_run
from crucible.inference.windows import Windows
from crucible.labels.boxes import Boxes
from crucible.plots.boxes import drawn
from crucible.report.screen import lined
from crucible.tracking.folder import write_atomic

KEYS = {
    "run": "latest",
    "input": "",
    "score": "0.9",
    "overlap": "0.3",
    "sizes": "",
    "step": "",
    "background": "",
    "draw": "outputs/slide",
}
EXAMPLE = "python src/slide.py run=latest input=picture.png"


def main(words: list[str]) -> None:
    """Print and draw the windows whose class is sure enough, suppressed class by class over all sizes."""
    given = read_arguments(words, KEYS, example=EXAMPLE)
    score, overlap = (fraction(key, given[key]) for key in ("score", "overlap"))
    sizes = whole_numbers("sizes", given["sizes"], least=2)
    step = whole_number("step", given["step"], least=1) if given["step"] else None
    draw = output_folder("draw", given["draw"])
    folder, file = usable_run(given["run"]), _picture(given["input"])
    saved = _classifier(folder)
    windows = Windows(saved, sizes=sizes, step=step, background=given["background"] or None)
    image = decode(file)
    values = _as_trained(saved, image, file)
    windows.require_room(values, str(file))
    found, count = windows.found(values, score=score, overlap=overlap)
    picture = draw / f"{printable(file.stem)}.png"
    drawn(image, found, picture)
    write_atomic(picture.with_suffix(".json"), (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    high = (
        " and ".join(map(str, windows.fitting(values))) if sizes else "x".join(map(str, saved.card.feature_shape[1:]))
    )
    apart = f"{windows.step} pixels apart{' at their own size' if sizes else ''}"
    again = given | {"score": "0.5", "input": "", "draw": KEYS["draw"]}
    words = [f"{key}={value}" for key, value in again.items() if value != KEYS[key] and key not in ("run", "input")]
    way = "" if windows.at_once else ", one by one: the layers do not allow to look at all of them at once"
    print(lined([("result", f"{Boxes().in_words(found)}, in {count:,} windows of {high}, {apart}, by {folder}"),
                 ("note", f"a window says what, not exactly where: a box of any shape needs task=detection{way}"),
                 ("files", f"{picture}  {picture.with_suffix('.json')}"),
                 ("next", f"python src/slide.py run={shlex.quote(given['run'])} input={shlex.quote(given['input'])} {shlex.join(words)}")]))  # fmt: skip


def _picture(name: str) -> Path:
    if not name:
        raise Refusal("input", "is missing", allowed="a picture", example=EXAMPLE)
    if not (file := Path(name).expanduser()).is_file():
        raise Refusal(f"input={file}", "it is no file", allowed="a picture", example=EXAMPLE)
    return file


def _classifier(folder: Path) -> Saved:
    saved = load_run(folder, torch.device("cpu"))
    if not saved.task.kind.one_class or not saved.card.is_images:
        raise Refusal(f"run={folder}", "it tells no classes of images", allowed="a classifier of images")
    return saved


def _as_trained(saved: Saved, image: Array, file: Path) -> Array:
    """Return a picture (C, H, W) with the channels that the run was trained on."""
    c = saved.card.feature_shape[0]
    values: Array = Fit(None, c if c in (1, 3) else None)([image], lambda i: str(file))[0]
    return values
