"""From Hydra's grammar to a space: what the command line sweeps, and what conf/sweep adds for the choices that are made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, ValueType

from crucible.app.overrides import known_keys
from crucible.app.quoting import GROUPS, parse
from crucible.errors import Refusal
from crucible.schema import nearest
from crucible.search.space import Choice, Conditions, Parameter, Range, Space, Value

TAGS = ("log", "one_minus")
RESERVED = {
    "seed": "every trial has the configuration's seed; the best are tried with others by hydra.sweeper.confirm",
    "trainer.total_epochs": "the stages say how long a trial is trained: hydra.sweeper.stages.NAME.epochs",
    "trainer.threads": "it changes the last bits, not the result",
}
MOST_COMBINATIONS = 32
KINDS = "choice(a, b), range(start, stop, step), interval(low, high)"


def split(words: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Return the overrides that are the same for all trials, and those that are swept.

    A key that only some options of a searched group have is swept, too: over its one value, where it exists.
    """
    parsed = parse(words)
    for each in parsed:
        if each.value_type == ValueType.GLOB_CHOICE_SWEEP:
            raise Refusal(
                each.key_or_group, f"{each.input_line} is no range", allowed=KINDS, example="model=choice(mlp, resnet)"
            )
    groups = swept_groups([each for each in parsed if each.is_sweep_override()])
    swept = [each for each in parsed if each.is_sweep_override() or _when(each.key_or_group, groups)]
    for each in swept:
        if each.key_or_group in RESERVED:
            raise Refusal(each.key_or_group, f"it cannot be searched: {RESERVED[each.key_or_group]}")
    return [str(each.input_line) for each in parsed if each not in swept], swept


def swept_groups(swept: Iterable[Override]) -> dict[str, tuple[str, ...]]:
    """Return the groups whose choice is searched, with their options."""
    return {each.key_or_group: _options(each) for each in swept if each.key_or_group in GROUPS}


def space_of(
    fixed: Sequence[str],
    swept: Sequence[Override],
    choices: Mapping[str, Any],
    defaults: Mapping[str, Mapping[str, str]],
) -> Space:
    """Return the space of a search.

    Args:
        fixed, swept: what the command line says. choices: of the groups that are not searched.
        defaults: for a `group=choice`, or for any, the ranges of its keys; a key on the command line comes before them.

    Raises:
        Refusal: a range is no range, or there is nothing to search.
    """
    groups = swept_groups(swept)
    own = [_parameter(each, _when(each.key_or_group, groups)) for each in swept]
    taken = {each.partition("=")[0].lstrip("+") for each in fixed} | {each.key_or_group for each in swept}
    more: list[Parameter] = []
    for label, ranges in defaults.items():
        group, _, option = label.partition("=")
        when: Conditions = ((group, (option,)),) if option in groups.get(group, ()) else ()
        if when or not option or (group not in groups and choices.get(group) == option):
            parsed = parse([f"{key}={text}" for key, text in ranges.items()])
            more += [_parameter(each, when) for each in parsed if each.key_or_group not in taken]
    found = [*own, *_merged(more)]
    if not found:
        raise Refusal(
            "the space",
            "there is nothing to search",
            allowed="a range",
            example="optimizer.lr=tag(log, interval(1e-4, 1))",
        )
    return Space(tuple(sorted(found, key=lambda each: each.key not in groups)))


def corners(space: Space) -> list[dict[str, Value]]:
    """Return points that hold every bound, every option and every combination of groups: what is admitted there is everywhere."""
    groups = [each for each in space.parameters if isinstance(each, Choice) and each.key in GROUPS]
    firsts = [each.options[0] for each in groups]
    combinations = [(*firsts[:i], option, *firsts[i + 1 :]) for i, each in enumerate(groups) for option in each.options]
    combinations = list(
        dict.fromkeys([*combinations, *islice(product(*(each.options for each in groups)), MOST_COMBINATIONS)])
    )
    most = max(len(each.options) for each in space.parameters if isinstance(each, Choice)) if _has_choices(space) else 2
    points = []
    for combination in combinations:
        chosen = dict(zip([each.name for each in groups], combination, strict=True))
        for i in range(max(2, most)):
            point = space.sample(lambda each, i=i, chosen=chosen: chosen.get(each.name) or _corner(each, i))  # type: ignore[misc]
            points += [point] if point not in points else []
    return points


def _has_choices(space: Space) -> bool:
    return any(isinstance(each, Choice) for each in space.parameters)


def _corner(parameter: Parameter, i: int) -> Value:
    if isinstance(parameter, Choice):
        return parameter.options[min(i, len(parameter.options) - 1)]
    end = parameter.low if i == 0 else parameter.high
    return int(end) if parameter.integer else end


def _parameter(override: Override, when: Conditions) -> Parameter:
    key, value = override.get_key_element(), override.value()
    if not isinstance(value, IntervalSweep):
        return Choice(key, _options(override), when)
    if unknown := [tag for tag in value.tags if tag not in TAGS]:
        raise Refusal(
            key, f"there is no tag '{unknown[0]}'", allowed=", ".join(TAGS), nearest=nearest(unknown[0], TAGS)
        )
    low, high = value.start, value.end
    assert low is not None and high is not None
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and "one_minus" in value.tags:
        raise Refusal(key, "1 - a whole number is none of interest", allowed="interval(0.001, 0.1) for 0.9 to 0.999")
    return Range(key, low, high, log="log" in value.tags, one_minus="one_minus" in value.tags, integer=whole, when=when)


def _options(override: Override) -> tuple[str, ...]:
    return (
        tuple(override.sweep_string_iterator())
        if override.is_sweep_override()
        else (override.get_value_element_as_str(),)
    )


def _when(key: str, groups: Mapping[str, tuple[str, ...]]) -> Conditions:
    """Return the choices that a key depends on: of a searched group, those that have it."""
    group = key.partition(".")[0]
    if key == group or group not in groups:
        return ()
    having = tuple(option for option in groups[group] if key in known_keys(group, option))
    return ((group, having),) if having and having != groups[group] else ()


def _merged(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Join equal ranges of one key under several choices; label different ones."""
    found: list[Parameter] = []
    for each in parameters:
        twin = next((i for i, other in enumerate(found) if replace(other, when=()) == replace(each, when=())), None)
        if twin is None or not each.when:
            found.append(each)
        else:
            (group, options), (_, more) = found[twin].when[0], each.when[0]
            found[twin] = replace(found[twin], when=((group, (*options, *more)),))
    keys = [each.key for each in found]
    return [
        replace(each, label="|".join(each.when[0][1])) if keys.count(each.key) > 1 and each.when else each
        for each in found
    ]
