"""An ordered map: pieces of work that are done anywhere, by as many processes as there are, and whose results come in order."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Ordered = Callable[[Iterable[Callable[[], Any]]], Iterator[Any]]


def here(works: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Do one piece of work after the other in this process."""
    return (work() for work in works)


@contextmanager
def over(count: int) -> Iterator[Ordered]:
    """Give what does pieces of work in so many processes at a time; joblib starts them, and they end with this."""
    from joblib import Parallel, delayed  # a tenth of a second that only large data need
    from joblib.externals.loky import get_reusable_executor

    pool = Parallel(n_jobs=count, return_as="generator", batch_size=1)
    try:
        yield lambda works: results(pool(map(delayed(done_in(Path.cwd())), works)))
    finally:
        get_reusable_executor().shutdown()


def done_in(folder: Path) -> Callable[[Callable[[], T]], tuple[T | None, Exception | None]]:
    """Return what does a piece of work in a folder (a process that is there already may be in another one), and gives what it raises."""
    return partial(_done_in, folder)


def _done_in(folder: Path, work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    os.chdir(folder)
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001  (it is raised where its turn comes: the first in order, not in time)
        return None, error


def results(found: Iterable[tuple[Any, Exception | None]]) -> Iterator[Any]:
    """Give the results, up to the first piece of work that has failed.

    Raises:
        Exception: that one's.
    """
    for value, error in found:
        if error is not None:
            raise error
        yield value
