"""Workers on this machine: processes and pipes. A worker whose parent is gone ends at once.

Each is a copy of a server that has loaded what trials need and has started no thread of its own (multiprocessing's forkserver): it is
there in an instant, and shares the memory of what was loaded. A copy of this process would not do: its threads and CUDA do not survive it.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
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


class Local:
    """The engine of one machine.

    Args:
        count: workers. gpus: what CUDA calls those that there are; each worker has one to itself as long as they last.
    """

    def __init__(self, count: int, gpus: Sequence[str] = ()) -> None:
        self._count, self._gpus = count, gpus
        self._places = set[int]()

    def start(self, work: Work) -> Handle:
        """Start a process."""
        get_ready()
        context = get_context("forkserver")
        ours, its = context.Pipe()
        place = next(i for i in range(len(self._places) + 1) if i not in self._places)
        gpu = self._gpus[place % len(self._gpus)] if self._gpus else None
        process = context.Process(target=serve, args=(work, its, gpu, dict(os.environ)), daemon=True)
        process.start()
        its.close()
        self._places.add(place)
        return Handle(process, ours, place)

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


def get_ready(*modules: str) -> None:
    """Start the server of which workers are copies, if it does not run; it loads the modules meanwhile."""
    if modules:
        get_context("forkserver").set_forkserver_preload(list(modules))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        each for each in sys.path if each
    )  # it is told nothing else of where modules are
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def serve(work: Work, pipe: Connection, gpu: str | None, env: Mapping[str, str]) -> None:
    """Do jobs from the pipe until it closes: what a worker process runs; the environment is that of who has asked for it."""
    os.environ.clear()
    os.environ.update(env)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used
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
