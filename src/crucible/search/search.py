"""The search itself: hands out trials stage by stage, stops the hopeless at rungs, confirms the best over seeds.

Everything that is decided is read from the storage, so that a search killed at any moment goes on where it was.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from crucible.errors import Stopped
from crucible.search.engine import Engine, Message, Work
from crucible.search.local import Local
from crucible.search.plan import Confirm, Stage, allotted, late_enough, ranked, rungs, stopped
from crucible.search.pool import Pool, Worker
from crucible.search.space import Space, Value
from crucible.search.stages import Studies
from crucible.search.trials import Trial, TrialRequest, TrialResult

CONFIRM = "confirm"
POLL_SECONDS, AGAIN_SECONDS = 0.2, 1.0
LEAST_FAILURES = 4  # before a search of failures stops


@dataclass(frozen=True)
class Plan:
    """What is to be searched, and how.

    Attributes:
        space: the user's own. total_epochs: of the full run. goal: maximize or minimize. seed: of the configuration.
        max_failure_rate: of the trials since this start; above it the search stops.
    """

    space: Space
    stages: Mapping[str, Stage]
    confirm: Confirm
    n_trials: int
    n_jobs: int
    total_epochs: int
    goal: Literal["maximize", "minimize"]
    seed: int
    max_failure_rate: float

    def epochs(self, stage: str) -> int:
        """Return how long a trial of the stage is trained."""
        share = 1.0 if stage == CONFIRM else self.stages[stage].epochs
        return max(1, round(share * self.total_epochs))

    @property
    def longest(self) -> list[str]:
        """The stages whose trials are trained longest: only their values are compared for the winner."""
        most = max(self.epochs(name) for name in self.stages)
        return [name for name in self.stages if self.epochs(name) == most]


@dataclass(frozen=True)
class SearchState:
    """Where a search stands.

    Attributes:
        trials: all, stage by stage. best: value and point so far. busy: share of the workers' time.
        workers: with a job, and in all. seconds_left: estimated; None before anything has ended.
    """

    trials: Mapping[str, list[Trial]]
    best: Trial | None
    busy: float
    workers: tuple[int, int]
    seconds_left: float | None
    n_trials: int

    @property
    def done(self) -> int:
        """How many of the n_trials have ended."""
        return self.count("complete", "pruned", "failed")

    def count(self, *states: str) -> int:
        """Return how many trials of the search stages are in one of these states."""
        return sum(each.state in states for name, own in self.trials.items() if name != CONFIRM for each in own)


Listen = Callable[[SearchState, Trial | None], None]


class Search:
    """One process's part in a search, with its workers.

    Args:
        work: what a worker does with an assignment. folder: trials get folders below it. engine: where workers run; None: here.
        listen: called with the standing, and the trial that has just ended, if one has.
    """

    def __init__(
        self, plan: Plan, studies: Studies, work: Work, folder: Path, listen: Listen, engine: Engine | None = None
    ) -> None:
        self._plan, self._studies, self._work = plan, studies, work
        self._engine: Engine = engine or Local(plan.n_jobs)
        self._folder, self._listen = folder, listen
        self._spaces: dict[str, Space] = {}
        self._counts: dict[str, int] = {}
        self._trials: dict[str, list[Trial]] = {}
        self._over: set[str] = set()
        self._curves: dict[tuple[str, int], dict[int, float]] = {}
        self._pool: Pool | None = None
        self._ended: list[Trial] = []
        self._asleep = 0.0
        self._best: Trial | None = None

    def __enter__(self) -> "Search":
        """Start the workers."""
        self._pool = Pool(self._engine, self._work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._pool is not None
        self._pool.close()

    def run(self) -> SearchState:
        """Run every trial that is left; return where the search stands then.

        Raises:
            Stopped: too many trials failed, the storage is gone, or workers cannot start; what was recorded stays.
        """
        pool = self._pool
        assert pool is not None
        try:
            while not self._hand_out(pool):
                for worker, message in pool.messages(POLL_SECONDS):
                    self._take(pool, worker, message)
                self._studies.beat()
                self._listen(self.standing(), None)
        except BaseException:
            with suppress(Stopped):
                self._studies.release()
            raise
        return self.standing()

    def is_over(self) -> bool:
        """Whether nothing is left to run, by the storage alone."""
        begun = {name: self._studies.opened(name) for name in self._plan.stages}
        if not all(begun.values()):
            return False
        counts = allotted(
            self._plan.stages, self._plan.n_trials, {n: each["trials"] for n, each in begun.items() if each}
        )
        self._trials = {name: self._studies.trials(name) for name in (*self._plan.stages, CONFIRM)}
        self._best = best(self._plan, self._trials)
        ended = {name: sum(each.counts for each in own) for name, own in self._trials.items()}
        left = any(each.state in ("running", "waiting") for own in self._trials.values() for each in own)
        planned = {each.facts.get("planned") for each in self._trials[CONFIRM]}
        confirmed = all(name in planned for name, _, _ in confirmations(self._plan, self._trials))
        return not left and confirmed and all(ended[name] >= counts[name] for name in counts)

    def standing(self) -> SearchState:
        """Return where the search stands."""
        pool = self._pool
        return SearchState(
            self._trials,
            self._best,
            pool.busy_share() if pool else 0.0,
            (pool.running, len(pool.workers)) if pool else (0, 0),
            self._seconds_left(),
            self._plan.n_trials,
        )

    def _seconds_left(self) -> float | None:
        """Return the time that the trials to come will take, if they are like those that ended here."""
        seconds = sum(float(each.facts.get("seconds", 0)) for each in self._ended)
        planned = sum(self._plan.epochs(each.stage) for each in self._ended)
        confirms = self._plan.confirm.best * (self._plan.confirm.seeds - 1)
        left = confirms * self._plan.total_epochs
        for name, count in self._counts.items():
            left += max(0, count - sum(each.counts for each in self._trials.get(name, ()))) * self._plan.epochs(name)
        left -= sum(each.counts for each in self._trials.get(CONFIRM, ())) * self._plan.total_epochs
        return max(0.0, left * seconds / planned / max(1, self._engine.capacity())) if planned else None

    def _hand_out(self, pool: Pool) -> bool:
        """Give every idle worker a trial, if there is one; return whether the search is over."""
        if time.monotonic() < self._asleep:
            return False
        for worker in pool.idle():
            trial = self._next()
            if trial is None:
                self._asleep = time.monotonic() + AGAIN_SECONDS
                return not pool.running and CONFIRM in self._over
            pool.give(worker, self._assigned(trial))
        return False

    def _assigned(self, trial: Trial) -> TrialRequest:
        stage, epochs = trial.stage, self._plan.epochs(trial.stage)
        folder = self._folder / stage / f"{trial.number:04d}"
        seed = trial.facts.get("seed")
        looks = tuple(rungs(self._plan.stages[stage].prune, epochs)) if stage != CONFIRM else ()
        words = tuple(self._plan.space.overrides(trial.values))
        self._studies.tell_facts(stage, trial.number, {"folder": str(folder)})
        return TrialRequest(
            f"{self._studies.name}/{stage}", stage, trial.number, words, epochs, looks, seed, str(folder)
        )

    def _next(self) -> Trial | None:
        """Return the next trial to run, its stage opened if it is the first; None: there is none now."""
        for name, stage in self._plan.stages.items():
            if name not in self._over:
                space = self._opened(name)
                claimed = self._studies.claim(name, space, stage.sampler, self._counts[name])
                self._trials[name] = self._studies.trials(name)
                self._best = best(self._plan, self._trials)
                if claimed is not None:
                    return claimed
                unfinished = sum(each.state in ("running", "waiting") for each in self._trials[name])
                if not unfinished:
                    self._over.add(name)
                elif not late_enough(unfinished, self._counts[name]):
                    return None
        return self._confirming() if len(self._over) == len(self._plan.stages) else None

    def _opened(self, name: str) -> Space:
        """Return the space of a stage, made from what the stage before it found if it has not begun."""
        if name not in self._spaces:
            begun = {each: found["trials"] for each in self._plan.stages if (found := self._studies.opened(each))}
            self._counts = allotted(self._plan.stages, self._plan.n_trials, begun)
            found = self._studies.open(name, lambda: self._made(name))
            self._spaces[name] = Space.from_plain(found["space"])
        return self._spaces[name]

    def _made(self, name: str) -> tuple[Space, int, list[dict[str, Value]]]:
        names = list(self._plan.stages)
        if name == names[0]:
            return self._plan.space, self._counts[name], []
        before = names[names.index(name) - 1]
        kept = leaders(self._trials[before], self._plan.goal)[: self._plan.stages[before].keep]
        points = [each.values for each in kept]
        margin = self._plan.stages[before].margin
        return self._spaces[before].narrowed(self._plan.space, points, margin), self._counts[name], points

    def _confirming(self) -> Trial | None:
        """Return a run of one of the best with one of the seeds; None where all are handed out."""
        if CONFIRM not in self._over:
            if points := confirmations(self._plan, self._trials):
                self._studies.plan(CONFIRM, points)
                claimed = self._studies.claim(CONFIRM, self._plan.space, "random", None)
                self._trials[CONFIRM] = self._studies.trials(CONFIRM)
                if claimed is not None:
                    return claimed
            if not any(each.state in ("running", "waiting") for each in self._trials.get(CONFIRM, ())):
                self._over.add(CONFIRM)
        return None

    def _take(self, pool: Pool, worker: Worker, message: Message) -> None:
        kind, content = message
        if kind == "epoch":
            self._note(pool, worker, *content)
        elif kind == "done":
            job, outcome = content
            self._end(job, outcome)
        elif content is not None:
            self._over.discard(content.stage)
            self._studies.lose(content.stage, content.number)
            self._closed(content, ("failed",))

    def _note(self, pool: Pool, worker: Worker, epoch: int, value: float) -> None:
        job = worker.job
        assert job is not None
        curve = self._curves.setdefault((job.stage, job.number), {})
        curve[epoch] = value
        if epoch in job.rungs:
            pool.answer(worker, self._verdict(job, epoch, curve))
        self._studies.report(job.stage, job.number, epoch, value)

    def _verdict(self, job: TrialRequest, epoch: int, curve: Mapping[int, float]) -> str | None:
        """Return why a trial must stop at a rung; None: it goes on."""
        sign = 1 if self._plan.goal == "maximize" else -1

        def so_far(points: Mapping[int, float]) -> float:
            return max(sign * value for at, value in points.items() if at <= epoch)

        curves = {each.number: each.curve for each in self._trials[job.stage] if each.state != "killed"}
        curves |= {number: own for (stage, number), own in self._curves.items() if stage == job.stage}
        others = [so_far(each) for number, each in curves.items() if number != job.number and epoch in each]
        own = so_far(curve)
        rank = 1 + sum(each > own for each in others)
        go_on = stopped(self._plan.stages[job.stage].prune, rank, len(others))
        if go_on is None:
            return None
        return f"{sign * own:.4f} by epoch {epoch} of {job.epochs} is number {rank} of {len(others) + 1} there, {go_on} go on"

    def _end(self, job: TrialRequest, outcome: TrialResult) -> None:
        outcome = _finite(outcome)
        facts = {**outcome.facts, "unmet": [name for name, violation in outcome.violations.items() if violation > 0]}
        if outcome.kind == "pruned":
            facts["saved"] = job.epochs - int(facts.get("epochs", 0))
        self._studies.end(job.stage, job.number, replace(outcome, facts=facts))
        self._closed(job, ("complete", "pruned", "failed"))

    def _closed(self, job: TrialRequest, states: tuple[str, ...]) -> None:
        """Take in how a trial ended, if it did."""
        self._curves.pop((job.stage, job.number), None)
        self._trials[job.stage] = self._studies.trials(job.stage)
        self._best = best(self._plan, self._trials)
        self._asleep = 0.0
        trial = next(each for each in self._trials[job.stage] if each.number == job.number)
        if trial.state in states:
            self._ended.append(trial)
            self._listen(self.standing(), trial)
            self._require_success()

    def _require_success(self) -> None:
        failed = [each for each in self._ended if each.state == "failed"]
        rate = len(failed) / len(self._ended)
        if len(failed) >= LEAST_FAILURES and rate > self._plan.max_failure_rate:
            last = failed[-1].facts
            raise Stopped(
                "the search",
                f"{len(failed)} of {len(self._ended)} trials failed; the last ({last.get('cause')}): {last.get('why')}",
                allowed=f"at most {self._plan.max_failure_rate:.0%} (hydra.sweeper.max_failure_rate)",
                example="fix it and give the same command: the search goes on; the failed trials stay recorded",
            )


def _finite(outcome: TrialResult) -> TrialResult:
    """Return the outcome, or a failure where its value is no number: no storage takes it, and nothing can be learned."""
    if outcome.kind != "complete" or (outcome.value is not None and math.isfinite(outcome.value)):
        violations = {name: math.inf if math.isnan(each) else each for name, each in outcome.violations.items()}
        return replace(outcome, violations=violations)
    return TrialResult(
        "failed", facts={**outcome.facts, "cause": "non-finite", "why": f"the value on dev is {outcome.value}"}
    )


def leaders(trials: list[Trial], goal: str) -> list[Trial]:
    """Return the complete trials, the best first, each point once; those that keep every bound before those that do not."""
    done = [each for each in trials if each.state == "complete" and each.value is not None]
    order = ranked([each.value for each in done if each.value is not None], goal)
    found = sorted((done[i] for i in order), key=lambda each: bool(each.unmet))
    first: dict[tuple[tuple[str, Value], ...], Trial] = {}
    for each in found:
        first.setdefault(tuple(sorted(each.values.items())), each)
    return list(first.values())


def best(plan: Plan, trials: Mapping[str, list[Trial]]) -> Trial | None:
    """Return the best feasible trial of the longest stage that has one."""
    for epochs in sorted({plan.epochs(name) for name in plan.stages}, reverse=True):
        own = [each for name in plan.stages if plan.epochs(name) == epochs for each in trials.get(name, ())]
        if fit := [each for each in leaders(own, plan.goal) if not each.unmet]:
            return fit[0]
    return None


def candidates(plan: Plan, trials: Mapping[str, list[Trial]]) -> list[Trial]:
    """Return the trials among which the winner is chosen: the best feasible of the longest stages."""
    own = [each for name in plan.longest for each in trials.get(name, ())]
    return [each for each in leaders(own, plan.goal) if not each.unmet][: plan.confirm.best]


def confirmations(plan: Plan, trials: Mapping[str, list[Trial]]) -> list[tuple[str, dict[str, Value], dict[str, int]]]:
    """Return the further runs of the candidates, as (name, point, facts); a full-length trial is its own first one."""
    whole = plan.epochs(plan.longest[0]) == plan.total_epochs
    return [
        (f"{each.stage}/{each.number}/{seed}", each.values, {"seed": seed})
        for each in candidates(plan, trials)
        for seed in range(plan.seed + whole, plan.seed + plan.confirm.seeds)
    ]


def confirmed(plan: Plan, trials: Mapping[str, list[Trial]], candidate: Trial) -> dict[int, float]:
    """Return a candidate's values by seed, its own included where it was trained in full."""
    runs = repeats(plan, trials, candidate)
    return {seed: float(each.value) for seed, each in sorted(runs.items()) if each.value is not None}


def repeats(plan: Plan, trials: Mapping[str, list[Trial]], candidate: Trial) -> dict[int, Trial]:
    """Return a candidate's complete full-length runs by seed."""
    found = {plan.seed: candidate} if plan.epochs(candidate.stage) == plan.total_epochs else {}
    prefix = f"{candidate.stage}/{candidate.number}/"
    for each in trials.get(CONFIRM, ()):
        if each.state == "complete" and str(each.facts["planned"]).startswith(prefix):
            found[int(each.facts["seed"])] = each
    return found
