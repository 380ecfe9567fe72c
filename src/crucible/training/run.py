"""One training's memory: where it is, the best weights so far, the journal, the checkpoint."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from crucible.errors import Refusal
from crucible.files import WEIGHTS
from crucible.optim.guard import GuardedOptimizer
from crucible.seeds import seed_global
from crucible.tracking.folder import write_atomic
from crucible.tracking.journal import Journal, read_events
from crucible.training import checkpoint
from crucible.training.control import control_requests, parse, replayed, set_starting_rate

POSITION = ("epoch", "step", "best_epoch", "better_epoch", "best_rank", "best_weights", "length", "controls", "latest")
CHECKPOINT_SHARE = 0.05  # of the time, where trainer.checkpoint_every leaves it to us


class NonFinite(ArithmeticError):
    """A loss or gradient was not finite; `step` is the place in the epoch, counted from 0."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"a loss or gradient is not finite in epoch {epoch + 1}, step {step + 1}")
        self.epoch, self.step = epoch, step


class Run:
    """Position, best epoch and records of a training, so that the loop need not know of them.

    Args:
        folder: the run folder.
        journal: where every epoch is recorded.
        model, optimizer, schedule: what a checkpoint holds.
        seed: dropout is seeded from it, each epoch anew.
        monitor, goal: the number on dev that picks the best epoch, the loss where it ties; without dev the last is taken.
        patience: epochs without a better number before the training stops; None: never.
        checkpoint_every: epochs; None: as often as costs at most 5 % of the time.
        log_every: steps between points of the train loss in the journal; None: epochs only.
        identity: hashes of configuration, data and code, for the checkpoint.
        tell: called with (epoch, total, values) after each epoch.
        probe: gives further numbers of an epoch, such as those of the layers.
        watch: gives warnings about an epoch's numbers, which are journaled.
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
        monitor: str,
        goal: str,
        patience: int | None,
        checkpoint_every: int | None,
        log_every: int | None,
        identity: dict[str, str],
        tell: Callable[[int, int, dict[str, float]], None],
        probe: Callable[[], dict[str, float]] = dict,
        watch: Callable[[dict[str, float]], list[str]] = lambda values: [],
    ) -> None:
        self.folder, self.journal, self.model = folder, journal, model
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self.monitor, self._sign = monitor, 1.0 if goal == "maximize" else -1.0
        self.patience, self.checkpoint_every, self.log_every = patience, checkpoint_every, log_every
        self.epoch = self.step = self.best_epoch = self.better_epoch = 0
        self.best_rank: list[float] | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._identity = identity
        self.length: int | None = None  # epochs in all, where a control has changed it
        self.controls: list[dict[str, Any]] = []  # what was asked and done, in order
        self._again: dict[int, list[dict[str, Any]]] = {}
        self._refused: set[str] = set()
        self._recorded = 0  # epochs that the journal holds: what is computed again is what was
        self._tell, self._probe, self._watch, self._total, self._lr = tell, probe, watch, 0, 0.0
        self.latest: dict[str, float] = {}
        self._totals: dict[str, Tensor] = {}
        self._examples = 0
        self._saved_at, self._cost = time.monotonic(), 0.0

    @property
    def out_of_patience(self) -> bool:
        """Whether the monitored number has not become better for `patience` epochs; without dev there is none."""
        waited = self.epoch - self.better_epoch if self.best_rank is not None else 0
        return self.patience is not None and waited >= self.patience

    def epochs(self, total: int) -> Iterator[int]:
        """Give the epochs that are left, counted from 0, each with its own dropout; stop early out of patience."""
        self._total = total
        while self._apply_controls() < (total if self.length is None else self.length) and not self.out_of_patience:
            seed_global(self.seed, "dropout", self.epoch)
            self.optimizer.reset()
            self._totals, self._examples = {}, 0
            self._lr = float(self.schedule.get_last_lr()[0])
            yield self.epoch

    def add(self, losses: dict[str, Tensor], size: int) -> None:
        """Take in the mean losses of a step over `size` examples, without reading them from the device."""
        self.step += 1
        self._examples += size
        for name, value in losses.items():
            if name not in self._totals:
                self._totals[name] = torch.zeros((), dtype=torch.float64, device=value.device)
            self._totals[name].add_(value.detach(), alpha=size)
        if self.log_every and self.step % self.log_every == 0:
            values = {f"step/{name}": value.item() for name, value in losses.items()}
            if self.optimizer.flag:
                raise NonFinite(self.epoch, int(self.optimizer.steps))
            self.journal.append("metrics", epoch=self.epoch + 1, step=self.step, values=values)

    def record(self, dev: dict[str, float]) -> None:
        """Close an epoch: journal its numbers, keep it if it is the best, checkpoint if it is time.

        Raises:
            NonFinite: the optimizer's flag is up; nothing of this epoch is recorded.
            ArithmeticError: a number on dev is not finite.
        """
        if self.optimizer.flag:
            raise NonFinite(self.epoch, int(self.optimizer.steps))
        self.epoch += 1
        train = {f"train/{name}": float(total) / self._examples for name, total in self._totals.items()}
        values = {**train, **{f"dev/{name}": value for name, value in dev.items()}, "lr": self._lr}
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            raise ArithmeticError(f"{wrong[0]} is {values[wrong[0]]} after epoch {self.epoch}")
        values |= {name: value for name, value in self._probe().items() if math.isfinite(value)}
        self.journal.append("metrics", epoch=self.epoch, step=self.step, values=values)
        self._offer(dev)
        self.latest = {name: value for name, value in values.items() if name.startswith(("train/", "dev/", "lr"))}
        if what := self._watch(values):
            self.journal.append("warning", epoch=self.epoch, step=self.step, what=what)
        self._tell(self.epoch, self._total if self.length is None else self.length, values)
        if self._is_due():
            self.checkpoint()

    def finish(self) -> None:
        """Put the chosen weights into the model and write them, equal bytes for equal weights."""
        self.checkpoint()
        self.model.load_state_dict(self.best_weights or self.model.state_dict())
        self.best_epoch = self.best_epoch or self.epoch
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_atomic(self.folder / WEIGHTS, save_safetensors(weights))

    def checkpoint(self) -> None:
        """Write everything needed to go on; the journal reaches the disk first."""
        start = time.monotonic()
        self.journal.sync()
        checkpoint.save(self.folder, self._state())
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go back to where a checkpoint was written, and say so in the journal; None: begin at the beginning.

        Controls that the journal knows and the checkpoint does not will be done again, at their boundaries.
        """
        if state is not None:
            for name in POSITION:
                setattr(self, name, state[name])
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.journal.append("resume", epoch=self.epoch, step=self.step)
        events = list(read_events(self.journal.path))
        told = [event for event in events if event["kind"] == "control"]
        self._again = replayed(told, [each["id"] for each in self.controls])
        self._refused = {event["id"] for event in told if event["state"] == "refused"}
        self._recorded = max((event["epoch"] for event in events if "train/loss" in event.get("values", ())), default=0)
        done = {event["id"] for event in told if event["state"] == "done"}
        for request in [each for each in self.controls if each["id"] not in done]:
            self._journal_control(request, "done", values=self.latest)

    def _apply_controls(self) -> int:
        """Do what is asked at this boundary, journaled before an interruption or new; return the epochs completed."""
        for request in self._again.pop(self.epoch, []):
            self._do(request, parse(request["change"]))
            if not request["done"]:
                self._journal_control(request, "done", values=self.latest)
        if self._again or self.epoch < self._recorded:
            return self.epoch
        known = self._refused | {each["id"] for each in self.controls}
        for request in control_requests(self.folder):
            if request["id"] not in known:
                self._ask(request)
        return self.epoch

    def _ask(self, request: dict[str, Any]) -> None:
        try:
            change = parse(request["change"])
        except Refusal as refusal:
            self._refused.add(request["id"])
            self._journal_control(request, "refused", why=str(refusal))
            return
        self._journal_control(request, "asked")
        self.journal.sync()
        self._do(request, change)
        self._journal_control(request, "done", values=self.latest)

    def _journal_control(self, request: dict[str, Any], state: str, **more: Any) -> None:
        told = {"id": request["id"], "change": request["change"], "state": state}
        self.journal.append("control", epoch=self.epoch, step=self.step, **told, **more)

    def _do(self, request: dict[str, Any], change: tuple[str, float | None]) -> None:
        name, value = change
        self.controls.append({"id": request["id"], "change": request["change"], "epoch": self.epoch})
        if name == "optimizer.lr":
            set_starting_rate(self.schedule, float(value or 0))
        elif name in ("trainer.total_epochs", "stop"):
            self.length = max(self.epoch, int(value)) if value else self.epoch
        elif name == "checkpoint":
            self.checkpoint()

    def _offer(self, dev: dict[str, float]) -> None:
        if not dev:
            return
        rank = [self._sign * dev[self.monitor], -dev["loss"]]  # a small dev split ties often: then the lower loss
        if self.best_rank is None or rank[0] > self.best_rank[0]:
            self.better_epoch = self.epoch
        if self.best_rank is None or rank > self.best_rank:
            self.best_rank, self.best_epoch = rank, self.epoch
            self.best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.journal.append(
                "best", epoch=self.epoch, step=self.step, values={f"dev/{self.monitor}": dev[self.monitor]}
            )

    def _is_due(self) -> bool:
        if self.checkpoint_every is not None:
            return self.epoch % self.checkpoint_every == 0
        return (time.monotonic() - self._saved_at) * CHECKPOINT_SHARE >= self._cost

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer.optimizer, "schedule": self.schedule}

    def _state(self) -> dict[str, Any]:
        position = {"identity": self._identity, "journal_bytes": self.journal.path.stat().st_size}
        position |= {name: getattr(self, name) for name in POSITION}
        return position | {name: part.state_dict() for name, part in self._parts().items()}
