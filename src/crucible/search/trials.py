"""What is known of a trial, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crucible.search.space import Value

State = Literal["waiting", "running", "complete", "pruned", "failed", "killed"]
REPORTS = 20  # of a trial to the storage, rungs apart
CAUSES = ("out of memory", "non-finite", "data", "code", "killed twice")


@dataclass(frozen=True)
class Trial:
    """One trial of a stage.

    Attributes:
        state: killed is the first attempt of a trial that was killed from outside; it was tried again.
        values: of the parameters, by name. value: the monitored number on dev, None until it is complete.
        curve: the monitored number by epoch, as far as it was reported.
        facts: what the trial reports of itself: folder, epochs, threads, seconds, cause, why, unmet, saved, seed, planned.
        origin: the number of its first attempt.
    """

    stage: str
    number: int
    state: State
    values: dict[str, Value]
    value: float | None
    curve: dict[int, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: int = -1

    @property
    def counts(self) -> bool:
        """Whether it is one of the n_trials that have ended."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def epochs(self) -> int:
        """The epochs that were trained."""
        return int(self.facts.get("epochs", 0))

    @property
    def unmet(self) -> list[str]:
        """The bounds that it does not keep."""
        return list(self.facts.get("unmet", ()))


@dataclass(frozen=True)
class TrialRequest:
    """What a worker is given to do.

    Attributes:
        overrides: of the sampled parameters. epochs: how long to train. rungs: epochs after which it is decided whether to
            go on. seed: None for the configuration's own. folder: where. study: of the stage, for the record.
    """

    study: str
    stage: str
    number: int
    overrides: tuple[str, ...]
    epochs: int
    rungs: tuple[int, ...]
    seed: int | None
    folder: str

    def is_told(self, epoch: int) -> bool:
        """Whether the search wants to know of an epoch: of rungs, of the last, and of some between them."""
        return epoch in self.rungs or epoch == self.epochs or epoch % max(1, self.epochs // REPORTS) == 0


@dataclass(frozen=True)
class TrialResult:
    """What a worker gives back.

    Attributes:
        kind: complete, pruned or failed. value: the monitored number. violations: of the bounds, above 0 where unmet.
        facts: epochs, threads, seconds; cause and why of a failure.
    """

    kind: Literal["complete", "pruned", "failed"]
    value: float | None = None
    violations: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
