"""The workers of a search and what each is doing: one trial at a time each, imports paid once, no barrier between them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crucible.errors import Stopped
from crucible.search.engine import Engine, Message, Work
from crucible.search.trials import TrialRequest

TRIES_TO_START = 3  # in a row
NO_ROOM_SECONDS = 120.0


@dataclass(eq=False)
class Worker:
    """A worker and what it is doing.

    Attributes:
        job: None while it waits. since: when it was given the job, or became free.
        ready: whether it has said that it is there; before that it gets no trial.
    """

    handle: Any
    job: TrialRequest | None = None
    since: float = 0.0
    ready: bool = False


class Pool:
    """As many workers as the engine has room for, for one kind of work.

    Args:
        engine: where they run. work: see Engine.start.

    Raises:
        Stopped: workers die before they do anything, or there is no room for one.
    """

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine, self._work, self._stillborn = engine, work, 0
        self._busy = self._waited = 0.0
        self._room_at = time.monotonic()
        self.workers: list[Worker] = []
        self._fill()

    def idle(self) -> Iterator[Worker]:
        """Give the workers that are there and have no job."""
        yield from (each for each in self.workers if each.ready and each.job is None)

    @property
    def running(self) -> int:
        """How many workers have a job."""
        return sum(each.job is not None for each in self.workers)

    def give(self, worker: Worker, job: TrialRequest) -> None:
        """Hand a job to an idle worker."""
        now = time.monotonic()
        self._waited += now - worker.since if worker.since else 0.0
        worker.job, worker.since = job, now
        self._engine.send(worker.handle, job)

    def answer(self, worker: Worker, stop: str | None) -> None:
        """Tell a worker at a rung to go on, or why it must stop."""
        self._engine.send(worker.handle, stop)

    def messages(self, timeout: float) -> Iterator[tuple[Worker, Message]]:
        """Give what workers say: epoch (epoch, value), done (job, TrialResult); and lost, where one is gone, the job it had."""
        self._fill()
        whose = {id(each.handle): each for each in self.workers}
        for handle, message in self._engine.heard([each.handle for each in self.workers], timeout):
            worker = whose[id(handle)]
            if message is None:
                yield worker, ("lost", self._lost(worker))
                continue
            if message[0] == "done":
                message = ("done", (worker.job, message[1]))
                self._free(worker)
            if worker.ready or message[0] != "ready":
                yield worker, message
            worker.ready = True

    def busy_share(self) -> float:
        """Return the share of the time from a worker's first job to its last that it had one."""
        now = time.monotonic()
        busy = self._busy + sum(now - each.since for each in self.workers if each.job is not None)
        return busy / max(1e-9, busy + self._waited)

    def close(self) -> None:
        """End every worker, whatever it is doing."""
        for each in self.workers:
            self._engine.end(each.handle)

    def _fill(self) -> None:
        """Start workers while there is room."""
        room, now = self._engine.capacity(), time.monotonic()
        while len(self.workers) < room:
            self.workers.append(Worker(self._engine.start(self._work)))
        if self.workers:
            self._room_at = now
        elif now - self._room_at > NO_ROOM_SECONDS:
            raise Stopped("hydra.sweeper", f"no host has had room for a worker for {NO_ROOM_SECONDS:.0f} seconds",
                          allowed="hosts with what hydra.sweeper.resources asks for; the same command goes on")  # fmt: skip

    def _free(self, worker: Worker) -> None:
        now = time.monotonic()
        self._busy += now - worker.since
        worker.job, worker.since = None, now

    def _lost(self, worker: Worker) -> TrialRequest | None:
        """Take a worker that is gone out of the books; return the job that it had."""
        how = self._engine.end(worker.handle)
        self.workers.remove(worker)
        self._stillborn = 0 if worker.ready else self._stillborn + bool(how)
        if self._stillborn == TRIES_TO_START:
            raise Stopped("hydra.sweeper", f"workers end before they begin ({how}): what they print is above")
        job = worker.job
        if job is not None:
            self._free(worker)
        return job
