"""The search over a formula: what it finds, how it goes on, what it records, and that nothing that is killed is lost."""

import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from conftest import ROOT
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from crucible.errors import Refusal, Stopped
from crucible.search.local import begun_early
from crucible.search.plan import Confirm
from crucible.search.pool import Pool
from crucible.search.search import Search
from crucible.search.space import Choice, Range, Space
from crucible.search.stages import Studies, _derived, shown
from crucible.search.trials import TrialRequest, TrialResult
from crucible.tracking.folder import locked
from tests.toy_search import SPACE, STAGES, planned, quality, searched, work

TOY = [sys.executable, "-m", "tests.toy_search"]
LR = SPACE.parameters[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"}


def crashing(job: TrialRequest, tell: Any) -> TrialResult:
    """Fail in each of the ways there are, by the learning rate; small ones train."""
    lr = float(dict(word.split("=") for word in job.overrides)["optimizer.lr"])
    if lr > 0.03:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if lr > 0.003:
        raise Stopped("epoch 1, step 2", "the loss is not finite")
    if lr > 0.0003:
        raise Refusal("row 3", "label -1 is out of range")
    if lr > 0.00005:
        raise KeyError("no such thing")
    return work(job, tell)


def killing(job: TrialRequest, tell: Any) -> TrialResult:
    """Die, as if killed from outside, where the learning rate is large."""
    if float(dict(word.split("=") for word in job.overrides)["optimizer.lr"]) > 0.001:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(job, tell)


def bounded(job: TrialRequest, tell: Any) -> TrialResult:
    """Train, with a bound that only small learning rates keep."""
    done = work(job, tell)
    lr = float(dict(word.split("=") for word in job.overrides)["optimizer.lr"])
    return TrialResult("complete", done.value, {"parameters": lr - 0.001}, done.facts)


def interrupting(job: TrialRequest, tell: Any) -> TrialResult:
    """Train slowly."""
    time.sleep(0.3)
    return work(job, tell)


def trials_of(url: str, stage: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=f"toy/{stage}", storage=url).get_trials()


def counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials without those that Optuna's own record says were tried again."""
    again = {number for each in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(each)}
    return [each for each in trials if each.number not in again]


def require_exact(url: str, coarse: int, fine: int) -> None:
    """Check by Optuna's own API: exactly so many, none lost, none twice, none left, retries of the same point."""
    for stage, count in (("coarse", coarse), ("fine", fine)):
        trials = trials_of(url, stage)
        assert all(each.state.is_finished() for each in trials)
        assert len(counted(trials)) == count, [(each.number, each.state, each.user_attrs) for each in trials]
        retried = [RetryHeartbeatStaleTrialCallback.retry_history(each) for each in trials]
        retried = [number for history in retried for number in history[-1:]]
        assert len(retried) == len(set(retried))
        for each in trials:
            for number in RetryHeartbeatStaleTrialCallback.retry_history(each):
                first = trials[number]
                assert first.state == TrialState.FAIL
                assert "sampled" not in first.user_attrs or first.params == each.params


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_finds_the_optimum_of_the_formula(url, tmp_path, seed) -> None:
    """With one worker: of several, what is found depends on which is first."""
    found = searched(url, tmp_path / "w", planned(20, 1, seed=seed))
    assert found.best is not None and found.best.value is not None
    assert found.best.values["optimizer"] == "adam" and found.best.value > quality(0.03, "adam")
    require_exact(url, 12, 8)
    fine = optuna.load_study(study_name="toy/fine", storage=url).user_attrs["stage"]["space"]
    lr = next(each for each in fine if each["key"] == "optimizer.lr")
    assert 1e-5 < lr["low"] < 0.01 < lr["high"] < 1.0 and math.log10(lr["high"] / lr["low"]) < 4


def test_each_stage_starts_from_the_best_of_the_one_before(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(20, 1))
    coarse = sorted((t for t in trials_of(url, "coarse") if t.value is not None), key=lambda t: -t.value)
    assert [t.params for t in trials_of(url, "fine")[:3]] == [t.params for t in coarse[:3]]


def test_one_worker_searches_the_same_again(tmp_path) -> None:
    found = []
    for name in ("a", "b"):
        searched(f"sqlite:///{tmp_path}/{name}.db", tmp_path / name, planned(16, 1))
        own = [trials_of(f"sqlite:///{tmp_path}/{name}.db", stage) for stage in ("coarse", "fine", "confirm")]
        found.append([(t.params, t.value, t.state, t.intermediate_values) for trials in own for t in trials])
    assert found[0] == found[1]
    other = f"sqlite:///{tmp_path}/c.db"
    searched(other, tmp_path / "c", planned(16, 1, seed=1))
    assert [t.params for t in trials_of(other, "coarse")] != [point for point, *_ in found[0][:10]]


@pytest.mark.parametrize("sampler", ["random", "quasi_random", "tpe", "gp"])
def test_every_sampler_samples_within_the_ranges(url, tmp_path, sampler) -> None:
    space = Space((Range("optimizer.lr", 1e-3, 0.1, log=True), Range("model.width", 2, 9, integer=True)))
    stages = {"only": STAGES["fine"].model_copy(update={"sampler": sampler})}
    plan = planned(8, 1, stages=stages, space=space, confirm=Confirm(best=1, seeds=1))
    searched(url, tmp_path / "w", plan, narrow)
    trials = trials_of(url, "only")
    assert len(trials) == 8 and len({t.params["optimizer.lr"] for t in trials}) == 8
    assert all(1e-3 <= t.params["optimizer.lr"] <= 0.1 and t.params["model.width"] in range(2, 10) for t in trials)


def narrow(job: TrialRequest, tell: Any) -> TrialResult:
    """Train on any point."""
    settings = dict(word.split("=") for word in job.overrides)
    return TrialResult("complete", quality(float(settings["optimizer.lr"]), "adam") + float(settings["model.width"]))


def test_more_trials_extend_the_last_model_based_stage_and_the_finished_do_not_run_again(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(20, 1))
    before = [trials_of(url, stage) for stage in ("coarse", "fine")]
    searched(url, tmp_path / "w", planned(26, 1))
    require_exact(url, 12, 14)
    assert trials_of(url, "coarse") == before[0] and trials_of(url, "fine")[:8] == before[1]
    searched(url, tmp_path / "w", planned(20, 1))  # fewer than there are: nothing is lost
    with pytest.raises(Refusal, match="the others began with 12"):
        searched(url, tmp_path / "w", planned(5, 1))
    require_exact(url, 12, 14)


def test_a_finished_search_is_over_by_its_storage_alone(url, tmp_path) -> None:
    plan = planned(12, 1)
    searched(url, tmp_path / "w", plan)
    studies = Studies(url, "toy", goal="maximize", seed=0, folder=tmp_path / "w")
    assert Search(plan, studies, work, tmp_path / "w", lambda *each: None).is_over()
    assert not Search(planned(13, 1), studies, work, tmp_path / "w", lambda *each: None).is_over()


def test_a_trial_is_stopped_where_the_rule_says_with_the_reason_and_the_epochs_saved(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(30, 1))
    pruned = [t for t in trials_of(url, "coarse") if t.state == TrialState.PRUNED]
    assert pruned
    everyone = trials_of(url, "coarse")
    for each in pruned:
        epoch = each.user_attrs["epochs"]
        rivals = [
            t.intermediate_values[epoch] for t in everyone if t.number < each.number and epoch in t.intermediate_values
        ]
        rank = 1 + sum(value > each.intermediate_values[epoch] for value in rivals)
        go_on = math.ceil(0.5 * (len(rivals) + 1))
        assert rank > go_on and len(rivals) >= 3  # by hand: not in the better half
        assert f"is number {rank} of {len(rivals) + 1} there, {go_on} go on" in each.user_attrs["why"]
        assert each.user_attrs["saved"] == 4 - epoch
    for each in everyone:  # and nobody who is in it was stopped
        if each.state == TrialState.COMPLETE:
            rivals = [t.intermediate_values[1] for t in everyone if t.number < each.number]
            rank = 1 + sum(value > each.intermediate_values[1] for value in rivals)
            assert len(rivals) < 3 or rank <= math.ceil(0.5 * (len(rivals) + 1))


def test_crashes_are_recorded_with_their_cause_and_the_search_goes_on(url, tmp_path) -> None:
    found = searched(url, tmp_path / "w", planned(20, 2, max_failure_rate=1.0), crashing)
    require_exact(url, 12, 8)
    seen = {}
    for each in trials_of(url, "coarse"):
        if each.state == TrialState.FAIL:
            seen[each.user_attrs["cause"]] = each.params["optimizer.lr"]
            assert each.user_attrs["why"]
    assert set(seen) == {"out of memory", "non-finite", "data", "code"}
    assert seen["out of memory"] > 0.03 and 0.00005 < seen["code"] <= 0.0003
    assert found.count("failed") + found.count("complete", "pruned") == 20


def test_a_search_of_failures_stops_and_says_why(url, tmp_path) -> None:
    with pytest.raises(Stopped, match=r"4 of [4-7] trials failed; the last \("):
        searched(url, tmp_path / "w", planned(20, 1, max_failure_rate=0.5), crashing)
    searched(url, tmp_path / "w", planned(20, 2))  # fixed: it goes on
    require_exact(url, 12, 8)


def test_what_kills_its_worker_twice_has_failed(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(12, 2, max_failure_rate=1.0), killing)
    trials = trials_of(url, "coarse")
    large = [t for t in trials if t.params["optimizer.lr"] > 0.001]
    assert large and all(t.state == TrialState.FAIL for t in large)
    assert len(large) == 2 * len(counted(large))
    studies = Studies(url, "toy", goal="maximize", seed=0, folder=tmp_path / "w")
    causes = [t.facts["cause"] for t in studies.trials("coarse") if t.state == "failed"]
    assert causes and set(causes) == {"killed twice"}


def test_workers_that_cannot_start_stop_the_search(url, tmp_path) -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            return (__import__, ("no_such_module",))

        def __call__(self, job: TrialRequest, tell: Any) -> TrialResult:
            raise AssertionError

    with pytest.raises(Stopped, match="workers end before they begin"):
        searched(url, tmp_path / "w", planned(4, 1), Unpicklable())


def test_bounds_are_recorded_as_constraints_and_the_winner_keeps_them(url, tmp_path) -> None:
    found = searched(url, tmp_path / "w", planned(20, 1), bounded)
    assert found.best is not None and found.best.values["optimizer.lr"] <= 0.001
    fine = [t for t in trials_of(url, "fine") if t.state == TrialState.COMPLETE]
    assert all(t.constraints["parameters"] == t.params["optimizer.lr"] - 0.001 for t in fine)
    assert any(t.value > found.best.value for t in [*fine, *trials_of(url, "coarse")] if t.value)


def test_the_best_are_confirmed_over_seeds_once(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(12, 2, confirm=Confirm(best=2, seeds=3)))
    confirm = trials_of(url, "confirm")
    assert sorted(t.user_attrs["seed"] for t in confirm) == [1, 1, 2, 2]
    best = max((t for t in trials_of(url, "fine") if t.value is not None), key=lambda t: t.value)
    own = [t for t in confirm if t.params == best.params]
    assert {round(t.value - best.value, 6) for t in own} == {-0.001, -0.002}  # the formula's own loss by seed


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("mysql://me@host/db", "no storage that a search can be kept in"),
        ("sqlite:////proc/nowhere/s.db", "it cannot be reached"),
        ("postgresql://me:secret@127.0.0.1:9/db", "it cannot be reached"),
    ],
)
def test_a_storage_that_is_none_or_away_is_refused_before_any_trial(storage, says, tmp_path) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        Studies(storage, "toy", goal="maximize", seed=0, folder=tmp_path)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path) -> None:
    (tmp_path / "s.db").write_text("this is a letter, not a database\n" * 50)
    with pytest.raises(Refusal, match="it cannot be reached"):
        Studies(f"sqlite:///{tmp_path}/s.db", "toy", goal="maximize", seed=0, folder=tmp_path)
    assert (tmp_path / "s.db").read_text().startswith("this is a letter")


