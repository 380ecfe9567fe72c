"""Spaces: what may be searched, scales, narrowing, edges, and Hydra's grammar."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.app.search.space import corners, space_of, split
from crucible.errors import Refusal
from crucible.search.space import Choice, Range, Space

LR = Range("optimizer.lr", 1e-4, 1.0, log=True)


@pytest.mark.parametrize(
    ("low", "high", "log", "says"),
    [
        (1.0, 1e-4, False, "is reversed"),
        (0.5, 0.5, False, "is empty"),
        (0.0, 1.0, True, "has no logarithm at 0"),
        (-1.0, 1.0, True, "has no logarithm at -1"),
        (0.0, math.inf, False, "is not finite"),
        (math.nan, 1.0, False, "is not finite"),
    ],
)
def test_a_range_that_is_none_is_refused(low: float, high: float, log: bool, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        Range("optimizer.lr", low, high, log=log)


def test_a_choice_needs_different_options() -> None:
    with pytest.raises(Refusal, match="nothing to choose"):
        Choice("model", ())
    with pytest.raises(Refusal, match="stands twice"):
        Choice("model", ("mlp", "mlp"))


def test_one_minus_is_the_notes_sampling_of_beta() -> None:
    beta = Range("optimizer.beta", 0.001, 0.1, log=True, one_minus=True)
    assert beta.name == "1 - optimizer.beta"
    assert beta.override(0.1) == "optimizer.beta=0.9" and beta.override(0.001) == "optimizer.beta=0.999"
    assert beta.override(10**-1.7) == f"optimizer.beta={1 - 10**-1.7:.12g}"


def test_the_narrowed_range_leaves_the_margin_around_the_kept_on_the_logarithm() -> None:
    # four decades; kept between 1e-3 and 1e-2; a tenth of four decades on both sides
    found = LR.narrowed(LR, [3e-3, 1e-3, 1e-2], 0.1)
    assert found.low == pytest.approx(10**-3.4) and found.high == pytest.approx(10**-1.6)


def test_a_wider_range_of_whole_numbers_is_one() -> None:
    for low, high in ((1, 8), (2, 64), (4, 128)):
        wider = Range("k", low, high, log=True, integer=True).edge(low)
        assert wider is None or (1 <= wider.low < low and wider.high == high)
    assert Range("k", 1, 8, log=True, integer=True).edge(1) is None
    assert Range("k", 8, 64, log=True, integer=True).edge(8).low == 2


def test_without_anything_kept_a_range_stays_as_it_is() -> None:
    assert LR.narrowed(LR, [], 0.1) == LR


def test_where_the_best_lies_at_a_narrowed_edge_the_next_range_goes_past_it() -> None:
    now = replace(LR, low=1e-3, high=1e-2)  # narrowed before; one decade wide
    found = now.narrowed(LR, [1e-2, 8e-3], 0.1)
    assert found.high == pytest.approx(10**-1.5)  # half a decade past it
    assert found.low == pytest.approx(10 ** (math.log10(8e-3) - 0.1))
    assert now.narrowed(LR, [1e-3, 2e-3], 0.1).low == pytest.approx(10**-3.5)
    inside = now.narrowed(LR, [5e-3, 1e-2], 0.1)  # the second best at the edge extends nothing
    assert inside.high == pytest.approx(1e-2)


def test_at_the_users_own_bound_a_range_never_extends_but_a_wider_one_is_proposed() -> None:
    found = LR.narrowed(LR, [1.0, 0.5], 0.1)
    assert found.high == 1.0
    wider = LR.edge(0.99)
    assert wider is not None and wider.low == pytest.approx(1e-4) and wider.high == pytest.approx(100.0)
    assert LR.edge(0.01) is None
    assert wider.grammar() == "optimizer.lr=tag(log, interval(0.0001, 100))"


@given(
    st.floats(1e-6, 10),
    st.floats(1.5, 1e6),
    st.booleans(),
    st.booleans(),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.floats(0.01, 1),
)
def test_twice_narrowed_a_range_is_one_within_the_users_bounds(
    low, factor, log, integer, first, second, margin
) -> None:
    ends = (math.ceil(low), math.ceil(low * factor) + 2) if integer else (low, low * factor)
    limits = Range("k", *ends, log=log, integer=integer)
    now = limits
    for shares in (first, second):
        kept = [min(now.high, max(now.low, now.low + share * (now.high - now.low))) for share in shares]
        kept = [round(each) for each in kept] if integer else kept
        now = now.narrowed(limits, kept, margin)
        assert limits.low <= now.low < now.high <= limits.high
        assert all(now.low <= each <= now.high for each in kept)
        assert not integer or (now.low == int(now.low) and now.high == int(now.high))


def test_a_choice_keeps_the_options_that_were_kept_in_the_users_order() -> None:
    model = Choice("model", ("a", "b", "c"))
    assert model.narrowed(model, ["c", "a", "c"], 0.1).options == ("a", "c")
    assert model.narrowed(model, [], 0.1) == model


def test_a_parameter_exists_only_under_its_conditions() -> None:
    group = Choice("optimizer", ("sgd", "adam"))
    space = Space((group, replace(LR, when=(("optimizer", ("adam",)),))))
    assert space.sample(lambda each: "sgd" if each is group else 0.1) == {"optimizer": "sgd"}
    point = space.sample(lambda each: "adam" if each is group else 0.1)
    assert space.overrides(point) == ["optimizer=adam", "optimizer.lr=0.1"]


def test_a_space_survives_being_written_down() -> None:
    space = Space((Choice("a", ("x", "y")), replace(LR, when=(("a", ("x",)),), label="x")))
    assert Space.from_plain(space.plain()) == space


def made(*words: str, defaults=None, choices=None) -> Space:
    fixed, swept = split(words)
    return space_of(fixed, swept, choices or {"model": "mlp", "optimizer": "adam"}, defaults or {})


def test_hydras_grammar_becomes_a_space() -> None:
    found = made(
        "seed=1",
        "optimizer.lr=tag(log, interval(1e-4, 1))",
        "optimizer.beta1=tag(log, one_minus, interval(0.001, 0.1))",
        "model.width=tag(log, int(interval(8, 64)))",
        "trainer.batch_size=16,32",
        "model.layers=choice([64],[128,64])",
        "model.depth=range(8,21,6)",
    ).parameters
    assert found[0] == LR
    assert found[1] == Range("optimizer.beta1", 0.001, 0.1, log=True, one_minus=True)
    assert found[2] == Range("model.width", 8, 64, log=True, integer=True)
    assert found[3] == Choice("trainer.batch_size", ("16", "32"))
    assert found[4] == Choice("model.layers", ("[64]", "[128,64]"))
    assert found[5] == Choice("model.depth", ("8", "14", "20"))


def test_the_command_line_comes_before_the_default_space() -> None:
    defaults = {
        "optimizer=adam": {"optimizer.lr": "interval(0.1, 0.2)"},
        "trainer": {"trainer.batch_size": "choice(1, 2)"},
    }
    assert [each.key for each in made(defaults=defaults).parameters] == ["optimizer.lr", "trainer.batch_size"]
    found = made("optimizer.lr=tag(log, interval(1e-4, 1))", "trainer.batch_size=64", defaults=defaults)
    assert found.parameters == (LR,)


def test_a_swept_group_brings_the_ranges_of_each_choice_under_its_condition() -> None:
    defaults = {
        "optimizer=sgd": {"optimizer.lr": "tag(log, interval(1e-3, 1))"},
        "optimizer=adam": {"optimizer.lr": "tag(log, interval(1e-4, 0.1))"},
        "optimizer=adamw": {"optimizer.lr": "tag(log, interval(1e-4, 0.1))"},
        "model=mlp": {"model.layers": "choice([1], [2])"},
        "model=resnet": {"model.depth": "choice(8, 14)"},
    }
    found = made("optimizer=choice(sgd,adam,adamw)", "model=mlp,resnet", defaults=defaults).parameters
    assert [each.name for each in found] == [
        "optimizer", "model", "optimizer.lr (sgd)", "optimizer.lr (adam|adamw)", "model.layers", "model.depth",
    ]  # fmt: skip
    assert found[3].when == (("optimizer", ("adam", "adamw")),) and found[5].when == (("model", ("resnet",)),)


def test_a_key_that_only_some_choices_have_is_searched_under_these() -> None:
    found = made("model=mlp,resnet", "model.width=choice(8,16)", "optimizer.lr=interval(0.1, 1)").parameters
    assert [each.when for each in found] == [(), (("model", ("resnet",)),), ()]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optimizer.lr=tag(lgo, interval(1e-4, 1))", "no tag 'lgo'"),
        ("model=glob(*)", "no range"),
        ("seed=1,2", "cannot be searched"),
        ("trainer.total_epochs=int(interval(1, 9))", "cannot be searched"),
        ("optimizer.lr=interval(1, 0.1)", "reversed"),
    ],
)
def test_what_cannot_be_searched_is_refused(word: str, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        made(word)


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(Refusal, match="nothing to search"):
        made("model=mlp")


def test_the_corners_hold_every_option_however_many_combinations_there_are() -> None:
    space = made("optimizer=sgd,adam,rmsprop,adagrad", "init=default,he,xavier,normal,zeros", "regularizer=none,l1,l2")
    points = corners(space)
    assert {p["optimizer"] for p in points} == {"sgd", "adam", "rmsprop", "adagrad"}
    assert {p["init"] for p in points} == {"default", "he", "xavier", "normal", "zeros"} and len(points) < 60


def test_a_fixed_key_that_only_some_options_have_is_theirs() -> None:
    fixed, swept = split(["optimizer=sgd,adam", "optimizer.beta1=0.95", "optimizer.lr=0.1"])
    assert fixed == ["optimizer.lr=0.1"]
    found = space_of(fixed, swept, {}, {}).parameters
    assert found[1] == Choice("optimizer.beta1", ("0.95",), (("optimizer", ("adam",)),))


def test_the_corners_hold_every_bound_and_option() -> None:
    space = made("optimizer=sgd,adam", "optimizer.lr=interval(0.1, 1)", "trainer.batch_size=1,2,3")
    points = corners(space)
    assert {p["optimizer"] for p in points} == {"sgd", "adam"}
    assert {p["optimizer.lr"] for p in points} == {0.1, 1.0}
    assert {p["trainer.batch_size"] for p in points} == {"1", "2", "3"}
