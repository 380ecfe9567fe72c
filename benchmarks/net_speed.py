"""A training step of each network against the same in plain torch, interleaved: python benchmarks/net_speed.py [--repeats 9]."""

import argparse
import time
from collections.abc import Callable
from statistics import median

import plain_nets as plain
import torch
from fit_speed import card_of_images, copy_weights
from torch import Tensor, nn

from crucible.inference.saved_run import on_device
from crucible.models.alexnet import AlexNet
from crucible.models.convnet import ConvNet
from crucible.models.inception import Inception
from crucible.models.lenet5 import LeNet5
from crucible.models.resnet import ResNet
from crucible.models.vgg16 import VGG16
from crucible.optim.guard import GuardedOptimizer
from crucible.optim.optimizers import adam
from crucible.tasks.classification import Classification
from crucible.training.fit import train_step

CPU = torch.device("cpu")
LAYERS = [
    {"conv": 16, "f": 3, "p": "same"},
    {"max_pool": 2},
    {"conv": 32, "f": 3, "p": "same"},
    {"max_pool": 2},
    "flatten",
    {"fc": 64},
]
NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...], int]] = {
    "lenet5": (lambda: LeNet5([1, 28, 28], 10, variant="notes", keep_prob=1.0), plain.LeNet5, (1, 28, 28), 128),
    "convnet": (
        lambda: ConvNet([1, 28, 28], 10, layers=LAYERS, activation="relu", batch_norm=True, keep_prob=1.0),
        plain.ConvNet, (1, 28, 28), 128,
    ),
    "resnet18": (lambda: ResNet([3, 32, 32], 10, depth=18, width=None, keep_prob=1.0), plain.ResNet18, (3, 32, 32), 16),
    "inception": (
        lambda: _without_dropout(Inception([3, 32, 32], 10, batch_norm=True, keep_prob=1.0, auxiliary=0.3)),
        plain.GoogLeNet, (3, 32, 32), 16,
    ),
    "vgg16": (lambda: VGG16([3, 32, 32], 10, batch_norm=False, keep_prob=1.0), plain.VGG16, (3, 32, 32), 16),
    "alexnet": (
        lambda: AlexNet([3, 67, 67], 10, keep_prob=1.0, local_response_norm=False), plain.AlexNet, (3, 67, 67), 16,
    ),
}  # fmt: skip


def _without_dropout(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


def steps(
    name: str, *, channels_last: bool
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Return one training step of ours and one in plain torch, from the same weights."""
    build, plain_build, shape, _ = NETS[name]
    torch.manual_seed(0)
    start = build()
    ours, theirs = (
        on_device(copy_weights(start, build()), CPU, channels_last=channels_last).train(),
        copy_weights(start, plain_build()).train(),
    )
    task = Classification(card_of_images(shape), monitor="f1", goal="maximize", tolerance=0.02)
    optimizer = GuardedOptimizer(adam(ours.parameters(), lr=1e-4, beta1=0.9, beta2=0.999, eps=1e-8))
    other = torch.optim.Adam(theirs.parameters(), lr=1e-4)
    return (
        lambda x, y: train_step(ours, task, {"x": x, "label": y}, optimizer)["loss"].detach(),
        lambda x, y: plain.step(theirs, other, x, y),
    )


def measured(name: str, repeats: int) -> str:
    """Return a row of the table."""
    _, _, shape, batch = NETS[name]
    draw = torch.Generator().manual_seed(0)
    data = [(torch.randn(batch, *shape, generator=draw), torch.randint(10, (batch,), generator=draw)) for _ in range(5)]
    apart = []
    for channels_last in (False, True):
        ours, theirs = steps(name, channels_last=channels_last)
        apart.append(max(abs(float(ours(x, y)) - float(theirs(x, y))) for x, y in data))
    ratios = []
    for _ in range(repeats):
        seconds = []
        for each in (ours, theirs):
            start = time.perf_counter()
            for x, y in data:
                each(x, y)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[1] / seconds[0])
    size = "x".join(map(str, shape))
    return (f"| {name} | {size}, batch {batch} | {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] "
            f"| {apart[0]:.1e} | {apart[1]:.1e} |")  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("nets", nargs="*", default=list(NETS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        "| network | images | speed / plain | losses apart, contiguous | losses apart, channels last |\n|---|---|---|---|---|",
        flush=True,
    )
    for name in args.nets or NETS:
        print(measured(name, args.repeats), flush=True)


if __name__ == "__main__":
    main()
