"""25 trials as a grid of 5 x 5 and 25 at random (notes 000, part 6, section 1): python benchmarks/grid_vs_random.py [--seeds 5].

The commands of `experiment=grid_vs_random`, over seeds: what the best trial of each reaches on dev, and the interval of the difference. Two
parameters, of which the rate matters far more: the grid has tried 5 rates, random search 25.
"""

import argparse
import io
import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean

import yaml

from crucible.app.cli import perform
from crucible.app.project import ROOT
from crucible.diagnosis.compare import difference

OWN = ["-m", "experiment=grid_vs_random", "tracking=none", "trainer.threads=1"]
GRID = ["optimizer.lr=0.0001,0.001,0.01,0.1,1", "optimizer.beta=0.5,0.8,0.9,0.98,0.99"]
RANDOM = ["sweep=random", "hydra.sweeper.n_trials=25", "hydra.sweeper.n_jobs=1", "hydra.sweeper.default_space=false", "hydra.sweeper.confirm.best=1", "hydra.sweeper.confirm.seeds=1",
          "optimizer.lr=tag(log, interval(1e-4, 1))", "optimizer.beta=tag(log, one_minus, interval(0.01, 0.5))"]  # fmt: skip


def best_of_grid(seed: int) -> tuple[float, int]:
    """Return the best F1 on dev of a grid, and how many rates it tried."""
    home = Path(f"grid{seed}")
    perform("train", [*OWN, *GRID, f"seed={seed}", f"hydra.sweep.dir={home}"])
    found = [json.loads(file.read_text())["dev"]["f1"] for file in home.glob("*/train.json")]
    return max(found), 5


def best_of_random(seed: int) -> tuple[float, int]:
    """Return the best F1 on dev of random search, and how many rates it tried."""
    home = Path(f"random{seed}")
    perform("train", [*OWN, *RANDOM, f"seed={seed}", f"hydra.sweep.dir={home}"])
    best = yaml.safe_load((home / "best.yaml").read_text())
    return float(best["value"]), 25


def main() -> None:
    """Print the means and the interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as home, redirect_stdout(io.StringIO()):  # not the screens of every run
        os.chdir(home)
        Path("data").symlink_to(ROOT / "data")
        grid, drawn = ([way(seed) for seed in range(seeds)] for way in (best_of_grid, best_of_random))
        os.chdir("/")
    for name, found in (("grid", grid), ("random", drawn)):
        print(
            f"{name:>8}: best F1 on dev {mean(value for value, _ in found):.4f}, {found[0][1]} rates tried; {', '.join(f'{value:.4f}' for value, _ in found)}"
        )
    apart = difference([value for value, _ in grid], [value for value, _ in drawn])
    print(f"random - grid {apart.mean:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}] over {seeds} seeds")


if __name__ == "__main__":
    main()
