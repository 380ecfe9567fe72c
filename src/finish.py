"""What a training leaves when it ends, well or badly: numbers, the diagnosis, and the last screen."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import signs
import tried
from crucible.diagnosis.advice import Advice, Situation, advise
from crucible.diagnosis.bounds import check
from crucible.diagnosis.gap import Diagnosis, diagnose, errors
from crucible.errors import Stopped
from crucible.files import CONFIG, CURVES, RUN_FILES, SEEN, SUMMARY, WEIGHTS
from crucible.integrity import SUMS, require_unchanged, sha256_of, sums_of
from crucible.report.screen import screen
from crucible.resources import exhausted
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import NAME, has_ended, read_events
from crucible.training.curves import write_curves
from crucible.training.judge import Judgement, judge, latency_ms, told
from crucible.training.locate import locate_nonfinite
from crucible.training.run import NonFinite, Run
from entry import Job
from overrides import choices_of, train_command
from wiring import Parts, situation


def is_finished(job: Job) -> bool:
    """Whether the job is to resume a run that has come to its end: there is nothing to do."""
    return job.cfg["resume"] is not None and has_ended(read_events(job.folder / NAME))


@contextmanager
def accountable(parts: Parts, run: Run) -> Iterator[None]:
    """Turn a number that is not finite into a refusal that says where it arose; journal any failure."""
    try:
        yield
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


def train(job: Job, run: Run, parts: Parts) -> None:
    """Judge the chosen weights on train and dev, write train.json and the curves, and close the journal."""
    run.finish()
    splits = [split for split in ("train", "train_dev", "dev") if split in parts.batches.splits]
    found = {split: judge(parts.model, parts.task, parts.batches, split, keep=False) for split in splits}
    scores: dict[str, Any] = {"train": None, "dev": None} | {split: told(each) for split, each in found.items()}
    analysed, cfg = found[splits[-1]], _as_run(job.cfg, run)
    parameters = sum(p.numel() for p in parts.model.parameters())
    seen = _observed(run, parts, found, cfg) | {
        "error_analysis": signs.error_analysis(parts.task, analysed),
        "satisficing": bounds(parts, analysed, parameters),
    }
    early = run.epoch < cfg["trainer"]["total_epochs"]
    summary = {
        "data": parts.batches.card.name,
        "model": choices_of(job.cfg)["model"],
        "monitor": {"name": parts.task.monitor, "goal": parts.task.goal},
        "best_epoch": run.best_epoch,
        "epochs": run.epoch,
        **scores,
        **({"suggested": analysed.suggested} if analysed.suggested and splits[-1] == "dev" else {}),
        **judged(job, cfg, parts.batches.card, parts.task, scores, seen, stopped_early=early),
        "threads": torch.get_num_threads(),
        "parameters": parameters,
    }
    write_json(job.folder / SUMMARY, summary)
    write_atomic(job.folder / SEEN, parts.batches.seen(parts.before).packed())
    write_curves(read_events(job.folder / NAME), job.folder / CURVES)
    write_atomic(job.folder / SUMS, sums_of(job.folder, RUN_FILES).encode())
    flat = {f"final/{split}_{name}": v for split, each in found.items() for name, v in each.scores.items()}
    flat |= _last_points(run.latest, found)
    run.journal.append("end", epoch=run.epoch, step=run.step, values=flat, weights=sha256_of(job.folder / WEIGHTS))


def _observed(run: Run, parts: Parts, found: Mapping[str, Judgement], cfg: dict[str, Any]) -> dict[str, Any]:
    """Return what the diagnosis says of a training besides its errors and mistakes."""
    trivial = signs.baseline(parts.task, parts.batches.card, parts.batches, [each for each in found if each != "train"])
    rates = [e["values"]["lr"] for e in read_events(run.folder / NAME) if "lr" in e.get("values", ())]
    left = rates[-1] / max(rates) if rates else 1.0
    return {
        "signs": signs.of_training(run, parts, found) | signs.against(trivial, found),
        "controls": [{"epoch": each["epoch"], "change": each["change"]} for each in run.controls],
        "evidence": {split: each.evidence() for split, each in found.items()},
        "baseline": trivial,
        "progress": {"epochs": run.epoch, "best_epoch": run.best_epoch, "steps": run.step, "rate_left": left,
                     "overrides": tried.words_of(cfg), "key": parts.batches.own.key},
        "seen": parts.seen,
    }  # fmt: skip


def _last_points(latest: dict[str, float], found: Mapping[str, Judgement]) -> dict[str, float]:
    """Return the chosen weights' numbers under the names of the curves: whoever takes a curve's last point ranks by them."""
    own = found["dev"].scores if "dev" in found else {}
    return {key: own[name] for key in latest if key.startswith("dev/") and (name := key.partition("/")[2]) in own}


def _as_run(cfg: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return the configuration with the rate and the length that controls left."""
    trainer = {**cfg["trainer"], "total_epochs": cfg["trainer"]["total_epochs"] if run.length is None else run.length}
    changed = any(each["change"].startswith("optimizer.lr=") for each in run.controls)
    rate = {"lr": float(run.schedule.base_lrs[0])} if changed else {}
    return {**cfg, "trainer": trainer, "optimizer": {**cfg["optimizer"], **rate}}


