"""No reader: `data=auto` is decided on the command line, before anything is composed."""

from pathlib import Path

from crucible.data.readers.source import Source
from crucible.errors import Refusal


def read(path: Path | None, label: str | None = None, group_by: str | None = None) -> Source:
    """Refuse: what reads the data must stand in the configuration, which is kept.

    Raises:
        Refusal: always, with what to do.
    """
    raise Refusal("data=auto", "it is decided on the command line alone", allowed="what look.py suggests, here",
                  example=f"python src/look.py {path or 'PATH'}")  # fmt: skip
