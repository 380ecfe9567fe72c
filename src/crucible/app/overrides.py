"""The shortest command that composes a given configuration: which choice of each group, and what differs from it."""

import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from crucible.app.project import CONF, Config, conf_folders, own_conf
from crucible.app.quoting import GROUPS, in_quotes, is_lexed, parse, quoted
from crucible.errors import as_called

TOP = ("seed",)
PARTS = ("", "reader")  # where a choice says what is built
NEUTRAL = ("tracking", "sweep", "experiment")  # they say nothing about the result


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads what OmegaConf reads, ten times as fast: all choices are read at each start."""

    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


def choices_of(cfg: Config) -> dict[str, str]:
    """Return the choice of each group that is nearest to the configuration: same target, fewest other values."""
    return {group: _nearest_choice(group, cfg) for group in GROUPS if group not in NEUTRAL}


def overrides_of(cfg: Config) -> list[str]:
    """Return the overrides that turn the defaults into the configuration."""
    defaults = _defaults()
    found = []
    for group, choice in choices_of(cfg).items():
        found += [f"{group}={choice}"] if choice != defaults[group] else []
        found += [
            f"{key}={_typed(value)}" for key, value in _differences(_known(group, choice, cfg), cfg[group], group)
        ]
    return found + [f"{key}={_typed(cfg[key])}" for key in TOP if cfg[key] != defaults[key]]


def changed(overrides: list[str], changes: tuple[str, ...]) -> list[str]:
    """Return overrides with changes applied: a new choice of a group takes the old choice's own keys with it."""
    for change in changes:
        key = change.partition("=")[0]
        overrides = [each for each in overrides if not each.startswith((f"{key}=", f"{key}."))]
    return [*overrides, *changes]


def without_defaults(overrides: list[str]) -> list[str]:
    """Return overrides without those that say what holds anyway: a group's default choice, a choice's own value."""
    given = dict(word.partition("=")[::2] for word in overrides)
    choices = {**_defaults(), **given}
    return [word for word in overrides if not _is_default(*word.partition("=")[::2], choices)]


def _is_default(key: str, value: str, choices: Config) -> bool:
    group, *path = key.lstrip("+").split(".")
    if not path:
        return key in GROUPS and _defaults()[key] == value
    node: Any = _choices(group).get(str(choices.get(group)), {})
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node is not None and _typed(node) == value


def train_command(cfg: Config, changes: tuple[str, ...] = (), *, dvc: bool = False, swept: bool = False) -> str:
    """Return the command that trains this configuration with some changes; `swept`: each of several."""
    words = changed(overrides_of(cfg), changes)
    if dvc:
        return " ".join(["dvc exp run", *(f"-S {shlex.quote(_lexed(each))}" for each in words)])
    return as_called(" ".join(["python src/train.py", *(["-m"] if swept else []), *map(shlex.quote, words)]))


def _lexed(word: str) -> str:
    """Return an override that Hydra's grammar takes, quoted only where it must be."""
    if not is_lexed(word):
        return quoted(word)
    return in_quotes(word) if parse([word])[0].is_sweep_override() else word


def known_keys(group: str, choice: str) -> set[str]:
    """Return the dotted keys that a choice of a group has."""
    return {key.lstrip("+") for key, _ in _differences({}, _choices(group).get(choice, {}), group)}


def default_choices() -> dict[str, str]:
    """Return the default choice of each group that says something about a run."""
    return {
        group: choice
        for group, choice in _defaults().items()
        if group in GROUPS and group not in ("sweep", "experiment")
    }


@cache
def _choices(group: str) -> dict[str, Config]:
    names = {path.stem for home in conf_folders() for path in (home / group).glob("*.yaml")} - {"base"}
    return {name: load_choice(group, name) for name in sorted(names)}


def load_choice(group: str, choice: str) -> Config:
    """Return the values that a choice of a group sets, those that it takes from others included."""
    node: Any = yaml.load(_file(f"{group}/{choice}").read_bytes(), Loader=_Loader)
    parents = [each for each in node.pop("defaults", []) if each != "_self_"] if node else []
    merged: Config = {}
    for part in [*(load_choice(group, parent) for parent in parents), node or {}]:
        merged = _merge(merged, part)
    return merged


def _file(name: str) -> Path:
    """Return the file of a configuration: the project's own before that of the package."""
    return next(path for home in conf_folders() if (path := home / f"{name}.yaml").exists())


def _merge(under: Config, over: Config) -> Config:
    both = {
        k: _merge(under[k], v) if isinstance(v, dict) and isinstance(under.get(k), dict) else v for k, v in over.items()
    }
    return {**under, **both}


@cache
def _defaults() -> Config:
    files = [CONF / "config.yaml", *([own / "project.yaml"] if (own := own_conf()) else [])]
    roots: list[Any] = [yaml.load(file.read_bytes(), Loader=_Loader) for file in files]
    parts = [each for root in roots for each in root["defaults"] if isinstance(each, dict)]
    groups = {key.removeprefix("override "): value for each in parts for key, value in each.items()}
    return {**groups, **{key: root[key] for root in roots for key in TOP if key in root}}


def _known(group: str, choice: str, cfg: Config) -> Config:
    """Return a choice's own values; what it takes from elsewhere, as in ${trainer.total_epochs}, is taken from there."""
    return {key: _taken(value, group, cfg) for key, value in _choices(group)[choice].items()}


def _taken(value: Any, group: str, cfg: Config) -> Any:
    """Return a value; of an interpolation what it names: from the root, or with dots in front from the group."""
    if isinstance(value, dict):
        return {key: _taken(each, group, cfg) for key, each in value.items()}
    if not (isinstance(value, str) and value.startswith("${")):
        return value
    name = value[2:-1]
    found: Any = cfg[group] if name.startswith(".") else cfg
    for part in name.lstrip(".").split("."):
        found = found.get(part, value) if isinstance(found, dict) else value  # what is not there is of another choice
    return found


def _nearest_choice(group: str, cfg: Config) -> str:
    node, choices = cfg[group], _choices(group)

    def builds_another(choice: str) -> tuple[bool, bool]:
        known = {
            key: _taken(choices[choice].get(key), group, cfg) for key in ("_target_", "name", *filter(None, PARTS))
        }
        other = any(_target(known, part) != _target(node, part) for part in PARTS)
        return other, known.get("name") != node.get("name")

    def distance(choice: str) -> tuple[int, bool]:
        return len(list(_differences(_known(group, choice, cfg), node, group))), choice != _defaults()[group]

    differ = {choice: builds_another(choice) for choice in choices}
    least = min(differ.values())
    return min((choice for choice in choices if differ[choice] == least), key=distance)


def _target(node: Config, part: str) -> Any:
    return (node.get(part) or {}).get("_target_") if part else node.get("_target_")


def _differences(known: Config, node: Config, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and isinstance(known.get(key), dict):
            yield from _differences(known[key], value, f"{prefix}.{key}")
        elif key not in known or known[key] != value:
            yield ("" if key in known else "+") + f"{prefix}.{key}", value


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_typed(each)}" for key, each in value.items()) + "}"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )
