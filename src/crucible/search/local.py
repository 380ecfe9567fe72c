"""Workers on this machine: processes and pipes. A worker whose parent is gone ends at once."""

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from crucible.errors import Pruned, Refusal, Stopped
from crucible.search.engine import Message, Work
from crucible.search.trials import TrialRequest, TrialResult


@dataclass(eq=False)
class Handle:
    """A worker process; `place` is its number among those of this engine."""

    process: Any
    pipe: Connection
    place: int


@dataclass(eq=False)
class Waiting:
    """A process that will be a worker, and the pipe to it."""

    process: Any
    pipe: Connection


def begun(*modules: str) -> Waiting:
    """Start a process that loads modules and then waits for its work."""
    context = get_context("spawn")  # not fork: threads and CUDA do not survive it
    ours, its = context.Pipe()
    process = context.Process(target=serve, args=(its, modules), daemon=True)
    process.start()
    its.close()
    return Waiting(process, ours)


@contextmanager
def begun_early(count: int, *modules: str) -> Iterator[list[Waiting]]:
    """Give so many processes that load modules while this one gets the work ready; those that nobody takes end with it."""
    found = [begun(*modules) for _ in range(count)]
    try:
        yield found
    finally:
        for each in found:
            if each.process.is_alive():
                each.process.kill()
            each.process.join()


class Local:
    """The engine of one machine.

    Args:
        count: workers. gpus: what CUDA calls those that there are; each worker has one to itself as long as they last.
        waiting: processes that are there already, and have no work yet.
    """

    def __init__(self, count: int, gpus: Sequence[str] = (), waiting: Sequence["Waiting"] = ()) -> None:
        self._count, self._gpus, self._waiting = count, gpus, list(waiting)
        self._places = set[int]()

    def start(self, work: Work) -> Handle:
        """Start a process, or take one that waits."""
        place = next(i for i in range(len(self._places) + 1) if i not in self._places)
        gpu = self._gpus[place % len(self._gpus)] if self._gpus else None
        waiting = self._waiting.pop() if self._waiting else begun()
        with suppress(OSError):  # it is gone: heard() will say so
            waiting.pipe.send((work, gpu))
        self._places.add(place)
        return Handle(waiting.process, waiting.pipe, place)

    def send(self, handle: Handle, what: TrialRequest | str | None) -> None:
        """Send through the pipe."""
        with suppress(OSError):  # it is gone: heard() will say so
            handle.pipe.send(what)

    def heard(self, handles: Sequence[Handle], seconds: float) -> Iterator[tuple[Handle, Message | None]]:
        """Give what has come through the pipes; a closed one is that of a worker that is gone."""
        ready = wait([each.pipe for each in handles], seconds)
        for handle in [each for each in handles if each.pipe in ready]:
            try:
                message = handle.pipe.recv()
            except (EOFError, OSError):
                message = None
            yield handle, message

    def end(self, handle: Handle) -> str:
        """Kill the process."""
        handle.process.kill()
        handle.process.join()
        handle.pipe.close()
        self._places.discard(handle.place)
        return f"exit code {handle.process.exitcode}"

    def capacity(self) -> int:
        """Return what was asked for."""
        return self._count


def serve(pipe: Connection, modules: Sequence[str] = ()) -> None:
    """Be told the work, then do jobs from the pipe until it closes: what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for name in modules:
        import_module(name)
    try:
        work, gpu = pipe.recv()
    except EOFError:  # nobody needs it
        return
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used
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
        if job.is_told(epoch):
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
