"""Bytes a second and peak memory of prepare on a generated array: python benchmarks/prepare_speed.py [--gigabytes 2]."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (64, 64, 3)


def generate(folder: Path, gigabytes: float) -> int:
    """Write x.npy and y.npy in pieces; return the bytes."""
    size = int(gigabytes * 1e9 / np.prod(SHAPE))
    rng = np.random.default_rng(0)
    with (folder / "x.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (size, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, size, 1000):
            file.write(rng.integers(0, 256, (min(1000, size - start), *SHAPE), dtype=np.uint8).data)
    np.save(folder / "y.npy", np.arange(size) % 10)
    return (folder / "x.npy").stat().st_size


def measured(*command: str, cwd: Path) -> tuple[float, float]:
    """Return seconds and peak resident megabytes of a command."""
    code = f"import resource, subprocess, sys; r = subprocess.run({list(command)!r}, stdout=subprocess.DEVNULL).returncode\n"
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    """Print speed, and peak memory over that of the interpreter with torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    gigabytes = parser.parse_args().gigabytes
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "raw").mkdir()
        size = generate(home / "raw", gigabytes)
        _, bare = measured(sys.executable, "-c", "import torch", cwd=home)
        seconds, peak = measured(
            sys.executable, str(ROOT / "src" / "prepare.py"), "data=npz", "data.path=raw", cwd=home
        )  # fmt: skip
    print(f"{size / 1e9:.2f} GB in {seconds:.1f} s: {size / seconds / 1e6:.0f} MB/s")
    print(f"peak {peak:.0f} MB, interpreter with torch {bare:.0f} MB: {peak - bare:.0f} MB over it")


if __name__ == "__main__":
    main()
