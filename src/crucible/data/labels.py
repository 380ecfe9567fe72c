"""Labels as class numbers: 0, 1, ... in a declared or natural order."""

from collections.abc import Mapping, Sequence

import numpy as np

from crucible.data.readers.source import Array
from crucible.errors import Refusal


def encode(
    labels: Mapping[str, Array], classes: Sequence[str] | None, num_classes: int | None
) -> tuple[list[str], dict[str, Array]]:
    """Return the class names in label order, and each pool's labels (N,) as int64 in [0, K).

    Text sorts by itself, text of whole numbers by value; numbers must already be 0, 1, ..., K - 1.

    Args:
        labels: per pool, (N,) text or whole numbers.
        classes: the names, where the source (or the run that judges it) fixes them.
        num_classes: K, where it is declared; null: whatever the labels hold.

    Raises:
        Refusal: a label out of range or not whole, a name outside `classes`, fewer than two classes.
    """
    text = any(array.dtype.kind in "USO" for array in labels.values())
    names, encoded = _encode_text(labels, classes) if text else _encode_numbers(labels, classes, num_classes)
    if len(names) < 2 or (len(np.unique(np.concatenate(list(encoded.values())))) < 2 and classes is None):
        raise Refusal("the labels", f"there is one class only: {names[0]}", allowed="two classes or more to tell apart")
    if num_classes is not None and len(names) != num_classes:
        raise Refusal("data.num_classes", f"{num_classes} is declared, but the data have {len(names)} classes: {names}")
    return names, encoded


def _encode_text(labels: Mapping[str, Array], classes: Sequence[str] | None) -> tuple[list[str], dict[str, Array]]:
    found = sorted({str(each) for array in labels.values() for each in np.unique(array)}, key=_natural)
    names = list(classes) if classes is not None else found
    if unknown := [each for each in found if each not in names]:
        raise Refusal("the labels", f"class {unknown[0]!r} is unknown", allowed=", ".join(names))
    number = {name: i for i, name in enumerate(names)}
    return names, {
        pool: np.array([number[str(each)] for each in array], dtype=np.int64) for pool, array in labels.items()
    }


def _natural(name: str) -> tuple[int, int | str]:
    return (0, int(name)) if name.lstrip("-").isdecimal() else (1, name)


def _encode_numbers(
    labels: Mapping[str, Array], classes: Sequence[str] | None, num_classes: int | None
) -> tuple[list[str], dict[str, Array]]:
    top = max(int(array.max()) for array in labels.values() if len(array))
    count = len(classes) if classes is not None else num_classes or top + 1
    for pool, array in labels.items():
        wrong = np.flatnonzero((array < 0) | (array >= count) | (array != np.floor(array)))
        if len(wrong):
            raise Refusal(
                f"the labels of {pool}, row {wrong[0]}",
                f"label {array[wrong[0]]} is out of range",
                allowed=f"whole numbers from 0 to {count - 1}",
            )
    names = list(classes) if classes is not None else [str(i) for i in range(count)]
    return names, {pool: array.astype(np.int64).reshape(-1) for pool, array in labels.items()}
