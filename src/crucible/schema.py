"""The typed configuration: what each key may hold, and what contradicts what.

pydantic rather than dataclasses: it checks strictly ("3" is no integer, true is no count), reports where, and reads the
same annotations that the constructors carry, so that a range is written once, beside the parameter it belongs to.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crucible.errors import Refusal

LARGEST = 2**31 - 1  # of a whole number: products of two are still numbers that torch and numpy can index with
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Side = Annotated[int, Field(ge=1, le=65535)]  # of a picture, as in JPEG
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Epochs = Annotated[int, Field(ge=1, le=1_000_000_000)]  # at a millisecond each, more than a week
Threads = Annotated[int, Field(ge=1, le=1024)]  # torch dies of many more
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Bound = Annotated[str, Field(pattern=r"^\s*(<=|>=|<|>)\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")]
Norm = Annotated[float, Field(gt=0)]  # of a gradient; infinite: it is not clipped
Decay = Annotated[float, Field(ge=0, lt=1)]
Node = dict[str, Any]


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=True, protected_namespaces=())


class Form(Section):
    """A value with parts, where a plain value is another form of it: {per_class: 4}."""


class PerClass(Form):
    """So many examples of each class: of a batch, or of train."""

    per_class: Annotated[int, Field(ge=2, le=LARGEST)]


class Steps(Form):
    """So many steps."""

    steps: Count


class Minutes(Form):
    """So many minutes."""

    minutes: Positive


class Split(Section):
    """Ratios of the splits; `seed` draws them. `keep`: what of train is used. `fold`: which of k parts of train and dev is dev."""

    train: Positive
    dev: NonNegative
    test: NonNegative
    train_dev: Annotated[float, Field(ge=0, lt=1)]
    keep: Probability | PerClass = 1.0
    fold: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] | None = None
    seed: Seed


class Data(Section):
    """Where the data are and everything that changes the prepared bytes; what follows `resize` does not."""

    name: Annotated[str, Field(pattern=r"^[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,99}$")]  # it becomes a folder's
    reader: Node
    path: str | None
    label: str | None
    split: Split
    stratify: bool
    group_by: str | None
    normalize: Literal["standard", "scale", "none"]
    duplicates: Literal["refuse", "drop", "keep"]
    image_size: Annotated[list[Side], Field(min_length=2, max_length=2)] | None
    channels: Literal[1, 3] | None
    resize: Literal["stretch", "letterbox"]
    feature_shape: Annotated[list[Count], Field(min_length=1, max_length=4)] | None
    num_classes: Annotated[int, Field(ge=2, le=LARGEST)] | None
    human_error: NonNegative | None  # an error rate, or for numbers an RMSE in their unit
    human_of: Literal["best", "crowd"] = "best"  # whose error that is
    bayes_error: NonNegative | None = None  # the least that anybody can reach, in the same unit
    flip_keeps_label: bool
    sampling: Literal["shuffle", "balanced", "streams"] | PerClass
    order: Literal["shuffled", "windowed"] = "shuffled"
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"  # that prepare
    engine: Literal["local", "ray"] = "local"  # where they run
    columns: dict[str, str] | None = None  # of tables alone, as `drop`
    drop: list[str] = []


class Trainer(Section):
    """Lengths, sizes and the machine."""

    total_epochs: Epochs
    batch_size: Count | None
    patience: Count | None
    keep: Literal["best", "last"] = "best"
    max_norm: Norm
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    precision: Literal["float32", "tf32", "bfloat16"]
    threads: Literal["auto"] | Threads
    deterministic: bool
    channels_last: bool
    compile: bool
    checkpoint_every: Count | Steps | Minutes | None
    log_every: Count | None
    gradient_check: bool
    shards: Count | Literal["auto"] = 1


class Root(Section):
    """The whole composition; the groups with `_target_` are checked against what they name."""

    seed: Seed
    data: Data
    augment: Node
    model: Node
    init: Node
    transfer: Node
    task: Node
    regularizer: Node
    optimizer: Node
    schedule: Node
    trainer: Trainer
    tracking: Node
    prepared: str | None
    run_name: str | None
    run: str | None
    resume: str | None
    report: Literal["standard", "full", "none"]
    graph: bool = False  # of describe alone


CHOICES = {"images": "image_folder", "pictures": "image_folder", "imagefolder": "image_folder", "folder": "image_folder", "excel": "table",
           "parquet": "table", "tabular": "table", "labelimg": "voc", "ultralytics": "yolo", "roboflow": "yolo", "numpy": "npz"}  # fmt: skip
SYNONYMS = CHOICES | {
    "epochs": "total_epochs",
    "max_epochs": "total_epochs",
    "weight_decay": "strength",
    "learning_rate": "lr",
    "lambda": "strength",
    "dropout": "keep_prob",
    "hidden": "layers",
    "units": "layers",
    "width": "layers",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is closest in spelling; empty when none is close."""
    close = difflib.get_close_matches(word, known := list(known), n=1, cutoff=0.5)
    return SYNONYMS[word] if SYNONYMS.get(word) in known else next(iter(close), "")


