"""Paintings beside each other: python benchmarks/style.py [--size 192] [--out FOLDER] [KEY=VALUE ...].

style_layers.png: the content compared by a shallow, a middle and a deep layer; the style by one shallow layer, one deep layer, or
four. style_optimizers.png: the cost of L-BFGS and Adam over the steps, from the content and from noise, coarse to fine or not.
Further words go to every training: data.reader.content=photo.jpg, task.features=vgg19.safetensors.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from crucible.plots.figures import save

ROOT = Path(__file__).resolve().parents[1]
CONTENT = {
    "shallow: conv1_1": ("conv1_1", 1),
    "middle: conv3_2": ("conv3_2", 1),
    "deep: conv4_2": ("conv4_2", 3),
}  # and alpha
STYLE = {
    "conv1_1 alone": ["conv1_1"],
    "conv4_1 alone": ["conv4_1"],
    "conv1_1 to conv4_1": ["conv1_1", "conv2_1", "conv3_1", "conv4_1"],
}
COURSES = {
    "L-BFGS, coarse to fine": [],
    "L-BFGS": ["model.levels=1"],
    "Adam, coarse to fine": ["optimizer=adam", "optimizer.lr=0.05"],
    "Adam": ["optimizer=adam", "optimizer.lr=0.05", "model.levels=1"],
    "L-BFGS from noise": ["model.start=noise"],
}


def painted(words: Sequence[str]) -> tuple[Any, dict[str, Any], list[float]]:
    """Return the picture, train.json, and the loss on dev of each epoch, of one training."""
    with TemporaryDirectory() as home:
        command = [sys.executable, str(ROOT / "src/train.py"), "experiment=style", f"data.path={ROOT / 'data/pictures'}",
                   "tracking=none", "hydra.run.dir=run", *words]  # fmt: skip
        subprocess.run(command, cwd=home, check=True, capture_output=True)
        run = Path(home) / "run"
        summary = json.loads((run / "train.json").read_text())
        events = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
        losses = [event["values"]["dev/loss"] for event in events if event["kind"] == "metrics"]
        return np.asarray(Image.open(run / f"progress/{summary['best_epoch']:05d}.png")), summary, losses


def layers(words: Sequence[str], path: Path) -> None:
    """Draw a painting for each layer of the content and each choice of layers for the style."""
    figure, axes = plt.subplots(len(CONTENT), len(STYLE), figsize=(10, 7.4))
    for row, (content, (layer, alpha)) in zip(axes, CONTENT.items(), strict=True):
        for axis, (style, names) in zip(row, STYLE.items(), strict=True):
            own = [f"task.content_layer={layer}", f"task.style_layers=[{','.join(names)}]", f"task.alpha={alpha}"]
            picture, summary, _ = painted([*words, *own])
            axis.imshow(picture)
            axis.set_xticks([])
            axis.set_yticks([])
            print(f"content {content:18} style {style:20} content {summary['dev']['content']:10.1f} style {summary['dev']['style']:.4f}",
                  flush=True)  # fmt: skip
        row[0].set_ylabel(f"content, {content}", fontsize=8)
    for axis, style in zip(axes[0], STYLE, strict=True):
        axis.set_title(f"style: {style}", fontsize=8)
    save(figure, path)


def courses(words: Sequence[str], path: Path) -> None:
    """Draw the cost over the steps of each way to optimise."""
    figure, axis = plt.subplots(figsize=(5.5, 3.4))
    for name, own in COURSES.items():
        _, summary, losses = painted([*words, *own])
        steps = summary["diagnosis"]["progress"]["steps"] // len(losses)
        axis.plot([steps * (i + 1) for i in range(len(losses))], losses, label=name)
        print(
            f"{name:24} loss {losses[-1]:.0f}, a share of {summary['dev']['error']:.3f} of the content's as it is",
            flush=True,
        )
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("cost at full size")
    axis.legend(frameon=False, fontsize=7)
    save(figure, path)


def main() -> None:
    """Draw both figures and print their numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--out", type=Path, default=Path())
    args, words = parser.parse_known_args()
    words = [f"data.reader.size={args.size}", *words]
    courses(words, args.out / "style_optimizers.png")
    layers(words, args.out / "style_layers.png")


if __name__ == "__main__":
    main()
