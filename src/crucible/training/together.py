"""How processes that train together go through the epochs in step: rank 0 leads, and the others follow; on dev they take turns."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from crucible.data.batches import Batch
from crucible.nested import moved
from crucible.optim.guard import GuardedOptimizer
from crucible.seeds import seed_global
from crucible.training.evaluation import outputs_of
from crucible.training.run import Run, Values
from crucible.training.world import World


class Leading:
    """Rank 0's run, which tells the others each epoch that it begins, with its rates, and when there is none left."""

    def __init__(self, run: Run, world: World) -> None:
        self._run, self._world = run, world

    def epochs(self, total: int) -> Iterator[int]:
        """Give the epochs of the run."""
        for epoch in self._run.epochs(total):
            self._world.shared((epoch, rates(self._run.schedule)))
            yield epoch
        self._world.shared(None)

    def add(self, losses: dict[str, Tensor], size: int) -> None:
        """Let the run take in a step."""
        self._run.add(losses, size)

    def record(self, dev: Values) -> None:
        """Let the run close an epoch."""
        self._run.record(dev)


class Following:
    """What a process that follows has in place of a run: nothing is recorded here.

    Args:
        optimizer, schedule: whose rates are those that rank 0 says: a control may have changed them. seed: of dropout.
    """

    def __init__(self, optimizer: GuardedOptimizer, schedule: LRScheduler, world: World, *, seed: int) -> None:
        self._optimizer, self._schedule, self._world, self._seed = optimizer, schedule, world, seed

    def epochs(self, total: int) -> Iterator[int]:
        """Give the epochs that rank 0 begins."""
        while (said := self._world.shared(None)) is not None:
            epoch, told = said
            take(self._schedule, told)
            seed_global(self._seed, "dropout", epoch)
            self._optimizer.reset()
            yield epoch

    def add(self, losses: dict[str, Tensor], size: int) -> None:
        """Take no notice."""

    def record(self, dev: Values) -> None:
        """Take no notice."""


class InTurn:
    """Gives the outputs of a model batch by batch, of which each process has computed its own; the others have them from it.

    What a batch gives depends on the weights alone, which all have: the numbers are those of one process.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Any, Batch]]:
        """Give the outputs for each batch, and the batch; the model is in evaluation mode."""
        several = iter(batches)
        while together := list(islice(several, self._world.size)):
            mine = [said for said, _ in outputs_of(model, together[self._world.rank : self._world.rank + 1])]
            for said, batch in zip(self._world.gathered(moved(mine, torch.device("cpu"))), together, strict=False):
                yield moved(said[0], batch["x"].device), batch


def rates(schedule: LRScheduler) -> dict[str, Any]:
    """Return the rates of each group, as a schedule has left them or a control has changed them."""
    groups = [(group["lr"], group["initial_lr"]) for group in schedule.optimizer.param_groups]
    return {"base": list(schedule.base_lrs), "groups": groups}


def take(schedule: LRScheduler, told: dict[str, Any]) -> None:
    """Have these rates."""
    schedule.base_lrs = list(told["base"])
    for group, (lr, initial) in zip(schedule.optimizer.param_groups, told["groups"], strict=True):
        group["lr"], group["initial_lr"] = lr, initial
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
