"""Where the configuration ends: plain values go in here, built objects come out, and the library sees only those."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from crucible.data.batches import Batches
from crucible.data.card import Card, read_card, require_prepared
from crucible.data.prepare import Recipe, prepare
from crucible.data.seen import Seen, read_seen, report, require_unseen, unknown
from crucible.diagnosis.advice import Signs, Situation
from crucible.diagnosis.flow import Watch
from crucible.errors import Refusal
from crucible.integrity import sha256_of
from crucible.optim.guard import Guarded
from crucible.report.leaks import about
from crucible.seeds import seed_global
from crucible.targets import build, resolve
from crucible.tasks.saved import Saved, placed, read_summary
from crucible.tasks.task import Task
from crucible.text import redacted
from crucible.tracking.journal import NAME, read_events
from crucible.tracking.looks import read_looks
from crucible.training.device import (
    be_deterministic,
    choose_device,
    choose_threads,
    compiled,
    with_precision,
)
from crucible.training.expected import expected_seconds, in_words
from crucible.training.gradient_check import gradient_check, require_right
from crucible.training.probe import Probe
from crucible.training.start import Identity, Opened, begin, open_run, require_same
from crucible.transfer import Scratch
from entry import ROOT, Job
from fitting import fits, is_fixed, require_classes
from overrides import choices_of, overrides_of
from starting import home, source_of

Config = dict[str, Any]
NO_RESULT = ("tracking", "run_name", "report", "run", "resume", "prepared")  # these keys cannot change a result
CHECKED_EXAMPLES, NOTHING_SEEN = 8, Signs()
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
    data, recipe = job.cfg["data"], _recipe(job.cfg, judge)
    source = build("data.reader", data["reader"], _data_path(data), data["label"], data["group_by"])
    folder = prepare(
        source, recipe, data["name"], lambda key: _home(job.cfg["prepared"] if judge is None else None, key), accept
    )
    return folder, replace(read_card(folder), name=data["name"])  # the name is no part of the key: it may be another's


def apart(job: Job, card: Card) -> Job:
    """Return the job with a folder for these data alone: NAME, or NAME-2, ... where other data have been judged as NAME."""
    if not job.new_folder:
        return job
    home, taken = job.folder, 1
    while job.folder.exists() and not _holds(job.folder, card.key):
        taken += 1
        job = replace(job, folder=home.with_name(f"{home.name}-{taken}"))
    return job


def _holds(folder: Path, key: str) -> bool:
    with suppress(Refusal):
        return read_card(folder).key == key
    return False


def require_run(job: Job) -> Path:
    """Return the run folder that the job names.

    Raises:
        Refusal: it names none.
    """
    if job.cfg["run"] is None:
        raise Refusal(
            "run", "is missing", allowed="a run folder, or latest", example="python src/evaluate.py run=latest"
        )
    return Path(job.cfg["run"])


def as_judged(job: Job, saved: Saved) -> Saved:
    """Return the run with the tolerance and the bounds that the job asks for."""
    require_classes(job.cfg["data"], saved.card)
    trainer = {**job.cfg["trainer"], **saved.config["trainer"]}  # a run of before some key takes the key's default
    config = {**job.cfg, **saved.config, "trainer": trainer}
    return replace(saved, config=config, task=build("task", job.cfg["task"], saved.card))


def judged_data(job: Job, own: Card) -> tuple[Path, Card]:
    """Return the prepared folder to judge a finished run on: its own data, or other data in its image shape.

    Raises:
        Refusal: the data are not those the run was trained on, or other data have another shape.
    """

    def accept(card: Card) -> None:
        if not job.other_data and card.key != own.key:
            raise Refusal(
                "the data",
                f"they are not those of this run: their key is {card.key[:16]}, its is {own.key[:16]}",
                allowed="the same data, or other data named as such",
                example=f"python src/evaluate.py run={shlex.quote(job.cfg['run'])} data={choices_of(job.cfg)['data']} data.path=...",
            )
        if card.feature_shape != own.feature_shape:
            raise Refusal("the data", f"an example has shape {card.feature_shape}, the run's have {own.feature_shape}")
        _require_same_objects(job, card.objects or {}, own.objects or {})
        if job.other_data:
            require_unseen(seen_by_run(job), card, seen_policy(job.cfg), "this run")

    return prepared(job, accept, judge=own if job.other_data else None)


def _require_same_objects(job: Job, found: dict[str, Any], own: dict[str, Any]) -> None:
    if found.get("points") != own.get("points"):
        raise Refusal("the data", f"they have {found.get('points')} points", allowed=f"the run's {own.get('points')}")
    if getattr(resolve(job.cfg["task"]["_target_"], "task"), "single", False) and found["most"] > 1:
        raise Refusal("the data", f"a picture holds up to {found['most']} objects", allowed="one at most, as the run's")


def seen_by_run(job: Job) -> Seen:
    """Return what the evaluated run has seen before these data: on its own data what its source has, on others all of it."""
    seen = read_seen(Path(job.cfg["run"])) or unknown()
    return seen.all() if job.other_data else seen


def seen_report(job: Job, batches: Batches) -> dict[str, Any]:
    """Return what a summary says about examples of other data that the evaluated run has seen."""
    return report(seen_by_run(job), batches.own, seen_policy(job.cfg))


def seen_policy(cfg: Config) -> str:
    """Return what becomes of examples that the weights have seen; runs of before had no choice."""
    return cfg["transfer"].get("seen", "keep")


def require_records(job: Job) -> None:
    """Refuse to evaluate where the look could not be recorded: the run's journal, or the record of looks, is damaged."""
    read_looks()
    list(read_events(require_run(job) / NAME))


