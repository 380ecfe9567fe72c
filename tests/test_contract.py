"""What people's scripts rely on: --help, and the keys of card.json, train.json and metrics.json, as they were recorded.

tests/contract/ holds what commit 771c025 printed and wrote. Nothing of it may go; what has come since is listed here.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

HOME = ROOT / "tests" / "contract"
SCHEMAS = json.loads((HOME / "schemas.json").read_text())
RUNS = {
    "classification": (),
    "regression": ("data=diabetes", "task=regression"),
    "multitask": ("data=digit_traits", "task=multitask"),
    "localization": ("experiment=localization",),
    "landmarks": ("experiment=landmarks",),
    "detection": ("experiment=detection",),
}
QUICK = ("tracking=none", "trainer.threads=1", "trainer.total_epochs=1", "report=none")
ADDED_CHOICES = {
    "activations",
    "batch_norm",
    "optimizers",
    "stuck",
    "depth",
    "losses",
    "grid_vs_random",
    "pooling",
    "dropout_rates",
    "mnist_sigmoid",
    "worked_example",
    "backpropagation",
    "surface",
    "point",
    "parabola",
    "blobs",
    "from_file",
    "table",
    "auto",
    "series",
    "verification",
    "orl_faces",
    "pairs_folder",
    "digit_numbers",
    "hog",
    "orthogonal",
    "style_pair",
    "canvas",
    "style",
    "lbfgs",
    "rnn",
    "gru",
    "lstm",
    "window",
    "encoder_decoder",
    "language",
    "tagging",
    "sequence",
    "text",
    "tinyshakespeare",
    "pydoc",
    "dinos",
    "conll",
    "wnut17",
    "stdlib",
    "labelled_lines",
    "rt_polarity",
    "emojify",
    "prose_or_code",
    "agreement",
    "word_vectors",
    "dates",
}
PARTS = {
    f"{split}.loss_parts.{part}: float" for split in ("train", "dev", "test") for part in ("box", "class", "objectness")
}
ERROR = {"diagnosis.error.name: str", "diagnosis.error.is_rate: bool"}
AT_SCORE = {
    f"{split}.{name}: float" for split in ("train", "dev", "test") for name in ("precision", "recall", "f1", "mean_iou")
}  # of boxes, at task.score
ADDED = {
    "card": {
        "bayes_error: NoneType",
        "objects.anchors.10.sizes: list",
        "objects.anchors.10.fit: float",
        "target.smallest: float",
        "target.largest: float",
        "lengths: NoneType",
        "table: NoneType",
        "notes: list",
    },
    "train": PARTS | ERROR | AT_SCORE,
    "metrics": PARTS | ERROR | AT_SCORE,
    "files": {"first_batch.png", "histograms.json", "scores.json"},
}


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Give the dotted keys of a file, and the type of what stands there."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from paths(each, f"{at}.{key}" if at else key)
    else:
        yield f"{at}: {type(value).__name__}"


def test_help_lists_every_choice_that_it_listed() -> None:
    words = [sys.executable, str(ROOT / "src" / "train.py"), "--help"]
    now = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    for before in (HOME / "help.txt").read_text().splitlines():
        group, _, choices = before.partition(": ")
        if before in now:
            continue
        line = next(each for each in now if each.startswith(f"{group}: "))
        assert set(line.partition(": ")[2].split(", ")) - set(choices.split(", ")) <= ADDED_CHOICES
        assert set(choices.split(", ")) <= set(line.partition(": ")[2].split(", "))


@pytest.mark.parametrize(
    "name", [each if each == "classification" else pytest.param(each, marks=pytest.mark.slow) for each in RUNS]
)
def test_the_files_of_a_run_keep_their_keys(command, tmp_path, name) -> None:
    data = tmp_path / "data"
    data.symlink_to(ROOT / "data")
    for words in (("train", *RUNS[name], *QUICK, "hydra.run.dir=run"), ("evaluate", "run=run", "report=none")):
        done = command(*words)
        assert done.code == 0, done.err
    found = {
        file: set(paths(json.loads(Path("run", f"{file}.json").read_text()))) for file in ("card", "train", "metrics")
    }
    found["files"] = {str(path.relative_to("run")) for path in Path("run").rglob("*") if path.is_file()}
    for file, before in SCHEMAS[name].items():
        assert not set(before) - found[file], f"{file}: gone"
        assert found[file] - set(before) <= ADDED[file], f"{file}: new, and not listed here"
