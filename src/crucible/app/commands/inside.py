"""What excites one unit of a finished run: python src/inside.py run=latest layer=stem.0 unit=3 [split=train] [top=9].

With example=ROW instead of unit: the feature maps of the layer for one image.
"""

import shlex
from pathlib import Path

import torch

from crucible.app.arguments import one_of, read_arguments, whole_number
from crucible.app.build import build_batches
from crucible.app.compose import Job
from crucible.app.evaluation import evaluation_data, seen_by_run
from crucible.app.interpretation import feature_maps, image_parts
from crucible.app.unfinished import usable_run
from crucible.data.batches import Batches
from crucible.diagnosis.inside import Patch, conv_layers, patches, row_of
from crucible.errors import Refusal
from crucible.inference.saved_run import Saved, load_run, read_config
from crucible.plots.inside import grid
from crucible.report.screen import lined

KEYS = {"run": "latest", "layer": "", "unit": "0", "split": "train", "top": "9", "example": ""}
WIDE = 12  # maps a line
EXAMPLE = "python src/inside.py run=latest layer=stem.0 unit=3"


def main(words: list[str]) -> None:
    """Print and draw the image parts that excite the unit most, the best first; or the feature maps of one image."""
    given = read_arguments(words, KEYS, example=EXAMPLE)
    unit, top = whole_number("unit", given["unit"]), whole_number("top", given["top"], least=1)
    folder = usable_run(given["run"])
    saved = _convolutional(folder)
    layer = given["layer"] or next(iter(conv_layers(saved.model)))
    row_of(saved.model, layer, unit, saved.card.feature_shape)
    one_of("split", given["split"], [each for each in saved.card.splits if each != "test"])
    job = Job({**read_config(folder), "run": str(folder)}, folder, words)
    data, _ = evaluation_data(job, saved.card)
    batches = build_batches(job.cfg, data, saved.card, torch.device("cpu"), seen_by_run(job))
    if given["example"]:
        _show_maps(saved, batches, given, layer, folder)
        return
    found = patches(saved.model, layer, unit, batches.evaluation(given["split"]), saved.card.feature_shape, top=top)
    picture = folder / "inside" / f"{layer}-{unit}.png"
    grid([image_parts(saved, batches, given["split"], found)], [f"{layer}, {unit}"], picture)
    result = f"the parts of {given['split']} that excite unit {unit} of {layer} most; other layers: {', '.join(conv_layers(saved.model))}"
    following = f"python src/evaluate.py run={shlex.quote(given['run'])} report=full"
    lines = [_line(each, given["split"]) for each in found]
    print(lined([*lines, ("result", result), ("files", str(picture)), ("next", following)]))


def _show_maps(saved: Saved, batches: Batches, given: dict[str, str], layer: str, folder: Path) -> None:
    """Draw what every unit of a layer makes of one image, and print how large it is."""
    split, row = given["split"], whole_number("example", given["example"])
    if row >= (size := len(batches.stored(split)[1])):
        raise Refusal(f"example={row}", f"{split} has {size} examples", allowed=f"0 to {size - 1}")
    maps, image = feature_maps(saved, batches, split, row, layer)
    lines = [maps[i : i + WIDE] for i in range(0, len(maps), WIDE)]
    picture = folder / "inside" / f"{layer}-example-{split}-{row}.png"
    titles = [f"units {i} to {i + len(line) - 1}" for i, line in zip(range(0, len(maps), WIDE), lines, strict=True)]
    grid([[image], *lines], [f"{split}/{row}", *titles], picture)
    high, wide = maps[0].shape[-2:]
    strongest = max(range(len(maps)), key=lambda k: float(maps[k].max()))
    found = [("result", f"{len(maps)} maps of {high} x {wide} that {layer} makes of {split}/{row}; unit {strongest} answers most"),
             ("files", str(picture)), ("next", f"python src/inside.py run={shlex.quote(given['run'])} layer={layer} unit={strongest}")]  # fmt: skip
    print(lined(found))


def _convolutional(folder: Path) -> Saved:
    """Return a run whose network looks at parts of images.

    Raises:
        Refusal: it is another network, or on other examples.
    """
    saved = load_run(folder, torch.device("cpu"))
    if not saved.card.is_images or not conv_layers(saved.model):
        what = "its network looks at no parts of images"
        raise Refusal(f"run={folder}", what, allowed="a convolutional network on images")
    return saved


def _line(patch: Patch, split: str) -> tuple[str, str]:
    top, left, bottom, right = patch.box
    return f"{patch.value:.3f}", f"{split}/{patch.row}, rows {top} to {bottom - 1}, columns {left} to {right - 1}"
