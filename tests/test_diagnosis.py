"""The notes' five cases as printed there, and advice that fits and runs."""

from itertools import product

import pytest
from conftest import card_of, composed

from crucible.app.compose import quoted, validate
from crucible.app.diagnosis import run_context
from crucible.app.overrides import changed, overrides_of
from crucible.diagnosis.advice import Symptoms, advise
from crucible.diagnosis.gap import diagnose, in_practice


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


def advised(verdict: str, *overrides: str, reasons=(), bias: float = 0.0, outputs: int = 10, **symptoms) -> list[str]:
    """Return the overrides that are advised, in order; of advice without any its words."""
    from dataclasses import replace

    now = run_context(
        composed(*overrides), card_of((1, 8, 8)), stopped_early=False, symptoms=Symptoms(**symptoms), outputs=outputs
    )
    now = replace(now, bias=bias, tolerance=0.02, train_size=5000)
    return [" ".join(each.overrides) or each.why for each in advise(verdict, list(reasons), now)]


def test_of_high_variance_the_notes_remedies_of_002_4_3_come_after_the_usual_ones() -> None:
    found = advised("high_variance")
    at = [
        found.index(each)
        for each in (
            "regularizer=l2",
            "model.keep_prob=0.8",
            "model.layers=[128]",
            "trainer.batch_size=128",
            "optimizer=sgd",
        )
    ]
    assert at == sorted(at)
    assert "model.layers=[32]" in advised("high_variance", "model.layers=[64]")
    assert "optimizer=sgd" not in advised("high_variance", "optimizer=momentum")
    assert not any(each.startswith("trainer.batch_size") for each in advised("high_variance", "trainer.batch_size=512"))


def test_a_smaller_network_is_not_advised_where_the_bias_is_high_too() -> None:
    assert "model.layers=[128]" not in advised("high_bias_and_variance", bias=0.1)
    assert "model.layers=[256,128]" in advised("high_bias_and_variance", bias=0.3)


def test_dead_units_are_met_by_xavier_smaller_steps_and_rates_of_their_own() -> None:
    found = advised("high_bias", "optimizer=sgd", "optimizer.lr=0.3", dead_units=0.5)
    at = [found.index(each) for each in ("model.activation=leaky_relu", "init=xavier", "optimizer.lr=0.1")]
    assert at == sorted(at)
    assert "optimizer=adagrad" in advised("just_right", "optimizer=sgd", dead_units=0.5)
    assert "init=xavier" not in advised("high_bias", "init=xavier", dead_units=0.5)


def test_level_losses_are_met_by_smaller_batches_too() -> None:
    assert "trainer.batch_size=32" in advised("high_bias", pattern="bottleneck")


@pytest.mark.parametrize(("outputs", "widths"), [(1, "32 to 43"), (10, "37 to 52"), (129, "96 to 171")])
def test_the_width_rule_takes_the_networks_own_number_of_outputs(outputs, widths) -> None:
    """000, part 2, section 6: the mean of inputs and outputs; two thirds of the inputs, and the outputs."""
    rule = next(each for each in advised("just_right", outputs=outputs) if "hidden units by inputs" in each)
    assert f"{widths} hidden units" in rule
    mean, thirds = (64 + outputs) // 2, 2 * 64 // 3 + outputs
    assert widths == " to ".join(map(str, sorted({mean, thirds})))


def test_worse_in_practice_than_on_its_own_test_moves_the_target() -> None:
    """000, part 7, section 1, the fourth link: change the dev set, or the cost."""
    found = in_practice(diagnose(0.01, 0.02, 0.2, human=None, tolerance=0.02))
    assert "practice_differs" in found.reasons and "dev_overfit" not in found.reasons
    words = advised("just_right", reasons=found.reasons)
    assert any("Put examples like these into dev and test" in each and "task.mistake_costs" in each for each in words)
    assert not any("larger dev set" in each for each in words)


def test_a_run_that_is_judged_on_harder_data_is_told_so(command, tmp_path) -> None:
    import json
    from pathlib import Path

    import numpy as np
    from conftest import ROOT

    assert command("train", "trainer.total_epochs=15", "tracking=none").code == 0
    x, y = (np.load(ROOT / "data" / "digits" / f"{name}.npy") for name in "xy")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "hard.npz", x=np.clip(x + rng.normal(0, 9, x.shape), 0, 16).astype(np.uint8)[:400], y=y[:400])
    done = command("evaluate", "run=latest", "data=npz", "data.path=hard.npz", "transfer.seen=keep")
    assert done.code == 0, done.err
    found = json.loads(Path("outputs/latest/judged/npz/metrics.json").read_text())["diagnosis"]
    assert "practice_differs" in found["reasons"] and "dev_overfit" not in found["reasons"]
    assert "practice differs" in done.out
