"""The notes' five cases as printed there, and advice that fits and runs."""

from itertools import product

import pytest
from conftest import card_of, composed

from crucible.app.compose import quoted, validate
from crucible.app.diagnosis import run_context
from crucible.app.overrides import changed, overrides_of
from crucible.diagnosis.advice import advise
from crucible.diagnosis.gap import diagnose


@pytest.mark.parametrize(
    ("train", "dev", "human", "verdict"),
    [
        (0.01, 0.15, None, "high_variance"),
        (0.15, 0.16, None, "high_bias"),
        (0.15, 0.30, None, "high_bias_and_variance"),
        (0.01, 0.02, None, "just_right"),
        (0.15, 0.16, 0.15, "just_right"),
    ],
)
def test_the_five_cases_of_the_notes(train, dev, human, verdict) -> None:
    assert diagnose(train, dev, None, human=human, tolerance=0.02).verdict == verdict


def test_a_gap_of_exactly_the_tolerance_is_not_high() -> None:
    found = diagnose(0.03, 0.05, 0.07, human=0.01, tolerance=0.02)
    assert found.verdict == "just_right" and found.reasons == []


def test_the_parts_of_the_gap_and_the_other_reasons() -> None:
    found = diagnose(0.04, 0.05, 0.09, human=0.06, tolerance=0.02)
    assert found.gap == pytest.approx({"avoidable_bias": -0.02, "variance": 0.01, "dev_test": 0.04})
    assert found.reasons == ["dev_overfit", "beyond_human"]


def test_without_dev_variance_is_test_minus_train() -> None:
    found = diagnose(0.01, None, 0.30, human=None, tolerance=0.02)
    assert found.gap == pytest.approx({"avoidable_bias": 0.01, "variance": 0.29, "dev_test": None})
    assert found.verdict == "high_variance"


CONFIGURATIONS = [
    ("model=logistic", "init=zeros", "optimizer=sgd"),
    (),
    ("model=resnet", "augment=light", "regularizer=l2", "model.keep_prob=0.5"),
    ("model.layers=[]", "regularizer=l2", "model.keep_prob=[]", "trainer.total_epochs=1"),
    ("data=fashion_mnist", "data.path=/a b/c=d", "optimizer=momentum", "optimizer.form=velocity", "seed=4"),
]


@pytest.mark.parametrize(
    ("verdict", "overrides"),
    product(["high_bias", "high_variance", "high_bias_and_variance", "just_right"], CONFIGURATIONS),
)
def test_advice_is_runnable_and_never_what_is_on_already(verdict, overrides) -> None:
    cfg = composed(*[quoted(each) for each in overrides])
    now = run_context(cfg, card_of((1, 8, 8)), stopped_early=False)
    runnable = [each for each in advise(verdict, [], now) if each.overrides]
    assert runnable
    for each in runnable:
        words = changed(overrides_of(cfg), each.overrides)
        new = composed(*[quoted(word) for word in words])
        validate(new)
        assert new != cfg


def test_dev_overfit_asks_for_a_larger_dev_set() -> None:
    now = run_context(composed(), card_of((1, 8, 8)), stopped_early=True)
    found = [each for each in advise("just_right", ["dev_overfit"], now) if "larger dev set" in each.why]
    assert found[0].overrides == ("data.split.dev=0.3",)
