"""Train one model on one prepared data set: python src/train.py model=resnet optimizer=adam."""

from dataclasses import replace

from crucible.app.build import assemble, build_model, build_optimizer, build_task
from crucible.app.compose import Job
from crucible.app.pretrained import resolve_source
from crucible.app.several import follow, leading, noted, outputs_in, remember, step_of, where_it_was, world_of
from crucible.app.training import (
    check_backward,
    failures_journaled,
    is_finished,
    open_run_folder,
    prepared_data,
    show_result,
    write_results,
)
from crucible.report.progress import progress
from crucible.tracking.folder import locked
from crucible.training.fit import fit


def main(job: Job) -> float:
    """Train, and return the monitored number on dev (on train where there is no dev)."""
    if is_finished(job):
        return show_result(job)
    note, world = noted(), world_of(job.cfg)
    job = where_it_was(job, note)
    if world.rank:
        return follow(world)
    with locked(job.folder, fresh=job.new_folder) as folder, progress(job.tell) as tell:
        job = replace(resolve_source(job), folder=folder)
        data = prepared_data(job)
        task = build_task(job.cfg, data.card)
        model, transfer = build_model(job.cfg, data, task)
        optimizer, schedule = build_optimizer(job.cfg, model, transfer)
        parts = assemble(job.cfg, data, task, model, transfer, optimizer, schedule)
        check_backward(job.cfg, parts)
        run = open_run_folder(job, data.card, parts, tell)
        remember(job, note)
        led, step = leading(job, data, parts, run, world), step_of(job.cfg, data, world, run.step)
        outputs = outputs_in(world)
        with failures_journaled(parts, run):
            fit(*parts.trained, led, step, outputs, total_epochs=job.cfg["trainer"]["total_epochs"])
        world.close()
        write_results(job, run, parts)
    return show_result(job)
