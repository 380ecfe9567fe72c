"""`crucible VERB ...` and `python src/VERB.py ...`: the same commands, for people with the package and with the repository."""

import os
import re
import sys
from collections.abc import Callable
from importlib import import_module

from crucible.errors import INTERRUPTED, Refusal

COMPOSED = ("train", "prepare", "compose", "evaluate", "describe")  # their arguments are overrides of a configuration
BY_WORDS = (
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


def run_command(verb: str) -> None:
    """Do one command with the arguments of this process; what is refused, or interrupted, ends on one screen."""
    _guarded(lambda: _run(verb))


def _run(verb: str) -> None:
    from crucible.app.compose import run
    from crucible.app.finished import job_of_run

    command = import_module(f"crucible.app.commands.{verb}").main
    if verb in COMPOSED:
        run(command, job_of_run, judges=verb == "evaluate")
    else:
        command(sys.argv[1:])


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
    if verb in ("-h", "--help"):
        print(_help())
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


def _help() -> str:
    """Return what every command does, from the first line of its module."""
    lines = []
    for verb in VERBS:
        documented = import_module(f"crucible.app.commands.{verb}").__doc__ or ""
        lines.append(f"  {verb:9} {documented.partition(': python')[0].splitlines()[0]}")
    return "\n".join(["usage: crucible COMMAND [GROUP=CHOICE | key=value ...]", "", *lines, "",
                      "crucible COMMAND --help shows what a command can be given."])  # fmt: skip
