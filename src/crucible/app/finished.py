"""The configuration of a run that is there: read from its folder, not composed, with what an evaluation may change."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from crucible.app.arguments import output_folder
from crucible.app.compose import Job, compose_choice, plain, validate
from crucible.app.overrides import default_choices, load_choice
from crucible.app.project import CONF, Config
from crucible.app.quoting import GROUPS, key_of, parse, require_choice
from crucible.errors import Refusal
from crucible.schema import nearest, unknown_key
from crucible.tracking.control import extend

LENGTH = "trainer.total_epochs"
CHANGEABLE = (
    "run", "report", "prepared", "data", "tracking", "task.tolerance", "task.satisficing", "trainer.device", "trainer.threads",
    "transfer.seen", "hydra.run.dir",
)  # fmt: skip


def finished_run(name: str) -> Path:
    """Return the run folder that `name` means: a path, `latest`, the name that a run was given, or its id in MLflow.

    Raises:
        Refusal: there is no run; with the nearest one.
    """
    folder = Path("outputs/latest") if name == "latest" else Path(name)
    if not folder.exists():
        from crucible.app.runs import named  # only where a name must be looked up

        folder = named(name) or folder
    if not all((folder / name).exists() for name in ("config.yaml", "card.json")):
        runs = sorted(str(path.parent) for path in Path("outputs").glob("*/*/config.yaml"))
        close = nearest(str(folder), runs) or (runs[-1] if runs else "")
        raise Refusal(
            f"run={name}",
            "there is no run in this folder, or of this name",
            allowed="a run folder, latest, a run_name, or MLflow's id of a run",
            nearest=close,
        )
    return folder.resolve().relative_to(Path.cwd()) if folder.resolve().is_relative_to(Path.cwd()) else folder.resolve()


def job_of_run(args: Namespace, find: Callable[[str], Path] = finished_run) -> Job | None:
    """Return the job about the run that `resume` or `run` names; None where neither does.

    Args:
        find: gives the folder of the run that is judged.
    """
    own = [each for each in parse(args.overrides) if each.key_or_group in ("resume", "run")]
    given = {each.key_or_group: str(_value(each)) for each in own if each.value() is not None}
    if "resume" in given:
        return _resumed(given["resume"], args.overrides)
    return _evaluated(find(given["run"]), args) if "run" in given else None


def _resumed(name: str, words: list[str]) -> Job:
    """Return the job that goes on with a run; with more epochs than it was begun with, if they are given."""
    from crucible.inference.saved_run import read_config

    changes = _changes(words)
    if others := [key for key in changes if key not in ("resume", LENGTH)]:
        raise Refusal("resume", f"it takes the run's own configuration, not {others[0]}", allowed=f"{LENGTH}=... to go on for longer",
                      example=f"resume={name}")  # fmt: skip
    folder = finished_run(name)
    cfg = read_config(folder)
    validate(cfg)
    if LENGTH in changes:
        extend(folder, cfg["schedule"], f"{LENGTH}={_value(changes[LENGTH])}")
    return Job({**cfg, "resume": str(folder)}, folder, [f"resume={folder}"])


def _evaluated(folder: Path, args: Namespace) -> Job:
    """Return the job of an evaluation: the run's configuration, and from the command line only what may differ."""
    keys = [key_of(each) for each in args.overrides]
    if wrong := [key for key in keys if not any(key == each or key.startswith(f"{each}.") for each in CHANGEABLE)]:
        raise Refusal(wrong[0], "a finished run cannot be changed", allowed=", ".join(CHANGEABLE))
    changes = _changes(args.overrides)
    place_named = changes.pop("hydra.run.dir", None)
    other = "data" in keys or "data.path" in keys
    cfg = _changed(_with_defaults(folder, args), list(changes.values()), args)
    if other and "transfer.seen" not in keys:  # other data: what a transfer was allowed says nothing about them
        policy = cfg["data"]["duplicates"] if "data.duplicates" in keys else "refuse"
        cfg["transfer"] = {**cfg["transfer"], "seen": policy}
    cfg |= {"run": str(folder), "prepared": None if other else cfg["prepared"]}
    validate(cfg)
    place = folder / "judged" / cfg["data"]["name"] if other else folder
    out = output_folder("hydra.run.dir", str(_value(place_named))) if place_named else place
    return Job(cfg, out, args.overrides, other_data=other, new_folder=other and place_named is None)


def _with_defaults(folder: Path, args: Namespace) -> Config:
    """Return the configuration of a run; a run of before some key takes the key's default."""
    from crucible.inference.saved_run import read_config

    own = read_config(folder)
    root = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    top = {key: value for key, value in root.items() if key not in ("defaults", "hydra")}
    new = {
        group: plain(compose_choice(args, group, choice))
        for group, choice in default_choices().items()
        if group not in own
    }
    trainer = {**load_choice("trainer", default_choices()["trainer"]), **own["trainer"]}
    return {**top, **new, **own, "trainer": trainer}


def _changed(cfg: Config, changes: list[Override], args: Namespace) -> Config:
    """Return a configuration with choices of groups first, then values, in place of its own."""
    for each in [each for each in changes if each.key_or_group in GROUPS]:
        cfg[each.key_or_group] = plain(compose_choice(args, each.key_or_group, str(_value(each))))
    for each in [each for each in changes if each.key_or_group not in GROUPS]:
        *parents, last = each.key_or_group.split(".")
        node: Any = cfg
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (last not in node and not (each.is_add() or each.is_force_add())):
            raise unknown_key(each.key_or_group, list(node or cfg))
        node[last] = _value(each)
    return cfg


def _changes(words: list[str]) -> dict[str, Override]:
    """Return what a command line changes, by key.

    Raises:
        Refusal: a key is taken away, or given several values.
    """
    changes = {each.key_or_group: each for each in parse(words)}
    for key, each in changes.items():
        if each.is_delete() or each.is_sweep_override():
            what = "it cannot be taken away" if each.is_delete() else "several values"
            raise Refusal(key, what, allowed="one value; a list is [1,2]")
    for word in words:
        require_choice(word)
    return changes


def _value(change: Override) -> Any:
    """Return the value of an override as Hydra would compose it: \\${ is ${."""
    node = OmegaConf.to_container(OmegaConf.create({"value": change.value()}), resolve=True)
    assert isinstance(node, dict)
    return node["value"]