def bounds(parts: Parts, found: Judgement, parameters: int) -> dict[str, Any]:
    """Return the satisficing bounds and whether they are met; the clock is read only where one asks for it."""
    asked, values = parts.task.satisficing, {**found.scores, "parameters": float(parameters)}
    if "latency_ms_per_example" in asked:
        values["latency_ms_per_example"] = latency_ms(parts.model, next(parts.batches.judge("train"))["x"][:1])
    return check(asked, values)


def judged(
    job: Job,
    cfg: dict[str, Any],
    card: Any,
    task: Any,
    scores: dict[str, Any],
    seen: dict[str, Any],
    *,
    stopped_early: bool,
) -> dict[str, Any]:
    """Return human level, gap and diagnosis with advice as commands that fit this configuration.

    Args:
        cfg: what was trained: the advice changes it. seen: what else the diagnosis says: signs, error_analysis, satisficing, controls, evidence (size and
            spread of the error by split), baseline, progress (how the training went), seen (examples seen before).
    """
    human, read = job.cfg["data"]["human_error"], signs.read(seen)
    apart = (scores.get("train_dev") or {}).get("error")
    found = diagnose(
        *errors(scores), human=human, tolerance=task.margin, train_dev=apart, evidence=seen["evidence"],
        is_rate=task.targets != "numbers", early=read.early,
    )  # fmt: skip
    words, trial = tried.words_of(cfg), is_dvc(job.folder) or job.tell is not None
    runs = tried.Tried() if trial else tried.tried_on(seen["progress"].get("key", ""), job.folder)
    now = _with_gap(situation(cfg, card, stopped_early=stopped_early, signs=read), found, seen, human, task)
    now = replace(now, seeds_tried=runs.other_seeds(words))
    own = {"monitor": {"name": task.monitor, "goal": task.goal}, "dev": scores.get("dev"), "train": scores["train"]}
    advice = runs.left(advise(found.verdict, found.reasons, now), own, words)
    positive, reasons, worse = getattr(task, "positive", None), read.reasons(), int(read.below_baseline)
    return {
        **({"positive_class": positive} if positive is not None else {}),
        "human": {"error": human or 0.0, "assumed": human is None},
        "gap": found.gap,
        "diagnosis": {
            "verdict": found.verdict,
            "reasons": [*reasons[:worse], *found.reasons, *reasons[worse:]],
            "unclear": {part: _why_unclear(part, now, found) for part in found.unclear},
            "advice": [{"why": each.why, "command": _command(job, cfg, each)} for each in advice],
            **seen,
        },
    }


def _with_gap(now: Situation, found: Diagnosis, seen: dict[str, Any], human: float | None, task: Any) -> Situation:
    """Return the facts about a run with those of its gap, and of how its training went."""
    return replace(
        now,
        bias=found.gap["avoidable_bias"] or 0.0,
        variance=found.gap["variance"] or 0.0,
        unclear=tuple(found.unclear),
        tolerance=task.margin,
        dev_size=int((seen["evidence"].get("dev") or {"size": 0})["size"]),
        human_missing=human is None and task.targets == "numbers",
        **{key: value for key, value in seen["progress"].items() if key not in ("overrides", "key")},
    )


def _why_unclear(part: str, now: Situation, found: Diagnosis) -> str:
    if found.gap[part] is None:
        return "unknown: there is no split to judge on"
    if part == "avoidable_bias" and now.human_missing:
        return "unknown without data.human_error"
    if part == "avoidable_bias" and now.signs.early:
        return "not decided: few dev examples chose an early epoch"
    return "not told by this many examples"


def _command(job: Job, cfg: dict[str, Any], advice: Advice) -> str | None:
    if not advice.overrides:
        return None
    if advice.sweep and not is_dvc(job.folder):
        return train_command(cfg, advice.sweep).replace("src/train.py", "src/train.py -m", 1)
    return train_command(cfg, advice.overrides, dvc=is_dvc(job.folder))


def is_dvc(folder: Path) -> bool:
    """Whether a run folder belongs to the pipeline."""
    return "DVC_STAGE" in os.environ or folder.parts[:1] == ("artifacts",)


def show(job: Job) -> float:
    """Show the last screen of a training and return the monitored number."""
    require_unchanged(job.folder, editable=[CONFIG])
    summary = json.loads((job.folder / SUMMARY).read_text(encoding="utf-8"))
    following = "dvc repro" if is_dvc(job.folder) else f"python src/evaluate.py run={shlex.quote(named(job))}"
    print(screen(summary, files=[str(job.folder)], following=following))
    return float((summary["dev"] or summary["train"])[summary["monitor"]["name"]])


def named(job: Job) -> str:
    """Return how a person names this run on the command line."""
    return "latest" if job.by_hand else str(job.folder)


def write_json(path: Path, value: Any) -> None:
    """Write a readable JSON file atomically, equal bytes for equal values."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
