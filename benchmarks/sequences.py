"""Characters a second of training against the same LSTM in plain torch, interleaved; and of sampling: python benchmarks/sequences.py.

The plain loop reads windows of one long tensor, carries the state, clips and steps with fused Adam: torch.nn.LSTM with torch's own
layers and dropout. Ours runs the batches, the task and the guarded step that `fit` runs. [--hidden 256] [--layers 2] [--device cuda]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.data.augment import Identity
from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.data.ragged import OFFSETS
from crucible.models.recurrent import lstm
from crucible.optim.guard import GuardedOptimizer
from crucible.optim.optimizers import adam
from crucible.tasks.language import Language
from crucible.tasks.steps import written
from crucible.training.fit import train_step

SYMBOLS, WINDOW, BATCH, KEEP, STEPS = 65, 100, 32, 0.7, 12
NAMES = ["<UNK>", *(chr(58 + i) for i in range(SYMBOLS - 1))]


def prepared(folder: Path, windows: int) -> Card:
    """Write random text as a prepared folder of windows."""
    (folder / "train").mkdir(parents=True)
    np.save(folder / "train" / "x.npy", np.random.default_rng(0).integers(0, SYMBOLS, windows * WINDOW))
    np.save(folder / "train" / OFFSETS, np.arange(windows + 1) * WINDOW)
    np.save(folder / "train" / "y.npy", np.zeros(windows, np.int64))
    normalize = {"kind": "none", "mean": [0.0], "std": [1.0], "fitted_on": "train", "fitted_size": windows}
    lengths = {"shortest": WINDOW, "mean": float(WINDOW), "longest": WINDOW}
    card = Card("random", "0" * 64, {}, {"train": {"size": windows, "class_counts": []}}, [], [WINDOW, SYMBOLS], "int64", normalize, {}, {},
                columns=NAMES, lengths=lengths)  # fmt: skip
    card.write(folder / "card.json")
    return card


def ours(folder: Path, card: Card, hidden: int, layers: int, device: torch.device) -> Iterator[None]:
    """Give after each step of training."""
    task = Language(card, monitor="loss", goal="minimize", tolerance=0.02)
    settings = {"hidden": hidden, "layers": layers, "bidirectional": False, "keep_prob": KEEP}
    model = task.attach(lstm(card.feature_shape, SYMBOLS, peephole=False, **settings)).to(device).train()
    batches = Batches(folder, card, device, batch_size=BATCH, augment=Identity(), seed=0, sampling="streams")
    optimizer = GuardedOptimizer(adam(model.parameters(), lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8), max_norm=1.0)
    epoch = 0
    while True:
        for batch in batches.train(epoch):
            train_step(model, task, batch, optimizer)
            yield
        epoch += 1


class Plain(nn.Module):
    """The same network in torch's words."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(SYMBOLS, hidden, layers, batch_first=True, dropout=1 - KEEP if layers > 1 else 0.0)
        self.dropout, self.head = nn.Dropout(1 - KEEP), nn.Linear(hidden, SYMBOLS)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return logits (B, L, V) of one-hot vectors, and the state."""
        outputs, state = self.lstm(F.one_hot(x, SYMBOLS).float(), state)
        return self.head(self.dropout(outputs)), state


def plain(folder: Path, hidden: int, layers: int, device: torch.device) -> Iterator[None]:
    """Give after each step of training."""
    text = torch.from_numpy(np.load(folder / "train" / "x.npy")).to(device)
    columns = text[: len(text) // BATCH * BATCH].view(BATCH, -1)
    model = Plain(hidden, layers).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    while True:
        state = None
        for start in range(0, columns.shape[1] - WINDOW, WINDOW):
            x, y = columns[:, start : start + WINDOW], columns[:, start + 1 : start + 1 + WINDOW]
            logits, state = model(x, state)
            state = (state[0].detach(), state[1].detach())
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield


def seconds(work: Iterator[None], finish: Callable[[], None]) -> float:
    """Return how long some steps take."""
    start = time.perf_counter()
    for _ in islice(work, STEPS):
        pass
    finish()
    return time.perf_counter() - start


def main() -> None:
    """Print the median ratio of paired rounds, and the characters a second of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    finish = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    with tempfile.TemporaryDirectory() as home:
        card = prepared(Path(home) / "data", 4000)
        loops = (
            ours(Path(home) / "data", card, given.hidden, given.layers, device),
            plain(Path(home) / "data", given.hidden, given.layers, device),
        )
        for loop in loops:
            seconds(loop, finish)
        pairs = [tuple(seconds(loop, finish) for loop in loops) for _ in range(given.rounds)]
    each = STEPS * BATCH * WINDOW
    rates = [each / median(pair[i] for pair in pairs) for i in range(2)]
    ratio = median(theirs / own for own, theirs in pairs)
    print(f"{given.layers} x {given.hidden} on {device}, {torch.get_num_threads()} thread(s): ours {rates[0]:,.0f}, plain torch {rates[1]:,.0f} "
          f"characters a second; median ratio of {given.rounds} pairs {ratio:.3f}")  # fmt: skip
    settings = {"hidden": given.hidden, "layers": given.layers, "bidirectional": False, "keep_prob": 1.0}
    model = lstm([WINDOW, SYMBOLS], SYMBOLS, peephole=False, **settings).to(device).eval()
    start = time.perf_counter()
    count = sum(1 for _ in islice(written(model, NAMES, [], temperature=1.0, seed=0), 300))
    print(f"sampling: {count / (time.perf_counter() - start):,.0f} characters a second")


if __name__ == "__main__":
    main()
