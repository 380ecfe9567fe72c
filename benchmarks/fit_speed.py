"""Samples per second of `fit` against plain PyTorch, interleaved: python benchmarks/fit_speed.py [--repeats 7]."""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import plain
import torch
from torch import nn

from crucible.data.augment import Identity
from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.inference.saved_run import on_device
from crucible.models.mlp import MLP
from crucible.models.resnet import ResNet
from crucible.optim.guard import GuardedOptimizer
from crucible.optim.optimizers import adam
from crucible.optim.schedules import constant
from crucible.seeds import generator
from crucible.tasks.classification import Classification
from crucible.tracking.checkpoint import Checkpoints
from crucible.tracking.journal import Journal, read_events
from crucible.tracking.mirror import Mlflow
from crucible.training.best import Best
from crucible.training.fit import fit
from crucible.training.run import Run

CPU = torch.device("cpu")
MEAN, STD, STEPS = 72.9, 90.0, 50
Build = Callable[[], nn.Module]


def prepared(folder: Path, size: int) -> Card:
    """Write `size` random 28x28 images as a prepared folder without dev."""
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    np.save(folder / "train" / "x.npy", rng.integers(0, 256, (size, 1, 28, 28), dtype=np.uint8))
    np.save(folder / "train" / "y.npy", rng.integers(0, 10, size))
    card = card_of_images((1, 28, 28), size)
    card.write(folder / "card.json")
    return card


def card_of_images(shape: Sequence[int], size: int = 100) -> Card:
    """Return the card of random images of ten classes."""
    normalize = {"kind": "standard", "mean": [MEAN], "std": [STD], "fitted_on": "train", "fitted_size": size}
    splits = {"train": {"size": size, "class_counts": [size // 10] * 10}}
    return Card("random", "0" * 64, {}, splits, [str(i) for i in range(10)], list(shape), "uint8", normalize, {}, {})


def ours(
    model: nn.Module, data: Path, card: Card, epochs: int, batch_size: int, log_every: int | None = None
) -> tuple[float, list[float]]:
    """Train with journal, checkpoints and mirror on; return examples a second and the losses of the steps logged."""
    model = on_device(model, CPU, channels_last=True)
    task = Classification(card, monitor="f1", goal="maximize", tolerance=0.02)
    batches = Batches(data, card, CPU, batch_size=batch_size, augment=Identity(), seed=0)
    batches.arrays("train")
    optimizer = GuardedOptimizer(adam(model.parameters(), lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8))
    folder = Path(tempfile.mkdtemp(dir=data.parent))
    card.write(folder / "card.json")
    (folder / "config.yaml").write_text("{}\n")
    journal = Journal(folder)
    journal.append("start", journal=folder.name, name="bench", tags={})
    mirror = Mlflow(folder, data.parent, uri=None, experiment="bench")
    mirror.start()
    best, checkpoints = Best(monitor="f1", goal="maximize"), Checkpoints(folder, identity={})
    schedule = constant(optimizer.optimizer, warmup_epochs=0)
    run = Run(
        folder, journal, model, optimizer, schedule, seed=0, best=best, checkpoints=checkpoints, log_every=log_every
    )
    start = time.perf_counter()
    fit(model, task, batches, optimizer, schedule, run, total_epochs=epochs)
    seconds = time.perf_counter() - start
    journal.append("failed", epoch=run.epoch, step=run.step)  # the mirror may go: what follows is timed without it
    journal.close()
    assert mirror.process is not None
    mirror.process.wait()
    points = [event["values"].get("step/loss") for event in read_events(journal.path) if event["kind"] == "metrics"]
    return card.size("train") * epochs / seconds, [point for point in points if point is not None]


def copy_weights(source: nn.Module, target: nn.Module) -> nn.Module:
    """Give the target the source's weights, by order."""
    mine, theirs = list(source.state_dict().values()), list(target.state_dict().items())
    assert [v.shape for v in mine] == [v.shape for _, v in theirs]
    target.load_state_dict({name: value.clone() for (name, _), value in zip(theirs, mine, strict=True)})
    return target


def compare(name: str, build: Build, plain_build: Build, size: int, epochs: int, batch: int, repeats: int) -> None:
    """Interleave ours, the bare loop and the DataLoader loop; print median ratios and how far the losses are apart."""
    with tempfile.TemporaryDirectory() as home:
        data = Path(home) / "data"
        card = prepared(data, size)
        x8, y = (torch.from_numpy(np.load(data / "train" / f"{part}.npy")) for part in "xy")
        x = (x8.float() - MEAN) / STD
        orders = [torch.randperm(size, generator=generator(0, "order", epoch, CPU)) for epoch in range(epochs)]
        torch.manual_seed(0)
        start = build()
        _, logged = ours(copy_weights(start, build()), data, card, 1, batch, log_every=1)
        _, losses = plain.bare_loop(copy_weights(start, plain_build()), x, y, orders[:1], batch)
        apart = max(abs(a - b) for a, b in zip(logged[:STEPS], losses[:STEPS], strict=True))
        bare, loader = [], []
        for _ in range(repeats):
            speed, _ = ours(copy_weights(start, build()), data, card, epochs, batch)
            plain_speed, _ = plain.bare_loop(copy_weights(start, plain_build()), x, y, orders, batch)
            slow, _ = plain.dataloader_loop(copy_weights(start, plain_build()), x8, y, MEAN, STD, orders[:1], batch)
            bare.append(speed / plain_speed)
            loader.append(speed / slow)
        print(
            f"{name:9} ours {speed:8,.0f}/s  / bare {median(bare):.2f} [{min(bare):.2f}, {max(bare):.2f}]  "
            f"/ DataLoader {median(loader):.2f} [{min(loader):.2f}, {max(loader):.2f}]  "
            f"losses of the first {STEPS} steps differ by at most {apart:.1e}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    shape = (1, 28, 28)
    torch.set_num_threads(1)
    make_mlp = lambda: MLP(shape, 10, layers=[64, 128, 64], activation="relu", keep_prob=1.0, batch_norm=False)  # noqa: E731
    compare("mlp", make_mlp, plain.mlp, 60_000, 3, 128, repeats)
    compare("mlp long", make_mlp, plain.mlp, 60_000, 60, 128, max(1, repeats // 3))
    torch.set_num_threads(2)
    make_resnet = lambda: ResNet(shape, 10, depth=8, width=None, keep_prob=1.0)  # noqa: E731
    compare("resnet8", make_resnet, plain.ResNet8, 6_400, 2, 128, repeats)


if __name__ == "__main__":
    main()
