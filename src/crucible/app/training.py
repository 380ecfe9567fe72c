"""The steps of one training: data, parts, run folder, results; commands/train.py names them in order."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from crucible.app.build import Data, Parts
from crucible.app.compatibility import can_stop_within, fits
from crucible.app.compose import Job
from crucible.app.diagnosis import against_baseline, diagnosed, error_analysis, training_symptoms, trivial_baseline
from crucible.app.identity import config_text, identity, record
from crucible.app.overrides import choices_of, train_command
from crucible.app.prepared import prepared
from crucible.app.previous import overrides_without_paths
from crucible.app.project import Config, home, in_pipeline, write_json
from crucible.app.several import shards_of
from crucible.data.batches import Batch
from crucible.data.card import Card, read_card
from crucible.diagnosis.bounds import check
from crucible.diagnosis.flow import Watch
from crucible.errors import Stopped, as_called
from crucible.files import (
    CONFIG,
    CURVES,
    FIRST_BATCH,
    HISTOGRAMS,
    RUN_FILES,
    SEEN,
    SUMMARY,
    UNFINISHED,
    WEIGHTS,
    frame_of,
)
from crucible.instantiate import build
from crucible.integrity import SUMS, require_unchanged, sha256_of, sums_of
from crucible.plots.pixels import png, sheet
from crucible.report.leaks import about
from crucible.report.progress import Tell
from crucible.report.screen import screen
from crucible.resources import exhausted
from crucible.tasks.task import total_of
from crucible.tracking.checkpoint import Checkpoints, NoCheckpoints
from crucible.tracking.curves import read_spread, write_curves
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, Journal, has_ended, read_events
from crucible.tracking.start import Identity, begin, open_run, require_same
from crucible.training.best import Best
from crucible.training.device import (
    be_deterministic,
    choose_device,
    choose_threads,
    require_deterministic,
    require_precision,
)
from crucible.training.evaluation import Evaluation, evaluate_split, latency_ms, summary_of
from crucible.training.expected import expected_seconds, in_words, put_back
from crucible.training.gradient_check import gradient_check, require_right
from crucible.training.histograms import spread
from crucible.training.locate import locate_nonfinite
from crucible.training.probe import MOST, Probe
from crucible.training.run import NonFinite, Observers, Run
from crucible.training.sampled import Sampled

CHECKED_EXAMPLES = 8
SHOWN = 16  # of the first batch


def prepared_data(job: Job) -> Data:
    """Return the data of a training, everything that can be refused having been refused."""
    device = choose_device(job.cfg["trainer"]["device"])
    require_precision(device, job.cfg["trainer"]["precision"])
    be_deterministic(job.cfg["trainer"]["deterministic"])
    folder, card = prepared(job, fits(job.cfg))
    if job.cfg["resume"] is not None:
        require_same(job.folder, identity(job.cfg, card))
    return Data(folder, card, device)


def open_run_folder(job: Job, card: Card, parts: Parts, tell: Tell) -> Run:
    """Return the run that records and restores this training: new, or where it was interrupted.

    Threads are set, the start is journaled and shown, and the mirror follows.
    """
    who, config = identity(job.cfg, card), config_text(job.cfg)
    found = open_run(job.folder, who, config, card)
    if found.damage:
        print(f"damaged, and therefore computed again:\n{found.damage}", file=sys.stderr)
    threads = _set_threads(job, card, parts, found.threads)
    facts = {"threads": threads, "device": str(parts.batches.device), "torch": torch.__version__} | _shards(job, parts)
    data = {"name": card.name, "key": card.key, "sizes": {split: card.size(split) for split in card.splits}}
    begin(found, who, **facts, **record(job, who), config=config, data=data)
    if job.by_hand:
        point_latest(job.folder)
    print(as_called(_opening(job, card, parts, threads, epochs_done=found.state["epoch"] if found.state else 0)))
    if job.by_hand and (picture := first_batch(card, parts)) is not None:
        write_atomic(job.folder / FIRST_BATCH, picture)
        print(f"{'':>10}{job.folder / FIRST_BATCH}: what the network sees first, augmented, with its labels")
    if job.mirrored:
        build("tracking", job.cfg["tracking"], job.folder, home()).start()
    run = _run(job, parts, found.journal, who, tell)
    run.restore(found.state)
    if found.state is None:
        _write_spread(job.folder, parts, "start")
    return run


def _write_spread(folder: Path, parts: Parts, moment: str) -> None:
    """Write how weights and activations are spread, beside what was written of another moment."""
    model, batches = parts.fitted
    kept = read_spread(folder) if moment != "start" else {}
    write_json(folder / HISTOGRAMS, kept | {moment: spread(model, next(batches.evaluation("train", size=MOST)))})


def first_batch(card: Card, parts: Parts) -> bytes | None:
    """Return the first examples of training as the network sees them, a PNG file; None where they are no pictures."""
    if not card.is_images or card.feature_shape[0] not in (1, 3):
        return None
    batch = {name: value[:SHOWN].cpu().numpy() for name, value in next(parts.batches.train(0)).items()}
    labels, count = batch["label"], len(batch["x"])
    boxes = (
        [own[row >= 0].tolist() for own, row in zip(batch["boxes"], labels, strict=True)]
        if "boxes" in batch
        else [[]] * count
    )
    points = (
        [own.tolist() if present else [] for own, present in zip(batch["points"], labels, strict=True)]
        if "points" in batch
        else [[]] * count
    )
    return sheet(list(batch["x"]), [parts.task.kind.caption(label, card) for label in labels], boxes, points)


def _set_threads(job: Job, card: Card, parts: Parts, interrupted: int | None) -> int:
    """Set and return the threads of this training: those it had before an interruption, declared, or measured."""
    declared, size = job.cfg["trainer"]["threads"], parts.batches.batch_size
    if declared == "auto" and job.cfg["trainer"].get("shards", 1) not in (1, "auto"):
        declared = 1  # however many processes there are: their number changes no bit
    further = parts.task.multiplications(card.feature_shape)
    threads = interrupted or choose_threads(declared, parts.model, card.feature_shape, size, further=further)
    torch.set_num_threads(threads)
    return threads


def _shards(job: Job, parts: Parts) -> dict[str, int]:
    """Return the pieces of a batch for the record, where they were left to us."""
    if job.cfg["trainer"].get("shards", 1) != "auto":
        return {}
    return {"shards": shards_of(job.cfg, parts.batches.card, parts.batches.device)}


def _opening(job: Job, card: Card, parts: Parts, threads: int, *, epochs_done: int) -> str:
    size, device = sum(p.numel() for p in parts.model.parameters()), parts.batches.device
    words = f"{size:,} parameters on {card.size('train'):,} examples of {card.name}; {device}, {threads} thread(s)"
    words += "".join(f", {count} shard(s) a batch" for count in _shards(job, parts).values())
    following = (
        "dvc repro" if "DVC_STAGE" in os.environ else f"python src/train.py resume={shlex.quote(str(job.folder))}"
    )
    words += _expected(job, parts, epochs_done)
    first = f"training {words}\n     run  {job.folder}{parts.transfer.origin()}\nif it is interrupted: {following}"
    return "\n".join([first, *(f"{'':>10}{each}" for each in about(card))])


def _expected(job: Job, parts: Parts, epochs_done: int) -> str:
    """Return how long it will take, where a person reads it, and where no compiler would have to run for it."""
    if job.tell is not None or job.cfg["trainer"]["compile"]:
        return ""
    model, task, data, *_ = parts.trained
    epochs = job.cfg["trainer"]["total_epochs"] - epochs_done
    further = parts.task.multiplications(data.card.feature_shape)
    seconds = expected_seconds(model, task, data, epochs, further=further)
    return f"; expected: {in_words(seconds)}"


def check_backward(cfg: Config, parts: Parts) -> None:
    """Look at the way back before anything is written: is it deterministic on CUDA, is it right, where that is declared.

    Raises:
        Refusal: a step of it has no deterministic kernel, or it differs from two-sided differences.
    """
    on_cuda = cfg["trainer"]["deterministic"] and parts.batches.device.type == "cuda"
    if not (on_cuda or cfg["trainer"]["gradient_check"]):
        return
    few = {name: value[:CHECKED_EXAMPLES] for name, value in next(parts.batches.train(0)).items()}
    if on_cuda:
        with put_back(parts.model, parts.batches.device):
            require_deterministic(total_of(parts.penalised.losses(parts.model, few)))
    if not cfg["trainer"]["gradient_check"]:
        return
    found = gradient_check(parts.model, parts.penalised, few, seed=cfg["seed"])
    require_right(found)
    print(f"gradient check: largest relative difference {found.worst:.1e} over {found.compared} coordinates of "
          f"{len(found.difference)} parameters ({found.skipped} skipped at corners)")  # fmt: skip


def _run(job: Job, parts: Parts, journal: Journal, who: Identity, tell: Tell) -> Run:
    """Return the memory of this training, as it is declared."""
    trainer, (model, batches) = job.cfg["trainer"], parts.fitted
    return Run(
        job.folder,
        journal,
        parts.model,
        parts.optimizer,
        parts.schedule,
        seed=job.cfg["seed"],
        best=Best(
            monitor=parts.task.monitor,
            goal=parts.task.goal,
            patience=trainer["patience"],
            keep=trainer.get("keep", "best"),
        ),
        checkpoints=Checkpoints(job.folder, every=trainer["checkpoint_every"], identity=asdict(who))
        if job.can_go_on
        else NoCheckpoints(),
        log_every=trainer["log_every"],
        observers=Observers(
            tell,
            Probe(model, seen := next(batches.evaluation("train"))),
            _watch(job.folder),
            _sketch(job.folder, parts, seen),
            Sampled(model, parts.task, batches),
        ),
        batches=batches if can_stop_within(job.cfg) else None,
    )


def _sketch(folder: Path, parts: Parts, seen: Batch) -> Callable[[int], None]:
    """Return what keeps a picture of each epoch, where the task can draw one."""

    first = {"x": seen["x"][:1].clone()}  # no more of the batch is kept

    def draw(epoch: int) -> None:
        if (picture := parts.task.sketch(parts.model, first)) is not None:
            file = frame_of(folder, epoch)
            file.parent.mkdir(exist_ok=True)
            write_atomic(file, png(picture))

    return draw


def _watch(folder: Path) -> Callable[[dict[str, float]], list[str]]:
    known = [each for event in read_events(folder / NAME) if event["kind"] == "warning" for each in event["what"]]
    watch = Watch(known)

    def warn(values: dict[str, float]) -> list[str]:
        new = watch(values)
        for each in new:
            print(f"warning: {each}", file=sys.stderr)
        return new

    return warn


def point_latest(folder: Path) -> None:
    """Let outputs/latest point to the folder."""
    latest = Path("outputs/latest")
    latest.parent.mkdir(exist_ok=True)
    draft = latest.with_name(f".latest.{os.getpid()}")
    draft.symlink_to(os.path.relpath(folder, latest.parent))
    draft.replace(latest)


def is_finished(job: Job) -> bool:
    """Whether the job is to resume a run that has come to its end: there is nothing to do."""
    return job.cfg["resume"] is not None and has_ended(read_events(job.folder / NAME))


@contextmanager
def failures_journaled(parts: Parts, run: Run) -> Iterator[None]:
    """Turn a number that is not finite into a refusal that says where it arose; journal any failure."""
    try:
        yield
        run.settle()
    except NonFinite as error:
        batch = next(islice(parts.batches.train(error.epoch), error.step, None))
        where = locate_nonfinite(parts.model, parts.penalised, batch)
        run.journal.append("failed", epoch=error.epoch, step=run.step, why=f"{error}: {where}")
        raise Stopped(
            f"epoch {error.epoch + 1}, step {error.step + 1}",
            f"{where} is not finite; the weights were left as they were before this step",
            allowed="a smaller optimizer.lr, trainer.max_norm=1, data.normalize=standard",
            example="optimizer.lr=0.0001",
        ) from None
    except ArithmeticError as error:
        run.journal.append("failed", epoch=run.epoch, step=run.step, why=str(error))
        raise Stopped("the dev split", str(error), allowed="a smaller optimizer.lr") from None
    except (OSError, MemoryError, RuntimeError) as error:
        if (stopped := exhausted(error)) is None:
            raise
        with suppress(OSError):  # a full disk takes no line
            run.journal.append("failed", epoch=run.epoch, step=run.step, why=stopped.lines["what"])
        raise stopped from error
    finally:
        with suppress(OSError):  # it was told, or something worse is
            run.settle()


def write_results(job: Job, run: Run, parts: Parts) -> None:
    """Judge the chosen weights on train and dev, write train.json and the curves, and close the journal."""
    run.finish()
    _write_spread(job.folder, parts, "end")
    splits: list[str] = [split for split in ("train", "train_dev", "dev") if split in parts.batches.splits]
    found = _measured(parts, splits)
    scores: dict[str, Any] = {"train": None, "dev": None} | {split: summary_of(each) for split, each in found.items()}
    analysed, cfg = found[splits[-1]], _as_run(job.cfg, run)
    parameters = sum(p.numel() for p in parts.model.parameters())
    seen = _observed(run, parts, found, cfg) | {
        "error_analysis": error_analysis(parts.task, analysed),
        "satisficing": bounds(parts, analysed, parameters),
    }
    early = run.epoch < cfg["trainer"]["total_epochs"]
    summary = {
        "data": parts.batches.card.name,
        "model": choices_of(job.cfg)["model"],
        "monitor": {"name": parts.task.monitor, "goal": parts.task.goal},
        "best_epoch": run.best.epoch,
        "epochs": run.epoch,
        **scores,
        **({"suggested": analysed.suggested} if analysed.suggested and splits[-1] == "dev" else {}),
        **diagnosed(job, cfg, parts.batches.card, parts.task, scores, seen, stopped_early=early),
        "threads": torch.get_num_threads(),
        **_shards(job, parts),
        "parameters": parameters,
    }
    write_json(job.folder / SUMMARY, summary)
    write_atomic(job.folder / SEEN, parts.batches.seen(parts.before).packed())
    write_curves(read_events(job.folder / NAME), job.folder / CURVES)
    shutil.rmtree(job.folder / UNFINISHED, ignore_errors=True)  # what stood in for these results
    write_atomic(job.folder / SUMS, sums_of(job.folder, RUN_FILES).encode())
    flat = {f"final/{split}_{name}": v for split, each in found.items() for name, v in each.scores.items()}
    flat |= _last_points(run.latest, found) | run.usage.total()
    run.journal.append("end", epoch=run.epoch, step=run.step, values=flat, weights=sha256_of(job.folder / WEIGHTS))


def _measured(parts: Parts, splits: Sequence[str]) -> dict[str, Evaluation]:
    """Return what the chosen weights reach on each split; dev is the last, and measured first: a threshold is chosen there."""
    found: dict[str, Evaluation] = {}
    for split in reversed(splits):
        found[split] = evaluate_split(parts.model, parts.task, parts.batches, split, keep=False)
        if split == splits[-1]:
            parts.task.calibrate(found[split].scores)
    return {split: found[split] for split in splits}


def _observed(run: Run, parts: Parts, found: Mapping[str, Evaluation], cfg: dict[str, Any]) -> dict[str, Any]:
    """Return what the diagnosis says of a training besides its errors and mistakes."""
    trivial = trivial_baseline(
        parts.task, parts.batches.card, parts.batches, [each for each in found if each != "train"]
    )
    rates = [e["values"]["lr"] for e in read_events(run.folder / NAME) if "lr" in e.get("values", ())]
    left = rates[-1] / max(rates) if rates else 1.0
    return {
        "signs": training_symptoms(run, parts, found) | against_baseline(trivial, found),
        "controls": [{"epoch": each["epoch"], "change": each["change"]} for each in run.controls.done],
        "evidence": {split: each.evidence() for split, each in found.items()},
        "baseline": trivial,
        "progress": {"epochs": run.epoch, "best_epoch": run.best.epoch, "steps": run.step, "rate_left": left,
                     "overrides": overrides_without_paths(cfg), "key": parts.batches.own.key},
        "seen": parts.seen,
    }  # fmt: skip


def _last_points(latest: dict[str, float], found: Mapping[str, Evaluation]) -> dict[str, float]:
    """Return the chosen weights' numbers under the names of the curves: whoever takes a curve's last point ranks by them."""
    own = found["dev"].scores if "dev" in found else {}
    return {key: own[name] for key in latest if key.startswith("dev/") and (name := key.partition("/")[2]) in own}


def _as_run(cfg: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return the configuration with the rate and the length that controls left."""
    trainer = {**cfg["trainer"], "total_epochs": run.length}
    changed = any(each["change"].startswith("optimizer.lr=") for each in run.controls.done)
    rate = {"lr": float(run.schedule.base_lrs[0])} if changed else {}
    return {**cfg, "trainer": trainer, "optimizer": {**cfg["optimizer"], **rate}}


