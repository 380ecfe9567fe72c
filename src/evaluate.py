"""Look at the test split, here and only here: python src/evaluate.py run=latest."""

import entry
import verdict
import wiring
from crucible.tasks.saved import load_run
from crucible.training.device import choose_device, with_precision
from crucible.training.judge import judge, latency_ms


def main(job: entry.Job) -> None:
    """Judge a finished run on its test split, or on other data; write the numbers, the tables and the report."""
    wiring.require_records(job)
    device = choose_device(job.cfg["trainer"]["device"])
    saved = wiring.as_judged(job, load_run(wiring.require_run(job), device))
    data, card = wiring.judged_data(job, saved.card)
    job = wiring.apart(job, card)
    wiring.same_threads(job)
    with_precision(saved.model, device, job.cfg["trainer"]["precision"])
    batches = wiring.batches(job.cfg, data, saved.card, device, wiring.seen_by_run(job))
    found = judge(saved.model, saved.task, batches, "test")
    latency = latency_ms(saved.model, next(batches.judge("test"))["x"][:1])
    summary = verdict.summary(job, saved, found, latency, batches)
    notes = verdict.write(job, saved, card, found, summary, batches)
    verdict.announce(job, summary, notes)


if __name__ == "__main__":
    entry.run(main, judges=True)
