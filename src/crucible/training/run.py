"""One training's memory: where it is, the best weights so far, the journal, the checkpoint."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from crucible.data.batches import Batches
from crucible.files import WEIGHTS
from crucible.optim.guard import GuardedOptimizer
from crucible.seeds import random_state, seed_global, set_random_state
from crucible.tracking.checkpoint import Checkpoints
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import Journal, read_events
from crucible.training.best import Best
from crucible.training.controls import Controls
from crucible.training.usage import Usage

Values = dict[str, float]


class NonFinite(ArithmeticError):
    """A loss or gradient was not finite; `step` is the place in the epoch, counted from 0."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"a loss or gradient is not finite in epoch {epoch + 1}, step {step + 1}")
        self.epoch, self.step = epoch, step


@dataclass(frozen=True)
class Observers:
    """Who else looks at an epoch.

    Attributes:
        tell: called with (epoch, total, values) after each. probe: gives further numbers, such as those of the layers. sampled: gives
            numbers of train, of some epochs.
        watch: gives warnings about an epoch's numbers, which are journaled. sketch: called with each epoch, to draw it.
    """

    tell: Callable[[int, int, Values], None] = lambda epoch, total, values: None
    probe: Callable[[], Values] = dict
    watch: Callable[[Values], list[str]] = lambda values: []
    sketch: Callable[[int], None] = lambda epoch: None
    sampled: Callable[[int], Values] = lambda epoch: {}


