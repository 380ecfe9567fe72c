"""Searches killed at random moments (all of it, its main process alone, a worker) and given again: exact counts?"""

import json
import signal
from pathlib import Path
from random import Random

import yaml

from tests.attacks.processes import Child, cmdline, command, fork, kill, members, wait_for
from tests.attacks.promises import fresh
from tests.attacks.results import Result, judged

TRIALS = 10
SEARCH = [
    "-m", "sweep=coarse_to_fine", "model=mlp", "model.layers=choice([16],[32],[64])", f"hydra.sweeper.n_trials={TRIALS}",
    "hydra.sweeper.confirm.best=2", "hydra.sweeper.confirm.seeds=2", "trainer.total_epochs=10", "trainer.threads=1",
    "tracking=none", "hydra.sweep.dir=mr", "hydra.sweeper.study_name=s",
]  # fmt: skip
FACTS = ("study", "storage", "trial")  # of best.yaml: where, not what
WAYS = ("group", "main", "worker", "interrupt")
WORKER = b"spawn_main"


def attack(number: int, rng: Random, home: Path) -> Result:
    """Kill one search three to eight times."""
    folder, jobs = fresh(home / "try"), rng.choice([1, 2])
    wanted, words = _undisturbed(home), [*SEARCH, f"hydra.sweeper.n_jobs={jobs}"]
    kills, lost = list[list[object]](), list[str]()
    for _ in range(rng.randint(3, 8)):
        child, moment, way = command("train", words, folder), rng.uniform(0.5, 6.0), rng.choices(WAYS, [2, 3, 2, 1])[0]
        if not child.sleep(moment):
            lost += child.wait().problem("the search after a kill")
            break
        lost += _killed(rng, child, way)
        kills.append([way, round(moment, 2)])
    first, again = (command("train", words, folder).wait(400) for _ in range(2))
    lost += [*first.problem("the search"), *again.problem("the search given again")]
    if not lost:
        lost += _inexact(folder) + (
            [] if _shown(first.out) == _shown(again.out) else ["given again it shows something else"]
        )
    silent = [] if lost else _otherwise(folder, wanted if jobs == 1 else {})
    return judged(len(kills), [f"{jobs} workers", kills], lost=lost, silent=silent)


def _killed(rng: Random, child: Child, way: str) -> list[str]:
    """Kill, and return what was not as it must be: no worker outlives its search, a search outlives a worker."""
    workers = _workers(child)
    if way == "worker":
        kill(rng.sample(workers, min(1, len(workers))))
        end = child.wait(200)
        return end.problem("a search whose worker was killed")
    if way == "group":
        child.kill()
    elif way == "main":
        kill([child.pid])
    else:
        child.kill(signal.SIGINT)
    child.wait(30)
    wait_for(lambda: not _workers(child), 12)
    return [f"worker {pid} outlived its search" for pid in _workers(child)]


def _workers(child: Child) -> list[int]:
    return [pid for pid in members(child.pid) if WORKER in cmdline(pid)]


def _best(folder: Path) -> dict[str, object]:
    """Return what best.yaml says; of the candidates their values: a trial whose worker was killed is tried again under a new number."""
    found = yaml.safe_load((folder / "mr" / "best.yaml").read_text(encoding="utf-8"))
    best = {name: json.loads(json.dumps(value)) for name, value in found.items() if name not in FACTS}
    return best | {"candidates": [{key: each[key] for key in ("mean", "seeds")} for each in best["candidates"]]}


def _shown(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.strip().startswith(("result", "best", "next"))]


def _inexact(folder: Path) -> list[str]:
    counts = _best(folder)["trials"]
    assert isinstance(counts, dict)
    wrong = [] if sum(counts.values()) == TRIALS else [f"{TRIALS} trials were asked for: {counts}"]
    states = fork(lambda: print(_states()), folder).wait().out
    return wrong + (
        [f"trials are not ended: {states}"] if "RUNNING" in states or "WAITING" in states or not states else []
    )


def _states() -> list[str]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = "sqlite:///outputs/studies/s.db"
    names = optuna.get_all_study_names(url)
    return [each.state.name for name in names for each in optuna.load_study(study_name=name, storage=url).trials]


def _otherwise(folder: Path, wanted: dict[str, object]) -> list[str]:
    """Return what differs from a search that nobody killed: one worker draws the same trials, unless one died twice."""
    found = _best(folder)
    counts = found["trials"]
    if (isinstance(counts, dict) and counts["failed"]) or found["unconfirmed"]:  # and best.yaml and the screen say so
        return []
    return [
        f"{name} of best.yaml is {found[name]}, not {value}" for name, value in wanted.items() if found[name] != value
    ]


def _undisturbed(home: Path) -> dict[str, object]:
    base = home / "base"
    if not (base / "mr" / "best.yaml").exists():
        end = command("train", [*SEARCH, "hydra.sweeper.n_jobs=1"], fresh(base)).wait(400)
        assert end.code == 0, end.err
    return _best(base)
