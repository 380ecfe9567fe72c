"""Who is on a picture, and is it who they say: python src/faces.py enroll|verify|identify run=latest [name=ann] PICTURE..."""

import json
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crucible.app.arguments import fraction, one_of, read_arguments
from crucible.app.unfinished import usable_run
from crucible.data.readers.image_folder import SUFFIXES, decode
from crucible.errors import Refusal, printable
from crucible.files import WEIGHTS
from crucible.inference.gallery import Gallery, decided, read_gallery
from crucible.inference.predict import examples
from crucible.inference.saved_run import Predictor, Saved, input_dtype, load_run, read_summary
from crucible.integrity import sha256_of
from crucible.labels.identities import Identities
from crucible.report.screen import lined
from crucible.tracking.folder import write_atomic

KEYS = {"run": "latest", "name": "", "gallery": "", "far": "", "format": "table"}
EXAMPLE = "python src/faces.py identify run=latest picture.png"
ACTIONS = ("enroll", "verify", "identify")


def main(words: list[str]) -> None:
    """Enroll a person by a picture, verify that a picture shows a person, or say whom of all enrolled it shows."""
    action = one_of("faces.py", words[0] if words else "nothing", ACTIONS)
    given = read_arguments([word for word in words[1:] if _is_key(word)], KEYS, example=EXAMPLE)
    paths = [Path(word).expanduser() for word in words[1:] if not _is_key(word)]
    folder = usable_run(given["run"])
    saved = _verifier(folder)
    threshold = _threshold(folder, given["far"])
    path = Path(given["gallery"] or folder / "gallery.safetensors").expanduser()
    gallery = read_gallery(path, sha256_of(folder / WEIGHTS), saved.task.num_outputs)
    _require_words(action, given, paths, gallery, path)
    if action == "enroll":
        _enroll(saved, gallery, path, given, paths)
    else:
        _answer(action, saved, gallery, given, paths, threshold)


def _is_key(word: str) -> bool:
    return word.partition("=")[0] in KEYS and "=" in word


def _verifier(folder: Path) -> Saved:
    """Return a run that compares pictures.

    Raises:
        Refusal: it does something else.
    """
    saved = load_run(folder, torch.device("cpu"))
    if not isinstance(saved.task.kind, Identities):
        raise Refusal(f"run={folder}", "it does not compare pictures", allowed="a run of task=verification",
                      example="python src/train.py experiment=verification")  # fmt: skip
    return saved


def _threshold(folder: Path, far: str) -> float:
    """Return the distance below which two pictures are of one person: the best on dev, or for a rate of false accepts there."""
    summary = read_summary(folder)
    scores = summary.get("dev") or summary["train"]
    if not far:
        return float(scores["threshold"])
    rates = {name.rpartition("_")[2]: value for name, value in scores.items() if name.startswith("threshold_at_far_")}
    wanted = next((rate for rate in rates if float(rate) == fraction("far", far)), None)
    if wanted is None:
        raise Refusal(f"far={far}", "this rate of false accepts was not measured on dev", allowed=", ".join(rates) or "none: too few pairs",
                      example=f"far={next(iter(rates))}" if rates else "")  # fmt: skip
    return float(rates[wanted])


def _require_words(action: str, given: dict[str, str], paths: list[Path], gallery: Gallery, path: Path) -> None:
    if not paths:
        raise Refusal("PICTURE", "is missing", allowed="pictures, or folders of pictures", example=EXAMPLE)
    if action == "verify" and not given["name"]:
        raise Refusal("name", "is missing: verify asks whether a picture shows one person",
                      allowed=", ".join(gallery.people[0][:10]), example="python src/faces.py verify name=ann picture.png")  # fmt: skip
    if action != "enroll" and not gallery.names:
        raise Refusal(
            f"gallery={path}", "nobody is enrolled", example="python src/faces.py enroll name=ann picture.png"
        )
    if action == "verify":
        one_of("name", given["name"], gallery.people[0])


