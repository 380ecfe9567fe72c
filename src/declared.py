"""Data that are only declared: a shape and a number of classes, to describe a network without any."""

from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.targets import resolve
from entry import Job
from fitting import fits
from overrides import train_command
from wiring import prepared


def described(job: Job) -> Card:
    """Return the card of the job's data; one that holds no more than shape and classes where both are declared.

    Raises:
        Refusal: only one of them is declared, or the rest of the configuration does not fit.
    """
    data, needs_classes = job.cfg["data"], resolve(job.cfg["task"]["_target_"], "task").targets != "numbers"
    shape, classes = data["feature_shape"], data["num_classes"]
    if shape is None and classes is None:
        return prepared(job, fits(job.cfg))[1]
    if shape is None or (classes is None and needs_classes):
        raise Refusal(
            "data.feature_shape, data.num_classes", "only one of them is declared", allowed="both, or data that have them",
            example="python src/describe.py model=vgg16 data.feature_shape=[3,224,224] data.num_classes=1000",
        )  # fmt: skip
    names = [str(i) for i in range(classes or 0)]
    counts = {"size": 1, "class_counts": [1] * len(names)}
    normalize = {"kind": "none", "mean": [0.0], "std": [1.0], "fitted_on": "train", "fitted_size": 0}
    target = {"mean": 0.0, "std": 1.0, "quartiles": [-1.0, 0.0, 1.0]}
    card = Card(data["name"], "", {}, {"train": counts}, names, shape, "float32", normalize, {}, {}, target=target)
    fits(job.cfg)(card)
    return card


def following(job: Job) -> str:
    """Return the command that trains this network: on pictures of the declared shape, or on the data it was shown for."""
    data = job.cfg["data"]
    if data["feature_shape"] is None:
        return train_command(job.cfg)
    own = {**job.cfg, "data": {**data, "feature_shape": None, "num_classes": None}}
    c, *sides = data["feature_shape"]
    size = f"data.image_size=[{','.join(map(str, sides))}]"
    pictures = ("data=image_folder", "data.path=FOLDER", size, f"data.channels={c}")
    targets = resolve(job.cfg["task"]["_target_"], "task").targets
    if targets == "boxes":
        return train_command(own, ("data=voc", "data.path=FOLDER", size, f"data.channels={c}"))
    return train_command(
        own, pictures if targets == "classes" and len(sides) == 2 and c in (1, 3) else ("data=npz", "data.path=FILE")
    )
