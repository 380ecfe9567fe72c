"""Accuracy against the number of examples, with and without transfer: python benchmarks/transfer_table.py SOURCE MNIST [--seeds 3].

SOURCE is a run of experiment=fashion_resnet; small parts of MNIST are learned from its features, from its weights as a start,
and from nothing.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "from nothing": [],
    "freeze=all": ["transfer=from_run", "transfer.freeze=all"],
    "freeze=1": ["transfer=from_run", "transfer.freeze=1"],
    "freeze=none, old_rate=0.3": ["transfer=from_run", "transfer.freeze=none", "transfer.old_rate=0.3"],
}
SIZES = (50, 200)


def images(folder: Path, name: str, header: int) -> np.ndarray:
    """Return the numbers of an MNIST file."""
    with gzip.open(folder / f"{name}.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def part(mnist: Path, size: int, seed: int, path: Path) -> None:
    """Write `size` examples, as many of each class, and the whole test set."""
    x, y = images(mnist, "train-images-idx3-ubyte", 16).reshape(-1, 28, 28), images(mnist, "train-labels-idx1-ubyte", 8)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(np.flatnonzero(y == k))[: size // 10] for k in range(10)])
    test = images(mnist, "t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    np.savez(path, x_train=x[rows], y_train=y[rows], x_test=test, y_test=images(mnist, "t10k-labels-idx1-ubyte", 8))


def accuracy(home: Path, data: Path, way: str, source: Path, seed: int) -> float:
    """Train and judge once; return the accuracy on test."""
    more = [*WAYS[way], *([f"transfer.source={source}"] if WAYS[way] else [])]
    own = ["data=npz", f"data.path={data}", "data.split.dev=0", "model=resnet", "schedule=cosine", "optimizer.lr=0.003"]
    own += ["trainer.total_epochs=60", "trainer.batch_size=32", f"seed={seed}", "tracking=none"]
    words = [*own, *more, "hydra.run.dir=run"]
    for command in (["train.py", *words], ["evaluate.py", "run=run", "report=none"]):
        subprocess.run(
            [sys.executable, str(ROOT / "src" / command[0]), *command[1:]], cwd=home, check=True, capture_output=True
        )
    return float(json.loads((home / "run" / "metrics.json").read_text())["test"]["accuracy"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print("| examples | " + " | ".join(WAYS) + " |\n|" + "---|" * (1 + len(WAYS)), flush=True)
    for size in SIZES:
        cells = []
        for way in WAYS:
            found = []
            for seed in range(args.seeds):
                with tempfile.TemporaryDirectory() as home:
                    part(args.mnist, size, seed, Path(home) / "data.npz")
                    found.append(accuracy(Path(home), Path(home) / "data.npz", way, args.source.absolute(), seed))
            cells.append(f"{mean(found):.4f} (sd {stdev(found):.4f})")
        print(f"| {size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
