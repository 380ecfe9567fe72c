"""The best epoch so far: which weights a training keeps, and when it stops hoping for better ones."""

from typing import Any, Literal

from torch import Tensor, nn


class Best:
    """The epoch with the best monitored number on dev, the lower loss where it ties; without dev there is none.

    Args:
        monitor, goal: the number, and whether more of it is better. patience: epochs without a better number before the
            training stops; None: never. keep: `best`: its weights are those of the run; `last`: those of the last epoch are.
    """

    def __init__(
        self, *, monitor: str, goal: str, patience: int | None = None, keep: Literal["best", "last"] = "best"
    ) -> None:
        self.monitor, self._sign, self._patience = monitor, 1.0 if goal == "maximize" else -1.0, patience
        self._last = keep == "last"
        self.epoch = self.better_epoch = 0
        self.rank: list[float] | None = None
        self.weights: dict[str, Tensor] = {}

    def offer(self, dev: dict[str, float], epoch: int, model: nn.Module) -> bool:
        """Keep the weights if this epoch is the best, or where the last is wanted; return whether it is the best."""
        if not dev:
            return False
        rank = [self._sign * dev[self.monitor], -dev["loss"]]  # a small dev split ties often: then the lower loss
        if self.rank is None or rank[0] > self.rank[0]:
            self.better_epoch = epoch
        better = self.rank is None or rank > self.rank
        if better:
            self.rank = rank
        if better and not self._last:
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if better or self._last:
            self.epoch = epoch  # without weights of their own those of the model are the last
        return better

    def is_out_of_patience(self, epoch: int) -> bool:
        """Whether the monitored number has not become better for too many epochs."""
        waited = epoch - self.better_epoch if self.rank is not None else 0
        return self._patience is not None and waited >= self._patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        return {
            "best_epoch": self.epoch,
            "better_epoch": self.better_epoch,
            "best_rank": self.rank,
            "best_weights": self.weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where a checkpoint was written."""
        self.epoch, self.better_epoch = state["best_epoch"], state["better_epoch"]
        self.rank, self.weights = state["best_rank"], state["best_weights"]