def check(section: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `values` as `section` declares them, a whole number as a real one where it wants that.

    Raises:
        Refusal: with the dotted key under `prefix`, the value, the rule, and for an unknown key the nearest one.
    """
    try:
        return dict(section.model_validate(dict(values)))
    except ValidationError as error:
        first = _most_telling(error.errors(include_url=False))
        raise _refusal(section, first["type"], first["loc"], first["input"], first["msg"], prefix) from None


def _most_telling(errors: Sequence[Any]) -> Any:
    """Return the first error; of a value with parts that fits no form of it the one that names the part."""
    first = errors[0]
    own = [each for each in errors if each["loc"][0] == first["loc"][0] and len(each["loc"]) > len(first["loc"])]
    if not (own and isinstance(first["input"], Mapping | list)):
        return first
    unknown = [each for each in own if each["type"] == "extra_forbidden"]  # a misspelt key is missing, too
    depth = len(first["loc"])
    others = {each["loc"][:depth] for each in unknown}
    of_known = [each for each in own if each["loc"][:depth] not in others]  # of a form all of whose keys are known
    return (of_known or unknown or own)[0]


def _refusal(
    section: type[BaseModel], kind: str, path: tuple[int | str, ...], value: Any, rule: str, prefix: str
) -> Refusal:
    keys = [str(part) for part in path if not _is_union_tag(str(part))]
    where = ".".join([*([prefix] if prefix else []), *keys])
    if kind == "extra_forbidden":
        known = _fields_at(section, keys[:-1])
        if keys[-1] in known:
            where = where.rpartition(".")[0]
            return Refusal(
                where,
                "it takes one of its keys, not several",
                allowed=", ".join(sorted(known)),
                example=_example(where),
            )
        return unknown_key(where, known)
    if kind == "missing":
        return Refusal(where, "is missing", allowed=f"give it a value, as in {where}=...")
    return Refusal(where, f"{value!r} is refused: {rule[0].lower()}{rule[1:]}", allowed=rule, example=_example(where))


def _is_union_tag(part: str) -> bool:
    """pydantic writes the member of a union it tried between the keys."""
    plain = ("int", "float", "str", "bool", "literal", "none")
    return (
        not (part.isidentifier() or part.isdigit())
        or part in plain
        or part in (form.__name__ for form in Form.__subclasses__())
    )


def _fields_at(section: type[BaseModel], keys: Sequence[str]) -> list[str]:
    """Return the fields where `keys` lead; a mapping of sections takes a key of its own, of several forms one has fields."""
    inner: Any = section
    for key in keys:
        inner = inner.model_fields[key].annotation if _is_section(inner) else get_args(inner)[1:] and get_args(inner)[1]
        forms = [each for each in get_args(inner) if _is_section(each) and issubclass(each, Form)]
        if len(forms) > 1:
            return [field for form in forms for field in form.model_fields]
        inner = next(iter(forms), inner)
    return list(inner.model_fields) if _is_section(inner) else []


def _is_section(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def unknown_key(where: str, known: Iterable[str]) -> Refusal:
    """Return the refusal of a key that does not exist, naming the nearest of those that do."""
    *parents, key = where.split(".")
    known = sorted(set(known) - {"_target_"})
    close = nearest(key, known)
    return Refusal(
        where,
        f"there is no key '{key}' here",
        allowed=", ".join(known),
        nearest=close,
        example=f"{'.'.join([*parents, close])}=..." if close else "",
    )


EXAMPLES = {
    "optimizer.lr": "optimizer.lr=0.01",
    "model.keep_prob": "model.keep_prob=0.8",
    "model.batch_norm": "model.batch_norm=true, or 'model.batch_norm={decay: 0.9, eps: 1e-5}'",
    "trainer.batch_size": "trainer.batch_size=64 (null: the whole train split at once, 1: stochastic)",
    "trainer.checkpoint_every": "trainer.checkpoint_every=5 (epochs), or 'trainer.checkpoint_every={steps: 500}', or {minutes: 10}",
    "trainer.device": "trainer.device=cpu (auto takes CUDA when there is one)",
    "data.split.dev": "data.split.dev=0.2 (0: no dev split)",
    "data.split.test": "data.split.test=0.2 (0: no test split)",
    "data.split.keep": "data.split.keep=0.1, or 'data.split.keep={per_class: 100}'",
    "data.split.fold": "data.split.fold=1/5 (the first of five)",
    "data.workers": "data.workers=4 (auto: as many as there are cores where the raw files are large)",
    "trainer.shards": "trainer.shards=8 (1: a batch in one piece)",
    "data.image_size": "data.image_size=[64,64]",
    "task.class_weights": "task.class_weights=balanced",
}


def _example(where: str) -> str:
    if where.startswith("task.satisficing"):
        return """'task.satisficing={latency_ms_per_example: "<= 1", parameters: "< 100000"}'"""
    return EXAMPLES.get(where, "")