class Run:
    """Position and records of a training, so that the loop need not know of them.

    Args:
        folder: the run folder. journal: where every epoch is recorded. model, optimizer, schedule: what a checkpoint holds.
        seed: dropout is seeded from it, each epoch anew. best: keeps the best epoch. checkpoints: written when it is time.
        log_every: steps between points of the train loss in the journal; None: epochs only. observers: who else looks.
        batches: that are trained on, if a checkpoint may be written within an epoch: it holds how far they have come.

    Attributes:
        epoch, step: completed. latest: the last epoch's numbers on train and dev, and its rate. controls: what was changed. usage: of the
            machine.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        model: nn.Module,
        optimizer: GuardedOptimizer,
        schedule: LRScheduler,
        *,
        seed: int,
        best: Best,
        checkpoints: Checkpoints,
        log_every: int | None = None,
        observers: Observers = Observers(),
        batches: Batches | None = None,
    ) -> None:
        self.folder, self.journal, self.model = folder, journal, model
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self.best, self._checkpoints, self._log_every, self._observers = best, checkpoints, log_every, observers
        self._batches = batches
        self.controls = Controls(folder, journal, schedule, self.checkpoint)
        self.usage = Usage()
        self.epoch = self.step = self._total = 0
        self.latest: Values = {}
        self._lr, self._examples, self._totals = 0.0, 0, dict[str, Tensor]()
        self._resumed: dict[str, Any] | None = None  # where in an epoch a checkpoint was written

    @property
    def length(self) -> int:
        """Epochs in all, as declared or as a control has changed them."""
        return self._total if self.controls.length is None else self.controls.length

    @property
    def is_within_an_epoch(self) -> bool:
        """Whether it goes on where a checkpoint was written within an epoch."""
        return self._resumed is not None

    def epochs(self, total: int) -> Iterator[int]:
        """Give the epochs that are left, counted from 0, each with its own dropout; stop early out of patience."""
        self._total = total
        while self._resumed or self._goes_on():
            seed_global(self.seed, "dropout", self.epoch)
            self.optimizer.reset()
            self._totals, self._examples = {}, 0
            self._lr = float(self.schedule.get_last_lr()[0])
            self._go_on_within()
            yield self.epoch

    def _go_on_within(self) -> None:
        """Be where in the epoch the checkpoint was written, if it was within one."""
        if self._resumed is None:
            return
        within, self._resumed = self._resumed, None
        device = self.optimizer.flag.device
        self.optimizer.steps.fill_(within["steps"])
        self._totals = {name: value.to(device) for name, value in within["totals"].items()}
        self._examples = within["examples"]
        self.usage.leave_out(within["examples"])
        set_random_state(within["random"], device)

    def _goes_on(self) -> bool:
        self.controls.apply(self.epoch, self.step, self.latest)
        return self.epoch < self.length and not self.best.is_out_of_patience(self.epoch)

    def add(self, losses: dict[str, Tensor], size: int) -> None:
        """Take in the mean losses of a step over `size` examples, without reading them from the device."""
        self.step += 1
        self._examples += size
        for name, value in losses.items():
            if name not in self._totals:
                self._totals[name] = torch.zeros((), dtype=torch.float64, device=value.device)
            self._totals[name].add_(value.detach(), alpha=size)
        if self._log_every and self.step % self._log_every == 0:
            values = {f"step/{name}": value.item() for name, value in losses.items()}
            self._require_finite()
            self.journal.append("metrics", epoch=self.epoch + 1, step=self.step, values=values)
        if (
            self._checkpoints.is_due_within(self.step)
            and self._batches is not None
            and self._batches.is_within_an_epoch
        ):
            self._require_finite()
            self._checkpoints.save(self.journal, lambda: self._state() | self._within())

    def _require_finite(self) -> None:
        if self.optimizer.flag:
            raise NonFinite(self.epoch, int(self.optimizer.steps))

    def record(self, dev: Values) -> None:
        """Close an epoch: journal its numbers, keep it if it is the best, checkpoint if it is time.

        Raises:
            NonFinite: the optimizer's flag is up; nothing of this epoch is recorded.
            ArithmeticError: a number on dev is not finite.
        """
        self._require_finite()
        self.epoch += 1
        train = {f"train/{name}": float(total) / self._examples for name, total in self._totals.items()}
        values = {**train, **{f"dev/{name}": value for name, value in dev.items()}, "lr": self._lr}
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            raise ArithmeticError(f"{wrong[0]} is {values[wrong[0]]} after epoch {self.epoch}")
        looked = self._observers.sampled(self.epoch) | self._observers.probe()
        values |= {name: value for name, value in looked.items() if name not in values and math.isfinite(value)}
        used = self.usage.add(self._examples)
        self.journal.append("metrics", epoch=self.epoch, step=self.step, values=values | used)
        if self.best.offer(dev, self.epoch, self.model):
            monitored = f"dev/{self.best.monitor}"
            self.journal.append("best", epoch=self.epoch, step=self.step, values={monitored: values[monitored]})
        self.latest = {name: value for name, value in values.items() if name.startswith(("train/", "dev/", "lr"))}
        if what := self._observers.watch(values):
            self.journal.append("warning", epoch=self.epoch, step=self.step, what=what)
        self._observers.sketch(self.epoch)
        self._observers.tell(self.epoch, self.length, values)
        if self._checkpoints.is_due(self.epoch) or self._checkpoints.is_due_within(self.step):
            self._checkpoints.save(self.journal, self._state)

    def finish(self) -> None:
        """Put the chosen weights into the model and write them, equal bytes for equal weights."""
        self.checkpoint()
        self.model.load_state_dict(self.best.weights or self.model.state_dict())
        self.best.epoch = self.best.epoch or self.epoch
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_atomic(self.folder / WEIGHTS, save_safetensors(weights))

    def checkpoint(self) -> None:
        """Write everything needed to go on; the journal reaches the disk first."""
        self._checkpoints.save(self.journal, self._state)
        self.settle()

    def settle(self) -> None:
        """Wait until the last checkpoint is on the disk.

        Raises:
            OSError: it could not be written.
        """
        self._checkpoints.wait()

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go back to where a checkpoint was written, and say so in the journal; None: begin at the beginning.

        Controls that the journal knows and the checkpoint does not will be done again, at their boundaries.
        """
        if state is not None:
            self.epoch, self.step, self.latest = state["epoch"], state["step"], state["latest"]
            self.best.restore(state)
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self._resumed = state.get("within")
            if self._resumed and self._batches is not None:
                self._batches.load_state_dict(state["batches"])
            self.journal.append("resume", epoch=self.epoch, step=self.step)
        self.controls.restore(state, list(read_events(self.journal.path)), self.step, self.latest)

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer.optimizer, "schedule": self.schedule}

    def _within(self) -> dict[str, Any]:
        """Return what the epoch that is being trained has come to; its last step is no place to stop: its gradients are still looked at."""
        so_far = {"steps": int(self.optimizer.steps), "totals": self._totals, "examples": self._examples}
        random = random_state(self.optimizer.flag.device)
        return {"within": so_far | {"random": random}, "batches": self._batches.state_dict() if self._batches else {}}

    def _state(self) -> dict[str, Any]:
        position = {"epoch": self.epoch, "step": self.step, "latest": self.latest}
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return position | self.best.state() | self.controls.state() | parts
