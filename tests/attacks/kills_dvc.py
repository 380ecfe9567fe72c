"""`dvc repro` killed at random moments and given again until it ends: the same bytes, and nothing left to do?"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from random import Random

from tests.attacks.processes import ROOT, program
from tests.attacks.promises import differing, fresh, history, promised, tree
from tests.attacks.results import Result, judged

REPRO, STAGES = ["dvc", "repro"], ("compose", "prepare", "train", "evaluate")
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def attack(number: int, rng: Random, home: Path) -> Result:
    """Kill one pipeline three to eight times."""
    wanted, seconds = _undisturbed(home)
    folder, kills, lost = home / "try", list[list[object]](), list[str]()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home / "project", folder, symlinks=True)
    for _ in range(rng.randint(3, 8)):
        _without_a_torn_lock(folder, kills)
        child = program(REPRO, folder)
        moment, sig = rng.uniform(0.3, 0.6 * seconds), rng.choices(SIGNALS, [6, 1, 1])[0]
        if not child.sleep(moment):
            lost += child.wait().problem("dvc repro after a kill")
            break
        child.kill(sig)
        if child.wait(30).kind == "hung":
            lost.append(f"dvc repro did not end on {sig.name}")
        child.kill()
        kills.append([sig.name, round(moment, 2)])
    _without_a_torn_lock(folder, kills)
    lost += program(REPRO, folder).wait(300).problem("the last dvc repro")
    lost += [] if lost else history(folder / "artifacts" / "train")
    status = program(["dvc", "status", *STAGES], folder).wait()
    lost += [] if "up to date" in status.out or lost else [f"dvc status: {status.out[-300:]}{status.err[-300:]}"]
    silent = [] if lost else differing(wanted, _found(folder))
    return judged(len(kills), kills, lost=lost, silent=silent)


def _without_a_torn_lock(folder: Path, kills: list[list[object]]) -> None:
    """Take away DVC's own record of its readers and writers where the kill left half of it, as README says."""
    record = folder / ".dvc" / "tmp" / "rwlock"
    try:
        json.loads(record.read_text(encoding="utf-8") if record.exists() else "{}")
    except ValueError:
        record.unlink()
        kills[-1].append("DVC's rwlock was torn")


def _undisturbed(home: Path) -> tuple[dict[str, str], float]:
    """Return what a pipeline leaves that nobody kills, and how long it takes; once."""
    if not (home / "wanted.json").exists():
        _project(fresh(home / "project"))
        shutil.rmtree(home / "base", ignore_errors=True)
        shutil.copytree(home / "project", home / "base", symlinks=True)
        start = time.monotonic()
        end = program(REPRO, home / "base").wait(300)
        assert end.code == 0, end.out + end.err
        (home / "wanted.json").write_text(json.dumps([_found(home / "base"), time.monotonic() - start]))
    wanted, seconds = json.loads((home / "wanted.json").read_text())
    return wanted, seconds


def _found(folder: Path) -> dict[str, str]:
    stages = {"prepare": tree, "train": promised, "evaluate": promised}
    return {
        f"{stage}/{name}": digest
        for stage, read in stages.items()
        for name, digest in read(folder / "artifacts" / stage).items()
    }


def _project(home: Path) -> None:
    """Make a fresh clone of what git would take from this folder, untracked and with nothing done yet."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in names:
        if (ROOT / name).is_file() and not name.startswith("artifacts/") and name != "dvc.lock":
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)
    root = home / "conf" / "config.yaml"
    root.write_text(root.read_text(encoding="utf-8").replace("tracking: mlflow", "tracking: none"), encoding="utf-8")
    author = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b.c",
    }
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "fresh"]):
        subprocess.run(["git", *words], cwd=home, check=True, env={**os.environ, **author})
