"""A run that was stopped, as far as it came: its best weights so far can be judged, asked and exported; it can still go on."""

import shutil
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from crucible.app.finished import finished_run
from crucible.errors import Refusal
from crucible.files import CARD, CHECKPOINT, CONFIG, SUMMARY, UNFINISHED, WEIGHTS
from crucible.tracking import checkpoint
from crucible.tracking.folder import holder, locked
from crucible.tracking.journal import NAME, has_ended, read_events


def usable_run(name: str) -> Path:
    """Return the folder of the run that `name` means; of one that was stopped or still trains, of its best weights so far.

    Raises:
        Refusal: there is no run, or it has not come to a checkpoint.
    """
    folder = finished_run(name)
    if (folder / WEIGHTS).exists() and (folder / SUMMARY).exists():
        return folder
    state = None if has_ended(read_events(folder / NAME)) else checkpoint.load(folder)
    if state is None:
        return folder  # whoever loads it says that it has not finished
    found = folder / UNFINISHED
    if not _is_of(found, state["epoch"]):
        _settle(folder, found)
    doing = "is still training" if holder(folder) is not None else "was stopped"
    print(f"note: this run {doing} after epoch {state['epoch']}; what follows is about its best weights so far, those of epoch "
          f"{state['best_epoch'] or state['epoch']}", file=sys.stderr)  # fmt: skip
    return found


def _is_of(found: Path, epoch: int) -> bool:
    """Whether the best weights so far of this very checkpoint have been written."""
    state = checkpoint.load(found) if (found / SUMMARY).exists() else None
    return state is not None and bool(state["epoch"] == epoch)


def _settle(folder: Path, found: Path) -> None:
    """Write the best weights so far into a folder of their own, as a training that ends where the checkpoint is."""
    from crucible.app.build import assemble, build_model, build_optimizer, build_task
    from crucible.app.compose import Job, validate
    from crucible.app.training import open_run_folder, prepared_data, write_results
    from crucible.inference.saved_run import read_config

    shutil.rmtree(found, ignore_errors=True)
    try:
        found.mkdir()
        for name in (CONFIG, CARD, NAME, CHECKPOINT):
            shutil.copy2(folder / name, found / name)
        cfg = read_config(folder) | {"resume": str(found), "tracking": {"_target_": "crucible.tracking.mirror.Nothing"}}
        validate(cfg)
        job = Job(cfg, found, [], mirrored=False)
        with locked(found), redirect_stdout(StringIO()):
            data = prepared_data(job)
            task = build_task(cfg, data.card)
            model, transfer = build_model(cfg, data, task)
            optimizer, schedule = build_optimizer(cfg, model, transfer)
            parts = assemble(cfg, data, task, model, transfer, optimizer, schedule)
            run = open_run_folder(job, data.card, parts, lambda epoch, total, values: None)
            write_results(job, run, parts)
    except Refusal:
        shutil.rmtree(found, ignore_errors=True)
        raise
