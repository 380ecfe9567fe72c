"""Deep plain networks train worse than shallow ones, residual ones do not: python benchmarks/residual_proof.py [--out FILE.png].

The networks of He et al., 2016, section 4.2, with 20 and 56 layers, with and without shortcuts, on the digits; the error on
train in training mode's weights, three seeds (their figure 6).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 80
BASE = ["model=resnet", "model.width=8", "init=he", "optimizer=momentum", "optimizer.form=velocity", "optimizer.lr=0.05", "schedule.warmup_epochs=2",
        f"trainer.total_epochs={EPOCHS}", "data.split.dev=0", "tracking=none", "trainer.threads=1", "schedule=step",
        "schedule.every_epochs=40", "schedule.factor=0.1"]  # fmt: skip


def train(depth: int, residual: bool, seed: int) -> tuple[float, list[float]]:
    """Return the error on train at the end, and the loss of each epoch."""
    words = [
        *BASE,
        f"model.depth={depth}",
        f"model.residual={str(residual).lower()}",
        f"seed={seed}",
        "hydra.run.dir=run",
    ]
    with tempfile.TemporaryDirectory() as home:
        subprocess.run([sys.executable, str(ROOT / "src/train.py"), *words], cwd=home, check=True, capture_output=True)
        events = [json.loads(line) for line in (Path(home) / "run/journal.jsonl").read_text().splitlines()]
        losses = [event["values"]["train/loss"] for event in events if event["kind"] == "metrics"]
        return json.loads((Path(home) / "run/train.json").read_text())["train"]["error"], losses


def main() -> None:
    """Print the table and draw the curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("residual_proof.png"))
    args = parser.parse_args()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axis, residual in zip(axes, (False, True), strict=True):
        for depth, colour in ((20, "#2b6cb0"), (56, "#dd6b20")):
            found = [train(depth, residual, seed) for seed in range(args.seeds)]
            errors, name = [error for error, _ in found], "residual" if residual else "plain"
            for _, losses in found:
                axis.plot(
                    range(1, EPOCHS + 1),
                    losses,
                    color=colour,
                    alpha=0.8,
                    label=None if _ != errors[0] else f"{depth} layers",
                )
            print(f"{name:8} {depth} layers: train error {100 * mean(errors):.2f} % (sd {100 * stdev(errors):.2f}), "
                  f"train loss {mean(losses[-1] for _, losses in found):.4f}", flush=True)  # fmt: skip
        axis.set_title("residual" if residual else "plain", fontsize=9)
        axis.set_xlabel("epoch")
        axis.set_yscale("log")
        axis.plot([], [], color="#2b6cb0", label="20 layers")
        axis.plot([], [], color="#dd6b20", label="56 layers")
        axis.legend(*[each[-2:] for each in axis.get_legend_handles_labels()], frameon=False)
    axes[0].set_ylabel("train loss")
    figure.tight_layout()
    figure.savefig(args.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
