"""Train one model on one prepared data set: python src/train.py model=resnet optimizer=adam."""

from dataclasses import replace

import entry
import finish
import starting
import wiring
from crucible.report.progress import progress
from crucible.tracking.folder import locked
from crucible.training.fit import fit
from crucible.training.run import Run


def main(job: entry.Job) -> float:
    """Train, and return the monitored number on dev (on train where there is no dev)."""
    if finish.is_finished(job):
        return finish.show(job)
    with locked(job.folder, fresh=job.new_folder) as folder, progress(job.tell) as tell:
        job = replace(starting.pinned(job), folder=folder)
        data, card, device, who = wiring.ready(job)
        parts = wiring.assemble(job.cfg, data, card, device)
        wiring.checked(job.cfg, parts)
        opened = wiring.opened(job, card, parts, who)
        settings = wiring.remembered(job, parts, who, tell)
        run = Run(job.folder, opened.journal, parts.model, parts.optimizer, parts.schedule, **settings)
        run.restore(opened.state)
        with finish.accountable(parts, run):
            fit(*parts.trained, run, total_epochs=job.cfg["trainer"]["total_epochs"])
        finish.train(job, run, parts)
    return finish.show(job)


if __name__ == "__main__":
    entry.run(main)