def bounds(parts: Parts, found: Evaluation, parameters: int) -> dict[str, Any]:
    """Return the satisficing bounds and whether they are met; the clock is read only where one asks for it."""
    asked, values = parts.task.satisficing, {**found.scores, "parameters": float(parameters)}
    if "latency_ms_per_example" in asked:
        values["latency_ms_per_example"] = latency_ms(parts.model, next(parts.batches.evaluation("train"))["x"][:1])
    return check(asked, values)


def show_result(job: Job) -> float:
    """Show the last screen of a training and return the monitored number."""
    require_unchanged(job.folder, editable=[CONFIG])
    summary = json.loads((job.folder / SUMMARY).read_text(encoding="utf-8"))
    following = "dvc repro" if in_pipeline(job.folder) else f"python src/evaluate.py run={shlex.quote(named(job))}"
    if not in_pipeline(job.folder) and not {"dev", "test"} & set(read_card(job.folder).splits):
        following = train_command(job.cfg, ("data.split.dev=0.2",))  # there is nothing to judge on
    print(screen(summary, files=[str(job.folder)], following=following))
    return float((summary["dev"] or summary["train"])[summary["monitor"]["name"]])


def named(job: Job) -> str:
    """Return how a person names this run on the command line."""
    return "latest" if job.by_hand else str(job.folder)
