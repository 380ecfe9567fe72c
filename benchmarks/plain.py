"""The baselines: what a practitioner writes in plain PyTorch. Nothing of ours is imported here."""

import time
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


def mlp() -> nn.Module:
    """784-64-128-64-10."""
    widths = [784, 64, 128, 64]
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.down(x))


class ResNet8(nn.Module):
    """Three stages of one block, 16 channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def bare_loop(
    model: nn.Module, x: Tensor, y: Tensor, orders: list[Tensor], batch_size: int
) -> tuple[float, list[float]]:
    """Index a normalised float tensor in memory; default Adam. Return examples a second and each step's loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses: list[Tensor] = []
    model.train()
    start = time.perf_counter()
    for order in orders:
        for i in range(0, len(order), batch_size):
            rows = order[i : i + batch_size]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    seconds = time.perf_counter() - start
    return len(x) * len(orders) / seconds, [float(loss) for loss in losses]


class Transformed(Dataset[tuple[Tensor, int]]):
    """Per-sample transforms: to float, normalise."""

    def __init__(self, x: Tensor, y: Tensor, mean: float, std: float) -> None:
        self.x, self.y, self.mean, self.std = x, y, mean, std

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return (self.x[i].float() - self.mean) / self.std, int(self.y[i])


def dataloader_loop(
    model: nn.Module, x: Tensor, y: Tensor, mean: float, std: float, orders: list[Tensor], batch_size: int
) -> tuple[float, list[float]]:
    """A DataLoader over per-sample transforms; default Adam. Return examples a second and each step's loss."""
    data = Transformed(x, y, mean, std)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses: list[Tensor] = []
    model.train()
    start = time.perf_counter()
    for order in orders:
        for images, labels in DataLoader(data, batch_size=batch_size, sampler=order.tolist()):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    seconds = time.perf_counter() - start
    return len(x) * len(orders) / seconds, [float(loss) for loss in losses]
