"""Stages as data: how trials are allotted, rungs, who goes on, and who wins."""

import pytest

from crucible.diagnosis.bounds import violation
from crucible.diagnosis.compare import interval, together
from crucible.errors import Refusal
from crucible.search.plan import Pruning, allotted, growing, late_enough, ranked, require_shares, rungs, stopped
from crucible.search.search import best, candidates, confirmations, confirmed, leaders
from crucible.search.trials import Trial
from tests.toy_search import STAGES, planned


def trial(stage: str, number: int, value: float | None, lr: float | None = None, **facts) -> Trial:
    state = "complete" if value is not None else "pruned"
    return Trial(stage, number, state, {"optimizer": "adam", "optimizer.lr": lr or number}, value, facts=facts)


def test_the_growing_stage_takes_what_the_others_leave_and_what_is_added() -> None:
    assert growing(STAGES) == "fine"
    assert allotted(STAGES, 20, {}) == {"coarse": 12, "fine": 8}
    assert allotted(STAGES, 30, {"coarse": 12, "fine": 8}) == {"coarse": 12, "fine": 18}
    with pytest.raises(Refusal, match=r"the others began with 12[\s\S]*13 or more"):
        allotted(STAGES, 12, {"coarse": 12})


def test_too_few_trials_and_shares_that_contradict_are_refused() -> None:
    with pytest.raises(Refusal, match="leave none for the stage 'fine'"):
        allotted(STAGES, 1, {})
    with pytest.raises(Refusal, match=r"stages.fine.trials[\s\S]*takes what the others leave"):
        require_shares({**STAGES, "fine": STAGES["fine"].model_copy(update={"trials": 0.4})})
    with pytest.raises(Refusal, match=r"stages.coarse.trials[\s\S]*must say its share"):
        require_shares({**STAGES, "coarse": STAGES["coarse"].model_copy(update={"trials": None})})


def test_rungs_are_those_of_successive_halving() -> None:
    # Li et al. (2020): resource r at the first rung, r * eta^k at the k-th, up to the whole
    assert rungs(Pruning(first=1 / 9, keep=1 / 3, startup=1), 81) == [9, 27]
    assert rungs(Pruning(first=0.2, keep=0.5, startup=1), 50) == [10, 20, 40]
    assert rungs(Pruning(first=0.1, keep=0.5, startup=1), 3) == [1, 2]
    assert rungs(Pruning(first=0.1, keep=1.0, startup=1), 50) == []


def test_the_best_share_goes_on() -> None:
    half = Pruning(first=0.2, keep=0.5, startup=3)
    assert stopped(half, rank=2, others=2) is None  # too few others
    assert stopped(half, rank=2, others=3) is None and stopped(half, rank=3, others=3) == 2
    assert stopped(half, rank=1, others=100) is None
    assert stopped(half, rank=3, others=4) is None and stopped(half, rank=4, others=4) == 3  # half of five is three


def test_a_stage_may_begin_while_a_tenth_of_the_last_still_runs() -> None:
    assert late_enough(0, 5) and not late_enough(1, 9) and late_enough(1, 10)


def test_ranking_takes_the_goal_and_the_first_of_equals() -> None:
    assert ranked([1, 3, 2, 3], "maximize") == [1, 3, 2, 0] and ranked([1, 3, 2], "minimize") == [0, 2, 1]


def test_a_trial_that_breaks_a_bound_is_led_by_those_that_keep_it_and_never_wins() -> None:
    plan = planned(10, 1)
    trials = {"fine": [trial("fine", 0, 0.9, unmet=["parameters"]), trial("fine", 1, 0.8), trial("fine", 2, None)]}
    assert [each.number for each in leaders(trials["fine"], "maximize")] == [1, 0]
    assert best(plan, trials).number == 1 and [each.number for each in candidates(plan, trials)] == [1]


def test_values_of_shorter_trials_never_win() -> None:
    plan = planned(10, 1)
    trials = {"coarse": [trial("coarse", 0, 0.99)], "fine": [trial("fine", 1, 0.5)]}
    assert best(plan, trials).stage == "fine" and candidates(plan, trials) == trials["fine"]
    assert best(plan, {"coarse": trials["coarse"], "fine": []}).stage == "coarse"


def test_the_same_point_twice_is_one_candidate() -> None:
    trials = {"fine": [trial("fine", 0, 0.9, lr=0.1), trial("fine", 1, 0.9, lr=0.1), trial("fine", 2, 0.8)]}
    assert [each.number for each in candidates(planned(10, 1), trials)] == [0, 2]


def test_a_full_trial_is_its_own_first_repeat() -> None:
    plan = planned(10, 1)
    trials = {"fine": [trial("fine", 0, 0.9), trial("fine", 1, 0.8)]}
    planned_runs = confirmations(plan, trials)
    assert [(name, facts) for name, _, facts in planned_runs] == [("fine/0/1", {"seed": 1}), ("fine/1/1", {"seed": 1})]
    trials["confirm"] = [trial("confirm", 0, 0.7, planned="fine/0/1", seed=1)]
    assert confirmed(plan, trials, trials["fine"][0]) == {0: 0.9, 1: 0.7}
    assert confirmed(plan, trials, trials["fine"][1]) == {0: 0.8}


def test_the_common_interval_is_students_with_pooled_variance() -> None:
    # one group: the ordinary interval; two of three: deviations 1 and 1 pooled, t(0.975, 4) = 2.776
    one, plain = together([[1.0, 2.0, 3.0]])[0], interval([1.0, 2.0, 3.0])
    assert (one.mean, one.low, one.high) == pytest.approx((plain.mean, plain.low, plain.high))
    found = together([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]])
    assert found[1].mean == 12 and found[1].high - 12 == pytest.approx(2.776445 / 3**0.5, rel=1e-6)
    assert together([[1.0]])[0].high == float("inf")


def test_a_violation_is_above_0_exactly_where_the_bound_is_broken() -> None:
    assert (
        violation("<= 10", 12) == 2 and violation("<= 10", 10) <= 0 and violation(">= 0.5", 0.4) == pytest.approx(0.1)
    )
    assert violation("< 10", 10) > 0 and violation("> 1", 2) == -1 and violation("< 1", None) == float("inf")
