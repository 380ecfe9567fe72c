"""The mirror in MLflow killed at random moments, the making of its store included: each point once, in the end?"""

import time
from pathlib import Path
from random import Random

from tests.attacks.processes import command
from tests.attacks.promises import fresh
from tests.attacks.results import Result, judged
from tests.attacks.stores import compared, mirror

TRAIN = ["trainer.total_epochs=12", "trainer.log_every=3", "trainer.threads=1", "tracking=none", "hydra.run.dir=run"]


def attack(number: int, rng: Random, home: Path) -> Result:
    """Kill the mirror of one run three to eight times, on a store of its own or on one that holds others."""
    seconds = _undisturbed(home)
    folder, own = fresh(home / "try"), rng.random() < 1 / 3
    uri = f"sqlite:///{folder if own else home / 'shared'}/m.db"
    end = command("train", TRAIN, folder).wait()
    lost, kills = end.problem("train"), list[float]()
    for _ in range(rng.randint(3, 8)):
        child, moment = mirror(folder / "run", uri), rng.uniform(0.05, seconds[0 if own else 1])
        if not child.sleep(moment):
            lost += child.wait().problem("the mirror after a kill")
            break
        child.kill()
        child.wait()
        kills.append(round(moment, 2))
    lost += mirror(folder / "run", uri).wait().problem("the last mirror")
    lost += lost or compared(folder / "run", uri)
    return judged(len(kills), ["own store" if own else "shared store", kills], lost=lost, silent=[])


def _undisturbed(home: Path) -> list[float]:
    """Return the seconds that a mirror takes with a new store and with an old one."""
    import mlflow  # noqa: F401  (once: each fork has it then)

    if not (home / "seconds").exists():
        end = command("train", TRAIN, fresh(home / "shared")).wait()
        assert end.code == 0, end.err
        (home / "seconds").write_text(f"{_timed(home)} {_timed(home)}")
    return [float(each) for each in (home / "seconds").read_text().split()]


def _timed(home: Path) -> float:
    (home / "shared" / "run" / "mirror.json").unlink(missing_ok=True)
    start = time.monotonic()
    end = mirror(home / "shared" / "run", f"sqlite:///{home / 'shared'}/m.db").wait()
    assert end.code == 0, end.err
    return time.monotonic() - start
