"""Run a command in a forked copy of a process that has imported everything: a case costs its work, not its imports."""

import importlib
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

BY_WORDS = ("compare", "control", "predict", "export", "inside", "slide")  # commands that read their words themselves
COMPOSED = ("train", "prepare", "describe", "evaluate")
LATE = (
    "h5py",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "torch.onnx._internal.exporter._core",
    "PIL.Image",
    "matplotlib.pyplot",
    "crucible.plots.figures",
    "crucible.plots.boxes",
)
MEMORY, POLL_SECONDS, KILLED = 6 << 30, 0.005, -999
SCREENS = (" refuses, and nothing was changed:", " stopped:")


@dataclass(frozen=True)
class Case:
    """A command line: a file in src/ without its ending, and its words."""

    script: str
    words: list[str]


@dataclass(frozen=True)
class Done:
    """How a case ended: exit code, KILLED where its time was up, or below 0 the signal; what it printed; how long it took."""

    code: int
    out: str
    err: str
    seconds: float


def warm() -> None:
    """Import what any case may import, once."""
    import torch

    torch.set_num_threads(1)
    for name in (*(f"crucible.app.commands.{verb}" for verb in (*COMPOSED, *BY_WORDS)), *LATE):
        importlib.import_module(name)
    for path in (Path(__file__).parents[2] / "src" / "crucible" / "data" / "readers").glob("[a-z]*.py"):
        importlib.import_module(f"crucible.data.readers.{path.stem}")


def run(case: Case, home: Path, *, seconds: float) -> Done:
    """Run a case in the folder `home` as the leader of a session of its own; end it when its time is up."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        if (process := os.fork()) == 0:
            _be(case, home, out.fileno(), err.fileno())
        code = _waited(process, begun + seconds)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return Done(code, texts[0], texts[1], time.monotonic() - begun)


def _be(case: Case, home: Path, out: int, err: int) -> None:
    """Become the command; never return."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, (name, file) in enumerate((("stdout", out), ("stderr", err)), 1):
            os.dup2(file, number)
            binary = os.fdopen(number, "wb", buffering=0, closefd=False)
            setattr(sys, name, io.TextIOWrapper(binary, "utf-8", "backslashreplace", write_through=True))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.chdir(home)
        _command(case)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if sys.exc_info()[0] is not None:  # what python prints at the end of a process
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(case: Case) -> None:
    from crucible.app.cli import run_command

    sys.argv = [f"src/{case.script}.py", *case.words]
    run_command(case.script)


def _waited(process: int, until: float) -> int:
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_SECONDS)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return KILLED


def kind_of(done: Done) -> tuple[str, str]:
    """Return the kind of an end and a line about it: ok, usage, refused, working, traceback, hang, signal or other.

    `working`: its time was up while it trained, as it was asked to.
    """
    if "Traceback (most recent call last)" in done.err:
        return "traceback", _last(done.err)
    if done.code == KILLED:
        return ("working" if "\nif it is interrupted:" in done.out else "hang"), (done.out + done.err)[-120:]
    if done.code < 0:
        return "signal", f"{-done.code} {done.err[-120:]}"
    if done.code == 0:
        return "ok", ""
    if done.code == 2 and "where:" in done.err and any(each in done.err for each in SCREENS):
        return "refused", next((line.strip() for line in done.err.splitlines() if "what:" in line), "")
    return "other", f"{done.code}: {done.err[-160:]!r}"


def _last(err: str) -> str:
    """Return the error of a traceback and the last place of ours in it."""
    lines = [line for line in err.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("  File ") and "/src/" in line]
    last = next((line for line in reversed(lines) if not line.startswith(" ") and ":" in line), lines[-1])
    return f"{last[:200]} @ {ours[-1].split('/src/')[-1] if ours else ''}"
