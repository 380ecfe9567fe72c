"""Pictures of what a finished run has learned, for the report and for inside.py."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from crucible.data.batches import Batches
from crucible.diagnosis import inside
from crucible.inference.saved_run import Saved
from crucible.models.profile import measure
from crucible.plots import inside as draw
from crucible.plots.pixels import sheet
from crucible.seeds import generator
from crucible.tracking.folder import write_atomic
from crucible.training.evaluation import judged_split

LAYERS, UNITS, PATCHES, FILTERS = 4, 4, 9, 64  # in a report
MAPPED, MAPS = 3, 12  # images whose feature maps are drawn, and of how many units
ORIGINALS, COPIES = 4, 7  # images that are shown augmented, and how often each
Array = np.ndarray[Any, Any]


def pictures(saved: Saved, batches: Batches, home: Path) -> dict[str, Path]:
    """Draw filters, what excites some units of some layers, and the map of the test set; return heading -> picture."""
    found = {}
    weights = inside.filters(saved.model, saved.card.feature_shape)[:FILTERS].numpy()
    if len(weights):
        lines = [list(map(_as_image, weights[i : i + 16])) for i in range(0, len(weights), 16)]
        draw.grid(
            lines, [f"{16 * i} to {16 * i + len(line) - 1}" for i, line in enumerate(lines)], home / "filters.png"
        )
        found["The first layer's filters"] = home / "filters.png"
    if saved.card.is_images and (layers := _some(list(inside.conv_layers(saved.model)), LAYERS)):
        split = "dev" if "dev" in batches.splits else judged_split(batches)
        ends, rows_of = layers[:: max(1, len(layers) - 1)], range(min(MAPPED, len(batches.stored(split)[1])))
        shown = [feature_maps(saved, batches, split, row, layer) for layer in ends for row in rows_of]
        names = [f"{layer}, {split}/{row}" for layer in ends for row in rows_of]
        draw.grid([[_as_image(image), *own[:MAPS]] for own, image in shown], names, home / "feature_maps.png")
        found["Feature maps: an image, and what the first units of a layer make of it"] = home / "feature_maps.png"
        rows, titles = _excited(saved, batches, layers)
        draw.grid(rows, titles, home / "patches.png")
        found["What excites a unit most: layer, unit, and the image parts"] = home / "patches.png"
    if saved.task.kind.one_class:
        split = judged_split(batches)
        points, shares = inside.embedding(saved.model, batches.evaluation(split))
        labels = np.asarray(batches.stored(split)[1])
        draw.scatter(points.numpy(), labels, saved.card.classes, shares.tolist(), home / "embedding.png")
        found[f"The {split} set as the last layer sees it (principal components)"] = home / "embedding.png"
    return found


def augmented(batches: Batches, home: Path) -> dict[str, Path]:
    """Draw some train images, and what augmentation makes of each in several epochs, as training sees them.

    Args:
        batches: of images; their augmentation is drawn anew, which takes no number from the training's own.
    """
    first = {name: value[:ORIGINALS] for name, value in batches.head("train").items()}
    drawn = [
        first,
        *(batches.augment(first, generator(batches.seed, "shown", i, batches.device)) for i in range(COPIES)),
    ]
    every = [{name: value[i] for name, value in each.items()} for i in range(len(first["x"])) for each in drawn]
    images = [each["x"].float().cpu().numpy() for each in every]
    boxes = [_with_area(each["boxes"]).tolist() if "boxes" in each else [] for each in every]
    points = [each["points"].tolist() if "points" in each else [] for each in every]
    captions = ["as it is", *[""] * COPIES] * len(first["x"])
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(home / "augmented.png", sheet(images, captions, boxes, points))
    return {"What training sees: images as they are, and as augmentation changes them": home / "augmented.png"}


def _with_area(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def feature_maps(saved: Saved, batches: Batches, split: str, row: int, layer: str) -> tuple[list[Array], Array]:
    """Return the maps (h, w) of a convolution for one image of a split, and the image (C, H, W) as it is stored."""
    stored = batches.stored(split)[0][row]
    x = batches.normalize(torch.from_numpy(np.array(stored))[None].to(batches.device))
    with inside.looking(saved.model, inside.find_layer(saved.model, layer)) as seen, torch.inference_mode():
        saved.model.eval()(x)
    return [_as_image(each[None]) for each in seen[-1][0].float().cpu().numpy()], stored


def maps(
    saved: Saved, batches: Batches, split: str, rows: Array, classes: torch.Tensor, titles: list[str], home: Path
) -> dict[str, Path]:
    """Draw where the network found the classes it predicted, on some images of a split; nothing without maps."""
    if not len(rows) or not inside.has_maps(saved.model, saved.card.feature_shape):
        return {}
    stored = batches.stored(split)[0][rows]
    x = batches.normalize(torch.from_numpy(stored).to(batches.device))
    found = inside.activation_maps(saved.model, x, classes.to(batches.device))
    draw.heat(list(stored.astype(np.float32)), list(found.cpu().numpy()), titles, home / "maps.png")
    return {f"Where it looked, in the worst mistakes on {split}": home / "maps.png"}


def image_parts(saved: Saved, batches: Batches, split: str, found: list[inside.Patch]) -> list[Array]:
    """Return the image parts that patches name (C, h, w)."""
    stored = batches.stored(split)[0]
    return [_cut(stored[each.row], each.box) for each in found]


def _excited(saved: Saved, batches: Batches, layers: list[str]) -> tuple[list[list[Array]], list[str]]:
    rows, titles = [], []
    split = "train" if "train" in batches.splits else "test"  # other data have no train
    shape = saved.card.feature_shape
    measured = {row.name: row for row in measure(saved.model, shape)}
    for layer in layers:
        found = inside.excitation(saved.model, layer, batches.evaluation(split), top=PATCHES)
        for unit in found[0][:, 0].topk(min(UNITS, len(found[0]))).indices.tolist():
            rows.append(image_parts(saved, batches, split, inside.patches_of(found, unit, measured[layer], shape)))
            titles.append(f"{layer}, {unit}")
    return rows, titles


def _cut(image: Array, box: tuple[int, int, int, int]) -> Array:
    top, left, bottom, right = box
    return image[:, top:bottom, left:right].astype(np.float32)


def _as_image(weight: Array) -> Array:
    """Return a filter of one or three channels as it is, others as the mean over them."""
    return weight if len(weight) in (1, 3) else weight.mean(axis=0, keepdims=True)


def _some(names: list[str], count: int) -> list[str]:
    """Return some names from first to last, evenly."""
    if len(names) <= count:
        return names
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]