def test_the_database_of_something_else_is_refused_and_left_alone(tmp_path) -> None:
    with sqlite3.connect(tmp_path / "m.db") as other:
        other.execute("create table experiments (name text)")
    before = (tmp_path / "m.db").read_bytes()
    with pytest.raises(Refusal, match="the database of something else: it holds experiments"):
        Studies(f"sqlite:///{tmp_path}/m.db", "toy", goal="maximize", seed=0, folder=tmp_path)
    assert (tmp_path / "m.db").read_bytes() == before and not (tmp_path / "m.lock").exists()


class Died(Exception):
    """The process, at this very moment."""


def driven(url: str, folder: Path, die_at: int) -> int:
    """Claim and end trials without workers, losing every third once; die at a commit, or count the commits."""
    studies, commits = Studies(url, "toy", goal="maximize", seed=0, folder=folder), 0

    def counted_commit(connection: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == die_at:
            raise Died

    event.listen(studies._storage.engine, "commit", counted_commit)
    first = [{"optimizer": "adam", "optimizer.lr": 0.1}, {"optimizer": "sgd", "optimizer.lr": 0.2}]
    studies.open("only", lambda: (SPACE, 6, first))
    while (trial := studies.claim("only", SPACE, "random", 6)) is not None:
        studies.tell_facts("only", trial.number, {"folder": "x"})
        studies.report("only", trial.number, 1, 0.5)
        if trial.origin % 3 == 1 and trial.origin == trial.number:
            studies.lose("only", trial.number)
        else:
            violation = 1.0 if trial.origin == trial.number else -1.0  # a second attempt keeps the bound
            facts = {"epochs": 1, "unmet": ["b"] if violation > 0 else []}
            studies.end("only", trial.number, TrialResult("complete", 0.5, {"b": violation}, facts))
    return commits


@pytest.mark.slow
def test_killed_between_any_two_writes_nothing_is_lost_or_doubled(tmp_path) -> None:
    whole = driven(f"sqlite:///{tmp_path}/whole.db", tmp_path / "w", 0)
    expected = [t.params for t in sorted(only(f"sqlite:///{tmp_path}/whole.db"), key=first_number)]
    for die_at in range(1, whole, 5):
        url = f"sqlite:///{tmp_path}/{die_at}.db"
        with suppress(Died):
            driven(url, tmp_path / "w", die_at)
        driven(url, tmp_path / "w", 0)
        found = only(url)
        assert len(found) == 6 and all(t.state.is_finished() for t in found), die_at
        twice = [t for t in found if t.state == TrialState.FAIL]  # lost by us, and once more by the kill
        assert all(first_number(t) % 3 == 1 and first_number(t) != t.number for t in twice) and len(twice) <= 1, die_at
        assert [t.params for t in sorted(found, key=first_number)] == expected, die_at
        for each in [t for t in found if t not in twice]:  # nothing of a first attempt stays on the second
            again = bool(RetryHeartbeatStaleTrialCallback.retry_history(each))
            assert each.constraints == {"b": -1.0 if again else 1.0} and bool(each.user_attrs["unmet"]) != again


def only(url: str) -> list[FrozenTrial]:
    return counted(optuna.load_study(study_name="toy/only", storage=url).get_trials())


def first_number(trial: FrozenTrial) -> int:
    return next(iter(RetryHeartbeatStaleTrialCallback.retry_history(trial)), trial.number)


def test_a_trial_of_another_machine_is_left_alone_while_its_heart_beats(url, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("crucible.search.stages.machine", lambda: "elsewhere")
    there = Studies(url, "toy", goal="maximize", seed=0, folder=tmp_path / "there")
    monkeypatch.undo()
    here = Studies(url, "toy", goal="maximize", seed=0, folder=tmp_path / "here")
    there.open("only", lambda: (SPACE, 1, []))
    trial = there.claim("only", SPACE, "random", 1)
    with sqlite3.connect(
        tmp_path / "s.db"
    ) as database:  # however long this machine may stand still: it has just beaten
        database.execute("update trial_heartbeats set heartbeat = datetime('now', '+1 hour')")
    assert trial is not None and here.claim("only", SPACE, "random", 1) is None
    monkeypatch.setattr("crucible.search.stages.BEAT_SECONDS", 0)  # it looks again at once
    with sqlite3.connect(tmp_path / "s.db") as database:  # half an hour later
        database.execute("update trial_heartbeats set heartbeat = datetime('now', '-30 minutes')")
    second = here.claim("only", SPACE, "random", 1)
    assert second is not None and second.values == trial.values and second.origin == trial.number
    there.end("only", trial.number, TrialResult("complete", 0.1))  # it lived after all: too late
    here.end("only", second.number, TrialResult("complete", 0.2))
    assert [t.value for t in only(url)] == [0.2]


def test_the_points_of_sobols_sequence_are_scipys_whoever_asks(url, tmp_path) -> None:
    depth = Range("depth", 1, 4, integer=True, when=(("optimizer", ("adam",)),))
    space = Space((Choice("optimizer", ("sgd", "adam")), LR, depth))
    studies = [Studies(url, "toy", goal="maximize", seed=0, folder=tmp_path / name) for name in "ab"]
    studies[0].open("only", lambda: (space, 8, []))
    with locked(tmp_path / "a"), locked(tmp_path / "b"):  # both are alive
        found = [studies[i % 2].claim("only", space, "quasi_random", 8) for i in range(8)]
    points = qmc.Sobol(3, scramble=True, seed=_derived(0, "only", 0)).random(8)
    for trial, (option, lr, layers) in zip(found, points, strict=True):
        assert trial is not None
        assert trial.values["optimizer"] == ("sgd", "adam")[int(2 * option)]
        assert trial.values["optimizer.lr"] == pytest.approx(10 ** (5 * lr - 5))
        assert trial.values.get("depth", 0) == (0 if option < 0.5 else 1 + int(4 * layers))


def test_a_value_that_is_no_number_is_a_failure(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(4, 1, max_failure_rate=1.0), nothing)
    assert {t.user_attrs["cause"] for t in trials_of(url, "coarse")} == {"non-finite"}


def nothing(job: TrialRequest, tell: Any) -> TrialResult:
    """Train to no number."""
    return TrialResult("complete", math.nan, {"b": math.nan}, {"epochs": 1})


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:p%40ss:w@host/db") == "postgresql://me:***@host/db"
    assert "secret" not in shown("postgresql://me:secret:x@host:port/db")
    assert shown("sqlite:///a@b.db") == "sqlite:///a@b.db"


def test_a_storage_lost_for_a_moment_is_waited_for_and_one_lost_for_good_stops_the_search(
    url, tmp_path, monkeypatch
) -> None:
    real, calls = optuna.Study.ask, []

    def flaky(self: optuna.Study, *args: Any) -> optuna.Trial:
        calls.append(1)
        if 5 <= len(calls) <= 7:
            raise OperationalError("select 1", {}, Exception("server closed the connection"))
        return real(self, *args)

    monkeypatch.setattr(optuna.Study, "ask", flaky)
    searched(url, tmp_path / "w", planned(12, 1))
    require_exact(url, 7, 5)
    monkeypatch.setattr("tests.toy_search.PATIENCE", 0.5)

    def gone(self: optuna.Study, *args: Any) -> optuna.Trial:
        raise OperationalError("select 1", {}, Exception("server closed the connection"))

    monkeypatch.setattr(optuna.Study, "ask", gone)
    with pytest.raises(Stopped, match="server closed the connection"):
        searched(url, tmp_path / "w", planned(16, 1))
    monkeypatch.setattr(optuna.Study, "ask", real)
    searched(url, tmp_path / "w", planned(16, 1))
    require_exact(url, 7, 9)


def test_a_worker_without_a_parent_ends(tmp_path) -> None:
    main = start(f"sqlite:///{tmp_path}/s.db", tmp_path / "w", 200, 2)
    while len(own := family(main)) < 2:
        time.sleep(0.05)
    time.sleep(1)
    main.kill()
    main.wait()
    gone, alive = psutil.wait_procs(own, timeout=5)
    assert len(gone) == 2 and not alive


# whole processes, killed at random moments


def start(url: str, folder: Path, n_trials: int, n_jobs: int, seconds: float = 0.01) -> "subprocess.Popen[bytes]":
    words = [*TOY, url, str(folder), str(n_trials), str(n_jobs)]
    return subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT | {"TOY_SECONDS": str(seconds)}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip


def family(main: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return the workers of a search; any process may end between two looks at it."""
    try:
        return [each for each in psutil.Process(main.pid).children(recursive=True) if is_worker(each)]
    except psutil.NoSuchProcess:
        return []


def is_worker(process: psutil.Process) -> bool:
    try:
        return process.is_running() and "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one, too
        return False


def kill(what: str, main: "subprocess.Popen[bytes]", draw: random.Random) -> None:
    """Kill -9 the main process, one of its workers, or all of them."""
    own = family(main)
    for each in {"main": [], "worker": own and [draw.choice(own)], "all": own}[what]:
        each.kill()
    if what != "worker":
        main.kill()


def wait_for_a_running_trial(url: str, after: int) -> None:
    """Wait until so many trials have ended and a later one runs: which one is seen first depends on the machine."""
    end = time.monotonic() + 60
    while True:
        with suppress(KeyError, OperationalError):  # the study is not there yet
            states = [each.state for each in trials_of(url, "coarse")]
            if TrialState.RUNNING in states[after:]:
                return
        assert time.monotonic() < end, "the search did not come this far"
        time.sleep(0.02)


def finished(main: "subprocess.Popen[bytes]") -> None:
    _, reported = main.communicate(timeout=120)
    assert main.returncode == 0, reported.decode()


@pytest.mark.slow
@pytest.mark.parametrize("repetition", range(20))
def test_whatever_is_killed_the_count_is_exact(repetition: int, url: str, tmp_path: Path) -> None:
    draw = random.Random(repetition)
    what = ("main", "worker", "all")[repetition % 3]
    for _ in range(2):  # two kills, so that a retry may be hit as well
        main = start(url, tmp_path / "w", 20, 2)
        time.sleep(draw.uniform(0.8, 3.0))
        if main.poll() is None:
            kill(what, main, draw)
        if what != "worker":
            main.wait()
            main.communicate()
        else:
            finished(main)
    finished(start(url, tmp_path / "w", 20, 2))
    require_exact(url, 12, 8)


def test_a_retry_takes_the_point_and_nothing_that_the_first_attempt_told(url, tmp_path) -> None:
    studies = Studies(url, "toy", goal="maximize", seed=0, folder=tmp_path / "w")
    studies.open("only", lambda: (SPACE, 2, [{"optimizer": "adam", "optimizer.lr": 0.1}]))
    trial = studies.claim("only", SPACE, "random", 2)
    assert trial is not None
    studies.tell_facts("only", trial.number, {"folder": "x", "unmet": ["b"], "why": "y"})
    studies.lose("only", trial.number)
    again = only(url)[-1]
    assert again.state == TrialState.WAITING and again.params == trial.values and again.user_attrs == {"first": 0}


def test_a_stage_waits_for_the_one_before_unless_a_tenth_of_it_is_left(url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(10, 4), interrupting)
    ends = [t.datetime_complete for t in trials_of(url, "coarse")]
    assert len(ends) == 6 and max(ends) <= min(t.datetime_start for t in trials_of(url, "fine"))


def test_the_busy_share_leaves_out_the_start_and_the_end(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    job, outcome = TrialRequest("s", "only", 0, (), 1, (), None, "f"), TrialResult("complete", 1.0)
    pool = Pool(Scripted([[("ready", None)], [("done", outcome)], [("done", outcome)]]), work)
    list(pool.messages(0))
    for wait, works in ((5.0, 9.0), (1.0, 10.0)):  # the first wait is for the first trial, the last for nobody
        now[0] += wait
        pool.give(next(pool.idle()), job)
        now[0] += works
        list(pool.messages(0))
    now[0] += 30.0
    assert pool.busy_share() == pytest.approx(19 / 20)


class Scripted:
    """An engine with one worker that says what is written, a list for each time it is heard."""

    def __init__(self, said: list[list[tuple[str, Any] | None]]) -> None:
        self._said, self.sent, self.ended, self.room = iter(said), [], 0, 1

    def start(self, work: Any) -> Any:
        return object()

    def send(self, handle: Any, what: Any) -> None:
        self.sent.append(what)

    def heard(self, handles: Any, seconds: float) -> Any:
        yield from ((handles[0], each) for each in next(self._said))

    def end(self, handle: Any) -> str:
        self.ended += 1
        return "ended"

    def capacity(self) -> int:
        return self.room


def test_who_is_not_ready_gets_no_trial_and_who_is_gone_is_replaced_while_there_is_room() -> None:
    engine = Scripted([[], [("ready", None)], [None], []])
    pool = Pool(engine, work)
    list(pool.messages(0))
    assert not list(pool.idle())
    list(pool.messages(0))
    job = TrialRequest("s", "only", 0, (), 1, (), None, "f")
    pool.give(next(pool.idle()), job)
    assert [message for _, message in pool.messages(0)] == [("lost", job)] and engine.ended == 1 and not pool.workers
    engine.room = 3
    list(pool.messages(0))
    assert len(pool.workers) == 3 and not list(pool.idle())


def test_hosts_that_die_do_not_stop_a_search_and_workers_that_do_not_begin_do() -> None:
    engine = Scripted([[None]] * 10)
    engine.end = lambda handle: ""  # its host is gone
    pool = Pool(engine, work)
    for _ in range(9):
        list(pool.messages(0))
    engine.end = lambda handle: "exit code 1"
    engine._said = iter([[None]] * 3)
    with pytest.raises(Stopped, match=r"workers end before they begin \(exit code 1\)"):
        for _ in range(3):
            list(pool.messages(0))


def test_without_room_for_a_worker_the_search_says_so(monkeypatch) -> None:
    engine, now = Scripted([[]] * 3), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    engine.room = 0
    pool = Pool(engine, work)
    engine.heard = lambda handles, seconds: iter(())
    list(pool.messages(0))
    now[0] = 121.0
    with pytest.raises(Stopped, match="no host has had room"):
        list(pool.messages(0))


@pytest.mark.slow
def test_what_kills_every_worker_stops_the_search(url, tmp_path) -> None:
    with pytest.raises(Stopped, match=r"trials failed; the last \(killed twice"):
        searched(url, tmp_path / "w", planned(12, 2), dying)


def dying(job: TrialRequest, tell: Any) -> TrialResult:
    """Die, whatever the point."""
    os.kill(os.getpid(), signal.SIGKILL)
    return work(job, tell)


@pytest.mark.slow
def test_interrupted_by_hand_any_number_of_times_nothing_has_failed(url, tmp_path) -> None:
    for _ in range(3):
        main = start(url, tmp_path / "w", 20, 1)
        time.sleep(1.6)
        os.killpg(main.pid, signal.SIGINT)  # as a terminal does: main and workers
        main.wait(timeout=30)
        main.communicate()
    finished(start(url, tmp_path / "w", 20, 1))
    require_exact(url, 12, 8)
    assert all("cause" not in each.user_attrs for each in counted(trials_of(url, "coarse")))
    assert all(each.state != TrialState.FAIL for each in counted(trials_of(url, "coarse")))


@pytest.mark.slow
def test_a_killed_search_with_one_worker_samples_and_finds_the_same(tmp_path) -> None:
    points = []
    for name in ("whole", "killed"):
        url = f"sqlite:///{tmp_path}/{name}.db"
        main = start(url, tmp_path / name, 20, 1, seconds=0.05)
        if name == "killed":
            wait_for_a_running_trial(url, after=4)
            main.kill()
            main.communicate()
            main = start(url, tmp_path / name, 20, 1)
        finished(main)
        own = [counted(trials_of(url, stage)) for stage in ("coarse", "fine")]
        points.append([(t.params, t.value, t.state) for trials in own for t in sorted(trials, key=first_number)])
        everyone = [t for stage in ("coarse", "fine") for t in trials_of(url, stage)]
        assert (len(everyone) > 20) == (name == "killed")
    assert points[0] == points[1]


def test_processes_that_nobody_takes_end_with_what_has_begun_them() -> None:
    with begun_early(2, "crucible.errors") as waiting:
        assert all(each.process.is_alive() for each in waiting)
    assert not any(each.process.is_alive() for each in waiting)


def test_a_refused_search_leaves_no_process(command) -> None:
    done = command("train", "-m", "sweep=coarse_to_fine", "data.split.dev=0", "tracking=none")
    assert done.code == 2 and not [each for each in psutil.Process().children(recursive=True) if is_worker(each)]
