"""A training step in shards: the same bits on one process or on many.

A batch is cut into S pieces, whoever computes them. Each has its own forward and backward pass, dropout and statistics of batch norm,
and what they give is added in one binary tree over the S places, so that no number depends on how many processes there are. S changes
the numbers (batch norm looks at a shard), and belongs to the configuration; the number of processes does not.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.optim.guard import GuardedOptimizer
from crucible.seeds import seed_global
from crucible.tasks.task import Task, total_of
from crucible.training.world import World, shares, subtrees, summed

Leaf = Callable[[int], Sequence[Tensor]]


class ShardedStep:
    """Takes one optimizer step for a batch in S shards, of which this process computes its own.

    Args:
        shards: S; a batch of fewer than 2 S examples has fewer, which everybody computes: batch norm needs two examples.
        seed: dropout of a shard is seeded from it, the step and the shard. world: the processes that train together.

    Attributes:
        step: that comes next, of the whole training.
    """

    def __init__(self, shards: int, *, seed: int, world: World) -> None:
        self._shards, self._seed, self._world, self.step = shards, seed, world, 0

    def __call__(self, model: nn.Module, task: Task, batch: Batch, optimizer: GuardedOptimizer) -> dict[str, Tensor]:
        """Take the step; return each loss term of the whole batch, on the device."""
        parts = cut(batch, min(self._shards, max(1, len(batch["x"]) // 2)))
        share = _shares([task.weight(part) for part in parts])
        before = [each.clone() for each in model.buffers()]
        measured = [each for each in before if each.is_floating_point()]
        names, learning = list[str](), list[nn.Parameter]()

        def leaf(shard: int) -> list[Tensor]:
            """Return the gradients, the statistics and the losses of a shard, each times its share of the batch."""
            for each, was in zip(model.buffers(), before, strict=True):
                each.copy_(was)
            seed_global(self._seed, f"dropout/{self.step}/{shard}")
            losses = {name: value * share[shard] for name, value in task.losses(model, parts[shard]).items()}
            optimizer.zero_grad()
            total_of(losses).backward()
            names[:], learning[:] = losses, [each for each in optimizer.parameters if each.requires_grad]
            gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in learning]
            return [
                *gradients,
                *((each - was) * share[shard] for each, was in zip(_statistics(model), measured, strict=True)),
                *(each.detach() for each in losses.values()),
            ]

        found = iter(self._sums(len(parts), leaf))
        for parameter in learning:
            parameter.grad = torch.empty_like(parameter).copy_(
                next(found)
            )  # in its own form of memory, as kernels walk it
        for each, was in zip(_statistics(model), measured, strict=True):
            each.copy_(was + next(found))  # what no shard has changed stays to the last bit
        losses = dict(zip(names, found, strict=True))
        optimizer.step(total_of(losses))
        self.step += 1
        return losses

    def _sums(self, count: int, leaf: Leaf) -> list[Tensor]:
        """Return the sums of what all shards give, tensor by tensor."""
        if count < self._shards or self._world.size == 1:
            return summed((0, count), leaf)
        own = shares(count, self._world.size)[self._world.rank]
        nodes = {node: summed(node, leaf) for node in subtrees(own, count)}
        like = next(iter(nodes.values()))
        flat = {node: torch.cat([each.reshape(-1) for each in sums]) for node, sums in nodes.items()}
        pieces = self._world.total(flat, count).split([each.numel() for each in like])
        return [piece.view(each.shape) for piece, each in zip(pieces, like, strict=True)]


def cut(batch: Batch, count: int) -> list[Batch]:
    """Return a batch in so many pieces in a row, as even as it goes."""
    size = len(batch["x"])
    cuts = [size * i // count for i in range(count + 1)]
    return [{name: value[start:end] for name, value in batch.items()} for start, end in pairwise(cuts)]


def _shares(weights: Sequence[float | Tensor]) -> list[Any]:
    """Return what each shard counts of all: plain numbers, or () on the device where the labels tell it; nothing where none counts."""
    total: Any = sum(weights)
    if isinstance(total, Tensor):
        return [torch.where(total > 0, weight / total, 0.0) for weight in weights]
    return [weight / total for weight in weights]


def _statistics(model: nn.Module) -> list[Tensor]:
    """Return what a network measures of its batches, as running means: its counters are no statistics."""
    return [each for each in model.buffers() if each.is_floating_point()]
