"""Say what data there are, what is odd about them, and how to train on them: python src/look.py PATH [data.label=COLUMN] [out=FILE]."""

from pathlib import Path

from crucible.app.arguments import output_file
from crucible.app.look.findings import samples
from crucible.app.look.suggestion import Looked, as_typed, columns_of_table, looked_at
from crucible.app.quoting import GROUPS, key_of
from crucible.errors import Refusal
from crucible.report.look import sheet
from crucible.report.screen import lined
from crucible.schema import nearest
from crucible.tracking.folder import write_atomic

EXAMPLE = "python src/look.py ~/pictures"
SHEET = Path("outputs/look/look.html")


def main(words: list[str]) -> None:
    """Print what a path holds and the command that trains on it, and draw a contact sheet."""
    path, given, out = _read(words)
    found = looked_at(path, given)
    command = f"python src/train.py {as_typed([*found.words, *given])}"
    title = f"{path}: {found.recognised.why} (data={found.recognised.choice})"
    reasons = [(as_typed(choice.words), choice.why) for choice in found.choices]
    page = sheet(
        title,
        found.findings.lines,
        found.findings.odd,
        command,
        reasons,
        columns_of_table(found),
        samples(found.source),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page.encode())
    print(_screen(title, found, command, out))


def _read(words: list[str]) -> tuple[Path, list[str], Path]:
    """Return the path, the words of the configuration that were given, and where the sheet goes.

    Raises:
        Refusal: no path, two, or a word that says nothing here.
    """
    named = [word for word in words if "=" not in word or word.startswith("path=") or Path(word).exists()]
    paths = [word.removeprefix("path=") for word in named]
    outs = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    given = [word for word in words if word not in named and not word.startswith("out=")]
    if len(paths) != 1:
        raise Refusal(
            "path",
            "is missing" if not paths else f"{len(paths)} are given",
            allowed="one file or folder",
            example=EXAMPLE,
        )
    if (reader := next((word for word in given if key_of(word) == "data"), None)) is not None:
        raise Refusal(
            reader,
            "look finds out what reads a path",
            allowed="data.KEY=..., other groups",
            example=f"{EXAMPLE} model=mlp",
        )
    if wrong := next((word for word in given if key_of(word).partition(".")[0] not in (*GROUPS, "seed")), None):
        raise Refusal(wrong, "is no word of the configuration", allowed="data.label=COLUMN, data.KEY=..., GROUP=CHOICE, out=FILE",
                      nearest=nearest(f"data.{key_of(wrong)}", ["data.label", "data.path", "data.group_by", "data.drop", "data.columns"]),
                      example=f"{EXAMPLE} data.label=COLUMN")  # fmt: skip
    return Path(paths[0]).expanduser(), given, output_file("out", outs[0]) if outs else SHEET


def _screen(title: str, found: Looked, command: str, out: Path) -> str:
    """Return the last screen: what there is, what is odd, and what to type."""
    odd = [("odd" if not i else "", text) for i, text in enumerate(found.findings.odd)]
    columns = [("columns" if not i else "", "  ".join(row)) for i, row in enumerate(columns_of_table(found)[1:])]
    reasons = [
        ("because" if not i else "", f"{as_typed(choice.words)}: {choice.why}")
        for i, choice in enumerate(found.choices[1:])
    ]
    return lined(
        [("result", title), *found.findings.lines, *columns, *odd, *reasons, ("files", str(out)), ("next", command)]
    )