def _enroll(saved: Saved, gallery: Gallery, path: Path, given: dict[str, str], paths: list[Path]) -> None:
    """Add people: one by name, or everybody of a folder that holds a folder of pictures for each."""
    before = len(gallery.names)
    for source in paths:
        for name, place in [(given["name"], source)] if given["name"] else _folders(source):
            gallery = gallery.enrolled(printable(name), _codes(saved, place)[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, gallery.packed())
    people = gallery.people[0]
    print(lined([("result", f"{len(gallery.names) - before} picture(s) enrolled; {len(people)} people are known by {len(gallery.names)}"),
                 ("files", str(path)), ("next", f"python src/faces.py identify run={shlex.quote(given['run'])} PICTURE")]))  # fmt: skip


def _folders(source: Path) -> list[tuple[str, Path]]:
    found = sorted(each for each in source.iterdir() if each.is_dir()) if source.is_dir() else []
    if not found:
        raise Refusal("name", f"is missing, and {source} holds no folder for each person", allowed="name=ann, or a folder of people",
                      example="python src/faces.py enroll name=ann picture.png")  # fmt: skip
    return [(each.name, each) for each in found]


def _answer(
    action: str, saved: Saved, gallery: Gallery, given: dict[str, str], paths: list[Path], threshold: float
) -> None:
    """Print who is on each picture, or whether it is the one who is named."""
    assert isinstance(saved.task.kind, Identities)
    found: list[dict[str, Any]] = []
    for path in paths:
        names, codes = _codes(saved, path)
        people, distances = gallery.distances(codes, saved.task.kind.compare)
        if action == "verify":
            people, distances = [given["name"]], distances[:, people.index(given["name"])][:, None]
        for name, (who, near, distance) in zip(names, decided(people, distances, threshold), strict=True):
            found.append({"picture": name, "person": who, "nearest": near, "distance": round(distance, 6)})
    if one_of("format", given["format"], ("table", "json")) == "json":
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for each in found:
        print(f"  {_in_words(action, each, threshold)}  {printable(each['picture'])}")
    known = sum(each["person"] is not None for each in found)
    result = (
        f"{known} of {len(found)} picture(s) show {given['name']}"
        if action == "verify"
        else f"{known} of {len(found)} picture(s) show somebody who is known"
    )
    print(lined([("result", f"{result}; one person: a distance below {threshold:.4f}"),
                 ("next", f"python src/faces.py {action} run={shlex.quote(given['run'])} far=0.01 PICTURE")]))  # fmt: skip


def _in_words(action: str, each: dict[str, Any], threshold: float) -> str:
    sign = "<" if each["distance"] < threshold else ">="
    apart = f"({each['nearest']} {each['distance']:.4f} {sign} {threshold:.4f})"
    if action == "verify":
        return f"{'yes' if each['person'] else 'no':8}{apart}"
    return f"{each['person'] or 'unknown':16}{apart}"


@torch.inference_mode()
def _codes(saved: Saved, path: Path) -> tuple[list[str], Tensor]:
    """Return the pictures of a path, and their codes (n, D)."""
    _require_as_trained(saved, path)
    predictor, names, codes = Predictor(saved).eval(), list[str](), list[Tensor]()
    for own, values, _ in examples(path, saved):
        names += own
        codes.append(predictor(torch.from_numpy(values).to(input_dtype(saved.card))).float())
    return names, torch.cat(codes)


def _require_as_trained(saved: Saved, path: Path) -> None:
    """Refuse a picture that the data were not brought to one size or number of channels for."""
    recipe, (c, *size) = saved.card.recipe, saved.card.feature_shape
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES and saved.card.is_images:
            shape = list(decode(file).shape)
            wanted = [shape[0] if recipe.get("channels") else c, *(shape[1:] if recipe.get("image_size") else size)]
            if shape != wanted:
                raise Refusal(str(file), f"its shape is {shape}, those the run was trained on have {[c, *size]} (channels, height, width)",
                              allowed="pictures like those; or a run that brings all to one size: data.image_size, data.channels")  # fmt: skip
