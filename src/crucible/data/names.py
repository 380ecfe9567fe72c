"""What an example is called: its file, relative to the data; or its row, where there are no files.

A split of a prepared folder holds `names.txt`, a line for each example, where the reader knows files. A folder of before
has none, and its examples are called by their rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crucible.data.readers.source import Array, Source
from crucible.data.splits import SPLITS
from crucible.errors import printable

NAMES = "names.txt"


def names_of(source: Source) -> dict[str, list[str]]:
    """Return the names of each pool's examples, relative to the data wherever those lie; nothing where a pool has none."""
    place = {str(path): role for role, path in source.files.items()}
    known = {name: pool.names for name, pool in source.pools.items() if pool.names is not None}
    if len(known) < len(source.pools):
        return {}
    return {pool: [printable(place.get(name, name)) for name in names] for pool, names in known.items()}


def source_name(names: Mapping[str, Sequence[str]], sizes: Mapping[str, int], i: int) -> str:
    """Return what example i of all pools together is called.

    Args:
        names: as `names_of` gives them. sizes: of the pools, in order.
    """
    for pool, size in sizes.items():
        if i < size:
            return names[pool][i] if names else f"source row {i}" + ("" if pool == "all" else f" of {pool}")
        i -= size
    raise IndexError(i)


def write_names(names: Mapping[str, Sequence[str]], split_of: Mapping[str, Array], folder: Path) -> None:
    """Write names.txt beside the arrays of every split, in their order; nothing without names."""
    for number, split in enumerate(SPLITS):
        if names and (folder / split).is_dir():
            with (folder / split / NAMES).open("w", encoding="utf-8", newline="\n") as file:
                for pool, own in split_of.items():
                    file.writelines(f"{names[pool][row]}\n" for row in np.flatnonzero(own == number).tolist())


def read_names(folder: Path, size: int) -> list[str] | None:
    """Return the names of a prepared split's examples; None where it has none, or not one for each of them."""
    if not (folder / NAMES).is_file():
        return None
    names = (folder / NAMES).read_text(encoding="utf-8").split("\n")[:-1]
    return names if len(names) == size else None
