"""Landmarks of faces against the number of people learned from: python benchmarks/faces_curve.py FACES [--seeds 3] [--out FILE.png].

`experiment=faces` on all pictures of some of the training people, judged on the same other people.
"""

import argparse
import csv
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = (4, 8, 16, 24)


def part(faces: Path, count: int, seed: int, home: Path) -> None:
    """Write the pictures and points of so many training people, drawn from the seed, and the whole test set."""
    shutil.copytree(faces / "images", home / "images", dirs_exist_ok=True)
    shutil.copy(faces / "keypoints_test.csv", home)
    with (faces / "keypoints_train.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    people = sorted({re.sub(r"_\d+\.\w+$", "", row[0]) for row in rows})
    chosen = set(random.Random(seed).sample(people, min(count, len(people))))
    with (home / "keypoints_train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if re.sub(r"_\d+\.\w+$", "", row[0]) in chosen)])


def judged(faces: Path, count: int, seed: int) -> tuple[float, float, float]:
    """Train once; return the normalised mean error on train and test, and the share of test faces above 0.08."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "faces").mkdir()
        part(faces, count, seed, home / "faces")
        words = [
            "experiment=faces",
            "data.path=faces",
            f"seed={seed}",
            "tracking=none",
            "trainer.threads=1",
            "hydra.run.dir=run",
        ]
        for command in (["train.py", *words], ["evaluate.py", "run=run", "report=none"]):
            subprocess.run(
                [sys.executable, str(ROOT / "src" / command[0]), *command[1:]],
                cwd=home,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        told = json.loads((home / "run" / "metrics.json").read_text())
        return told["train"]["nme"], told["test"]["nme"], told["test"]["error"]


def main() -> None:
    """Print the table and draw the curve."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("faces.png"))
    args = parser.parse_args()
    print("| people | nme on train | nme on test | share above 0.08 |\n|---|---|---|---|", flush=True)
    found = {}
    for count in PEOPLE:
        found[count] = [judged(args.faces.absolute(), count, seed) for seed in range(args.seeds)]
        cells = [f"{mean(values):.4f} (sd {stdev(values):.4f})" for values in zip(*found[count], strict=True)]
        print(f"| {count} | " + " | ".join(cells) + " |", flush=True)
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    for place, name, colour in ((0, "train", "#2b6cb0"), (1, "test: six other people", "#dd6b20")):
        axis.plot(
            PEOPLE, [mean(row[place] for row in found[count]) for count in PEOPLE], "o-", color=colour, label=name
        )
    axis.set_xlabel("people learned from (some of them are dev)")
    axis.set_ylabel("normalised mean error")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(args.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
