"""How many times faster whole arrays are than loops (notes 000, part 1, section 4; 003): python benchmarks/vectorisation.py [--repeats 9].

The notes print 0.001 s against 0.13 s for the roots of a million numbers ("more than 100 times"), and "300 times" for a dot product. Each
pair is taken in turn; what is told is the median of the ratios, and the smallest and the largest.
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one core against one core

import numpy as np
import torch

from crucible.losses import binary_cross_entropy
from crucible.models.logistic import Logistic

SIZE, EXAMPLES, FEATURES = 1_000_000, 2000, 64


def roots_by_loop(data: np.ndarray) -> np.ndarray:
    """The notes' loop over every number."""
    found = []
    for each in data:
        found.append(each**0.5)
    return np.array(found)


def dot_by_loop(w: np.ndarray, x: np.ndarray) -> float:
    """A sum of products, one after the other."""
    total = 0.0
    for a, b in zip(w, x, strict=True):
        total += a * b
    return total


def gradient_by_loop(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The notes' two loops of logistic regression: over the examples, and over the features of each."""
    dw, db = np.zeros(len(w)), 0.0
    for i in range(len(x)):
        z = b
        for j in range(len(w)):
            z += w[j] * x[i][j]
        dz = 1 / (1 + np.exp(-z)) - y[i]
        for j in range(len(w)):
            dw[j] += x[i][j] * dz
        db += dz
    return dw / len(x), db / len(x)


def gradient_at_once(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The same as matrix products."""
    dz = 1 / (1 + np.exp(-(x @ w + b))) - y
    return x.T @ dz / len(x), float(dz.mean())


def gradient_here(model: Logistic, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The same by this package's model and loss."""
    model.zero_grad()
    binary_cross_entropy(model(x), y).backward()
    assert model.linear.weight.grad is not None
    return model.linear.weight.grad[0]


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    data, other = rng.random(SIZE), rng.random(SIZE)
    x, y, w = rng.normal(size=(EXAMPLES, FEATURES)), rng.integers(0, 2, EXAMPLES), rng.normal(size=FEATURES)
    model, own, label = Logistic((FEATURES,), 1), torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor(w)[None])
        model.linear.bias.zero_()
    assert np.allclose(roots_by_loop(data[:1000]), np.sqrt(data[:1000]))
    assert np.isclose(dot_by_loop(data, other), data @ other)
    assert np.allclose(gradient_by_loop(w, 0.0, x[:50], y[:50])[0], gradient_at_once(w, 0.0, x[:50], y[:50])[0])
    assert np.allclose(gradient_here(model, own, label).numpy(), gradient_at_once(w, 0.0, x, y)[0], atol=1e-5)
    pairs = {
        f"square roots of {SIZE:,} numbers": (lambda: roots_by_loop(data), lambda: np.sqrt(data)),
        f"dot product of {SIZE:,} numbers": (lambda: dot_by_loop(data, other), lambda: data @ other),
        f"gradient, {EXAMPLES:,} x {FEATURES}, numpy": (
            lambda: gradient_by_loop(w, 0.0, x, y),
            lambda: gradient_at_once(w, 0.0, x, y),
        ),
        f"gradient, {EXAMPLES:,} x {FEATURES}, here": (
            lambda: gradient_by_loop(w, 0.0, x, y),
            lambda: gradient_here(model, own, label),
        ),
    }
    for name, (loop, whole) in pairs.items():
        whole()  # what is done once is not timed
        taken = [(seconds(loop), min(seconds(whole) for _ in range(3))) for _ in range(repeats)]
        ratios = sorted(slow / fast for slow, fast in taken)
        loops, wholes = (median(each) for each in zip(*taken, strict=True))
        print(
            f"{name:>36}: {median(ratios):7.0f} times [{ratios[0]:.0f}, {ratios[-1]:.0f}]; {loops:.4f} s against {wholes:.6f} s"
        )


if __name__ == "__main__":
    main()
