"""Augmentation at work, and a dev set of another kind: python benchmarks/pictures.py SIGNS CATS [--out FILE.png].

Cats, and hand signs (all of train, and a quarter of it), learned with and without augmentation, three seeds, with a figure;
then hand signs with a dev set that was blurred and with the same one untouched: whether the diagnosis says mismatch.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE = ["model=resnet", "schedule=cosine", "optimizer.lr=0.003", "trainer.batch_size=32", "tracking=none", "trainer.threads=1", "data.duplicates=drop"]  # fmt: skip
CATS = ["experiment=cat_resnet", "tracking=none", "trainer.threads=1"]
CATS_WITHOUT = ["augment.shift=0", "data.flip_keeps_label=false"]
SIGNS_WITH = ["augment=strong", "trainer.total_epochs=50"]
SIGNS_WITHOUT = ["augment=none", "trainer.total_epochs=50"]


def trained(words: Sequence[str]) -> dict[str, Any]:
    """Train and judge once; return what metrics.json says."""
    with tempfile.TemporaryDirectory() as home:
        for command in (["train.py", *words, "hydra.run.dir=run"], ["evaluate.py", "run=run", "report=none"]):
            subprocess.run(
                [sys.executable, str(ROOT / "src" / command[0]), *command[1:]],
                cwd=home,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        return json.loads((Path(home) / "run/metrics.json").read_text())


def signs(folder: Path) -> dict[str, np.ndarray]:
    """Return the pictures and labels of train and test."""
    import h5py

    found = {}
    for split in ("train", "test"):
        with h5py.File(folder / f"{split}_signs.h5") as file:
            found[f"x_{split}"], found[f"y_{split}"] = file[f"{split}_set_x"][:], file[f"{split}_set_y"][:].ravel()
    return found


def blurred(pictures: np.ndarray, radius: int = 3) -> np.ndarray:
    """Return the mean over a square of 2 radius + 1 pixels around each."""
    side = 2 * radius + 1
    padded = np.pad(pictures.astype(np.float32), ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="edge")
    for axis in (1, 2):
        sums = np.cumsum(padded, axis=axis)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
        n = sums.shape[axis]
        padded = (np.take(sums, range(side, n), axis) - np.take(sums, range(n - side), axis)) / side
    return padded.round().astype(np.uint8)


def mismatch(found: dict[str, np.ndarray], home: Path) -> None:
    """Print what the diagnosis says of a dev set that looks like train, and of a blurred one."""
    rows = np.random.default_rng(0).permutation(len(found["x_train"]))
    dev, own = rows[:240], rows[240:]
    for name, change in (("untouched", np.copy), ("blurred", blurred)):
        path = home / f"{name}.npz"
        np.savez(
            path,
            x_train=found["x_train"][own],
            y_train=found["y_train"][own],
            x_dev=change(found["x_train"][dev]),
            y_dev=found["y_train"][dev],
            x_test=found["x_test"],
            y_test=found["y_test"],
        )
        words = [
            *BASE,
            "data=npz",
            f"data.path={path}",
            "data.split.train_dev=0.2",
            "trainer.total_epochs=50",
            "data.human_error=0",
        ]
        told = trained(words)
        errors = {split: round(1 - told[split]["accuracy"], 4) for split in ("train", "train_dev", "dev")}
        print(f"{name:10} dev: errors {errors}, reasons {told['diagnosis']['reasons']}", flush=True)


def main() -> None:
    """Print the tables and draw the figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("signs", type=Path)
    parser.add_argument("cats", type=Path)
    parser.add_argument("--out", type=Path, default=Path("augmentation.png"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = signs(args.signs)
        mismatch(found, Path(home))
        some = Path(home) / "some.npz"
        rows = np.random.default_rng(0).permutation(len(found["x_train"]))[:270]
        np.savez(some, **{**found, "x_train": found["x_train"][rows], "y_train": found["y_train"][rows]})
        parts = {
            "209 cats": ([*CATS, f"data.path={args.cats.absolute()}"], [], CATS_WITHOUT),
            "270 signs": ([*BASE, "data=npz", f"data.path={some}", "data.split.dev=0"], SIGNS_WITH, SIGNS_WITHOUT),
            "1080 signs": (
                [*BASE, "data=signs", f"data.path={args.signs.absolute()}", "data.split.dev=0"],
                SIGNS_WITH,
                SIGNS_WITHOUT,
            ),
        }
        figure, axis = plt.subplots(figsize=(6, 3.2))
        for place, (name, (words, *ways)) in enumerate(parts.items()):
            for shift, more, label, colour in zip(
                (-0.12, 0.12), ways, ("with", "without"), ("#2b6cb0", "#dd6b20"), strict=True
            ):
                scores = [trained([*words, *more, f"seed={seed}"])["test"]["accuracy"] for seed in range(3)]
                print(f"{name:10} {label:8} {[round(s, 4) for s in scores]} mean {mean(scores):.4f} sd {stdev(scores):.4f}", flush=True)  # fmt: skip
                axis.plot(
                    [place + shift] * 3,
                    scores,
                    "o",
                    color=colour,
                    alpha=0.7,
                    label=f"{label} augmentation" if not place else None,
                )
                axis.plot([place + shift - 0.06, place + shift + 0.06], [mean(scores)] * 2, color=colour)
        axis.set_xticks(range(len(parts)), parts)
        axis.set_ylabel("accuracy on test")
        axis.legend(frameon=False)
        figure.tight_layout()
        figure.savefig(args.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
