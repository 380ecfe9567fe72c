"""What pooling and batch norm do to pictures that are not as in training: python benchmarks/shifted.py [--seeds 5].

pooling: `experiment=pooling` against strides in place of pools (as many weights), on digits moved by a pixel (notes 002, 7.2).
batch norm: `experiment=batch_norm` with and without it, on digits that are brighter, fainter, or noisy (notes 000, part 6, section 2: black
cats and coloured ones). Told is how much accuracy each loses, over seeds, and the interval of the difference.
"""

import argparse
import io
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean

import numpy as np

from crucible.app.cli import perform
from crucible.app.project import ROOT
from crucible.diagnosis.compare import difference

Change = Callable[[np.ndarray], np.ndarray]
QUIET = ["tracking=none", "trainer.threads=1"]
STRIDES = "model.layers=[{conv: 16, f: 3, p: same, s: 2}, {conv: 32, f: 3, p: same, s: 2}, flatten]"
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))


def moved(x: np.ndarray) -> np.ndarray:
    """Return pictures (n, 8, 8) moved by a pixel, each to all four sides in turn; what comes in is empty."""
    found = np.zeros_like(x)
    for i, (down, right) in enumerate(SIDES):
        own = np.roll(x[i::4], (down, right), axis=(1, 2))
        own[:, (0 if down > 0 else -1) if down else slice(None), (0 if right > 0 else -1) if right else slice(None)] = 0
        found[i::4] = own
    return found


CASES: dict[str, tuple[str, dict[str, list[str]], dict[str, Change]]] = {
    "pooling": ("experiment=pooling", {"pools": [], "strides": [STRIDES]}, {"moved by a pixel": moved}),
    "batch norm": (
        "experiment=batch_norm",
        {"with": ["model.batch_norm=true"], "without": ["model.batch_norm=false"]},
        {
            "half as bright": lambda x: x // 2,
            "brighter by a quarter": lambda x: np.minimum(x + 4, 20).astype(x.dtype),
            "noise": lambda x: np.clip(x + np.random.default_rng(1).normal(0, 3, x.shape), 0, 20).astype(x.dtype),
        },
    ),
}


def test_digits(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the test examples of a run."""
    key = json.loads((run / "card.json").read_text())["key"]
    folder = Path("artifacts/prepared") / key[:16] / "test"
    return np.load(folder / "x.npy").reshape(-1, 8, 8), np.load(folder / "y.npy")


def accuracy(run: Path, name: str, x: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy of a run on pictures."""
    np.savez(f"{name}.npz", x=x[:, None], y=y)
    perform("evaluate", [f"run={run}", "data=npz", f"data.path={name}.npz", f"data.name={name}", "data.duplicates=keep", "transfer.seen=keep", "report=none", "tracking=none"])  # fmt: skip
    return float(json.loads((run / "judged" / name / "metrics.json").read_text())["test"]["accuracy"])


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    lines = []
    with tempfile.TemporaryDirectory() as home, redirect_stdout(io.StringIO()):  # not the screens of every run
        os.chdir(home)
        Path("data").symlink_to(ROOT / "data")
        for case, (experiment, ways, changes) in CASES.items():
            lost: dict[tuple[str, str], list[float]] = {}
            plain: dict[str, list[float]] = {}
            for way, words in ways.items():
                for seed in range(seeds):
                    run = Path(f"{case}-{way}-{seed}".replace(" ", "-"))
                    perform("train", [experiment, *words, f"seed={seed}", f"hydra.run.dir={run}", *QUIET])
                    x, y = test_digits(run)
                    own = accuracy(run, "as-they-are", x, y)
                    plain.setdefault(way, []).append(own)
                    for name, change in changes.items():
                        lost.setdefault((name, way), []).append(
                            own - accuracy(run, name.replace(" ", "-"), change(x), y)
                        )
            first, second = ways
            lines.append(
                f"{case}: accuracy as they are: {first} {mean(plain[first]):.4f}, {second} {mean(plain[second]):.4f}"
            )
            for name in changes:
                a, b = lost[name, first], lost[name, second]
                apart = difference(b, a)
                lines.append(
                    f"  {name}: loses {first} {mean(a):.4f}, {second} {mean(b):.4f}; {first} - {second} {apart.mean:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"
                )
        os.chdir("/")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
