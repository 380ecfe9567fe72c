"""Look at the test split, here and only here: python src/evaluate.py run=latest."""

from typing import Any

from crucible.app.build import build_batches
from crucible.app.compose import Job
from crucible.app.evaluation import (
    evaluation_data,
    evaluation_summary,
    own_folder,
    require_records,
    require_run,
    same_threads,
    seen_by_run,
    show_evaluation,
    with_bounds,
    write_evaluation,
)
from crucible.inference.saved_run import is_channels_last, load_run
from crucible.training.device import choose_device, with_precision
from crucible.training.evaluation import evaluate_split, judged_split, latency_ms


def main(job: Job) -> dict[str, Any]:
    """Judge a finished run on its test split (on dev where it has none), or on other data; write the numbers, the tables and the report; return the numbers."""
    require_records(job)
    device = choose_device(job.cfg["trainer"]["device"])
    saved = with_bounds(job, load_run(require_run(job), device))
    data, card = evaluation_data(job, saved.card)
    job = own_folder(job, card)
    same_threads(job)
    with_precision(saved.model, device, job.cfg["trainer"]["precision"])
    batches = build_batches(
        job.cfg, data, saved.card, device, seen_by_run(job), channels_last=is_channels_last(saved.model)
    )
    split = judged_split(batches)
    found = evaluate_split(saved.model, saved.task, batches, split)
    latency = latency_ms(saved.model, next(batches.evaluation(split))["x"][:1])
    summary = evaluation_summary(job, saved, split, found, latency, batches)
    notes = write_evaluation(job, saved, card, split, found, summary, batches)
    show_evaluation(job, summary, notes)
    return summary
