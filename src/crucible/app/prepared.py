"""Which prepared folder a configuration means: named, found by its content key, or made; or data only declared."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from crucible.app.cluster import connected
from crucible.app.compatibility import fits
from crucible.app.compose import Job
from crucible.app.overrides import choices_of, train_command
from crucible.app.project import ROOT, Config
from crucible.data.card import Card, read_card, require_prepared
from crucible.data.ordered import Ordered, here, over
from crucible.data.prepare import PrepareConfig, already, prepare
from crucible.data.readers.source import Source
from crucible.data.remembered import Question
from crucible.data.text import as_trained
from crucible.errors import Refusal
from crucible.instantiate import build, resolve
from crucible.labels.kind import Kind
from crucible.tasks.task import MonitoredTask

LARGE = 256 << 20  # bytes of raw files: with fewer the start of processes takes longer than they save
DVC_PREPARED, CACHE = Path("artifacts/prepare"), Path("artifacts/prepared")
Accept = Callable[[Card], None]


def prepared(job: Job, accept: Accept, *, judge: Card | None = None) -> tuple[Path, Card]:
    """Return the prepared folder for the job's data and its card; found by content key, or made.

    Args:
        accept: refuses a card that the rest of the configuration does not fit, before anything is kept.
        judge: the card of a finished run whose class order and image shape the data must take.
    """
    if job.cfg["prepared"] is None or judge is not None:
        return make(job, accept, judge=judge)
    folder = Path(job.cfg["prepared"])
    card = read_card(folder)
    for key, value in vars(_recipe(job.cfg, None)).items():
        if (was := card.recipe.get(key)) != value:
            raise Refusal(
                f"prepared={folder}", f"it was prepared with {key} {was}, the configuration says {value}",
                allowed="prepared=null: what fits is found, or made",
                example=f"data={choices_of(job.cfg)['data']} prepared=null",
            )  # fmt: skip
    if not card.arrays:
        raise Refusal(f"prepared={folder}", "it was prepared by an older version", example="dvc repro --force prepare")
    require_prepared(folder, card)
    accept(card)
    return folder, replace(card, name=job.cfg["data"]["name"])


def make(job: Job, accept: Accept, *, judge: Card | None = None) -> tuple[Path, Card]:
    """Return the prepared folder and card for the content of the job's data, made if they are not there yet."""
    data, recipe, path = job.cfg["data"], _recipe(job.cfg, judge), _data_path(job.cfg["data"])
    home = partial(_home, job.cfg["prepared"] if judge is None else None)
    question = Question(path, vars(recipe))
    if (key := question.answer()) is not None and (card := already(folder := home(key), key)) is not None:
        accept(card)
    else:
        question.settle()
        source = build("data.reader", recipe.reader, path, data["label"], data["group_by"])
        with _workers(data, source) as mapped:
            folder = prepare(source, label_kind(job.cfg), recipe, data["name"], home, accept, mapped=mapped)
        card = read_card(folder)
        question.remember(source.files.values(), card.key)
    return folder, replace(card, name=data["name"])  # the name is no part of the key: it may be another's


@contextmanager
def _workers(data: Config, source: Source) -> Iterator[Ordered]:
    """Give what prepares data: this process, or as many as are asked for, or as many as there are cores where the files are large.

    Raises:
        Refusal: Ray is asked for, and is not installed, or no cluster answers.
    """
    asked, engine = data.get("workers", "auto"), data.get("engine", "local")
    with connected(engine, "data.engine"):
        if engine == "ray":
            from crucible.search import ray

            yield ray.over(None if asked == "auto" else asked)
            return
        many = sum(file.stat().st_size for file in source.files.values()) >= LARGE
        count = (len(os.sched_getaffinity(0)) if many else 1) if asked == "auto" else asked
        with over(count) if count > 1 else nullcontext(here) as mapped:
            yield mapped


