"""A verdict is given where the number of examples tells, and is then right; advice that looks at the run."""

import shlex
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import card_of, composed
from scipy import stats

from crucible.app import diagnosis
from crucible.diagnosis.advice import Advice, Symptoms, advise
from crucible.diagnosis.curves import still_falls
from crucible.diagnosis.gap import diagnose
from crucible.metrics.evidence import Measured, difference, jackknife, sampled, wilson
from crucible.metrics.regression import RegressionMetrics

TOLERANCE = 0.02
GAPS = (0.0, 0.005, 0.01, 0.03, 0.05, 0.1, 0.2)


def of(train: float, dev: float, size: int, **more):
    """Return the diagnosis of error rates on so many dev examples, and thrice as many train examples."""
    evidence = {"train": {"size": 3 * size, "spread": None}, "dev": {"size": size, "spread": None}}
    return diagnose(train, dev, None, human=None, tolerance=TOLERANCE, evidence=evidence, **more)


@pytest.mark.parametrize("size", [36, 72, 150, 360, 1000, 5000])
def test_what_is_named_is_right_in_19_of_20(size) -> None:
    """Runs with known gaps, drawn: each part that a verdict names, high or not, against the truth."""
    rng, named, right = np.random.default_rng(size), 0, 0
    for bias, variance in product(GAPS, GAPS):
        train, dev = rng.binomial(3 * size, bias, 40) / (3 * size), rng.binomial(size, bias + variance, 40) / size
        for found in map(lambda a, b: of(a, b, size), train.tolist(), dev.tolist()):
            for part, truth in (("avoidable_bias", bias), ("variance", variance)):
                if part in found.reasons or part not in found.unclear:
                    named += 1
                    right += (part in found.reasons) == (truth > TOLERANCE)
    assert named > 400 and right >= 0.95 * named, (size, right / named)


def test_one_mistake_of_36_tells_nothing_and_a_third_of_them_does() -> None:
    one, many = of(0.0, 1 / 36, 36), of(0.0, 12 / 36, 36)
    assert one.verdict == "unclear" and one.unclear == ["variance"] and one.reasons == []
    assert many.verdict == "high_variance" and "variance" in many.bounds


def test_a_gap_within_its_standard_error_is_never_named() -> None:
    for size, mistakes in product((36, 100, 500), range(40)):
        rate = min(1.0, mistakes / size)
        if rate - 0 <= (rate * (1 - rate) / size) ** 0.5 or mistakes <= 1:
            assert "variance" not in of(0.0, rate, size).reasons


def test_the_bounds_are_wilsons_and_newcombes() -> None:
    """scipy's interval of Wilson; Newcombe's own example 56/70 and 48/80, method 10: 0.0524 to 0.3339."""
    for mistakes, size in ((0, 36), (1, 36), (11, 360), (300, 1000)):
        found = stats.binomtest(mistakes, size).proportion_ci(0.95, method="wilson")
        assert wilson(mistakes / size, size, stats.norm.ppf(0.975)) == pytest.approx((found.low, found.high), abs=1e-9)
    low, high = difference(Measured(48 / 80, 80), Measured(56 / 70, 70), 1.959964)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_interval_of_f1_holds_the_truth_in_19_of_20() -> None:
    """Tables drawn from known probabilities, three classes, 120 examples."""
    rng = np.random.default_rng(0)
    truth = np.array([[0.3, 0.02, 0.01], [0.03, 0.27, 0.03], [0.02, 0.02, 0.3]])
    whole = np.mean(2 * truth.diagonal() / (truth.sum(0) + truth.sum(1)))
    tables = rng.multinomial(120, truth.ravel(), 200).reshape(-1, 3, 3)
    inside = [low <= whole <= high for low, high in (sampled(table, "f1") for table in tables)]
    assert np.mean(inside) >= 0.92
    low, high = sampled(np.diag([20, 20, 20]), "f1")
    assert 0.9 < low < 1 and high <= 1, "no mistake among 60 is not none at all"


def test_the_standard_error_of_an_rmse_is_that_of_many_samples() -> None:
    rng = np.random.default_rng(0)
    found, spreads = [], []
    for _ in range(300):
        metrics = RegressionMetrics(lambda z, y: z.mean(), lambda z: z[:, 0], lambda y: (y > 0).long(), 2)
        metrics.update(torch.zeros(80, 1), {"label": torch.from_numpy(rng.normal(size=80))})
        found.append(metrics.compute()["rmse"])
        spreads.append(metrics.evidence(80)[1])
    assert np.mean(spreads) == pytest.approx(np.std(found), rel=0.1)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=30)
    left = [np.delete(values, i).mean() for i in range(30)]
    assert jackknife(left) == pytest.approx(stats.sem(values))


