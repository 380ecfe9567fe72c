"""What a search costs beyond its trainings: python benchmarks/search_overhead.py [--trials 12] [--repeats 3].

A: sweep=random with one worker, nothing mirrored. B: the same trials, one after another, as python src/train.py OVERRIDES. C: the search
with as many workers as it takes by itself. In turn; trials an hour, and what each trial costs beyond its training (the time in its own
journal). Then two workers on trials of unequal length: the share of the time that they had a trial.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import optuna
import yaml

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, str(ROOT / "src/train.py")]
COMMON = ["tracking=none", "trainer.threads=1", "trainer.total_epochs=50"]


def swept(home: Path, *words: str) -> tuple[float, str]:
    """Search in a new folder; return seconds and what was printed."""
    start = time.perf_counter()
    done = subprocess.run([*TRAIN, "-m", *COMMON, *words, "hydra.sweep.dir=sweep"], cwd=home, env=os.environ,
                          capture_output=True, text=True, check=True)  # fmt: skip
    return time.perf_counter() - start, done.stdout


def trials(home: Path) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of the stage `random`."""
    url = f"sqlite:///{next((home / 'outputs/studies').glob('*.db'))}"
    name = next(each for each in optuna.get_all_study_names(url) if each.endswith("/random"))
    return optuna.load_study(study_name=name, storage=url).get_trials()


def again(home: Path, configs: list[dict]) -> float:
    """Train the same configurations one after another as processes of their own; return the seconds."""
    start = time.perf_counter()
    for i, cfg in enumerate(configs):
        words = [f"optimizer.lr={cfg['optimizer']['lr']!r}", f"model.layers={cfg['model']['layers']}".replace(" ", ""),
                 f"trainer.batch_size={cfg['trainer']['batch_size']}", f"hydra.run.dir=alone{i}"]  # fmt: skip
        subprocess.run([*TRAIN, *COMMON, *words], cwd=home, env=os.environ, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    ratios, usual, beyond = [], [], {"search": [], "processes": []}
    small = ["sweep=random", f"hydra.sweeper.n_trials={args.trials}", "hydra.sweeper.confirm.seeds=1",
             "model.layers=choice([32], [64])", "trainer.batch_size=choice(64, 128, 256)"]  # fmt: skip
    for _ in range(args.repeats):
        home = Path(tempfile.mkdtemp())
        search, _told = swept(home, *small, "hydra.sweeper.n_jobs=1")
        found = trials(home)
        training = sum(each.user_attrs["seconds"] for each in found)
        configs = [yaml.safe_load((home / each.user_attrs["folder"] / "config.yaml").read_text()) for each in found]
        alone = again(home, configs)
        as_it_is, _told = swept(Path(tempfile.mkdtemp()), *small)
        ratios.append(alone / search)
        usual.append(alone / as_it_is)
        beyond["search"].append((search - training) / args.trials)
        beyond["processes"].append((alone - training) / args.trials)
        print(
            json.dumps(
                {
                    "search": round(search, 1),
                    "processes": round(alone, 1),
                    "training": round(training, 1),
                    "search as it is": round(as_it_is, 1),
                }
            ),
            flush=True,
        )
    print(f"trials an hour, search / processes: {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
    print(f"the same with as many workers as there are cores: {median(usual):.2f} [{min(usual):.2f}, {max(usual):.2f}]")
    for name, seconds in beyond.items():
        print(
            f"seconds a trial beyond the training, {name}: {median(seconds):.2f} [{min(seconds):.2f}, {max(seconds):.2f}]"
        )
    unequal = ["sweep=random", "hydra.sweeper.n_trials=40", "hydra.sweeper.n_jobs=2", "hydra.sweeper.confirm.seeds=1"]
    _, told = swept(Path(tempfile.mkdtemp()), *unequal)
    print(re.search(r".* of the time.*", told)[0])


if __name__ == "__main__":
    main()
