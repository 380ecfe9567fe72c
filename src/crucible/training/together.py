"""How processes that train together go through the epochs in step: rank 0 leads, and the others follow."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from crucible.optim.guard import GuardedOptimizer
from crucible.seeds import seed_global
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
