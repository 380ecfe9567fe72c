"""An ordered map: pieces of work that are done anywhere, by as many processes as there are, and whose results come in order."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Ordered = Callable[[Iterable[Callable[[], Any]]], Iterator[Any]]


def here(works: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Do one piece of work after the other in this process."""
    return (work() for work in works)


def over(count: int, backend: str = "loky") -> Ordered:
    """Return what does pieces of work in so many processes at a time.

    Args:
        backend: of joblib, which starts the processes and hands them the work.
    """
    from joblib import Parallel, delayed  # a tenth of a second that only large data need

    pool = Parallel(n_jobs=count, backend=backend, return_as="generator", batch_size=1)
    return lambda works: pool(map(delayed(done_in(Path.cwd())), works))


def done_in(folder: Path) -> Callable[[Callable[[], Any]], Any]:
    """Return what does a piece of work in a folder: a process that is there already may be in another one."""
    return partial(_done_in, folder)


def _done_in(folder: Path, work: Callable[[], T]) -> T:
    os.chdir(folder)
    return work()
