"""Processes that run trials, one trial at a time each, imports paid once; there is no barrier between them.

A worker whose parent is gone ends at once. A worker that is gone is noticed by its closed pipe.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from crucible.errors import Pruned, Refusal, Stopped
from crucible.search.trials import TrialRequest, TrialResult

Tell = Callable[[int, float], None]
Work = Callable[[TrialRequest, Tell], TrialResult]
Message = tuple[str, Any]
TRIES_TO_START = 3


@dataclass
class Worker:
    """A process and what it is doing.

    Attributes:
        job: None while it waits. since: when it was given the job, or became free. busy: seconds with a job.
        waited: seconds between one job and the next.
        ready: whether it has reported that it is there.
    """

    process: Any
    pipe: Connection
    job: TrialRequest | None = None
    since: float = 0.0
    busy: float = 0.0
    waited: float = 0.0
    ready: bool = False


class Pool:
    """So many workers for one kind of work.

    Args:
        work: called in a worker with an assignment and a function to tell (epoch, value) to; importable by its name.

    Raises:
        Stopped: workers die before they do anything.
    """

    def __init__(self, work: Work, count: int) -> None:
        self._work, self._stillborn = work, 0
        self.workers = [self._started() for _ in range(count)]

    def idle(self) -> Iterator[Worker]:
        """Give the workers without a job."""
        yield from (each for each in self.workers if each.job is None)

    @property
    def running(self) -> int:
        """How many workers have a job."""
        return sum(each.job is not None for each in self.workers)

    def give(self, worker: Worker, job: TrialRequest) -> None:
        """Hand a job to an idle worker."""
        now = time.monotonic()
        worker.waited += now - worker.since if worker.busy else 0.0
        worker.job, worker.since = job, now
        with suppress(OSError):  # it is gone: messages() will say so
            worker.pipe.send(job)

    def answer(self, worker: Worker, stop: str | None) -> None:
        """Tell a worker at a rung to go on, or why it must stop."""
        with suppress(OSError):
            worker.pipe.send(stop)

    def messages(self, timeout: float) -> Iterator[tuple[Worker, Message]]:
        """Give what workers say: epoch (epoch, value), done (job, Outcome); and lost, where one is gone, the job it had.

        A worker that is gone is replaced before it is reported.
        """
        ready = wait([each.pipe for each in self.workers], timeout)
        for worker in [each for each in self.workers if each.pipe in ready]:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                job = worker.job
                yield self._replaced(worker), ("lost", job)
                continue
            worker.ready = True
            if message[0] == "ready":
                continue
            if message[0] == "done":
                message = ("done", (worker.job, message[1]))
                self._free(worker)
            yield worker, message

    def busy_share(self) -> float:
        """Return the share of the time from a worker's first job to its last that it had one."""
        now = time.monotonic()
        busy = sum(each.busy + (now - each.since if each.job is not None else 0.0) for each in self.workers)
        return busy / max(1e-9, busy + sum(each.waited for each in self.workers))

    def close(self) -> None:
        """End every worker, whatever it is doing."""
        for each in self.workers:
            each.process.kill()
            each.process.join()
            each.pipe.close()

    def _free(self, worker: Worker) -> None:
        now = time.monotonic()
        worker.busy += now - worker.since
        worker.job, worker.since = None, now

    def _started(self) -> Worker:
        context = get_context("spawn")  # not fork: threads and CUDA do not survive it
        ours, its = context.Pipe()
        process = context.Process(target=serve, args=(self._work, its), daemon=True)
        process.start()
        its.close()
        return Worker(process, ours)

    def _replaced(self, worker: Worker) -> Worker:
        self._stillborn = 0 if worker.ready else self._stillborn + 1
        worker.process.join()
        worker.pipe.close()
        if self._stillborn == TRIES_TO_START:
            code = worker.process.exitcode
            raise Stopped(
                "hydra.sweeper", f"workers end before they begin (exit code {code}): what they print is above"
            )
        fresh = self._started()
        fresh.busy = worker.busy + (time.monotonic() - worker.since if worker.job is not None else 0.0)
        fresh.since, fresh.waited = time.monotonic(), worker.waited
        self.workers[self.workers.index(worker)] = fresh
        return fresh


def serve(work: Work, pipe: Connection) -> None:
    """Do jobs from the pipe until it closes: what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    pipe.send(("ready", None))
    while True:
        job = inbox.get()
        pipe.send(("done", _done(work, job, pipe, inbox)))


def _listen(pipe: Connection, inbox: "queue.SimpleQueue[Any]") -> None:
    """Pass on what comes; without a parent there is nothing left to do."""
    try:
        while True:
            inbox.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)


def _done(work: Work, job: TrialRequest, pipe: Connection, inbox: "queue.SimpleQueue[Any]") -> TrialResult:
    seen, start = 0, time.monotonic()

    def tell(epoch: int, value: float) -> None:
        nonlocal seen
        seen = epoch
        pipe.send(("epoch", (epoch, value)))
        if epoch in job.rungs and (stop := inbox.get()) is not None:
            raise Pruned(stop)

    try:
        outcome = work(job, tell)
    except Pruned as pruned:
        outcome = TrialResult("pruned", facts={"epochs": seen, "why": str(pruned)})
    except Exception as error:  # noqa: BLE001  (whatever it is, it is this trial's, and the search goes on)
        outcome = TrialResult("failed", facts={"epochs": seen, "cause": cause_of(error), "why": _one_line(error)})
    return replace(outcome, facts={**outcome.facts, "seconds": time.monotonic() - start})


def cause_of(error: Exception) -> str:
    """Return why a trial crashed: out of memory, non-finite, data or code."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words:
        return "out of memory"
    if isinstance(error, (Stopped, ArithmeticError)):
        return "non-finite"
    return "data" if isinstance(error, Refusal) else "code"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
