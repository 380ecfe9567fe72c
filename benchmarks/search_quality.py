"""What a search finds for its epochs: python benchmarks/search_quality.py [digits|signs] [--seeds 10] [--path FOLDER].

Four ways to spend epochs on the same space, per seed: (a) random search, nothing stopped; (b) Optuna's TPE with its
default pruner (median), stopped when it has spent what (a) has; (c) sweep=coarse_to_fine with so few trials that it
spends less than a third of it; (d) with so many that it spends about as much, and no more. The seed draws both the search
and the trainings. --arms coarse_to_fine,coarse_to_fine_early,coarse_to_fine_fewer compares first rungs of the coarse stage.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
DATA = {"digits": (["data=digits"], 50), "signs": (["data=signs", "data.image_size=[16,16]"], 30)}
TRIALS = 40  # of (a)
OWN = {  # trials of the others, and their first rung as a share of the coarse stage, which is a fifth of the full length
    "coarse_to_fine": (44, 0.5),
    "coarse_to_fine_early": (44, 0.2),
    "coarse_to_fine_fewer": (41, 0.5),
    "coarse_to_fine_long": (165, 0.5),
}


def questions(words: list[str], n_trials: int, first: float):
    """Return the checked question that a coarse_to_fine search of these words asks, its coarse stage cut from `first` on."""
    from omegaconf import OmegaConf

    from crucible.app.compose import compose
    from crucible.app.search.run import _question, _settings

    sys.argv = ["src/train.py", "-m"]
    composed = compose(argparse.Namespace(config_dir=None, config_name=None), ["sweep=coarse_to_fine"])
    settings = OmegaConf.to_container(composed.hydra.sweeper)
    settings.pop("_target_")
    settings["stages"]["coarse"]["prune"]["first"] = first
    settings |= {"n_trials": n_trials, "n_jobs": 1, "confirm": {"best": 1, "seeds": 1}}
    return _question(_settings(settings), words, [])


def trained(question, point, epochs: int, folder: Path, tell) -> float:
    """Train one point and return dev F1; `tell` may raise to stop it."""
    from crucible.app.search.run import trial
    from crucible.search.trials import TrialRequest

    words = tuple(question.plan.space.overrides(point))
    job = TrialRequest("bench", "bench", 0, words, epochs, (), None, str(folder))
    return float(trial(question.base, job, tell).value)


def optuna_arm(question, kind: str, budget: int, home: Path) -> tuple[float, int]:
    """Spend a budget with Optuna alone; return the best dev F1 and the epochs."""
    import optuna

    from crucible.search.stages import _suggest

    plan, spent = question.plan, 0
    sampler = (
        optuna.samplers.RandomSampler(plan.seed) if kind == "random" else optuna.samplers.TPESampler(seed=plan.seed)
    )
    pruner = optuna.pruners.NopPruner() if kind == "random" else optuna.pruners.MedianPruner()
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    while spent + plan.total_epochs <= budget or (kind == "tpe" and spent < budget):
        trial = study.ask()
        point = plan.space.sample(partial(_suggest, trial))
        seen = 0

        def tell(epoch: int, value: float, trial=trial) -> None:
            nonlocal seen
            seen = epoch
            trial.report(value, epoch)
            if trial.should_prune():
                raise InterruptedError

        try:
            study.tell(trial, trained(question, point, plan.total_epochs, home / str(trial.number), tell))
        except InterruptedError:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        spent += seen
    return study.best_value, spent


def own_arm(question, home: Path) -> tuple[float, int]:
    """Search coarse to fine; return the best dev F1 and the epochs."""
    from crucible.app.search.run import trial
    from crucible.search.search import Search
    from crucible.search.stages import Studies

    studies = Studies(f"sqlite:///{home}/s.db", "bench", goal="maximize", seed=question.plan.seed, folder=home)
    studies.begin(next(iter(question.plan.stages)), {})
    with Search(question.plan, studies, partial(trial, question.base), home, lambda standing, ended: None) as search:
        standing = search.run()
    return float(standing.best.value), sum(each.epochs for own in standing.trials.values() for each in own)


def one(task: tuple[str, str, int, list[str]]) -> tuple[str, int, float, int]:
    """Do one arm with one seed."""
    data, arm, seed, more = task
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    words, epochs = DATA[data]
    words = [
        *words,
        *more,
        "model=mlp",
        f"trainer.total_epochs={epochs}",
        "trainer.threads=1",
        f"seed={seed}",
        "tracking=none",
    ]
    os.chdir(tempfile.mkdtemp())
    home = Path.cwd() / "w"
    home.mkdir()
    question = questions(words, *OWN.get(arm, OWN["coarse_to_fine"]))
    budget = TRIALS * epochs
    f1, spent = own_arm(question, home) if arm.startswith("coarse") else optuna_arm(question, arm, budget, home)
    return arm, seed, 1 - f1, spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=DATA, nargs="?", default="digits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--path")
    parser.add_argument("--arms", default="random,tpe,coarse_to_fine,coarse_to_fine_long")
    args = parser.parse_args()
    from crucible.diagnosis.compare import difference, interval

    more = [f"data.path={args.path}"] if args.path else []
    arms = args.arms.split(",")
    tasks = [(args.data, arm, seed, more) for seed in range(args.first, args.first + args.seeds) for arm in arms]
    found: dict[str, list[tuple[float, int]]] = {arm: [] for arm in arms}
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:  # its processes may have workers
        for arm, seed, error, spent in pool.map(one, tasks):
            found[arm].append((error, spent))
            print(json.dumps({"arm": arm, "seed": seed, "error": round(error, 5), "epochs": spent}), flush=True)
    print(f"\n{args.data}, {args.seeds} seeds: 1 - dev F1 of the best trial, mean and 95 % interval")
    for arm, rows in found.items():
        errors = [error for error, _ in rows]
        told = interval(errors)
        against = difference([error for error, _ in found[arms[0]]], errors)
        print(f"{arm:>20}  {told.mean:.4f} [{told.low:.4f}, {told.high:.4f}]  {mean(s for _, s in rows):7.0f} epochs  "
              f"minus {arms[0]}: {against.mean:+.4f} [{against.low:+.4f}, {against.high:+.4f}]")  # fmt: skip


if __name__ == "__main__":
    main()
