"""Which column of a table is the label, and what stands in the others."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from crucible.app.look.choices import Choice, data_node
from crucible.app.quoting import key_of
from crucible.data.cells import DECIMALS, Cells, Profile, profiles
from crucible.data.frames import Table, open_table, reading
from crucible.data.readers.file_names import is_table, split_of
from crucible.data.split_tables import open_tables
from crucible.errors import Refusal

LABELS = (
    "label",
    "labels",
    "target",
    "class",
    "y",
    "outcome",
    "survived",
    "diagnosis",
    "species",
    "churn",
    "quality",
    "price",
    "result",
)
MOST_CLASSES = 20  # values of a label of whole numbers; of more it is a number to be predicted


def label_choice(path: Path, given: Sequence[str]) -> tuple[Choice, bool, list[Profile]]:
    """Return the label's column, whether it is a number to be predicted, and what the other columns hold.

    Args:
        path: a table, or a folder of tables by split.
        given: words that a person has chosen.

    Raises:
        Refusal: as `open_tables` and `profiles`.
    """
    own = [word for word in given if key_of(word).startswith("data.")]
    data = data_node(["data=table", *own])
    settings = data["reader"]
    label, why = (data["label"], "as you say") if data["label"] else _label(open_tables(path, settings, None)[0])
    cells = Cells(open_tables(path, settings, label)[0], settings["missing"])
    targets = [label] if label in cells.types else label.split(",")
    others = [name for name in cells.types if name not in (*targets, data["group_by"], *data["drop"])]
    found = profiles(cells, others, {name: kind for name, kind in (data["columns"] or {}).items() if name in others})
    several = ("task=multitask",) if len(targets) > 1 else ()
    return (
        Choice((f"data.label={label}", *several), f"the label: {why}"),
        label in cells.types and _is_number(cells, label),
        found,
    )


def _label(table: Table) -> tuple[str, str]:
    """Return the column of a table that is most likely the label, and why."""
    for other in _tests_beside(table.path):
        with suppress(Refusal):
            there = open_table(other, {"separator": None, "encoding": None, "header": True}).names
            if len(lacking := [name for name in table.names if name not in there]) == 1:
                return lacking[0], f"{other.name} has all columns but this one"
    by_name = [name for word in LABELS for name in table.names if name.lower() == word]
    return (
        (by_name[0], "by its name")
        if by_name
        else (table.names[-1], "the last column; if it is another, say data.label=COLUMN")
    )


def _tests_beside(path: Path) -> list[Path]:
    """Return the test tables in the folder of one that is called train, as Kaggle hands them out."""
    if split_of(path) != "train":
        return []
    tables = sorted(each for each in path.parent.iterdir() if each.is_file() and is_table(each))
    return [each for each in tables if split_of(each) == "test"]


def _is_number(cells: Cells, label: str) -> bool:
    """Whether a label is a number to be predicted: not whole, or with more values than classes have."""
    number = cells.number(label, comma=DECIMALS if cells.separator != "," else "")
    with reading(cells.path):
        facts = cells.frame.select(
            filled=cells.raw(label).count(), numbers=number.count(), whole=(number == number.floor()).all(), values=number.n_unique()
        ).collect(engine="streaming").row(0, named=True)  # fmt: skip
    return (
        facts["filled"] > 0
        and facts["numbers"] == facts["filled"]
        and (not facts["whole"] or facts["values"] > MOST_CLASSES)
    )
