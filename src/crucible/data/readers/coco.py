"""Reader of COCO's JSON: images, annotations and categories in one file for each split (Lin et al., 2014)."""

import json
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from crucible.data.readers.annotated import Annotated, by_split, files_of, pool, require_finite, require_short
from crucible.data.readers.source import Source, require_path
from crucible.errors import Refusal

LAYOUT = "a JSON file with its pictures beside it or in images/, or a folder with one for train, and perhaps for val and test"


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Read pictures with boxes; objects marked as a crowd are passed over, a picture without objects is kept.

    In a folder every JSON file, there or in annotations/, belongs to the split that its name holds (instances_train2017), or that of
    its folder (train/_annotations.coco.json, as Roboflow writes).

    Raises:
        Refusal: missing, another layout, a damaged file, a picture that is not there, a box without four numbers.
    """
    path = require_path(path, LAYOUT)
    if label:
        raise Refusal("data.label", "the classes stand in the annotations", example="data.label=null")
    found = sorted([*path.glob("*.json"), *path.glob("annotations/*.json"), *path.glob("*/*coco.json")])
    found = sorted(found, key=lambda each: "instances" not in each.stem)  # not captions, where there are both
    files, root = by_split(path, found, LAYOUT), path if path.is_dir() else path.parent
    contents = {split: _json(file) for split, file in files.items()}
    names = _names(contents, path)
    order = {number: place for place, number in enumerate(names)}
    pools = {
        split: pool(_annotated(content, files[split], root, order), root, group_by)
        for split, content in contents.items()
    }
    return Source(
        pools, files_of(pools, root, list(files.values())), classes=[names[number] for number in sorted(names)]
    )


def _json(file: Path) -> dict[str, list[dict[str, Any]]]:
    require_short(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {key: [dict(each) for each in content[key]] for key in ("images", "annotations", "categories")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refusal(
            str(file), f"no annotations of COCO's form: {error}", allowed="images, annotations, categories"
        ) from None


def _names(contents: dict[str, dict[str, list[dict[str, Any]]]], path: Path) -> dict[Any, str]:
    """Return the categories' names by id, in the order of the ids.

    Raises:
        Refusal: a category without id or name, or an id with two names.
    """
    try:
        pairs = sorted(
            {(each["id"], str(each["name"])) for content in contents.values() for each in content["categories"]}
        )
    except (KeyError, TypeError) as error:
        raise Refusal(
            f"data.path={path}", f"a category has no id or name: {error}", allowed="id: a number, name"
        ) from None
    names = dict(pairs)
    if len(names) < len(pairs):
        double = next(number for number, name in pairs if names[number] != name)
        raise Refusal(
            f"data.path={path}", f"category {double} has two names", allowed="the same categories in every file"
        )
    return names


def _annotated(content: dict[str, Any], file: Path, root: Path, order: dict[Any, int]) -> list[Annotated]:
    objects = defaultdict(list)
    try:
        for each in content["annotations"]:
            if not each.get("iscrowd"):
                objects[each["image_id"]].append(each)
        known = {image["id"]: str(image["file_name"]) for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise Refusal(
            str(file), f"an image or annotation lacks {error}", allowed="id, file_name; image_id, bbox, category_id"
        ) from None
    if strange := sorted(set(objects) - set(known), key=str):
        raise Refusal(
            str(file), f"an annotation is about image {strange[0]}, which is not listed", allowed="ids of images"
        )
    return [_one(name, objects[number], file, root, order) for number, name in known.items()]


def _one(name: str, objects: list[dict[str, Any]], file: Path, root: Path, order: dict[Any, int]) -> Annotated:
    places = [
        each / name
        for each in (
            file.parent,
            file.parent / "images",
            *(home / part for home in (root, root / "images") for part in ("", file.stem.partition("_")[2])),
        )
    ]
    picture = None
    with suppress(OSError, ValueError):  # a name that no file can have
        picture = next((place for place in places if place.is_file()), None)
    if picture is None or not picture.resolve().is_relative_to(root.resolve()):
        raise Refusal(
            str(file), f"its picture {name} is not there", allowed=f"under {root}, beside the file or in images/"
        )
    try:
        boxes = np.array([[float(n) for n in each["bbox"]] for each in objects]).reshape(len(objects), 4)
        labels = [order[each["category_id"]] for each in objects]
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise Refusal(
            f"{file}, {name}",
            f"an annotation has no box or no known class: {error}",
            allowed="bbox [x, y, w, h], category_id",
        ) from None
    require_finite(boxes, f"{file}, {name}")
    return Annotated(picture, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), labels)
