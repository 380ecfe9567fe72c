"""`crucible VERB ...` and `python src/VERB.py ...`: the same commands, for people with the package and with the repository."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from crucible.errors import INTERRUPTED, Refusal

COMPOSED = ("train", "prepare", "compose", "evaluate", "describe")  # their arguments are overrides of a configuration
BY_WORDS = (
    "look",
    "runs",
    "compare",
    "control",
    "predict",
    "export",
    "inside",
    "slide",
    "faces",
    "score",
    "sample",
    "new",
)  # theirs are key=value of their own
VERBS = (*COMPOSED, *BY_WORDS)
AUTO = "data=auto"


def run_command(verb: str) -> None:
    """Do one command with the arguments of this process; what is refused, or interrupted, ends on one screen."""
    _guarded(lambda: _run(verb))


def perform(verb: str, words: Sequence[str]) -> Any:
    """Do one command with words of one's own, and return what it returns; a refusal is raised.

    Raises:
        Refusal: as the command refuses.
    """
    from crucible.app.compose import refusing_hydra
    from crucible.app.quoting import require_sound_words

    called = sys.argv
    sys.argv = [f"src/{verb}.py", *words]
    try:
        with refusing_hydra():
            require_sound_words(sys.argv[1:])
            return _run(verb)
    finally:
        sys.argv = called


def _run(verb: str) -> Any:
    from crucible.app.compose import run
    from crucible.app.finished import job_of_run

    module = import_module(f"crucible.app.commands.{verb}")
    if "--version" in sys.argv[1:]:
        print(_version())
        return None
    if verb in BY_WORDS and {"-h", "--help"} & set(sys.argv[1:]):
        print(_usage(verb, module))
        return None
    command = module.main
    if verb in COMPOSED:
        if AUTO in sys.argv[1:]:
            from crucible.app.look.auto import decided

            sys.argv[1:] = decided(sys.argv[1:], verb)
        if verb == "evaluate":
            from crucible.app.unfinished import usable_run

            return run(command, partial(job_of_run, find=usable_run), judges=True)
        return run(command, job_of_run)
    return command(sys.argv[1:])


def _guarded(work: Callable[[], None]) -> None:
    """Do some work guarded; its imports take a second, in which an interruption is an interruption, too."""
    try:
        from crucible.app.compose import guarded
    except KeyboardInterrupt:
        print("\nstopped by you before anything was begun", file=sys.stderr)
        sys.exit(INTERRUPTED)
    guarded(work)


def main() -> None:
    """Do the command that the first argument names."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help", "--version"):
        print(_version() if verb == "--version" else _help())
        return
    if verb in ("-sc", "--shell-completion"):
        _complete()
        return
    sys.argv = [f"crucible {verb}", *sys.argv[2:]]
    _guarded(lambda: _require_verb(verb))
    run_command(verb)


def _complete() -> None:
    """Install Hydra's completion for a shell, or answer it: what stands after the verb is completed like its overrides."""
    line = os.environ.get("COMP_LINE", "")
    without_verb = re.sub(r"^(\S+\s+)\w+(?=\s)", r"\1", line)
    os.environ |= {"COMP_LINE": without_verb, "COMP_POINT": str(len(without_verb))} if line else {}
    sys.argv[0] = "crucible"
    run_command("train")


def _require_verb(verb: str) -> None:
    from crucible.schema import nearest

    if verb not in VERBS:
        raise Refusal(verb, "there is no such command", allowed=", ".join(VERBS), nearest=nearest(verb, VERBS),
                      example="crucible train model=resnet optimizer=adam")  # fmt: skip


def _version() -> str:
    from importlib.metadata import version

    return f"crucible {version('crucible-dl')}, torch {version('torch')}, Python {sys.version.split()[0]}"


def _usage(verb: str, module: ModuleType) -> str:
    """Return what a command does, how it is called, and the keys that it takes with their defaults."""
    from crucible.errors import as_called

    documented, _, called = (module.__doc__ or "").partition(": python ")
    keys = [f"  {key}={value or '...'}" for key, value in getattr(module, "KEYS", {}).items()]
    about = " ".join((module.main.__doc__ or "").split())
    usage = as_called(f"python {called.strip().rstrip('.')}") if called else f"crucible {verb} ..."
    return "\n".join(
        [
            documented.strip(),
            "",
            f"usage: {usage}",
            "",
            about,
            *(["", "keys, and what they are if they are not given:", *keys] if keys else []),
        ]
    )


def _help() -> str:
    """Return what every command does, from the first line of its module."""
    lines = []
    for verb in VERBS:
        documented = import_module(f"crucible.app.commands.{verb}").__doc__ or ""
        lines.append(f"  {verb:9} {documented.partition(': python')[0].splitlines()[0]}")
    return "\n".join(["usage: crucible COMMAND [GROUP=CHOICE | key=value ...]", "", *lines, "",
                      "crucible COMMAND --help shows what a command can be given."])  # fmt: skip
