"""Ten million made rows: prepared, trained in windows, killed and resumed; seconds and peak memory of each, as the machine was.

    python benchmarks/scale_data.py --rows 10000000

Memory is that of all processes of a command together: `own` is what nothing else can use (anonymous), `with files` counts pages of files,
which the machine takes back when it needs them. The raw files that each command has opened are counted by `strace`, where it is installed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
SIDE, CLASSES, BLOCK = 16, 10, 100_000


def main() -> None:
    """Make, prepare, train, kill, resume, compare; print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--home", type=Path, help="a folder with room for three times the rows; default: a temporary one"
    )
    asked = parser.parse_args()
    home = asked.home or Path(tempfile.mkdtemp(prefix="rows-"))
    home.mkdir(exist_ok=True)
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    made(home / "raw", asked.rows)
    data = [
        "data=npz",
        "data.path=raw",
        "data.order=windowed",
        "data.split.train=98",
        "data.split.dev=1",
        "data.split.test=1",
    ]
    train = [
        *data,
        "model.layers=[64]",
        "trainer.batch_size=1024",
        "trainer.total_epochs=2",
        "trainer.checkpoint_every=1",
        "tracking=none",
    ]
    print(f"{'what':<28}{'seconds':>9}{'own GB':>9}{'with files GB':>15}{'raw files opened':>18}")
    measured(home, "prepare", "prepare", data)
    measured(home, "prepare, a second time", "prepare", data)
    measured(home, "train two epochs", "train", [*train, "hydra.run.dir=whole"])
    measured(home, "train, killed in epoch two", "train", [*train, "hydra.run.dir=killed"], kill_after=1)
    measured(home, "resume", "train", ["resume=killed"])
    same = (home / "whole" / "weights.safetensors").read_bytes() == (
        home / "killed" / "weights.safetensors"
    ).read_bytes()
    print("resumed weights equal byte for byte" if same else "RESUMED WEIGHTS DIFFER")
    if asked.home is None:
        shutil.rmtree(home)


def made(folder: Path, rows: int) -> None:
    """Write rows of ten patterns under noise, stored class by class in runs of a block."""
    if (folder / "y.npy").exists():
        return
    folder.mkdir()
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 128, (CLASSES, SIDE, SIDE), np.uint8)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (rows, SIDE, SIDE))
    y = np.arange(rows) // 1000 % CLASSES
    for start in range(0, rows, BLOCK):
        of_block = y[start : start + BLOCK]
        x[start : start + BLOCK] = patterns[of_block] + rng.integers(0, 128, (len(of_block), SIDE, SIDE), np.uint8)
    x.flush()
    np.save(folder / "y.npy", y)
    time.sleep(3)  # what was changed a moment ago is not remembered


def measured(home: Path, what: str, script: str, words: list[str], *, kill_after: int | None = None) -> None:
    """Run a command and print what it took; kill it once so many epochs are in its journal, where that is asked for."""
    traced = ["strace", "-f", "-qq", "-e", "trace=openat", "-o", str(home / "trace")] if shutil.which("strace") else []
    start, own, with_files = time.monotonic(), 0, 0
    log = (home / "log").open("w")
    running = subprocess.Popen(
        [*traced, sys.executable, str(ROOT / "src" / f"{script}.py"), *words], cwd=home, stdout=log, stderr=log
    )
    while running.poll() is None:
        facts = [memory(each.pid) for each in psutil.Process(running.pid).children(recursive=True)]
        own, with_files = max(own, sum(a for a, _ in facts)), max(with_files, sum(a + f for a, f in facts))
        if kill_after is not None and epochs(home / "killed") >= kill_after:
            time.sleep(3)
            for each in psutil.Process(running.pid).children(recursive=True):
                each.send_signal(signal.SIGKILL)
            break
        time.sleep(0.2)
    running.wait()
    if running.returncode and kill_after is None:
        sys.exit((home / "log").read_text())
    opened = str((home / "trace").read_text().count('raw/x.npy"')) if traced else "?"
    print(
        f"{what:<28}{time.monotonic() - start:>9.0f}{own / 1e6:>9.2f}{with_files / 1e6:>15.2f}{opened:>18}", flush=True
    )


def memory(pid: int) -> tuple[int, int]:
    """Return the kB of a process that are its own, and those of files and shared memory."""
    try:
        facts = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return tuple(int(facts[name].split()[0]) if name in facts else 0 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]
    except (OSError, ValueError):
        return 0, 0


def epochs(run: Path) -> int:
    """Return how many epochs a journal holds."""
    journal = run / "journal.jsonl"
    return journal.read_text().count('"train/loss"') if journal.exists() else 0


if __name__ == "__main__":
    main()
