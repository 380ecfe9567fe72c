"""Commands in forked copies of a warm process: a try costs its work, not seconds of imports.

Each is the leader of a session of its own, and only the processes of such a session are ever killed, by their numbers.
"""

import atexit
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
WARM = (
    "torch",
    "crucible.app.cli",
    "crucible.app.finished",
    "crucible.app.commands.train",
    "crucible.app.commands.evaluate",
    "crucible.app.search.run",
    "crucible.data.readers.npz",
)
MARK = "CRUCIBLE_ATTACK"  # in the environment of all that a command starts, in whatever session
REFUSALS = (" refuses, and nothing was changed:", " stopped:")
POLL = 0.002
INTERRUPTION = {signal.SIGINT}


def warm() -> None:
    """Import what the commands need, once; one thread, so that a fork finds torch as it must be."""
    sys.path[:0] = [str(ROOT / "src")]
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "DVC_NO_ANALYTICS": "1"}
    for name in (*WARM, "train", "prepare", "evaluate"):  # the last three in src/
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code (minus the signal; None: it did not end in time) and what it printed."""

    code: int | None
    out: str
    err: str

    @property
    def kind(self) -> str:
        """One of ok, refused, interrupted, traceback, hung, killed, other."""
        if "Traceback (most recent call last)" in self.err:
            return "traceback"
        if self.code == 2 and "where:" in self.err and any(each in self.err for each in REFUSALS):
            return "refused"
        named = {0: "ok", None: "hung", 130: "interrupted"}
        return named.get(self.code, "killed" if self.code is not None and self.code < 0 else "other")

    def problem(self, what: str) -> list[str]:
        """Return nothing where it ended well, else how it ended and what it stated last."""
        stated = self.error if self.kind == "traceback" else (self.err or self.out)[-600:]
        return [] if self.code == 0 else [f"{what} ended {self.kind} ({self.code}): {stated}"]

    @property
    def error(self) -> str:
        """The last line of a traceback, and the last place in our own code."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("File ") and "/src/" in line]
        return f"Traceback: {lines[-1][:200]} [{''.join(ours[-1:])}]"


class Child:
    """A process that was started here, and its session."""

    def __init__(self, pid: int, out: IO[bytes], err: IO[bytes]) -> None:
        self.pid, self._out, self._err = pid, out, err
        self._status: int | None = None

    def is_running(self) -> bool:
        """Whether it has not ended."""
        if self._status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if done else None
        return self._status is None

    def sleep(self, seconds: float, until: Callable[[], bool] = bool) -> bool:
        """Wait for its end or for `until`, so many seconds at most; return whether it still runs."""
        wait_for(lambda: not self.is_running() or until(), seconds)
        return self.is_running()

    def wait(self, seconds: float = 180.0) -> End:
        """Return how it ended; it is killed when the time is up."""
        hung = self.sleep(seconds)
        if hung:
            self.kill()
        atexit.unregister(self.kill)  # its number may be another's by then
        code = None if hung else os.waitstatus_to_exitcode(self._status or 0)
        texts = [_text(file) for file in (self._out, self._err)]
        return End(code, *texts)

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to its group; of SIGKILL nobody in its session is left."""
        if self.is_running():
            os.killpg(self.pid, sig)
        while sig == signal.SIGKILL and (left := members(self.pid)):
            kill(left)
        if sig == signal.SIGKILL:
            self.sleep(10)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so, for so many seconds at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(POLL)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    with file:
        return file.read().decode(errors="replace")


def kill(pids: Sequence[int]) -> None:
    """Kill processes, and see them gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    time.sleep(POLL)


def members(session: int) -> list[int]:
    """Return the living processes of a session."""
    return [pid for pid, state, own in _stats() if own == session and state != "Z"]


def _stats() -> Iterator[tuple[int, str, int]]:
    """Give number, state and session of every process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _read(folder / "stat")):
            state, _, _, session = stat.rpartition(b")")[2].split()[:4]
            yield int(folder.name), state.decode(), int(session)


def marked(mark: str) -> list[int]:
    """Return the living processes that were started, however indirectly, with this mark in their environment."""
    words = f"{MARK}={mark}".encode()
    return [
        pid for pid, state, _ in _stats() if state != "Z" and words in _read(Path(f"/proc/{pid}/environ")).split(b"\0")
    ]


def cmdline(pid: int) -> bytes:
    """Return the words of a process; nothing where it is gone."""
    return _read(Path(f"/proc/{pid}/cmdline"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def fork(work: Callable[[], object], home: Path, mark: str = "") -> Child:
    """Do some work in a fork of this process, in the folder `home`."""
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  (the child's; read at its end)
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTION)  # the child is interrupted in its work, not on the way there
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)
        while os.getsid(pid) != pid:  # until then there is no group to kill
            time.sleep(POLL / 10)
        child = Child(pid, out, err)
        atexit.register(child.kill)  # nobody outlives this process
        return child
    code = 1
    try:
        _become(home, mark, out.fileno(), err.fileno())
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(home: Path, mark: str, out: int, err: int) -> None:
    os.setsid()
    os.chdir(home)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ |= {MARK: mark} if mark else {}


def command(script: str, words: Sequence[str], home: Path, mark: str = "") -> Child:
    """Start `python src/SCRIPT.py WORDS` in a fork."""
    return fork(lambda: _call(script, words), home, mark)


def _call(script: str, words: Sequence[str]) -> None:
    from crucible.app import compose
    from crucible.app.cli import run_command

    guarded = compose.guarded
    compose.guarded = lambda work: guarded(lambda: _interruptible(work))
    sys.modules["__main__"] = importlib.import_module(script)  # what workers of a search import
    sys.argv = [str(ROOT / "src" / f"{script}.py"), *words]
    run_command(script)


def _interruptible(work: Callable[[], object]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)
    try:
        work()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTION)


def program(words: Sequence[str], home: Path, mark: str = "") -> Child:
    """Start another program, with this Python's folder first on its path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return fork(lambda: _execute(words, {**os.environ, "PATH": path}), home, mark)


def _execute(words: Sequence[str], environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTION)
    os.execvpe(words[0], list(words), environment)