def same_threads(job: Job) -> None:
    """Compute with as many threads as the training did."""
    torch.set_num_threads(read_summary(Path(job.cfg["run"]))["threads"])


def _recipe(cfg: Config, judge: Card | None) -> Recipe:
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
    recipe = {key: data[key] for key in keys} | {"targets": resolve(cfg["task"]["_target_"], "task").targets}
    if judge is not None:
        own = {"resize": judge.recipe.get("resize", "stretch")}
        shape = (
            {"channels": judge.feature_shape[0], "image_size": judge.feature_shape[1:], **own}
            if judge.is_images
            else {}
        )
        recipe |= {**shape, "normalize": "none", "judge": judge.classes, "columns": judge.columns}
    return Recipe(**recipe)


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


@dataclass(frozen=True)
class Parts:
    """The objects of one training, built."""

    task: Any
    penalised: Task
    model: nn.Module
    batches: Batches
    optimizer: Guarded
    schedule: Any
    transfer: Scratch
    fixed: bool  # whether nothing changes the examples in training
    before: Seen  # what the runs that the weights come from have seen
    seen: dict[str, Any]  # what of it is judged here

    @cached_property
    def fitted(self) -> tuple[nn.Module, Batches]:
        """The model and its batches; or its head alone, and what frozen layers give it.

        Computed when it is first asked for, with the threads that the training has.
        """
        return self.transfer.fitted(self.model, self.batches, fixed=self.fixed)

    @property
    def trained(self) -> tuple[Any, ...]:
        """What `fit` takes by position."""
        model, batches = self.fitted
        return model, self.penalised, batches, self.optimizer, self.schedule


def ready(job: Job) -> tuple[Path, Card, torch.device, Identity]:
    """Return prepared data, card, device and identity, everything that can be refused having been refused."""
    device = choose_device(job.cfg["trainer"]["device"])
    folder, card = prepared(job, fits(job.cfg))
    who = identity(job.cfg, card)
    if job.cfg["resume"] is not None:
        require_same(job.folder, who)
    return folder, card, device, who


def assemble(cfg: Config, folder: Path, card: Card, device: torch.device) -> Parts:
    """Build every part, in the data's order; the weights are drawn on the CPU: the same start on every device."""
    task = build("task", cfg["task"], card)
    seed_global(cfg["seed"], "init")
    model = build("model", cfg["model"], card.feature_shape, task.num_outputs)
    build("init", cfg["init"])(model)
    source = source_of(cfg)
    transfer = build("transfer", cfg["transfer"], source, card)
    transfer(model)
    trainer = cfg["trainer"]
    model = placed(model, device, channels_last=trainer["channels_last"])
    model = compiled(with_precision(model, device, trainer["precision"]), wanted=trainer["compile"])
    optimizer = build("optimizer", cfg["optimizer"], transfer.groups(model))
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("share", 1.0)
    before = source.seen if source else Seen()
    data = batches(cfg, folder, card, device, before)
    return Parts(
        task=task,
        penalised=build("regularizer", cfg["regularizer"], task, card.size("train")),
        model=model,
        batches=data,
        optimizer=Guarded(optimizer, max_norm=trainer["max_norm"]),
        schedule=build("schedule", cfg["schedule"], optimizer),
        transfer=transfer,
        fixed=is_fixed(cfg),
        before=before,
        seen=report(before, card, seen_policy(cfg)),
    )


