"""Readers of sentences that are made, not read: to see what a network of sequences can learn, and what it cannot."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from crucible.data.readers.source import Pool, Source
from crucible.data.text import END, Corpus, spelling
from crucible.errors import Refusal
from crucible.schema import Count, Seed, Whole

SUBJECTS = {"was": ("cat", "student", "machine", "river"), "were": ("cats", "students", "machines", "rivers")}
BETWEEN = (
    "which",
    "near",
    "the",
    "old",
    "small",
    "house",
    "of",
    "our",
    "teacher",
    "in",
    "that",
    "long",
    "summer",
    "and",
    "quite",
    "far",
)
FORMS = ("{day} {month} {year}", "{month} {day}, {year}", "{day} {short} {year}", "{weekday}, {day} {month} {year}", "{day}/{m}/{year}",
         "{short} {day} {year}", "{day}.{m}.{year}")  # fmt: skip
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SIZES = ("train", "dev", "test")


def agreement(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    distance: Count,
    train_size: Count,
    dev_size: Whole,
    test_size: Count,
    seed: Seed,
) -> Source:
    """Make sentences whose verb, `was` or `were`, is told by their subject, `distance` words before (notes 000, part 13, section 5)."""

    def draw(rng: np.random.Generator) -> tuple[Sequence[str], str]:
        verb = ("was", "were")[int(rng.integers(2))]
        subject = SUBJECTS[verb][int(rng.integers(len(SUBJECTS[verb])))]
        words = rng.choice(BETWEEN, distance - 1).tolist() if distance > 1 else []
        return ["the", subject, *words], verb

    return _made(draw, (train_size, dev_size, test_size), seed)


def dates(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    unit: Literal["character"],
    train_size: Count,
    dev_size: Whole,
    test_size: Count,
    seed: Seed,
) -> Source:
    """Make dates as people write them, and after <EOS> the same in ISO form: of unequal length (notes 000, part 13: many to many)."""

    def draw(rng: np.random.Generator) -> tuple[Sequence[str], str]:
        day = date(1950, 1, 1) + timedelta(days=int(rng.integers(100 * 365)))
        month = MONTHS[day.month - 1]
        written = FORMS[int(rng.integers(len(FORMS)))].format(
            day=day.day, month=month, short=month[:3], year=day.year, m=day.month, weekday=WEEKDAYS[day.weekday()]
        )
        return [*written, END, *day.isoformat(), END], "date"

    return _made(draw, (train_size, dev_size, test_size), seed, answers=True)


def _made(
    draw: Callable[[np.random.Generator], tuple[Sequence[str], str]],
    sizes: Sequence[int],
    seed: int,
    *,
    answers: bool = False,
) -> Source:
    """Return as many different examples as the splits have, in each as many as declared."""
    rng, seen = np.random.default_rng(seed), dict[tuple[str, ...], str]()
    tries = 0
    while len(seen) < sum(sizes):
        tokens, label = draw(rng)
        seen[tuple(tokens)] = label
        tries += 1
        if tries > 100 * sum(sizes):
            raise Refusal("data.reader", f"there are only {len(seen):,} different examples, {sum(sizes):,} are wanted",
                          allowed="fewer examples, or a larger distance")  # fmt: skip
    ends = [0, *accumulate(sizes)]
    items, pools, examples = list(seen.items()), dict[str, Pool](), dict[str, list[Sequence[str]]]()
    for name, (start, end) in zip(SIZES, pairwise(ends), strict=True):
        if own := items[start:end]:
            pools[name] = Pool(np.array([label for _, label in own]), lambda: iter(()))
            examples[name] = [tokens for tokens, _ in own]
    return Corpus(
        pools, examples, spelling(lower=False), None, 1, {"cut": 0, "answers": answers}, written=False
    ).source({})
