"""Time from start to the first optimizer step, against `import torch` alone: python benchmarks/start_up.py."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
STEP = (
    "import os, sys, time; sys.path.insert(0, 'src'); import torch\n"
    "import crucible.optim.guard as guard\n"
    "plain = guard.GuardedOptimizer.step\n"
    "def first(self, loss):\n"
    "    plain(self, loss)\n"
    "    print(time.time(), flush=True)\n"
    "    os._exit(0)\n"
    "guard.GuardedOptimizer.step = first\n"
    "sys.argv = ['src/train.py', 'hydra.run.dir=' + sys.argv[1]]\n"
    "from crucible.app.cli import run_command; run_command('train')"
)


def seconds(*command: str) -> float:
    """Return the time from starting a command to the moment it prints last."""
    start = time.time()
    done = subprocess.run([sys.executable, "-c", *command], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) - start


def main() -> None:
    """Print the medians and the difference, interleaved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    ours, bare = [], []
    for _ in range(parser.parse_args().repeats):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            ours.append(seconds(STEP, os.path.join(folder, "run")))  # noqa: PTH118
        bare.append(seconds("import torch, time; print(time.time())"))
    differences = [a - b for a, b in zip(ours, bare, strict=True)]
    print(f"first step {median(ours):.2f} s, import torch {median(bare):.2f} s, difference {median(differences):.2f} s")
    print(f"differences from {min(differences):.2f} to {max(differences):.2f} s over {len(ours)} pairs")


if __name__ == "__main__":
    main()