def test_an_rmse_has_no_bias_without_a_human_level() -> None:
    evidence = {split: {"size": 90, "spread": 1.0} for split in ("train", "dev")}
    words = {"tolerance": 2.0, "is_rate": False, "evidence": evidence}
    unknown = diagnose(47.0, 48.0, None, human=None, **words)
    assert "avoidable_bias" in unknown.unclear and unknown.reasons == [] and unknown.verdict == "unclear"
    assert diagnose(47.0, 48.0, None, human=40.0, **words).verdict == "high_bias"


def test_the_bias_of_an_epoch_that_few_pictures_chose_is_no_bias() -> None:
    assert of(0.2, 0.25, 200).verdict == "high_bias"
    early = of(0.2, 0.25, 200, early=True)
    assert "avoidable_bias" not in early.reasons and "avoidable_bias" in early.unclear


def run_context(*overrides: str, **facts):
    """Return the facts about a run, as a training leaves them."""
    now = diagnosis.run_context(composed(*overrides), card_of((1, 8, 8), train=3000), stopped_early=False)
    return replace(now, epochs=now.total_epochs, steps=1000, dev_size=500, tolerance=TOLERANCE, **facts)


def first(verdict: str, now) -> str:
    """Return the knob of the first piece of advice."""
    return advise(verdict, [], now)[0].overrides[0]


FALLING = Symptoms(falling=True, pattern="still_learning")


@pytest.mark.parametrize("model", ["mlp", "logistic", "resnet"])
@pytest.mark.parametrize("verdict", ["high_bias", "high_variance", "high_bias_and_variance", "unclear"])
def test_while_both_losses_fall_nothing_comes_before_longer(model, verdict) -> None:
    now = run_context(f"model={model}", best_epoch=50, symptoms=FALLING, unclear=("variance",))
    assert first(verdict, now) == "trainer.total_epochs=100"


def test_longer_is_not_advised_where_an_early_epoch_was_the_best() -> None:
    """diabetes: the best of 50 epochs was the 20th; a longer run gave the same bits."""
    for verdict in ("high_bias", "high_variance", "high_bias_and_variance"):
        given = [word for each in advise(verdict, [], run_context(best_epoch=20)) for word in each.overrides]
        assert not any(word.startswith("trainer.total_epochs=") for word in given)
    assert any(
        "trainer.total_epochs=100" in each.overrides for each in advise("high_bias", [], run_context(best_epoch=50))
    )


def test_no_knob_is_turned_in_two_directions() -> None:
    signs = Symptoms(pattern="bottleneck", dead_units=0.5, flow=("gradients vanish in a",), learning=False)
    for verdict, dev in product(("high_bias", "high_variance", "high_bias_and_variance"), (0, 500)):
        now = replace(run_context(best_epoch=50, symptoms=signs), dev_size=dev)
        knobs = [each.overrides[0].partition("=")[0] for each in advise(verdict, [], now) if each.overrides]
        assert len(knobs) == len(set(knobs))


def test_the_larger_gap_comes_first() -> None:
    """A detector with a bias of 3 % and a variance of 30 % was advised to weigh boxes; changed pictures gave more."""
    now = run_context("model=resnet", best_epoch=50, bias=0.03, variance=0.3)
    assert first("high_bias_and_variance", now) == "augment=light"
    other = replace(now, bias=0.3, variance=0.03)
    assert not first("high_bias_and_variance", other).startswith("augment")


def test_level_losses_at_the_end_of_a_schedule_are_its_doing() -> None:
    signs = Symptoms(pattern="bottleneck")
    spent = [
        each.why
        for each in advise(
            "high_bias", [], run_context("schedule=cosine", best_epoch=50, symptoms=signs, rate_left=0.01)
        )
    ]
    constant = [each.why for each in advise("high_bias", [], run_context(best_epoch=50, symptoms=signs))]
    assert any("level" in why for why in constant) and not any("level" in why for why in spent)


