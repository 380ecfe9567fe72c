"""The default for tables against scikit-learn on the same splits: python benchmarks/tables.py [--seeds 5] [WORD ...].

Five data sets: wine, breast cancer and diabetes of scikit-learn, and two that are made here, with categories, dates, empty cells
and, in one of them, effects that no single column shows. Each seed draws the split anew. Ours is trained by the command that a
person would type (further WORDs go to it), and picks its epoch on dev; scikit-learn's models learn from train, too, and are never
shown dev. HistGradientBoosting gets the columns as they are stored, with NaN and categories as such; MLPClassifier and MLPRegressor
the features that our network gets.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from crucible.data.card import read_card
from crucible.data.columns import columns_of, is_numeric
from crucible.data.normalize import normalizer

ROOT = Path(__file__).parents[1]
ROWS = 3000


def of_sklearn(load: Any) -> pl.DataFrame:
    """Return a data set of scikit-learn as a table with the column `label`."""
    data = load()
    return pl.DataFrame({name: data.data[:, i] for i, name in enumerate(data.feature_names)} | {"label": data.target})


def made(seed: int, *, numbers: bool) -> pl.DataFrame:
    """Return a table with numbers, categories of 3 to 40 values, a date, and a tenth of all cells empty."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, ROWS))
    size = np.exp(rng.normal(size=ROWS))
    colour, city = rng.integers(0, 3, ROWS), rng.integers(0, 40, ROWS)
    day = rng.integers(0, 730, ROWS)
    of_city, of_colour = rng.normal(size=40), np.array([-1.0, 0.0, 1.0])
    signal = a + of_city[city] + of_colour[colour] * b + 0.5 * np.log(size) + (day % 7 >= 5) + (a * c if numbers else 0)
    noisy = signal + rng.normal(size=ROWS) * (0.5 if numbers else 1.0)
    label = noisy.round(3) if numbers else np.where(noisy > np.median(noisy), "good", "bad")
    table = pl.DataFrame({
        "a": a, "b": b, "c": c, "size": size, "colour": np.array(["red", "green", "blue"])[colour],
        "city": [f"city {i:02}" for i in city],
        "day": [str(np.datetime64("2023-01-02") + int(each)) for each in day], "label": label,
    })  # fmt: skip
    holes = rng.random((ROWS, 6)) < 0.1
    return table.with_columns(
        pl.when(pl.Series(~holes[:, i])).then(pl.col(name)).alias(name)
        for i, name in enumerate(["a", "b", "c", "size", "colour", "city"])
    )


DATA = {
    "wine": (lambda: of_sklearn(load_wine), False),
    "breast cancer": (lambda: of_sklearn(load_breast_cancer), False),
    "diabetes": (lambda: of_sklearn(load_diabetes), True),
    "made, classes": (lambda: made(0, numbers=False), False),
    "made, numbers": (lambda: made(1, numbers=True), True),
}


def ours(file: Path, home: Path, seed: int, numbers: bool, words: list[str]) -> tuple[float, Path]:
    """Return the score on test of a run of the command line, and the prepared folder."""
    task = ["task=regression"] if numbers else []
    given = [
        "data=table",
        f"data.path={file}",
        "data.label=label",
        f"data.split.seed={seed}",
        f"seed={seed}",
        "tracking=none",
        *task,
    ]
    for command in (["train.py", *given, *words], ["evaluate.py", "run=latest", "report=none", "tracking=none"]):
        done = subprocess.run([sys.executable, str(ROOT / "src" / command[0]), *command[1:]], cwd=home, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False)  # fmt: skip
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
    metrics = json.loads((home / "outputs" / "latest" / "metrics.json").read_text())
    key = read_card(home / "outputs" / "latest").key
    return metrics["test"]["rmse" if numbers else "accuracy"], home / "artifacts" / "prepared" / key[:16]


def theirs(folder: Path, seed: int, numbers: bool) -> tuple[float, float]:
    """Return the scores on test of gradient boosting and of a perceptron, fitted on the train split of a prepared folder."""
    card = read_card(folder)
    (x, y), (x_test, y_test) = (
        tuple(np.load(folder / split / f"{name}.npy") for name in ("x", "y")) for split in ("train", "test")
    )
    categories = [i for i, each in enumerate(columns_of(card.table or {})) if not is_numeric(each)]
    trees: Any = (HistGradientBoostingRegressor if numbers else HistGradientBoostingClassifier)(
        categorical_features=categories, random_state=seed
    )
    net: Any = (MLPRegressor if numbers else MLPClassifier)(random_state=seed, max_iter=500)
    features = normalizer(card)
    wide, wide_test = (features(torch.from_numpy(each)).numpy() for each in (x, x_test))

    def score(model: Any, of: Any) -> float:
        predicted = model.predict(of)
        return float(np.sqrt(np.mean((predicted - y_test) ** 2)) if numbers else np.mean(predicted == y_test))

    return score(trees.fit(x, y), x_test), score(net.fit(wide, y), wide_test)


def main() -> None:
    """Print mean and deviation over the seeds for each data set and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    print("| data | score on test | Crucible | gradient boosting | scikit-learn's MLP |\n|---|---|---|---|---|")
    for name, (table, numbers) in DATA.items():
        with tempfile.TemporaryDirectory() as home:
            file = Path(home) / "table.csv"
            table().write_csv(file)
            rows = []
            for seed in range(args.seeds):
                own, folder = ours(file, Path(home), seed, numbers, args.words)
                rows.append((own, *theirs(folder, seed, numbers)))
        cells = [f"{mean(each):.4g} ± {stdev(each):.2g}" for each in zip(*rows, strict=True)]
        print(f"| {name} | {'RMSE' if numbers else 'accuracy'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