def batches(cfg: Config, folder: Path, card: Card, device: torch.device, seen: Seen) -> Batches:
    """Return the batches of a prepared folder, normalised as `card` says, without what the weights have seen before."""
    augment = build("augment", cfg["augment"], cfg["data"]["flip_keeps_label"])
    left_out = seen.rows(read_card(folder)) if seen_policy(cfg) == "drop" else {}
    return Batches(folder, card, device, batch_size=cfg["trainer"]["batch_size"], augment=augment,
                   seed=cfg["seed"], sampling=cfg["data"]["sampling"], left_out=left_out)  # fmt: skip


def opened(job: Job, card: Card, parts: Parts, who: Identity) -> Opened:
    """Open the run folder, set threads and determinism, record the start, and start the mirror."""
    found = open_run(job.folder, who, config_text(job.cfg), card)
    if found.damage:
        print(f"damaged, and therefore computed again:\n{found.damage}", file=sys.stderr)
    threads = found.threads or choose_threads(
        job.cfg["trainer"]["threads"], parts.model, card.feature_shape, parts.batches.batch_size
    )
    torch.set_num_threads(threads)
    be_deterministic(job.cfg["trainer"]["deterministic"])
    facts = {"threads": threads, "device": str(parts.batches.device), "torch": torch.__version__}
    data = {"name": card.name, "key": card.key, "sizes": {split: card.size(split) for split in card.splits}}
    begin(found, who, **facts, **record(job, who), config=config_text(job.cfg), data=data)
    if job.by_hand:
        point_latest(job.folder)
    print(_opening(job, card, parts, threads, epochs_done=found.state["epoch"] if found.state else 0))
    if job.mirrored:
        build("tracking", job.cfg["tracking"], job.folder, home()).start()
    return found


def _opening(job: Job, card: Card, parts: Parts, threads: int, *, epochs_done: int) -> str:
    size, device = sum(p.numel() for p in parts.model.parameters()), parts.batches.device
    words = f"{size:,} parameters on {card.size('train'):,} examples of {card.name}; {device}, {threads} thread(s)"
    following = (
        "dvc repro" if "DVC_STAGE" in os.environ else f"python src/train.py resume={shlex.quote(str(job.folder))}"
    )
    words += _expected(job, parts, epochs_done)
    first = f"training {words}\n     run  {job.folder}{parts.transfer.told()}\nif it is interrupted: {following}"
    return "\n".join([first, *(f"{'':>10}{each}" for each in about(card))])


def _expected(job: Job, parts: Parts, epochs_done: int) -> str:
    """Return how long it will take, where a person reads it, and where no compiler would have to run for it."""
    if job.tell is not None or job.cfg["trainer"]["compile"]:
        return ""
    model, task, data, *_ = parts.trained
    seconds = expected_seconds(model, task, data, job.cfg["trainer"]["total_epochs"] - epochs_done)
    return f"; expected: {in_words(seconds)}"


def checked(cfg: Config, parts: Parts) -> None:
    """Compare back-propagation with two-sided differences, where that is declared, and say what came out.

    Raises:
        Refusal: they differ; nothing has been written.
    """
    if not cfg["trainer"]["gradient_check"]:
        return
    few = {name: value[:CHECKED_EXAMPLES] for name, value in next(parts.batches.train(0)).items()}
    found = gradient_check(parts.model, parts.penalised, few, seed=cfg["seed"])
    require_right(found)
    print(f"gradient check: largest relative difference {found.worst:.1e} over {found.compared} coordinates of "
          f"{len(found.difference)} parameters ({found.skipped} skipped at corners)")  # fmt: skip


