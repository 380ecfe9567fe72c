"""Let a classifier look at every window of a picture: python src/slide.py run=latest input=picture.png [score=0.9] [overlap=0.3]."""

import json
import shlex
from pathlib import Path

import torch

from crucible.app.arguments import fraction, output_folder, read_arguments
from crucible.app.unfinished import usable_run
from crucible.boxes import suppress
from crucible.data.images import Fit
from crucible.data.readers.image_folder import decode
from crucible.errors import Refusal, printable
from crucible.inference.saved_run import Saved, load_run
from crucible.inference.sliding import FullyConvolutional, convolutional
from crucible.labels.boxes import Boxes
from crucible.plots.boxes import drawn
from crucible.report.screen import lined
from crucible.tracking.folder import write_atomic

KEYS = {"run": "latest", "input": "", "score": "0.9", "overlap": "0.3", "draw": "outputs/slide"}
EXAMPLE = "python src/slide.py run=latest input=picture.png"


def main(words: list[str]) -> None:
    """Print and draw the windows whose class is sure enough, suppressed class by class; every window is looked at at once."""
    given = read_arguments(words, KEYS, example=EXAMPLE)
    score, overlap = (fraction(key, given[key]) for key in ("score", "overlap"))
    draw = output_folder("draw", given["draw"])
    folder, file = usable_run(given["run"]), _picture(given["input"])
    saved = _classifier(folder)
    net, image = convolutional(saved.model), decode(file)
    found, windows = _found(saved, net, _prepared(saved, image, file), score, overlap)
    picture = draw / f"{printable(file.stem)}.png"
    drawn(image, found, picture)
    write_atomic(picture.with_suffix(".json"), (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    window = "x".join(map(str, saved.card.feature_shape[1:]))
    print(lined([("result", f"{Boxes().in_words(found)}, in {windows} windows of {window}, {net.stride} pixels apart, by {folder}"),
                 ("note", "a window says what, not exactly where: a box of any shape needs task=detection"),
                 ("files", f"{picture}  {picture.with_suffix('.json')}"),
                 ("next", f"python src/slide.py run={shlex.quote(given['run'])} input={shlex.quote(given['input'])} score=0.5")]))  # fmt: skip


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


def _prepared(saved: Saved, image: object, file: Path) -> torch.Tensor:
    c, h, w = saved.card.feature_shape
    values = Fit(None, c if c in (1, 3) else None)([image], lambda i: str(file))
    if values.shape[2] < h or values.shape[3] < w:
        raise Refusal(
            f"input={file}", f"it is {list(values.shape[2:])}, a window is {[h, w]}", allowed="a larger picture"
        )
    return torch.from_numpy(values)


@torch.inference_mode()
def _found(
    saved: Saved, net: FullyConvolutional, image: torch.Tensor, score: float, overlap: float
) -> tuple[list[dict[str, object]], int]:
    """Return the windows that are kept as boxes, and how many were looked at."""
    from crucible.data.normalize import shift_and_scale

    shift, scale = (part.float() for part in shift_and_scale(saved.card))
    outputs = net.eval()(torch.addcmul(shift, image.float(), scale))[0]  # (K, rows, columns)
    shares = saved.task.postprocess(outputs.flatten(1).T)  # (windows, K)
    best, kind = shares.max(dim=1)
    rows, columns = outputs.shape[1:]
    y, x = (
        each.flatten() * net.stride for each in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    )
    h, w = saved.card.feature_shape[1:]
    boxes = torch.stack([x, y, x + w, y + h], dim=1).float()
    sure = torch.where(best >= score, best, 0.0)
    kept = suppress(boxes, sure, kind, bound=overlap).nonzero()[:, 0]
    order = kept[sure[kept].argsort(descending=True, stable=True)]
    names = saved.card.classes
    return [
        {"box": boxes[i].tolist(), "score": round(float(sure[i]), 6), "class": names[int(kind[i])]} for i in order
    ], rows * columns
