"""Numbers of train while it is learned: measured as those of dev, on some examples and in some epochs, so that they cost little."""

from math import ceil

import torch
from torch import nn

from crucible.data.batches import Batches
from crucible.tasks.task import MonitoredTask
from crucible.training.fit import evaluate

EXAMPLES = 1000  # at most, and no more than dev has: a look costs no more than dev does
SHARE = 0.06  # of train's examples, an epoch: a look costs a third of a step, so about 2 % of the time


class Sampled:
    """Measures some examples of train, always the same, in evaluation mode and without augmentation.

    Args:
        model, task: what is measured. batches: windows of one long text are left out, as they would be read without what came before,
            and so is a picture that is painted: there are no others.

    Attributes:
        every: epochs from one look to the next; the first is at epoch 1. It does not depend on how long the training is.
    """

    def __init__(self, model: nn.Module, task: MonitoredTask, batches: Batches) -> None:
        self._model, self._task, self._batches = model, task, batches
        size, dev = (
            len(batches.arrays(split)[1]) if split in batches.splits else EXAMPLES for split in ("train", "dev")
        )
        draw = torch.Generator().manual_seed(0)
        self._rows = torch.randperm(size, generator=draw)[: min(EXAMPLES, dev)].sort().values
        one_text = bool((batches.own.lengths or {}).get("of_one_text"))
        self._tells = task.kind.no_gap is None and not one_text
        self.every = max(1, ceil(len(self._rows) / (SHARE * size)))

    def __call__(self, epoch: int) -> dict[str, float]:
        """Return `train/NAME` after an epoch that has its turn, counted from 1; of the loss train itself tells the mean."""
        if not self._tells or (epoch - 1) % self.every:
            return {}
        found = evaluate(self._model, self._task, self._batches.evaluation("train", rows=self._rows))
        return {f"train/{name}": value for name, value in found.items() if name != "loss" and "/" not in name}