def remembered(
    job: Job, parts: Parts, who: Identity, tell: Callable[[int, int, dict[str, float]], None]
) -> dict[str, Any]:
    """Return the run's own settings."""
    cfg, task = job.cfg, parts.task
    keys = ("patience", "checkpoint_every", "log_every")
    settings = {key: cfg["trainer"][key] for key in keys}
    return {
        **settings,
        "seed": cfg["seed"],
        "monitor": task.monitor,
        "goal": task.goal,
        "tell": tell,
        "probe": Probe(parts.fitted[0], next(parts.fitted[1].judge("train"))),
        "watch": _watch(job.folder),
        "identity": asdict(who),
    }


def _watch(folder: Path) -> Callable[[dict[str, float]], list[str]]:
    said = [each for event in read_events(folder / NAME) if event["kind"] == "warning" for each in event["what"]]
    watch = Watch(said)

    def aloud(values: dict[str, float]) -> list[str]:
        new = watch(values)
        for each in new:
            print(f"warning: {each}", file=sys.stderr)
        return new

    return aloud


def identity(cfg: Config, card: Card) -> Identity:
    """Return what makes two trainings the same one: configuration, data, code."""
    kept = {key: value for key, value in cfg.items() if key not in NO_RESULT}
    kept["data"] = {key: value for key, value in cfg["data"].items() if key != "path"}
    if (start := source_of(cfg)) is not None:  # what it starts from, wherever that lies
        kept["transfer"] = {**cfg["transfer"], "source": sha256_of(start.file)}
    return Identity(sha256(repr(kept).encode()).hexdigest(), card.key, _code())


@cache
def _code() -> str:
    """Return the hash of the code as it was when this process first asked."""
    code = sha256()
    for path in sorted((ROOT / "src").rglob("*.py")):
        code.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return code.hexdigest()


def config_text(cfg: Config) -> str:
    """Return the configuration as it stands in a run folder: without passwords."""
    return redacted(yaml.safe_dump({**cfg, "run": None, "resume": None}, sort_keys=False, allow_unicode=True))


def record(job: Job, who: Identity) -> dict[str, Any]:
    """Return the name and tags of a run."""
    differing = [each for each in overrides_of(job.cfg) if not each.startswith("data.path")]
    tags = {
        "git.commit": _commit(),
        "data.key": who.data,
        "config.hash": who.config,
        "hydra.overrides": redacted(" ".join(job.overrides)),
        "dvc.exp.name": os.environ.get("DVC_EXP_NAME", ""),
        **job.tags,
    }
    return {"name": job.cfg["run_name"] or " ".join(differing) or "defaults", "tags": tags}


@cache
def _commit() -> str:
    """Return the commit of this code; empty where git does not know it, is not there, or no process is to be had."""
    with suppress(OSError):
        git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        return git.stdout.strip() if git.returncode == 0 else ""
    return ""


def situation(cfg: Config, card: Card, *, stopped_early: bool, signs: Signs = NOTHING_SEEN) -> Situation:
    """Return the facts that advice depends on."""
    chosen = choices_of(cfg)
    return Situation(
        model=chosen["model"],
        settings={key: value for key, value in cfg["model"].items() if key != "_target_"},
        init=chosen["init"],
        optimizer=chosen["optimizer"],
        regularizer=chosen["regularizer"],
        augment=chosen["augment"],
        lr=cfg["optimizer"].get("lr", 0.001),
        batch_size=cfg["trainer"]["batch_size"],
        dev_share=cfg["data"]["split"]["dev"],
        train_dev_share=cfg["data"]["split"]["train_dev"],
        feature_shape=card.feature_shape,
        class_counts=card.splits["train"]["class_counts"] if "class_weights" in cfg["task"] else [],
        class_weights=cfg["task"].get("class_weights", "none"),
        sampling=cfg["data"]["sampling"],
        max_norm=cfg["trainer"]["max_norm"],
        total_epochs=cfg["trainer"]["total_epochs"],
        stopped_early=stopped_early,
        train_size=card.size("train"),
        seed=cfg["seed"],
        signs=signs,
        flip_keeps_label=cfg["data"]["flip_keeps_label"],
        freeze=cfg["transfer"].get("freeze"),
        cached=cfg["transfer"].get("cache") is True,
        task=cfg["task"],
    )


def point_latest(folder: Path) -> None:
    """Let outputs/latest point to the folder."""
    latest = Path("outputs/latest")
    latest.parent.mkdir(exist_ok=True)
    draft = latest.with_name(f".latest.{os.getpid()}")
    draft.symlink_to(os.path.relpath(folder, latest.parent))
    draft.replace(latest)
