"""A search over a formula in place of a training: python tests/toy_search.py STORAGE FOLDER N_TRIALS N_JOBS.

The optimum of `quality` is lr = 0.01 with the optimizer adam; an epoch takes TOY_SECONDS (an environment variable; default 0.01).
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from crucible.search.plan import Confirm, Pruning, Stage
from crucible.search.search import Plan, Search, SearchState
from crucible.search.space import Choice, Range, Space
from crucible.search.stages import Studies
from crucible.search.trials import TrialRequest, TrialResult
from crucible.tracking.folder import locked

PRUNE = Pruning(first=0.25, keep=0.5, startup=3)
STAGES = {
    "coarse": Stage(sampler="random", trials=0.6, epochs=0.5, keep=3, margin=0.1, prune=PRUNE),
    "fine": Stage(sampler="tpe", trials=None, epochs=1.0, keep=3, margin=0.1, prune=PRUNE),
}
SPACE = Space((Choice("optimizer", ("sgd", "adam")), Range("optimizer.lr", 1e-5, 1.0, log=True)))
SECONDS = float(os.environ.get("TOY_SECONDS", 0.01))
PATIENCE = 60.0


def quality(lr: float, optimizer: str) -> float:
    """Return what a formula says of a point: at most 1."""
    return 1 - 0.02 * (math.log10(lr) + 2) ** 2 - (0.1 if optimizer == "sgd" else 0)


def work(job: TrialRequest, tell: Any) -> TrialResult:
    """Pretend to train: the value nears its end as the epochs go."""
    settings = dict(word.split("=") for word in job.overrides)
    end = quality(float(settings["optimizer.lr"]), settings["optimizer"]) - 0.001 * (job.seed or 0)
    value, start = 0.0, time.monotonic()
    for epoch in range(1, job.epochs + 1):
        time.sleep(SECONDS)
        value = end * (1 - 0.5**epoch)
        tell(epoch, value)
    return TrialResult("complete", end, facts={"epochs": job.epochs, "seconds": time.monotonic() - start})


def planned(n_trials: int, n_jobs: int, **changes: Any) -> Plan:
    """Return the plan of the toy search."""
    settings = {"space": SPACE, "stages": STAGES, "confirm": Confirm(best=2, seeds=2), "total_epochs": 8, "goal": "maximize",
                "seed": 0, "max_failure_rate": 0.5} | changes  # fmt: skip
    return Plan(n_trials=n_trials, n_jobs=n_jobs, **settings)


def searched(storage: str, folder: Path, plan: Plan, do: Any = work, engine: Any = None) -> SearchState:
    """Search, and return where it stands."""
    with locked(folder):
        studies = Studies(storage, "toy", goal=plan.goal, seed=plan.seed, folder=folder, patience=PATIENCE)
        studies.begin(next(iter(plan.stages)), {"what": "toy"})
        with Search(plan, studies, do, folder, lambda standing, trial: None, engine) as search:
            return search.run()


if __name__ == "__main__":
    found = searched(sys.argv[1], Path(sys.argv[2]), planned(int(sys.argv[3]), int(sys.argv[4])))
    assert found.best is not None
    print(json.dumps({"best": found.best.values, "value": found.best.value, "busy": found.busy}))
