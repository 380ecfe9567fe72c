"""Trainings and evaluations killed at random moments, gone on by resume= or by the same command: the same bytes?"""

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.attacks.processes import Child, command
from tests.attacks.promises import differing, fresh, has_begun, history, promised, tree
from tests.attacks.results import Result, judged

COMMON = ["trainer.threads=1", "tracking=none", "hydra.run.dir=run"]
TRAININGS = {
    "mlp": ["trainer.total_epochs=40"],
    "each epoch": ["trainer.total_epochs=30", "trainer.checkpoint_every=1", "model.layers=[256,128]"],
    "dropout": ["trainer.total_epochs=25", "model.keep_prob=0.8", "augment=light", "optimizer=momentum",
                "optimizer.lr=0.05", "schedule=cosine"],
    "resnet": ["model=resnet", "model.width=8", "model.depth=8", "trainer.total_epochs=2", "trainer.log_every=5", "trainer.checkpoint_every={steps: 6}"],
    "patience": ["trainer.total_epochs=60", "trainer.patience=5", "optimizer=adamw", "trainer.checkpoint_every=7"],
}  # fmt: skip
EVALUATE = ["run=run", "tracking=none", "report=none"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)


@dataclass(frozen=True)
class Undisturbed:
    """What a training left that nobody killed, and how long it and its evaluation took."""

    files: dict[str, str]
    prepared: dict[str, str]
    train: float
    evaluate: float


def attack(number: int, rng: Random, home: Path) -> Result:
    """Kill one training three to eight times, then its evaluation up to twice."""
    name = rng.choice(sorted(TRAININGS))
    wanted = undisturbed(home / name.replace(" ", "-"), TRAININGS[name])
    folder = fresh(home / "try")
    words, resumes = [*TRAININGS[name], *COMMON], rng.random() < 0.5
    did: list[object] = [name, "resume" if resumes else "same command"]
    kills, lost = list[list[object]](), list[str]()
    for _ in range(rng.randint(3, 8)):
        child = command("train", _words(folder, words, resumes), folder)
        if not _killed(rng, child, folder, wanted.train, kills, lost):
            break
    lost += command("train", _words(folder, words, resumes), folder).wait().problem("train")
    for _ in range(rng.randint(0, 2)):
        _killed(rng, command("evaluate", EVALUATE, folder), folder, wanted.evaluate, kills, lost)
    lost += command("evaluate", EVALUATE, folder).wait().problem("evaluate")
    lost += [] if lost else history(folder / "run")
    silent = [] if lost else differing(wanted.files, promised(folder / "run"))
    silent += differing(wanted.prepared, tree(folder / "artifacts" / "prepared"))
    return judged(len(kills), [*did, kills], lost=lost, silent=silent)


def undisturbed(home: Path, words: list[str]) -> Undisturbed:
    """Return what a training leaves without a kill; made once."""
    if not (home / "took.json").exists():
        fresh(home)
        seconds = [_timed("train", [*words, *COMMON], home), _timed("evaluate", EVALUATE, home)]
        (home / "took.json").write_text(json.dumps(seconds))
    train, evaluate = json.loads((home / "took.json").read_text())
    return Undisturbed(promised(home / "run"), tree(home / "artifacts" / "prepared"), train, evaluate)


def _timed(script: str, words: list[str], home: Path) -> float:
    start = time.monotonic()
    end = command(script, words, home).wait()
    assert end.code == 0, end.err
    return time.monotonic() - start


def _words(folder: Path, words: list[str], resumes: bool) -> list[str]:
    return ["resume=run"] if resumes and has_begun(folder / "run") else words


def _killed(
    rng: Random, child: Child, folder: Path, seconds: float, kills: list[list[object]], lost: list[str]
) -> bool:
    """Kill at a random moment, when a draft of a file is seen, or when data are being prepared; False: it had ended."""
    moment, sight = rng.uniform(0.02, seconds), rng.choices(["", "run/*.new", ".preparing-*"], [6, 3, 1])[0]
    sig = rng.choices(SIGNALS, [8, 1, 1, 1])[0]
    if not child.sleep(moment, until=lambda: bool(sight and any(folder.glob(sight)))):
        lost += child.wait().problem("a try that nobody killed")
        return False
    child.kill(sig)
    if sig == signal.SIGSTOP:
        time.sleep(rng.uniform(0.05, 0.5))
        child.kill()
    end = child.wait(15)
    lost += ["it did not end on " + sig.name] if end.kind == "hung" else []
    lost += end.problem(sig.name) if end.kind == "traceback" else []
    kills.append([sig.name, round(moment, 3), sight])
    return True
