"""What folders and files of official splits are called, and which files are tables."""

import re
from pathlib import Path

SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "test": "test"}
WORDS = SPLITS | {"training": "train", "trn": "train", "development": "dev", "devel": "dev", "validation": "dev"}
WORDS |= {"testing": "test", "tst": "test"} | dict.fromkeys(("eval", "evaluation", "holdout", "heldout", "unseen"), "")
SPLIT_NAME = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})(?:set|data|split|images|pictures)?[0-9]*")

TEXT, PACKED = (".csv", ".tsv", ".tab", ".txt"), (".gz", ".zip")
PARQUET, ARROW, EXCEL = (".parquet", ".pq"), (".feather", ".arrow"), (".xlsx", ".xls", ".ods")


def meant_split(name: str) -> str | None:
    """Return the split that a name means, "" where it may be dev or test, None where it means none.

    Letter case, what stands between words, and numbers do not count: Training, test_set and val2017 are splits.
    """
    found = SPLIT_NAME.fullmatch(re.sub(r"[-_. ]", "", name.lower()))
    return None if found is None else WORDS[found[1]]


def split_of(file: Path) -> str | None:
    """Return the split that a file's name means, whatever it ends in; as `meant_split`."""
    return meant_split(file.name.split(".")[0])


def is_table(file: Path) -> bool:
    """Whether a file is read as a table, by its name."""
    return is_text_table(file) or file.suffix.lower() in (*PARQUET, *ARROW, *EXCEL)


def is_text_table(file: Path) -> bool:
    """Whether a file is read as a table of text, packed or not, by its name."""
    return (Path(file.stem) if file.suffix.lower() in PACKED else file).suffix.lower() in TEXT