def test_other_seeds_are_one_command_and_compared_afterwards() -> None:
    now = run_context(best_epoch=50)
    advice = advise("just_right", [], now)[0]
    assert advice.sweep == ("seed=1,2,3",) and "compare.py" in advice.why
    again = advise("just_right", [], replace(now, seeds_tried=(1, 2, 3)))[0]
    assert not again.overrides and "1, 2, 3" in again.why


def test_mirrored_images_are_mentioned_where_the_label_forbids_them() -> None:
    for keeps, stated in ((True, False), (False, True)):
        now = run_context("model=resnet", best_epoch=50, flip_keeps_label=keeps)
        assert ("flip_keeps_label" in advise("high_variance", [], now)[0].why) is stated


def test_an_unclear_verdict_claims_nothing() -> None:
    now = run_context(best_epoch=50, unclear=("variance",), variance=0.03)
    whys = [each.why for each in advise("unclear", [], now)]
    assert "more of them would tell" in whys[0] and not any(why.startswith("High") for why in whys)


def test_after_a_transfer_no_other_split_is_advised() -> None:
    """It would be refused: the source has learned from what another split tests on."""
    now = run_context(best_epoch=50, unclear=("variance",), variance=0.03, freeze="all")
    given = [word for each in advise("unclear", ["dev_overfit"], now) for word in each.overrides]
    assert not any(word.startswith("data.split") for word in given)


def test_a_training_too_short_to_show_a_trend_still_falls() -> None:
    rows = [{"train/loss": loss, "dev/loss": loss} for loss in (3.0, 2.0)]
    assert still_falls(rows, 2) and not still_falls(rows, 1)
    level = [{"train/loss": 1.0, "dev/loss": 1.0}] * 30
    assert not still_falls(level, 30)


def test_what_was_tried_and_gave_no_more_is_not_advised_again(command) -> None:
    quick = ("trainer.total_epochs=30", "tracking=none", "model.layers=[16]")
    before = command("train", *quick)
    advised = next(line.strip() for line in before.out.splitlines() if line.strip().startswith("python src/train.py "))
    change = [word for word in shlex.split(advised)[2:] if word not in quick]
    assert change and command("train", *quick, "optimizer.lr=1e-7").code == 0
    assert advised in command("train", *quick).out, "another run says nothing about it"
    tried = command("train", *quick, *change)
    assert tried.code == 0, tried.err
    again = command("train", *quick)
    f1, f1_tried = (float(done.out.split("dev ")[1][:6]) for done in (before, tried))
    assert ("It was tried" in again.out) if f1_tried > f1 else (advised not in again.out)


def test_the_trivial_answer_stands_beside_the_result_and_being_worse_comes_first(command) -> None:
    done = command(
        "train", "trainer.total_epochs=1", "tracking=none", "model=logistic", "optimizer.lr=1e-9", "init=normal"
    )
    verdict = next(line for line in done.out.splitlines() if line.strip().startswith("verdict"))
    assert "trivial answer, always '3': error dev 90.0 %" in done.out
    error = float(done.out.split("-> dev ")[1].split(" %")[0]) / 100
    assert ("verdict  worse than the trivial baseline" in verdict) == (Measured(error, 360).bounds()[0] > 0.9)


def test_without_a_split_to_judge_on_nothing_is_just_right() -> None:
    evidence = {"train": {"size": 300, "spread": None}}
    assert diagnose(0.0, None, None, human=None, tolerance=TOLERANCE, evidence=evidence).verdict == "unclear"


def test_no_advice_is_no_claim_that_all_was_tried() -> None:
    from crucible.app.previous import PreviousRuns

    own = {"monitor": {"name": "f1", "goal": "maximize"}, "dev": {"f1": 0.5}, "train": {"f1": 0.5}}
    assert "was tried" not in PreviousRuns().left([], own, [])[0].why
    advice = [Advice("Against variance.", ("regularizer=l2",)), Advice("The other way.", ("regularizer=none",))]
    worse = {**own, "dev": {"f1": 0.4}, "folder": "a"}
    tried = PreviousRuns(({**worse, "overrides": ["regularizer=l2"]}, {**worse, "overrides": []}))
    assert [each.why for each in tried.left(advice[:1], own, [])] != [advice[0].why]
    assert [each.why for each in tried.left(advice[1:], own, ["regularizer=l2"])] != [advice[1].why]


def test_an_error_over_no_example_tells_nothing() -> None:
    assert Measured(0.0, 0).bounds() == (0.0, 1.0)
