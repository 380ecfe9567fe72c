"""What a step in shards costs one process, against the usual step on the same batch: python benchmarks/shards.py [--repeats 9].

CPU seconds of this process, the kinds of step in turn; median of the ratios [smallest, largest]. And a dev split by several processes
in turn is measured by tests alone: two processes of one machine share its cores.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from fit_speed import card_of_images
from torch import nn

from crucible.inference.saved_run import on_device
from crucible.models.lenet5 import LeNet5
from crucible.models.mlp import MLP
from crucible.models.resnet import ResNet
from crucible.optim.guard import GuardedOptimizer
from crucible.optim.optimizers import adam
from crucible.tasks.classification import Classification
from crucible.training.fit import Step, train_step
from crucible.training.shards import ShardedStep
from crucible.training.world import World

CPU, SHAPE = torch.device("cpu"), [1, 28, 28]
NETS: dict[str, Callable[[], nn.Module]] = {
    "MLP 784-64-128-64-10": lambda: MLP(
        SHAPE, 10, layers=[64, 128, 64], activation="relu", keep_prob=1.0, batch_norm=False
    ),
    "MLP 784-1024-1024-10": lambda: MLP(
        SHAPE, 10, layers=[1024, 1024], activation="relu", keep_prob=1.0, batch_norm=False
    ),
    "LeNet-5": lambda: LeNet5(SHAPE, 10, variant="notes", keep_prob=1.0),
    "ResNet-8": lambda: ResNet(SHAPE, 10, depth=8, width=16, keep_prob=1.0),
}
SIZES = {
    "MLP 784-64-128-64-10": (128, 2048),
    "MLP 784-1024-1024-10": (128, 2048),
    "LeNet-5": (128, 512, 2048),
    "ResNet-8": (128, 512),
}


def seconds(
    step: Step, model: nn.Module, task: Classification, batch: dict[str, torch.Tensor], optimizer: GuardedOptimizer
) -> float:
    """Return the CPU seconds of a step."""
    start = time.process_time()
    step(model, task, batch, optimizer)
    return time.process_time() - start


def main() -> None:
    """Print a row for each network and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    card = card_of_images((1, 28, 28))
    for name, build in NETS.items():
        for size in SIZES[name]:
            model = on_device(build(), CPU, channels_last=True).train()
            task = Classification(card, monitor="f1", goal="maximize", tolerance=0.02)
            optimizer = GuardedOptimizer(adam(model.parameters(), lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8))
            batch = {
                "x": torch.randn(size, 1, 28, 28).contiguous(memory_format=torch.channels_last),
                "label": torch.randint(10, (size,)),
            }
            steps: dict[int, Step] = {1: train_step} | {s: ShardedStep(s, seed=0, world=World()) for s in (2, 4, 8)}
            found: dict[int, list[float]] = {s: [] for s in steps}
            for repetition in range(repeats + 1):
                for s, step in steps.items():
                    took = seconds(step, model, task, batch, optimizer)
                    if repetition:
                        found[s].append(took)
            ratios = {s: [a / b for a, b in zip(found[s], found[1], strict=True)] for s in (2, 4, 8)}
            row = "  ".join(
                f"S={s} {median(each):.2f} [{min(each):.2f}, {max(each):.2f}]" for s, each in ratios.items()
            )
            print(f"{name:<22}{size:>6}{1000 * median(found[1]):>8.1f} ms  {row}", flush=True)


if __name__ == "__main__":
    main()
