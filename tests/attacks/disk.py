"""A small disk that fills while data are prepared, a model is trained or judged; then it is made larger, and all goes on."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.attacks.kills_train import EVALUATE, undisturbed
from tests.attacks.processes import End, command
from tests.attacks.promises import differing, has_begun, history, promised, tree
from tests.attacks.results import Result, judged

TRAINING = ["trainer.total_epochs=15", "trainer.checkpoint_every=1"]
TRAIN = [*TRAINING, "trainer.threads=1", "tracking=none", "hydra.run.dir=run"]
LARGE = 16 << 10


def attack(number: int, rng: Random, home: Path) -> Result:
    """Fill one disk: from the start, or while a training writes."""
    wanted = undisturbed(home / "base", TRAINING)
    (home / "mounted").mkdir(exist_ok=True)
    if why := _unmountable(home / "mounted"):
        return Result(1, [], "skipped", [why])
    with mounted(home / "mounted", LARGE) as disk:
        did, lost = _filled(rng, disk)
        if not lost:
            lost = history(disk / "run") + [f"{path.name} was left" for path in disk.rglob("*.new")]
            lost += [f"{path.name} was left" for path in disk.rglob(".preparing-*")]
        silent = [] if lost else differing(wanted.files, promised(disk / "run"))
        silent += [] if lost else differing(wanted.prepared, tree(disk / "artifacts" / "prepared"))
    return judged(1, did, lost=lost, silent=silent)


def _filled(rng: Random, disk: Path) -> tuple[list[object], list[str]]:
    """Train and judge on too small a disk, each again on a large one; return what was done and what went wrong."""
    if rng.random() < 0.5:
        command("prepare", [], disk).wait()
    did, lost = list[object](), list[str]()
    for script, words in (("train", TRAIN), ("evaluate", EVALUATE)):
        room = rng.randrange(0, 600, 4)
        _resize(disk, _used(disk) + room)
        end = command(script, words, disk).wait()
        did.append([script, f"{room} kB", end.kind])
        lost += _unclear(script, end)
        _resize(disk, LARGE)
        again = ["resume=run"] if script == "train" and has_begun(disk / "run") and rng.random() < 0.5 else words
        if end.code != 0:
            lost += command(script, again, disk).wait().problem(f"{script} after room was made")
    return did, lost


def _unclear(script: str, end: End) -> list[str]:
    """Return nothing where a full disk was one screen."""
    return [] if end.kind in ("ok", "refused") else end.problem(f"{script} on a full disk")


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of so many kB in memory while the context lasts."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _unmountable(folder: Path) -> str:
    """Return why a small file system cannot be mounted; empty where it can."""
    try:
        with mounted(folder, LARGE):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no file system can be mounted here: {error}"


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(folder)], check=True, capture_output=True)


def _used(folder: Path) -> int:
    facts = os.statvfs(folder)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize // 1024