def task_class(cfg: Config) -> type[MonitoredTask]:
    """Return the class of the configured task: what is known of it before there are data."""
    return cast(type[MonitoredTask], resolve(cfg["task"]["_target_"], "task"))


def label_kind(cfg: Config) -> Kind:
    """Return the kind of label that the configured task learns."""
    return task_class(cfg).kind


def _recipe(cfg: Config, judge: Card | None) -> PrepareConfig:
    data = cfg["data"]
    keys = (
        "reader",
        "label",
        "split",
        "stratify",
        "group_by",
        "normalize",
        "duplicates",
        "image_size",
        "channels",
        "resize",
    )
    recipe = {key: data[key] for key in keys} | {
        "targets": label_kind(cfg).name,
        "split": _without_neutral(data["split"]),
    }
    if judge is not None:
        own = {"resize": judge.recipe.get("resize", "stretch")}
        shape = (
            {"channels": judge.feature_shape[0], "image_size": judge.feature_shape[1:], **own}
            if judge.is_images
            else {}
        )
        reader = _as_trained(data["reader"], judge)
        recipe |= {**shape, "normalize": "none", "judge": judge.classes, "columns": judge.columns, "reader": reader}
    return PrepareConfig(**recipe)


def _without_neutral(split: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the splits are made without what changes nothing: data that were prepared before there was such a key are found."""
    neutral = {"keep": 1.0, "fold": None}
    return {key: value for key, value in split.items() if key not in neutral or value != neutral[key]}


def _as_trained(reader: Mapping[str, Any], judge: Card) -> dict[str, Any]:
    """Return a reader's settings for data that a run judges: text is cut as the run's was, tables have the run's columns."""
    table = {"known": judge.table["columns"]} if judge.table is not None and "known" in reader else {}
    return {**as_trained(reader, judge.recipe["reader"]), **table}


def _data_path(data: Config) -> Path | None:
    if data["path"] is None:  # generated data need none; the other readers refuse
        return None
    path = Path(data["path"]).expanduser()
    if "DVC_STAGE" in os.environ and not path.resolve().is_relative_to(Path("data").resolve()):
        raise Refusal(
            f"data.path={path}",
            "DVC would not see these data change",
            allowed="a path under data/, which data.dvc watches",
            example=f"cp -r {path} data/{path.name} && dvc add data, then data.path=data/{path.name}",
        )
    return ROOT / path if not path.exists() and (ROOT / path).exists() else path


def _home(named: str | None, key: str) -> Path:
    if named is not None:
        return Path(named)
    with suppress(Refusal):
        if (card := read_card(DVC_PREPARED)).key == key and card.arrays:
            require_prepared(DVC_PREPARED, card)  # what belongs to the pipeline is never prepared again by hand
            return DVC_PREPARED
    return CACHE / key[:16]


def described(job: Job) -> Card:
    """Return the card of the job's data; one that holds no more than shape and classes where both are declared.

    Raises:
        Refusal: only one of them is declared, or the rest of the configuration does not fit.
    """
    data, needs_classes = job.cfg["data"], label_kind(job.cfg).has_classes
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
    target = {"mean": 0.5, "std": 0.25, "quartiles": [0.25, 0.5, 0.75]}
    card = Card(data["name"], "", {}, {"train": counts}, names, shape, "float32", normalize, {}, {}, target=target)
    fits(job.cfg)(card)
    return card


def training_of_declared(job: Job) -> str:
    """Return the command that trains this network: on pictures of the declared shape, or on the data it was shown for."""
    data = job.cfg["data"]
    if data["feature_shape"] is None:
        return train_command(job.cfg)
    own = {**job.cfg, "data": {**data, "feature_shape": None, "num_classes": None}}
    c, *sides = data["feature_shape"]
    size = f"data.image_size=[{','.join(map(str, sides))}]"
    pictures = label_kind(job.cfg).pictures if len(sides) == 2 and c in (1, 3) else ()
    return train_command(own, (*pictures, size, f"data.channels={c}") if pictures else ("data=npz", "data.path=FILE"))
