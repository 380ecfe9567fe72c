"""Losses and minings of verification on people never seen: python benchmarks/verification.py [--faces FOLDER] [--splits 3].

Means over splits by person, with 95 % of the mean, raw pixels beside them; one figure: equal error rates, and how often the wrong
person is nearest among ever more people of whom one picture is known. Without FOLDER: two-digit numbers instead of people.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from scipy.stats import t as student
from torch import Tensor

from crucible.data.batches import Batch, Batches
from crucible.inference.saved_run import load_run
from crucible.metrics.accumulator import Accumulator
from crucible.metrics.verification import VerificationMetrics, squared_distances
from crucible.plots.figures import GREY, save
from crucible.training.evaluation import outputs_of

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
VARIANTS = {
    "triplet, random": ["task.mining=random"],
    "triplet, semi-hard": ["task.mining=semi_hard"],
    "triplet, hard": ["task.mining=hard"],
    "contrastive": ["task.loss=contrastive", "task.margin=1"],
    "pair": ["task.loss=pair"],
    "chi-square": ["task.loss=chi_square"],
    "softmax": ["task.loss=softmax"],
}
NUMBERS = ("accuracy", "eer", "rank1", "one_shot_5")
Found = tuple[dict[str, float], list[float]]  # numbers, and the one-shot errors among 2, 3, ... people


def measured(split: int, words: Sequence[str]) -> Iterator[tuple[str, Found]]:
    """Give what raw pixels and each variant reach on test of one split."""
    with TemporaryDirectory() as home:
        for name, own in VARIANTS.items():
            run = Path(home) / name.replace(" ", "")
            command = [sys.executable, str(ROOT / "src/train.py"), *words, *own, f"seed={split}",
                       "tracking=none", "trainer.threads=1", f"hydra.run.dir={run}"]  # fmt: skip
            subprocess.run(command, cwd=home, check=True, capture_output=True)
            (prepared,) = (Path(home) / "artifacts/prepared").iterdir()
            saved = load_run(run, CPU)
            batches = Batches(
                prepared, saved.card, CPU, batch_size=64, augment=lambda batch, _: batch, seed=0, sampling="shuffle"
            )
            if name == next(iter(VARIANTS)):
                dev, test = ([(batch["x"], batch) for batch in batches.evaluation(each)] for each in ("dev", "test"))
                chosen = filled(raw_pixels(None), dev).threshold()
                yield "raw pixels", numbers_of(filled(raw_pixels(chosen), test))
            outputs = outputs_of(saved.model, batches.evaluation("test"))
            yield name, numbers_of(filled(saved.task.metrics(), outputs))


def raw_pixels(threshold: float | None) -> VerificationMetrics:
    """Return an accumulator whose codes are the pictures themselves."""
    return VerificationMetrics(
        lambda x: x.flatten(1), squared_distances, lambda _: torch.zeros(()), threshold=threshold
    )


def filled(metrics: Accumulator, outputs: Iterable[tuple[Tensor, Batch]]) -> VerificationMetrics:
    """Return an accumulator that has taken in all outputs."""
    assert isinstance(metrics, VerificationMetrics)
    for each, batch in outputs:
        metrics.update(each, batch)
    return metrics


def numbers_of(metrics: VerificationMetrics) -> Found:
    """Return the numbers, and the one-shot errors among 2, 3, ... people."""
    return metrics.compute(), metrics.pairs.one_shot_errors().tolist()


def interval(values: Sequence[float]) -> float:
    """Return half of the interval that holds the mean in 95 % of repetitions."""
    quantile: float = student.ppf(0.975, len(values) - 1)
    return quantile * stdev(values) / len(values) ** 0.5


def draw(found: Mapping[str, Sequence[Found]], path: Path) -> None:
    """Draw the equal error rates, and the one-shot errors over the number of people."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
    for i, (name, each) in enumerate(found.items()):
        rates = [numbers["eer"] for numbers, _ in each]
        colour = GREY if name == "raw pixels" else plt.cm.tab10(i)
        left.barh(name, mean(rates), xerr=interval(rates), color=colour)
        errors = [mean(column) for column in zip(*(curve for _, curve in each), strict=True)]
        right.plot(range(2, 2 + len(errors)), errors, color=colour, label=name)
    left.invert_yaxis()
    left.set_xlabel(f"equal error rate, {len(each)} splits")
    right.set_xlabel("people, one picture of each")
    right.set_ylabel("the wrong one is nearest")
    right.legend(frameon=False, fontsize=7)
    save(figure, path)


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("verification.png"))
    args = parser.parse_args()
    words = (
        ["experiment=orl_faces", f"data.path={args.faces.absolute()}"]
        if args.faces
        else ["experiment=verification", f"data.path={ROOT / 'data/digits'}"]
    )
    found: dict[str, list[Found]] = {}
    drawn = "data.split.seed" if args.faces else "data.reader.seed"
    for split in range(args.splits):
        for name, each in measured(split, [*words, f"{drawn}={split}"]):
            found.setdefault(name, []).append(each)
            print(split, name, *(f"{key} {each[0][key]:.3f}" for key in NUMBERS), flush=True)
    print(f"{'':20}", *(f"{key:>15}" for key in NUMBERS))
    for name, every in found.items():
        columns = [[numbers[key] for numbers, _ in every] for key in NUMBERS]
        print(f"{name:20}", *(f"{mean(each):7.3f} ± {interval(each):.3f}" for each in columns))
    draw(found, args.out)


if __name__ == "__main__":
    main()
