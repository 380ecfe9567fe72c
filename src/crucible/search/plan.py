"""Stages as data: who samples, how many trials, how long each is, who goes on, and what the next stage looks at."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from crucible.errors import Refusal
from crucible.schema import Count, NonNegative, Section, Share

PositiveShare = Annotated[float, Field(gt=0, le=1)]
MODEL_BASED = ("tpe", "gp")


class Pruning(Section):
    """Successive halving as the trials come (Li et al., 2020): who is not good enough at a rung stops there.

    `first` rung, a share of the stage's epochs; at each the best share `keep` goes on, and the next lies 1/keep further;
    `startup`: how many others must have come to a rung before one is stopped there. keep: 1 stops nobody.
    Optuna's own pruner answers yes or no; the reason of a trial that is stopped names its rank and how many went on.
    """

    first: PositiveShare
    keep: PositiveShare
    startup: Count


class Stage(Section):
    """One stage of a search.

    `trials`: a share of n_trials; null for the stage that takes what the others leave, and grows with n_trials: the last
    model-based one. `epochs`: a share of the full run. The next stage starts from the best `keep` trials, tried again as
    its first, in ranges that leave a `margin` (a share of this stage's ranges) around them.
    """

    sampler: Literal["random", "quasi_random", "tpe", "gp"]
    trials: PositiveShare | None
    epochs: PositiveShare
    keep: Count
    margin: PositiveShare
    prune: Pruning


class Confirm(Section):
    """The best `best` trials, each with `seeds` seeds at full length; the winner has the best mean. seeds: 1 is none."""

    best: Count
    seeds: Count


class Resources(Section):
    """What a worker has to itself. gpus: null of them, parts of one, or several; auto: one where there are any to train on."""

    cpus: Count
    gpus: NonNegative | Literal["auto"]


class Settings(Section):
    """The keys of `hydra.sweeper`."""

    study_name: Annotated[str, Field(pattern=r"^[\w .=+-]+$")] | None
    n_trials: Count
    n_jobs: Count | Literal["auto"]
    engine: Literal["local", "ray"] = "local"
    resources: Resources = Resources(cpus=1, gpus="auto")
    storage: str | None
    max_failure_rate: Share
    default_space: bool
    space: dict[str, dict[str, str]]
    stages: Annotated[dict[str, Stage], Field(min_length=1)]
    confirm: Confirm


def growing(stages: Mapping[str, Stage]) -> str:
    """Return the stage that grows with n_trials: the last model-based one, else the last."""
    return ([name for name, stage in stages.items() if stage.sampler in MODEL_BASED] or list(stages))[-1]


def allotted(stages: Mapping[str, Stage], n_trials: int, begun: Mapping[str, int]) -> dict[str, int]:
    """Return the number of trials of each stage; a stage that has begun keeps its number, but for the growing one.

    Raises:
        Refusal: the others leave none for the growing stage.
    """
    rest = growing(stages)
    counts = {name: begun.get(name, max(1, round((stage.trials or 0) * n_trials))) for name, stage in stages.items()}
    others = sum(count for name, count in counts.items() if name != rest)
    counts[rest] = n_trials - others
    if counts[rest] < 1:
        raise Refusal(
            "hydra.sweeper.n_trials",
            f"{n_trials} trials leave none for the stage '{rest}': the others {'began with' if begun else 'take'} {others}",
            allowed=f"{others + 1} or more",
            example=f"hydra.sweeper.n_trials={max(4 * len(stages), others + 1)}",
        )
    return counts


def require_shares(stages: Mapping[str, Stage]) -> None:
    """Refuse shares of trials that contradict each other.

    Raises:
        Refusal: naming the stage.
    """
    rest = growing(stages)
    for name, stage in stages.items():
        if (stage.trials is None) != (name == rest):
            why = "takes what the others leave" if name == rest else "must say its share of n_trials"
            raise Refusal(
                f"hydra.sweeper.stages.{name}.trials",
                f"{'null' if stage.trials is None else stage.trials} is refused: this stage {why}",
                allowed="null" if name == rest else "a share above 0, at most 1",
            )


def rungs(prune: Pruning, epochs: int) -> list[int]:
    """Return the epochs after which a trial of so many epochs is looked at."""
    found, share = [], prune.first
    while prune.keep < 1 and share < 1:
        found.append(max(1, math.ceil(share * epochs)))
        share /= prune.keep
    return [epoch for epoch in dict.fromkeys(found) if epoch < epochs]


def stopped(prune: Pruning, rank: int, others: int) -> int | None:
    """Return how many go on where a trial is not among them; None: it goes on.

    Args:
        rank: 1 for the best so far at this rung. others: how many came to it before.
    """
    go_on = max(1, math.ceil(prune.keep * (others + 1)))
    return go_on if others >= prune.startup and rank > go_on else None


def late_enough(unfinished: int, trials: int) -> bool:
    """Whether the next stage may start while the last trials of this one still run: at most a tenth of them."""
    return unfinished <= trials // 10


def ranked(values: Sequence[float], goal: str) -> list[int]:
    """Return the places of the values, the best first, the first of equals first."""
    sign = -1 if goal == "maximize" else 1
    return sorted(range(len(values)), key=lambda i: sign * values[i])
