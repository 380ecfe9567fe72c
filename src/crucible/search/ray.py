"""Workers on the hosts of a Ray cluster (Moritz et al., 2018, arXiv:1712.05889); the only `import ray`.

An actor is a bridge: it has the worker process of one machine beside it, hands on what that says as a stream, and is told what to
pass to it. It brings the folders that a trial reads to its host, and sends the run folder back with the result. An actor that
cannot be reached may come back, and is killed: the trial it had is lost, and tried again like that of a killed process.
"""

import logging
import os
import pickle
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from crucible.data.ordered import done_in, results
from crucible.errors import Refusal
from crucible.integrity import code_of
from crucible.search.engine import Message, Work
from crucible.search.local import Local
from crucible.search.shipping import brought, content_of, digests_of, packed, read_part, scratch, unpack
from crucible.search.trials import TrialRequest

PACKAGE = Path(__file__).resolve().parents[1]
LOOK_SECONDS = 1.0  # between looks at what the cluster has
TOGETHER_SECONDS = 0.2  # in which what nobody waits for is sent together
HOST_GONE = "node has died"  # in Ray's words
ANSWER_SECONDS = 5.0  # in which an address must answer


@contextmanager
def connected(code: Path, path: str, **env: str) -> Iterator[None]:
    """Be part of the cluster at RAY_ADDRESS, or of one of this machine alone, and bring the code to its hosts.

    Args:
        code: a folder with what trials import and their configuration. path: where in it the packages are. env: for the workers.

    Raises:
        Refusal: no cluster answers.
    """
    if ray.is_initialized():  # a search on these hosts whose data they prepare, too
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    _require_answer(address)
    given = {"working_dir": str(code), "env_vars": {"PYTHONPATH": path, **env}}
    try:
        ray.init(
            address=address,
            runtime_env=given,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=None if address else False,
        )
    except (ConnectionError, TimeoutError, RuntimeError, RayError) as error:
        raise _no_cluster(str(address), " ".join(str(error).split())[:200]) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Refuse an address at which nobody listens: Ray itself waits long for it."""
    if address is None or address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise _no_cluster(address, "it is no HOST:PORT; a client's ray:// leads into the cluster and not to its hosts")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, f"nobody answers: {error}") from None


def _no_cluster(address: str, what: str) -> Refusal:
    return Refusal(f"RAY_ADDRESS={address}", what, allowed="HOST:PORT as `ray start --head` prints it, from a host of the cluster; RAY_AUTH_MODE=token where it has a token",
                   example="ray start --head --port=6379, then RAY_ADDRESS=127.0.0.1:6379; without RAY_ADDRESS this machine alone")  # fmt: skip


def gpus_there() -> bool:
    """Whether any host of the cluster has a GPU."""
    return any(there.get("GPU") for there in _hosts())


def over(count: int | None) -> Callable[[Iterable[Callable[[], Any]]], Iterator[Any]]:
    """Return an ordered map over so many processes on the hosts of the cluster; None: a process for each of its processors.

    The work is done in the folder of this name on each host: they reach the same files.
    """

    def mapped(works: Iterable[Callable[[], Any]]) -> Iterator[Any]:
        from ray.util.multiprocessing import Pool

        with Pool(processes=count) as pool:
            yield from results(pool.imap(done_in(Path.cwd()), iter(works)))

    return mapped


@dataclass(eq=False)
class Handle:
    """An actor, the stream of what it says, the folder of the trial that it has, and why it is gone."""

    actor: Any
    stream: Any
    folder: str = ""
    gone: str = ""


class Cluster:
    """The engine of many hosts.

    Args:
        cpus, gpus: of each worker. most: workers; None: as many as there is room for.
        folders: that trials read, by the key that names them; each is brought to a host once.
    """

    def __init__(self, *, cpus: int, gpus: float, most: int | None, folders: Mapping[str, Path]) -> None:
        self._cpus, self._gpus, self._most = cpus, gpus, most
        self._room, self._looked_at = 0, -LOOK_SECONDS
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        whole = {key: str(path.absolute()) for key, path in folders.items()}
        self._files = ray.remote(Files).options(num_cpus=0, scheduling_strategy=here).remote(whole)
        self._folders = {key: (path, content_of(Path(path))) for key, path in whole.items()}
        self._host = ray.remote(Host).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=2)
        self._code = code_of(PACKAGE)

    def start(self, work: Work) -> Handle:
        """Ask for an actor; it says `ready` once it has a place."""
        actor = self._host.remote(pickle.dumps(work), self._code, self._folders, self._files)
        said: Any = actor.messages
        return Handle(actor, said.options(num_returns="streaming").remote())

    def send(self, handle: Handle, what: TrialRequest | str | None) -> None:
        """Call the actor, and do not wait."""
        if isinstance(what, TrialRequest):
            handle.folder = what.folder
        with suppress(RayError):
            handle.actor.send.remote(what)

    def heard(self, handles: Sequence[Handle], seconds: float) -> Iterator[tuple[Handle, Message | None]]:
        """Give what has come through the streams; the files of a trial that is done are in its folder then."""
        if not handles:
            time.sleep(seconds)
            return
        whose = {each.stream: each for each in handles}
        first, _ = ray.wait(list(whose), num_returns=1, timeout=seconds, fetch_local=False)
        ready, _ = ray.wait(list(whose), num_returns=len(whose), timeout=0, fetch_local=False) if first else ([], [])
        for stream in ready or first:
            yield from ((whose[stream], each) for each in self._next(whose[stream]))

    def _next(self, handle: Handle) -> list[Message | None]:
        try:
            messages: list[Message | None] = ray.get(next(handle.stream))
        except StopIteration:
            handle.gone = "its process is gone"
            return [None]
        except RayError as error:
            handle.gone = "" if HOST_GONE in str(error) else " ".join(str(error).split())[-300:]
            return [None]
        if messages[-1] is not None and messages[-1][0] == "done":
            result, archive = messages[-1][1]
            unpack(archive, Path(handle.folder))
            messages[-1] = "done", result
        return messages

    def end(self, handle: Handle) -> str:
        """Kill the actor, for good."""
        with suppress(RayError, ValueError):
            ray.kill(handle.actor, no_restart=True)
        return handle.gone

    def capacity(self) -> int:
        """Return how many workers the living hosts have room for, as it was a second ago at most."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._room = sum(self._fitting(there) for there in _hosts())
        return self._room if self._most is None else min(self._most, self._room)

    def _fitting(self, there: Mapping[str, float]) -> int:
        by_cpu = int(there.get("CPU", 0) // self._cpus)
        return min(by_cpu, int(there.get("GPU", 0) // self._gpus)) if self._gpus else by_cpu


def _hosts() -> list[dict[str, float]]:
    """Return what each living host of the cluster has."""
    nodes: Any = ray.nodes
    return [dict(node["Resources"]) for node in nodes() if node["Alive"]]


def _quoted(path: Path) -> str:
    """Return a path as Hydra's grammar takes any text."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


class Files:
    """What trials read, at home: an actor on the host of the search.

    Args:
        folders: by the key that names them.
    """

    def __init__(self, folders: dict[str, str]) -> None:
        self._folders = folders
        self._listed: dict[str, dict[str, tuple[int, str]]] = {}

    def listing(self, key: str) -> dict[str, tuple[int, str]]:
        """Return digests_of a folder."""
        if key not in self._listed:
            self._listed[key] = digests_of(Path(self._folders[key]))
        return self._listed[key]

    def read(self, key: str, name: str, offset: int, size: int) -> bytes:
        """Return a part of one of its files."""
        return read_part(Path(self._folders[key]) / name, offset, size)


class Later:
    """A pickled object that is unpickled in the next process, where what it needs is imported."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Be what the bytes say, on the other side."""
        return pickle.loads, (self._data,)


class Host:
    """The bridge to a worker process on its host: an actor with one method that streams, and one that is called.

    Args:
        work: pickled. code: hash of the package at home. folders: path and content by key. files: the actor that has them.

    Raises:
        Refusal: the package here is another one, or a file did not come as it is at home.
    """

    def __init__(self, work: bytes, code: str, folders: dict[str, tuple[str, str]], files: Any) -> None:
        if code_of(PACKAGE) != code:
            raise Refusal("hydra.sweeper.engine=ray", f"the code on {socket.gethostname()} in {PACKAGE} is another one than the search's",
                          allowed="hosts whose Python has no crucible of its own before what the search brings")  # fmt: skip
        self._words: list[str] = []
        for key, (path, content) in folders.items():
            there = brought(path, content, lambda key=key: ray.get(files.listing.remote(key)),  # type: ignore[misc]
                            lambda name, offset, size, key=key: ray.get(files.read.remote(key, name, offset, size)))  # type: ignore[misc]  # fmt: skip
            self._words.append(f"{key}={_quoted(there)}")
        self._home = scratch()
        self._folder = self._home
        self._rungs: tuple[int, ...] = ()
        self._lost: OSError | None = None
        self._local = Local(1)
        self._worker = self._local.start(Later(work))  # type: ignore[arg-type]  # it becomes the work

    def messages(self) -> Iterator[list[Message]]:
        """Give what the process says, as long as it is there: at once what somebody waits for, else some of it together."""
        said: list[Message] = []
        since = time.monotonic()
        while True:
            if self._lost is not None:
                raise self._lost
            for _, message in self._local.heard([self._worker], TOGETHER_SECONDS):
                if message is None:
                    return
                if message[0] == "done":
                    message = ("done", (message[1], packed(self._folder)))
                    shutil.rmtree(self._folder)
                said.append(message)
            waiting = said and (said[-1][0] != "epoch" or said[-1][1][0] in self._rungs)
            if waiting or (said and time.monotonic() - since > TOGETHER_SECONDS):
                yield said
                said, since = [], time.monotonic()

    def send(self, what: TrialRequest | str | None) -> None:
        """Pass on a trial, told where things are here, or the answer at a rung."""
        if isinstance(what, TrialRequest):
            self._rungs = what.rungs
            self._folder = self._home / f"{what.stage}-{what.number}"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:  # nobody waits for what this call gives: the stream says it
                self._lost = error
                return
            what = replace(what, overrides=(*what.overrides, *self._words), folder=str(self._folder))
        self._local.send(self._worker, what)
