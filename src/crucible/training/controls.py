"""Changes to a running training, applied at the boundaries of epochs; crucible.tracking.control holds what may be asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from crucible.errors import Refusal
from crucible.tracking.control import control_requests, parse, replayed
from crucible.tracking.journal import Event, Journal

Request = dict[str, Any]


class Controls:
    """What was asked of a training and done, in order.

    Args:
        folder: of the run, with its control file. journal: where every change is recorded before and after it is made.
        schedule: whose rate may be changed. checkpoint: writes one.

    Attributes:
        done: {id, change, epoch}. length: epochs in all, where a change has set it.
    """

    def __init__(self, folder: Path, journal: Journal, schedule: LRScheduler, checkpoint: Callable[[], None]) -> None:
        self._folder, self._journal, self._schedule, self._checkpoint = folder, journal, schedule, checkpoint
        self.done: list[Request] = []
        self.length: int | None = None
        self._again: dict[int, list[Request]] = {}
        self._refused: set[str] = set()
        self._recorded = 0  # epochs that the journal holds: what is computed again is what was

    def apply(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """Do what is asked at this boundary, journaled before an interruption or new.

        Args:
            epoch, step: completed. values: the latest numbers, for the record.
        """
        for request in self._again.pop(epoch, []):
            self._do(request, parse(request["change"]), epoch)
            if not request["done"]:
                self._record(request, "done", epoch, step, values=values)
        if self._again or epoch < self._recorded:
            return
        known = self._refused | {each["id"] for each in self.done}
        for request in control_requests(self._folder):
            if request["id"] not in known:
                self._apply(request, epoch, step, values)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        return {"length": self.length, "controls": self.done}

    def restore(self, state: dict[str, Any] | None, events: list[Event], step: int, values: dict[str, float]) -> None:
        """Go back to where a checkpoint was written; what the journal knows beyond it is done again, at its boundaries."""
        if state is not None:
            self.length, self.done = state["length"], state["controls"]
        recorded = [event for event in events if event["kind"] == "control"]
        self._again = replayed(recorded, [each["id"] for each in self.done])
        self._refused = {event["id"] for event in recorded if event["state"] == "refused"}
        self._recorded = max((event["epoch"] for event in events if "train/loss" in event.get("values", ())), default=0)
        ended = {event["id"] for event in recorded if event["state"] == "done"}
        for request in [each for each in self.done if each["id"] not in ended]:
            self._record(request, "done", state["epoch"] if state else 0, step, values=values)

    def _apply(self, request: Request, epoch: int, step: int, values: dict[str, float]) -> None:
        try:
            change = parse(request["change"])
        except Refusal as refusal:
            self._refused.add(request["id"])
            self._record(request, "refused", epoch, step, why=str(refusal))
            return
        self._record(request, "asked", epoch, step)
        self._journal.sync()
        self._do(request, change, epoch)
        self._record(request, "done", epoch, step, values=values)

    def _record(self, request: Request, state: str, epoch: int, step: int, **more: Any) -> None:
        facts = {"id": request["id"], "change": request["change"], "state": state}
        self._journal.append("control", epoch=epoch, step=step, **facts, **more)

    def _do(self, request: Request, change: tuple[str, float | None], epoch: int) -> None:
        name, value = change
        self.done.append({"id": request["id"], "change": request["change"], "epoch": epoch})
        if name == "optimizer.lr":
            set_starting_rate(self._schedule, float(value or 0))
        elif name in ("trainer.total_epochs", "stop"):
            self.length = max(epoch, int(value)) if value else epoch
        elif name == "checkpoint":
            self._checkpoint()


def set_starting_rate(schedule: LRScheduler, lr: float) -> None:
    """Let `lr` take the place of the schedule's starting rate: the rates of all groups change by the same factor."""
    first = schedule.base_lrs[0]
    schedule.base_lrs = [lr * (base / first) for base in schedule.base_lrs]
    for group, base in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] *= base / group["initial_lr"]
        group["initial_lr"] = base
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
