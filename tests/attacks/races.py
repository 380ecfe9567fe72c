"""Several processes prepare the same data at once and train on them: one folder, the same bytes, nobody disturbed."""

import time
from pathlib import Path
from random import Random

from tests.attacks.processes import command
from tests.attacks.promises import differing, fresh, tree
from tests.attacks.results import Result, judged

TRAIN = ["tracking=none", "trainer.total_epochs=1", "trainer.threads=1", "model=logistic"]


def attack(number: int, rng: Random, home: Path) -> Result:
    """Let four to eight processes race."""
    wanted = _alone(home / "alone")
    folder, children = fresh(home / "try"), []
    for i in range(rng.randint(4, 8)):
        children.append(command(*(("train", TRAIN) if i % 2 else ("prepare", [])), folder))
        time.sleep(rng.uniform(0, 0.02))
    lost = [line for i, child in enumerate(children) for line in child.wait().problem(f"process {i}")]
    made = folder / "artifacts" / "prepared"
    lost += [f"{path.name} was left" for path in folder.rglob(".preparing-*")]
    silent = differing(wanted, tree(made)) + [f"{name} is too many" for name in tree(made) if name not in wanted]
    return judged(1, [len(children)], lost=lost, silent=silent)


def _alone(home: Path) -> dict[str, str]:
    if not home.exists():
        end = command("prepare", [], fresh(home)).wait()
        assert end.code == 0, end.err
    return tree(home / "artifacts" / "prepared")
