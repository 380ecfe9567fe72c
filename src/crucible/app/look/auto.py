"""`data=auto data.path=...`: what `look` suggests, decided, said, and done."""

import sys
from collections.abc import Sequence
from pathlib import Path

from crucible.app.look.suggestion import as_typed, looked_at
from crucible.app.quoting import key_of
from crucible.errors import Refusal
from crucible.report.screen import lined

DECIDES = {
    "train": None,
    "describe": None,
    "compose": None,
    "prepare": ("data", "task"),
    "evaluate": ("data",),
}  # groups; None: all


def decided(words: Sequence[str], verb: str) -> list[str]:
    """Return the words of a command with what suits the data in place of data=auto; what a person says besides stays.

    Raises:
        Refusal: no path is given, or nothing reads it.
    """
    given = [word for word in words if word != "data=auto"]
    paths = [word.partition("=")[2] for word in given if key_of(word) == "data.path"]
    if len(paths) != 1 or not paths[0] or paths[0] == "null":
        raise Refusal(
            "data=auto",
            "it looks at a path, and none is given",
            allowed="data.path=FILE or FOLDER",
            example="data=auto data.path=~/pictures",
        )
    own = [word for word in given if key_of(word) != "data.path"]
    found = looked_at(Path(paths[0].strip("'\"")).expanduser(), [word for word in own if not word.startswith("-")])
    groups = DECIDES[verb]
    chosen = [
        word for word in found.words if (groups is None or key_of(word).partition(".")[0] in groups) and word not in own
    ]
    lines = [
        ("auto" if not i else "", f"{as_typed(choice.words)}: {choice.why}") for i, choice in enumerate(found.choices)
    ]
    print(
        lined(
            [
                *lines,
                *(("odd", text) for text in found.findings.odd),
                ("", f"python src/look.py {as_typed(paths)} shows more"),
            ]
        ),
        file=sys.stderr,
    )
    return [*chosen, *own]
