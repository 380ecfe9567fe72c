"""What folders and files of official splits are called."""

import re

SPLITS = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "test": "test"}
WORDS = SPLITS | {"training": "train", "trn": "train", "development": "dev", "devel": "dev", "validation": "dev"}
WORDS |= {"testing": "test", "tst": "test"} | dict.fromkeys(("eval", "evaluation", "holdout", "heldout", "unseen"), "")
SPLIT_NAME = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})(?:set|data|split|images|pictures)?[0-9]*")


def meant_split(name: str) -> str | None:
    """Return the split that a name means, "" where it may be dev or test, None where it means none.

    Letter case, what stands between words, and numbers do not count: Training, test_set and val2017 are splits.
    """
    found = SPLIT_NAME.fullmatch(re.sub(r"[-_. ]", "", name.lower()))
    return None if found is None else WORDS[found[1]]
