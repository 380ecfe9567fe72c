"""A bar while training, where a person looks; silence where a file does."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, int, dict[str, float]], None]


@contextmanager
def progress(own: Tell | None = None) -> Iterator[Tell]:
    """Give the function to call with (epoch, total epochs, values) after each epoch: the caller's own, or a bar's."""
    if own is not None:
        yield own
        return
    if not sys.stderr.isatty():
        yield lambda epoch, total, values: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(epoch: int, total: int, values: dict[str, float]) -> None:
            shown = [f"{name} {values[name]:.4f}" for name in ("train/loss", "dev/loss", "dev/error") if name in values]
            bar.update(task, completed=epoch, total=total, description="  ".join(shown))

        yield tell
