"""One picture against a gallery of many people: python benchmarks/gallery.py [--people 10000] [--repeats 50].

Codes of 128 numbers, one picture a person; beyond the network's own pass. Squared distances, and a logistic unit over pairs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from crucible.inference.gallery import Gallery, decided, read_gallery
from crucible.metrics.verification import squared_distances
from crucible.tasks.comparison import PairUnit

SIZE = 128


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = tuple(f"person {i}" for i in range(args.people))
    with tempfile.TemporaryDirectory() as home:
        made = Gallery(names, torch.nn.functional.normalize(torch.randn(args.people, SIZE), dim=1), "w")
        (Path(home) / "g").write_bytes(made.packed())
        gallery, size = read_gallery(Path(home) / "g", "w", SIZE), (Path(home) / "g").stat().st_size
    unit = PairUnit(SIZE, chi_square=False)
    print(f"{args.people:,} people: {size:,} bytes in the file, {gallery.codes.nbytes:,} of codes")
    with torch.inference_mode():
        for name, compare in (
            ("squared distances", squared_distances),
            ("logistic unit", lambda a, b: -unit(a, b)[None]),
        ):
            seconds = []
            for _ in range(args.repeats):
                code, start = torch.nn.functional.normalize(torch.randn(1, SIZE), dim=1), time.perf_counter()
                people, distances = gallery.distances(code, compare)
                decided(people, distances, 0.5)
                seconds.append(time.perf_counter() - start)
            print(f"{name}: {1000 * median(seconds):.2f} ms [{1000 * min(seconds):.2f}, {1000 * max(seconds):.2f}]")


if __name__ == "__main__":
    main()
