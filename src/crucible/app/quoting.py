"""What may stand on a command line: words that Hydra can take, quoted where its grammar would misread them."""

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from crucible.app.project import conf_folders
from crucible.errors import Refusal

GROUPS = (
    "data", "augment", "model", "init", "transfer", "task", "regularizer", "optimizer", "schedule", "trainer", "tracking",
    "sweep", "experiment",
)  # fmt: skip
NAMED = ("data.path", "data.name", "prepared", "run", "resume", "hydra.run.dir", "hydra.sweep.dir", "transfer.source")
TEXTS = (*NAMED, "data.label", "data.group_by", "run_name")
PATHS = (*NAMED, "input", "out", "draw", "--config-name", "-cn", "--config-dir", "-cd", "--config-path", "-cp")
COMPLETIONS = ("install=", "uninstall=", "query=")
LONGEST, DEEPEST = 10_000, 20  # letters and nested brackets of a word: what Hydra's grammar takes without falling over
LONGEST_CHOICE, LONGEST_NAME, LONGEST_PATH = 200, 255, 3500  # bytes that file systems take, with a file's name below it


def require_sound_words(words: list[str]) -> None:
    """Refuse words that no key, value or name is like.

    Raises:
        Refusal: too long, brackets too deep in each other, no UTF-8.
    """
    for word in words:
        if len(word) > LONGEST or _depth(word) > DEEPEST:
            what = f"a word of {len(word)} letters, with {_depth(word)} brackets in each other"
            raise Refusal(word[:40], what, allowed=f"at most {LONGEST} letters and {DEEPEST} brackets")
        try:
            os.fsencode(word).decode()
        except UnicodeError:
            raise Refusal(word, "it is no text in UTF-8", allowed="a name in UTF-8; rename what it names") from None
        if _is_long_path(word):
            what = f"a path of {len(word)} letters: no file system takes that"
            raise Refusal(word[:40], what, allowed=f"names of at most {LONGEST_NAME} bytes, {LONGEST_PATH} in all")
        if "\0" in word:
            raise Refusal(word, "it holds a NUL character", allowed="text")


def _is_long_path(word: str) -> bool:
    key, equals, value = word.partition("=")
    if equals and key.lstrip("+") not in PATHS:
        return False
    path = os.fsencode(value if equals else word)
    return len(path) > LONGEST_PATH or max(map(len, path.split(b"/"))) > LONGEST_NAME


def _depth(word: str) -> int:
    """Return how deep brackets stand in each other, in quotes or not."""
    return max(accumulate((each in "[{(") - (each in ")}]") for each in word), default=0)


def flags(argv: list[str]) -> Namespace:
    """Return Hydra's flags and the overrides.

    Raises:
        Refusal: a flag that Hydra does not have, or a value that it does not take.
    """
    parser = get_args_parser()
    known = ", ".join(flag for action in parser._actions for flag in action.option_strings)

    def error(message: str) -> NoReturn:
        raise Refusal("the command line", message, allowed=f"key=value, GROUP=CHOICE; {known}")

    parser.error = error  # type: ignore[method-assign]  # argparse would exit by itself
    args = parser.parse_args(argv)
    if args.shell_completion and not any(each.startswith(COMPLETIONS) for each in args.overrides):
        error(f"--shell-completion takes one of {', '.join(COMPLETIONS)}")
    if args.experimental_rerun is not None:
        error("--experimental-rerun is not offered here: resume=FOLDER goes on")
    return args


def parse(words: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra's grammar reads them."""
    return OverridesParser.create().parse_overrides(list(words))


def require_choice(override: str) -> None:
    """Refuse what is no name where the choice of a group belongs; Hydra falls over a number, a bool or a mapping.

    Raises:
        Refusal: naming the choices.
    """
    if (group := key_of(override).partition("@")[0]) not in GROUPS or not is_lexed(override):
        return
    [parsed] = parse([override])
    if parsed.is_sweep_override():
        return
    value = parsed.value()
    if parsed.is_delete() or not all(_is_name(each) for each in (value if isinstance(value, list) else [value])):
        shown = "it cannot be taken away" if parsed.is_delete() else f"{value!r} names no choice"
        options = sorted(
            {path.stem for home in conf_folders() for path in (home / group).glob("*.yaml") if path.stem != "base"}
        )
        raise Refusal(group, shown, allowed=", ".join(options), example=f"{group}={options[-1]}")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_CHOICE


def key_of(override: str) -> str:
    """Return the dotted key, or the group, that an override is about."""
    return override.partition("=")[0].lstrip("+~")


def quoted(arg: str, swept: bool = False) -> str:
    """Quote a value that Hydra's grammar would misread; paths and names always, with ~ expanded."""
    key, equals, value = arg.partition("=")
    if arg.startswith("-") or not equals or value[:1] in ("'", '"') or value in ("", "null"):
        return arg
    if key in TEXTS and not (swept and "," in value):
        return f"{key}={_in_quotes(os.path.expanduser(value))}"  # noqa: PTH111  (a Path would drop a slash at the end)
    if key.startswith("task.satisficing"):  # bounds are keys of the person's choosing
        return f"++{key}={value if key == 'task.satisficing' else _in_quotes(value)}"
    return arg if is_lexed(arg) else f"{key}={_in_quotes(value)}"


def is_lexed(arg: str) -> bool:
    """Whether Hydra's grammar takes an override as it is."""
    try:
        parse([arg])
    except (HydraException, ValueError):
        return False
    return True


def in_quotes(word: str) -> str:
    """Return an override with its value in quotes, whatever is in it."""
    key, _, value = word.partition("=")
    return f"{key}={_in_quotes(value)}"


def _in_quotes(value: str) -> str:
    """In Hydra's grammar backslashes count double before a quote, the closing one included; in OmegaConf's before ${."""
    no_interpolation = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", no_interpolation)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
