"""A search on two nodes of a Ray cluster against two workers of this machine: python benchmarks/scale_search.py [--trials 40] [--repeats 3] [--epochs 50].

Both run the same command in turn. Trials an hour from the start of the first trial to the end of the last, and seconds of the whole
command; the ratio is Ray / local.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import optuna
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[1]
WORDS = [
    "-m",
    "sweep=random",
    "model=mlp",
    "tracking=none",
    "trainer.threads=1",
    "hydra.sweeper.confirm.seeds=1",
    "hydra.sweep.dir=sweep",
]


def searched(trials: int, *words: str) -> tuple[float, float]:
    """Search in a new folder; return trials an hour, and the seconds of the command."""
    home = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "src/train.py"), *WORDS, f"hydra.sweeper.n_trials={trials}", *words], cwd=home,
                   env=os.environ, capture_output=True, check=True)  # fmt: skip
    seconds = time.perf_counter() - start
    url = f"sqlite:///{next((home / 'outputs/studies').glob('*.db'))}"
    name = next(each for each in optuna.get_all_study_names(url) if each.endswith("/random"))
    found = optuna.load_study(study_name=name, storage=url).get_trials()
    span = max(each.datetime_complete for each in found) - min(each.datetime_start for each in found)
    return 3600 * len(found) / span.total_seconds(), seconds


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50, help="of a trial: 50 take half a second")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    rates, whole, own = [], [], [f"trainer.total_epochs={args.epochs}"]
    for _ in range(args.repeats):
        local, ray = (
            searched(args.trials, *own, "hydra.sweeper.n_jobs=2"),
            searched(args.trials, *own, "hydra.sweeper.engine=ray"),
        )
        rates.append(ray[0] / local[0])
        whole.append(ray[1] / local[1])
        print(
            f"trials an hour: local {local[0]:.0f}, ray {ray[0]:.0f}; seconds: {local[1]:.1f}, {ray[1]:.1f}", flush=True
        )
    for name, ratios in (("trials an hour", rates), ("seconds of the command", whole)):
        print(f"{name}, ray / local: {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
    cluster.shutdown()


if __name__ == "__main__":
    main()
