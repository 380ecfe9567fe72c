"""Where trials run: what a search asks of the machines that do its work, whichever they are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from crucible.search.trials import TrialRequest, TrialResult

Tell = Callable[[int, float], None]
Work = Callable[[TrialRequest, Tell], TrialResult]
Message = tuple[str, Any]  # ready; epoch (epoch, value); done TrialResult


class Engine(Protocol):
    """Starts workers, each a process that does one trial at a time, and carries what is said between them and the search."""

    def start(self, work: Work) -> Any:
        """Start a worker and return its handle; it says `ready` when it can take a trial.

        Args:
            work: called in the worker with an assignment and a function to tell (epoch, value) to; importable by its name.
        """

    def send(self, handle: Any, what: TrialRequest | str | None) -> None:
        """Give a worker a trial, or the answer at a rung: None to go on, or why it must stop. One that is gone hears nothing."""

    def heard(self, handles: Sequence[Any], seconds: float) -> Iterator[tuple[Any, Message | None]]:
        """Give what workers say, waiting so long for the first of it; None: that worker is gone."""

    def end(self, handle: Any) -> str:
        """End a worker, whatever it is doing; return how it ended, or nothing where its host did, which says nothing of the work."""

    def capacity(self) -> int:
        """Return how many workers there is room for now."""
