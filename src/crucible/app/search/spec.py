"""What a search is asked for, once everything has been checked, and the configuration that all its trials share."""

import copy
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from crucible.app.compose import compose, plain, validate
from crucible.app.quoting import GROUPS, parse
from crucible.data.card import Card
from crucible.search.search import Plan


@dataclass(frozen=True)
class Base:
    """What all trials share; it travels to the workers.

    Attributes:
        args: where the configuration stands. overrides: the same for all. monitor: the number on dev that is reported.
        parent: the journal of the sweep, the same for all its processes; empty until it has begun.
    """

    args: Namespace
    overrides: tuple[str, ...]
    monitor: str
    parent: str

    def composed(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the checked configuration of a trial."""
        composed = [each for each in words if each.partition("=")[0] in GROUPS or each.startswith(("+", "~"))]
        known = _composition(self.args.config_dir, self.args.config_name, (*self.overrides, *composed))
        cfg = plain(_with(known, [each for each in words if each not in composed]))
        validate(cfg)
        return cfg


@cache
def _composition(directory: str | None, name: str | None, overrides: tuple[str, ...]) -> DictConfig:
    composed = compose(Namespace(config_dir=directory, config_name=name), list(overrides))
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def _with(composed: DictConfig, words: Sequence[str]) -> DictConfig:
    """Return a composition with values changed, as Hydra changes them when it composes: a hundred times as fast."""
    changed = copy.deepcopy(composed)
    for each in parse(words):
        OmegaConf.update(changed, each.key_or_group, each.value(), merge=True)
    return changed


@dataclass(frozen=True)
class SearchSpec:
    """What is searched, once everything has been checked.

    Attributes:
        cfg: without the sampled parameters. parts: what makes two searches the same one. folders: that trials read, by their key.
    """

    base: Base
    cfg: dict[str, Any]
    plan: Plan
    card: Card
    name: str
    storage: str
    parts: dict[str, Any]
    folders: dict[str, Path]
