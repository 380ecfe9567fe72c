"""The columns of a table as numbers, what is fitted on them, and the features that a network takes of them.

A prepared table holds one number for each used column: of a date the days since 1970, of a category its place in the list; NaN
where a cell is empty, -1 for a category that train never saw. Categories, means, and which columns have empty cells are fitted
on train alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import numpy as np

from crucible.data.readers.source import Array
from crucible.data.splits import SPLITS

PERIODS = (7.0, 365.2425)  # days of a week and of a year; of dates with a time of day the day, too


class TableForm(TypedDict):
    """How a text file says a table; what is null is found out.

    separator: between cells. encoding: null: what the first bytes say, else UTF-8. header: whether the first line names the columns.
    """

    separator: str | None
    encoding: str | None
    header: bool


@dataclass(frozen=True)
class Column:
    """A column that is used.

    Attributes:
        kind: number, boolean, date or category. comma: what one stands for in its numbers, decimals or thousands. format: of dates that are text. clock:
            whether dates have a time of day. categories: the most frequent in train first. missing: whether cells are empty in
            train. fill: what stands for an empty cell: the mean of train.
    """

    name: str
    kind: str
    comma: str = ""
    format: str = ""
    clock: bool = False
    categories: tuple[str, ...] = ()
    missing: bool = False
    fill: float = 0.0

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Column":
        """Return the column that a card describes."""
        return cls(**{**facts, "categories": tuple(facts.get("categories", ()))})

    def facts(self) -> dict[str, Any]:
        """Return what the card tells of it: its name, its kind, and what is not as usual."""
        facts = {**asdict(self), "categories": list(self.categories)}
        return {key: value for key, value in facts.items() if value or key in ("name", "kind")}


def columns_of(table: Mapping[str, Any] | None) -> list[Column]:
    """Return the columns that a card describes; none of what is no table."""
    return [Column.of(each) for each in table["columns"]] if table is not None else []


def is_numeric(column: Column) -> bool:
    """Whether a column is stored as a number, and not as a place in a list."""
    return column.kind != "category"


def periods(column: Column) -> tuple[float, ...]:
    """Return in how many days a date comes back to where it was, on each circle that it is placed on."""
    return () if column.kind != "date" else (1.0, *PERIODS) if column.clock else PERIODS


def plain_features(columns: Sequence[Column]) -> int:
    """Return how many features come before those of categories."""
    return sum(is_numeric(each) + each.missing + 2 * len(periods(each)) for each in columns)


def category_sizes(columns: Sequence[Column]) -> list[int]:
    """Return how many features each category takes, one for each of its values."""
    return [len(each.categories) for each in columns if each.kind == "category"]


def typical(column: Column) -> Any:
    """Return a cell such as a column holds: its most frequent category, its mean, a date in the form of its dates."""
    if column.kind == "category":
        return next(iter(column.categories), "")
    if column.kind == "date":
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=column.fill)
        return moment.strftime((column.format or "%Y-%m-%d").replace("%.f", ".%f"))
    return "yes" if column.kind == "boolean" else column.fill


class Fitting:
    """What is fitted on train: categories by how often they come, means, which columns have empty cells.

    Args:
        columns: with the categories whose places the chunks hold.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.counts = [
            np.zeros((len(SPLITS), len(each.categories) + 1), np.int64) for each in columns
        ]  # the last: in none
        self.empty, self.filled, self.sums = (np.zeros(len(columns)) for _ in range(3))

    def add(self, rows: Array, split: Array) -> None:
        """Take in rows (n, C) and the split (n,) of each."""
        train = rows[split == SPLITS.index("train")]
        known = ~np.isnan(train)
        self.filled += known.sum(axis=0)
        self.empty += (~known).sum(axis=0)
        self.sums += np.where(known, train, 0).sum(axis=0)
        for i, each in enumerate(self.columns):
            for number in np.unique(split[split >= 0]) if each.kind == "category" else ():
                cells = rows[split == number, i]
                places = cells[~np.isnan(cells)].astype(np.int64) % (len(each.categories) + 1)
                self.counts[i][number] += np.bincount(places, minlength=len(each.categories) + 1)

    def fitted(self, *, most: int, min_count: int) -> list[Column]:
        """Return the columns as train has them: of a category the `most` frequent values that come `min_count` times."""
        means = self.sums / np.maximum(self.filled, 1)
        return [self._fitted(i, each, most, min_count, float(means[i])) for i, each in enumerate(self.columns)]

    def _fitted(self, i: int, column: Column, most: int, min_count: int, mean: float) -> Column:
        missing = bool(self.empty[i])
        if column.kind != "category":
            return replace(column, missing=missing, fill=mean)
        counts = self.counts[i][SPLITS.index("train"), :-1]
        order = np.argsort(-counts, kind="stable")[:most]
        return replace(
            column, missing=missing, categories=tuple(column.categories[k] for k in order if counts[k] >= min_count)
        )

    def unseen(self, columns: Sequence[Column]) -> dict[str, dict[str, int]]:
        """Return by split and column how many cells hold a category that the fitted columns do not know; none where it is 0."""
        found: dict[str, dict[str, int]] = {}
        for before, after, counts in zip(self.columns, columns, self.counts, strict=True):
            others = [k for k, name in enumerate(before.categories) if name not in set(after.categories)]
            for split, count in zip(SPLITS, counts[:, [*others, -1]].sum(axis=1).tolist(), strict=True):
                if count:
                    found.setdefault(split, {})[after.name] = count
        return found
