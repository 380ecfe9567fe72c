"""Labels as class numbers: 0, 1, ... in a declared or natural order; or, for regression, as the numbers they are."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from crucible.data.readers.source import Array, is_number
from crucible.errors import Refusal


def encode(
    labels: Mapping[str, Array], classes: Sequence[str] | None, *, judge: Sequence[str] | None = None
) -> tuple[list[str], dict[str, Array]]:
    """Return the class names in label order, and each pool's labels (N,) as int64 in [0, K).

    Text sorts by itself, text of whole numbers by value; numbers must already be 0, 1, ..., K - 1.

    Args:
        labels: per pool, (N,) or (N, 1) text or whole numbers.
        classes: the names of the numbers 0, 1, ..., where the source has them.
        judge: the classes of the run that judges the data: names are looked up in them, and a class may be missing.

    Raises:
        Refusal: a label out of range or not whole, a name outside `judge`, fewer than two classes.
    """
    flat = {pool: _flat(pool, array) for pool, array in labels.items()}
    if not any(array.dtype.kind in "USO" for array in flat.values()):
        names, encoded = _encode_numbers(flat, classes or judge)
        if judge is None or classes is None:
            return _at_least_two(names, encoded, judge)
        flat = {pool: np.array(names)[array] for pool, array in encoded.items()}
    return _at_least_two(*_encode_text(flat, judge), judge)


def numbers(labels: Mapping[str, Array]) -> dict[str, Array]:
    """Return each pool's targets (N,) as float64.

    Raises:
        Refusal: a target that is no finite number, or one that never changes.
    """
    return {pool: _numbers(pool, _flat(pool, array)) for pool, array in labels.items()}


def _numbers(pool: str, array: Array) -> Array:
    try:
        values = array.astype(np.float64)
    except ValueError:
        row = next(i for i, each in enumerate(array) if not is_number(str(each)))
        raise _no_number(pool, row, array[row]) from None
    if len(wrong := np.flatnonzero(~np.isfinite(values))):
        raise _no_number(pool, wrong[0], array[wrong[0]])
    return values


def _no_number(pool: str, row: int, value: object) -> Refusal:
    return Refusal(
        f"the labels of {pool}, row {row}", f"{str(value)!r} is no finite number", allowed="numbers, for task=regression",
        example="task=classification",
    )  # fmt: skip


UNKNOWN = -1
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1} | dict.fromkeys(
    ("", "?", "nan", "-1", "none"), UNKNOWN
)


def flags(
    labels: Mapping[str, Array], names: Sequence[str] | None, *, judge: Sequence[str] | None = None
) -> tuple[list[str], dict[str, Array]]:
    """Return the names of T yes-or-no labels, and each pool's labels (N, T) as int64: 1, 0, or -1 for unknown.

    Args:
        labels: per pool, (N, T) of 0 and 1 (or true and false, yes and no); -1, NaN, ? or nothing where unknown.
        names: of the labels, where the source has them.
        judge: the labels of the run that judges the data: columns are brought to their order, by name where there are names.

    Raises:
        Refusal: any other value, names of another number, or labels that are not those of the run.
    """
    tables = {pool: array[:, None] if array.ndim == 1 else array for pool, array in labels.items()}
    count = next(iter(tables.values())).shape[1]
    if (
        any(table.ndim != 2 or table.shape[1] != count for table in tables.values())
        or len(names or [0] * count) != count
    ):
        found = {pool: list(table.shape) for pool, table in tables.items()}
        raise Refusal(
            "the labels",
            f"their shapes are {found}",
            allowed=f"(N, {len(names or [0] * count)}): a column for each label",
        )
    known = {pool: _flags(pool, table) for pool, table in tables.items()}
    own = distinct(names or list(map(str, range(count))))
    if judge is None:
        return own, known
    if (names and set(names) != set(judge)) or count != len(judge):
        raise Refusal("the labels", f"they are {', '.join(own)}", allowed=f"those of the run: {', '.join(judge)}")
    order = [own.index(name) for name in judge] if names else list(range(count))
    return list(judge), {pool: table[:, order] for pool, table in known.items()}


def distinct(names: Sequence[str]) -> list[str]:
    """Return names, none of them twice.

    Raises:
        Refusal: two are equal.
    """
    if len(set(names)) < len(names):
        raise Refusal("the classes", f"two of them have one name: {', '.join(names)}", allowed="names that differ")
    return list(names)


def _flags(pool: str, table: Array) -> Array:
    if table.dtype.kind in "iufb":
        known = np.where(np.isnan(table), UNKNOWN, table) if table.dtype.kind == "f" else table.astype(np.int64)
        wrong = np.argwhere(~np.isin(known, (0, 1, UNKNOWN)))
    else:
        words = np.char.lower(np.char.strip(np.char.decode(table) if table.dtype.kind == "S" else table.astype(str)))
        words = np.where(
            [[_is_whole(each) for each in row] for row in words], np.char.partition(words, ".")[..., 0], words
        )
        known = np.vectorize(lambda word: FLAGS.get(word, 2))(words)
        wrong = np.argwhere(known == 2)
    if len(wrong):
        row, column = wrong[0]
        raise Refusal(
            f"the labels of {pool}, row {row}, label {column}", f"{str(table[row, column])!r} is neither yes nor no",
            allowed="1 and 0, true and false, yes and no; -1, NaN, ? or nothing where unknown", example="task=classification",
        )  # fmt: skip
    return known.astype(np.int64)


def _is_whole(word: str) -> bool:
    return bool(re.fullmatch(r"-?[01]\.0*", word))


def strata(values: Array, count: int = 4) -> Array:
    """Return for each target (N,) the quarter of all of them that it is in, so that splits can be alike in them."""
    edges = np.quantile(values, np.arange(1, count) / count) if len(values) else np.zeros(0)
    return np.searchsorted(edges, values, side="right")


def _flat(pool: str, array: Array) -> Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise Refusal(
            f"the labels of {pool}",
            f"their shape is {array.shape}",
            allowed="one label for each example: (N,); several with task=multitask",
        )
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array


def _at_least_two(
    names: list[str], encoded: dict[str, Array], judge: Sequence[str] | None
) -> tuple[list[str], dict[str, Array]]:
    if judge is None and len(found := np.unique(np.concatenate(list(encoded.values())))) < 2:
        only = names[found[0]] if len(found) else "none"
        raise Refusal("the labels", f"there is one class only: {only}", allowed="two classes or more to tell apart")
    return names, encoded


def _encode_text(labels: Mapping[str, Array], judge: Sequence[str] | None) -> tuple[list[str], dict[str, Array]]:
    text = {
        pool: [each.decode() if isinstance(each, bytes) else str(each) for each in array]
        for pool, array in labels.items()
    }
    found = sorted({each for array in text.values() for each in array}, key=_natural)
    names = list(judge) if judge is not None else found
    if unknown := [each for each in found if each not in names]:
        raise Refusal("the labels", f"class {unknown[0]!r} is unknown", allowed=", ".join(names))
    number = {name: i for i, name in enumerate(names)}
    return names, {pool: np.array([number[each] for each in array], dtype=np.int64) for pool, array in text.items()}


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if re.fullmatch(r"-?[0-9]+", name) else (1, 0, name)


def _encode_numbers(labels: Mapping[str, Array], classes: Sequence[str] | None) -> tuple[list[str], dict[str, Array]]:
    top = max((array.max() for array in labels.values() if len(array)), default=0)
    count = len(classes) if classes is not None else int(top) + 1 if np.isfinite(top) else 0
    for pool, array in labels.items():
        wrong = np.flatnonzero(~((array >= 0) & (array < max(count, 1)) & (array == np.floor(array))))
        if len(wrong):
            raise Refusal(
                f"the labels of {pool}, row {wrong[0]}",
                f"label {array[wrong[0]]} is out of range",
                allowed=f"whole numbers from 0 to {max(count, 1) - 1}",
            )
    names = distinct(classes) if classes is not None else [str(i) for i in range(count)]
    return names, {pool: array.astype(np.int64) for pool, array in labels.items()}
