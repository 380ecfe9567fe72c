"""Who learns what is far back: python benchmarks/gates.py [--distances 20,60,90] [--out FOLDER] [KEY=VALUE ...].

Sentences whose verb is told by their subject, so many words before (data=agreement), by a plain network, both kinds of gates, and a
dense network on a window; gates.png: the gradient against the lag, at the first epoch and at the last.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt

from crucible.plots.figures import save

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"window": ["model.width=5"], "rnn": [], "gru": ["model.form=torch"], "lstm": []}
WORDS = [
    "data=agreement",
    "task=sequence",
    "trainer.total_epochs=20",
    "trainer.batch_size=32",
    "optimizer.lr=0.005",
    "tracking=none",
    "trainer.threads=1",
]


def trained(model: str, distance: int, folder: Path, words: list[str]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return train.json and the curves of one training."""
    own = [f"model={model}", *MODELS[model], f"data.reader.distance={distance}", f"hydra.run.dir={folder}"]
    subprocess.run([sys.executable, ROOT / "src" / "train.py", *WORDS, *own, *words], check=True, capture_output=True)
    with (folder / "curves.csv").open() as file:
        return json.loads((folder / "train.json").read_text()), list(csv.DictReader(file))


def main() -> None:
    """Print the accuracy on dev of each network at each distance, and draw the gradient against the lag at the last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--distances", default="20,60,90")
    parser.add_argument("--out", default="outputs/gates")
    given, words = parser.parse_known_args()
    distances = [int(each) for each in given.distances.split(",")]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    with TemporaryDirectory() as home:
        for model in MODELS:
            reached = []
            for distance in distances:
                found, rows = trained(model, distance, Path(home) / f"{model}-{distance}", words)
                reached.append(f"{found['dev']['accuracy']:.3f} at {distance}")
            print(f"{model:8}accuracy on dev {', '.join(reached)}", flush=True)
            lags = [int(name.rpartition("/")[2]) for name in rows[0] if name.startswith("gradient_at_lag/")]
            for axis, row, title in zip(axes, (rows[0], rows[-1]), ("first epoch", "last epoch"), strict=True):
                values = [float(row[f"gradient_at_lag/{lag}"]) for lag in lags]
                axis.plot(lags, [value / values[0] for value in values], "o-", label=model)
                axis.set_title(title)
    for axis in axes:
        axis.set_xscale("symlog", linthresh=1)
        axis.set_yscale("log")
        axis.set_ylim(1e-10, 1e3)
        axis.set_xlabel("steps between")
    axes[0].set_ylabel("share of the gradient")
    axes[1].legend(frameon=False)
    print(save(figure, Path(given.out) / "gates.png"))


if __name__ == "__main__":
    main()
