"""The one wrapper around Hydra: every command composes, checks and refuses here, before any work and without a trace.

A command is a function of a `Job`. `run` quotes what Hydra's grammar cannot lex, composes conf/ (or params.yaml, or the
configuration of a run), checks it against the schemas and the allow-list, calls the command, and shows a refusal as one
screen. Hydra itself takes over only for -m and for its own flags (--help, --cfg, ...).
"""

import os
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crucible.app.arguments import output_folder
from crucible.app.project import CONF, conf_folders, own_conf
from crucible.app.quoting import GROUPS, flags, key_of, parse, quoted, require_choice, require_sound_words
from crucible.errors import INTERRUPTED, Refusal, Stopped
from crucible.instantiate import PARTS, check_node
from crucible.report.progress import Tell
from crucible.report.screen import lined
from crucible.resources import exhausted
from crucible.schema import SYNONYMS, Root, check, nearest, unknown_key

HYDRAS = ("help", "hydra_help", "cfg", "info", "shell_completion")
REFUSED = 2


@dataclass(frozen=True)
class Job:
    """One command to do.

    Attributes:
        cfg: the composed configuration, checked, as plain values.
        folder: where the command writes.
        overrides: as typed, for the record.
        by_hand: whether outputs/latest shall point to it: no stage of a pipeline, no job of a sweep.
        new_folder: whether the folder is named by the time, and may be given a number where that is taken.
        other_data: whether a finished run is to be judged on data that are not its own.
        tags: more for the record. tell: what to call after each epoch, in place of a bar.
        mirrored: whether a mirror of its own follows it; that of a sweep follows its trials. can_go_on: whether it is checkpointed; a trial
            that is lost is tried again from the beginning.
    """

    cfg: dict[str, Any]
    folder: Path
    overrides: list[str]
    by_hand: bool = False
    new_folder: bool = False
    other_data: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    tell: Tell | None = None
    mirrored: bool = True
    can_go_on: bool = True


def run(command: Callable[[Job], Any], job_of_run: Callable[[Namespace], Job | None], *, judges: bool = False) -> Any:
    """Do a command with the arguments of this process, and return what it returns.

    Args:
        job_of_run: gives the job of a run that the arguments name. judges: whether the command takes `run`.
    """
    swept = any(arg in ("-m", "--multirun") for arg in sys.argv[1:])
    argv = [quoted(arg, swept) for arg in sys.argv[1:]]
    args = flags(argv)
    _require_sound_search(args, swept)
    _require_own_keys([key_of(each) for each in args.overrides], judges, swept)
    if swept or any(getattr(args, flag, None) for flag in HYDRAS):
        return _hand_to_hydra(command, args, argv)
    return command(job_of_run(args) or _job(args))


@contextmanager
def refusing_hydra() -> Iterator[None]:
    """Turn what Hydra refuses into a refusal."""
    try:
        yield
    except MissingConfigException as error:
        raise _unknown_choice(error) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise _from_hydra(error) from None


def guarded(work: Callable[[], Any]) -> None:
    """Do some work; show a refusal as one screen and exit 2."""
    try:
        with refusing_hydra():
            require_sound_words(sys.argv[1:])
            work()
    except Stopped as stopped:
        _show(str(stopped), "stopped")
    except Refusal as refusal:
        _show(str(refusal))
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\nstopped by you; what is checkpointed is kept", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (OSError, MemoryError, RuntimeError) as error:
        if (screen := exhausted(error)) is None:
            raise
        _show(str(screen), *(["stopped"] if isinstance(screen, Stopped) else []))


def _verb() -> str:
    """Return the command that this process does: train of src/train.py, and of `crucible train`."""
    return Path(sys.argv[0]).stem.split(" ")[-1]


def _show(screen: str, happened: str = "refuses, and nothing was changed") -> None:
    print(f"{Path(sys.argv[0]).name} {happened}:\n{screen}", file=sys.stderr)
    sys.exit(REFUSED)


def _require_own_keys(keys: list[str], judges: bool, swept: bool) -> None:
    if "" in keys:
        raise Refusal("the command line", "a value without a key", allowed="key=value, GROUP=CHOICE")
    if "graph" in keys and _verb() != "describe":
        raise Refusal(
            "graph",
            "it belongs to src/describe.py",
            example="python src/describe.py experiment=backpropagation graph=true",
        )
    if "run" in keys and not judges:
        raise Refusal(
            "run", "it names a finished run", allowed="resume=FOLDER to go on; evaluate.py run=FOLDER to judge"
        )
    if "resume" in keys and judges:
        raise Refusal("resume", "it belongs to src/train.py", example="python src/evaluate.py run=FOLDER")
    if swept and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refusal("-m", "torchrun has started several processes for one training, and each would do all of these", allowed="one training; a search without torchrun",
                      example="python src/train.py -m ...")  # fmt: skip
    if swept and judges and "run" not in keys:
        raise Refusal("-m", "finished runs are evaluated one at a time", example="python src/evaluate.py run=latest")
    if swept and (wrong := [key for key in keys if key in ("run", "resume")]):
        raise Refusal(wrong[0], "it names one run and cannot be swept", allowed="one command for each run")


def compose(args: Namespace, overrides: list[str]) -> DictConfig:
    """Return the composition, Hydra's own node included."""
    for each in overrides:
        require_choice(each)
    home, name, more = _sources(args)
    with hydra.initialize_config_dir(config_dir=str(home), version_base="1.3", job_name=_verb()):
        return hydra.compose(name, [*overrides, *more], return_hydra_config=True)


def _sources(args: Namespace) -> tuple[Path, str, list[str]]:
    """Return the folder and the name of the root configuration, and the override that says where else choices stand."""
    home, *others = conf_folders()
    name = args.config_name or ("project" if others else "config")
    if args.config_dir is not None:
        named = Path(args.config_dir).resolve()
        if args.config_name and (named / args.config_name).with_suffix(".yaml").exists():
            return named, args.config_name, []
        others = [*others, named]
    paths = ",".join(f"'file://{each}'" for each in others)
    return home, name, [f"hydra.searchpath=[{paths}]"] if others else []


def compose_choice(args: Namespace, group: str, choice: str) -> DictConfig:
    """Return one choice of one group, composed alone."""
    require_choice(f"{group}={choice}")
    home, _, more = _sources(args)
    with hydra.initialize_config_dir(config_dir=str(home), version_base="1.3", job_name=_verb()):
        return DictConfig(hydra.compose(None, [f"+{group}={choice}", *more])[group])


def _job(args: Namespace) -> Job:
    keys = [key_of(each) for each in args.overrides]
    composed = compose(args, args.overrides)
    folder = output_folder("hydra.run.dir", str(composed.hydra.run.dir))
    cfg = plain(composed)
    validate(cfg)
    return Job(
        cfg, folder, args.overrides, by_hand="DVC_STAGE" not in os.environ, new_folder="hydra.run.dir" not in keys
    )


def plain(composed: DictConfig) -> dict[str, Any]:
    """Return the composition as plain values, without Hydra's node."""
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = OmegaConf.to_container(own, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def validate(cfg: dict[str, Any]) -> None:
    """Refuse a configuration that the schemas or the allow-list do not admit."""
    check(Root, cfg)
    for group in PARTS:
        check_node(cfg["data"]["reader"] if group == "data.reader" else cfg[group], group)


def _hand_to_hydra(command: Callable[[Job], Any], args: Namespace, argv: list[str]) -> None:
    """Let Hydra run a sweep or answer for itself; each job of a sweep is checked like a single one."""
    several = _check_sweep(args) if args.multirun else None
    if several is not None and not any(key_of(each) == "hydra.sweep.dir" for each in args.overrides):
        argv = [*argv, f"hydra.sweep.dir={several.folder}"]  # that of the comparison which is named at the end
    if not (args.multirun or args.shell_completion):
        compose(args, args.overrides)

    def task(composed: DictConfig) -> Any:
        cfg = plain(composed)
        validate(cfg)
        hydra_config = HydraConfig.get()
        words = list(hydra_config.overrides.task)
        if several is not None:
            print(f"{hydra_config.job.num + 1} of {several.count}: {' '.join(words)}", file=sys.stderr, flush=True)
        try:
            return command(Job(cfg, Path(hydra_config.runtime.output_dir), words))
        except Refusal as refusal:
            _show(str(refusal))

    home, name, more = _sources(args) if args.config_dir is None else (CONF, "config", [])
    if args.shell_completion and (own := own_conf()):  # it knows no search path of the configuration
        home, name, more = CONF, "config", ["--config-dir", str(own)]
    sys.argv[1:] = [*argv, *more]
    hydra.main(config_path=str(home), config_name=name, version_base="1.3")(task)()
    if several is not None:
        following = f"python src/compare.py {shlex.quote(several.folder)}"
        print(lined([("result", f"{several.count} runs"), ("files", several.folder), ("next", following)]))


@dataclass(frozen=True)
class Several:
    """The runs of a plain sweep: how many, and the folder that they stand in."""

    count: int
    folder: str


def _check_sweep(args: Namespace) -> Several | None:
    """Compose and check every job of a plain sweep before the first starts; a search checks its space itself.

    Return what is known of the runs; of a search nothing.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = parse(args.overrides)
    if wrong := [
        each.key_or_group for each in parsed if each.is_sweep_override() and each.key_or_group.startswith("hydra.")
    ]:
        raise Refusal(wrong[0], "it cannot be swept: it says how runs are made", allowed="one value")
    shared = compose(args, [str(each.input_line) for each in parsed if not each.is_sweep_override()])
    folder = str(output_folder("hydra.sweep.dir", str(shared.hydra.sweep.dir)))
    if _searches(args):
        return None
    jobs = BasicSweeper.split_arguments(parsed, None)[0]
    for job in jobs:
        validate(plain(compose(args, list(job))))
    return Several(len(jobs), folder)


def _searches(args: Namespace) -> str:
    """Return the override that asks for a search; empty where none does."""
    return next((each for each in args.overrides if each.startswith("sweep=") and each != "sweep=none"), "")


def _require_sound_search(args: Namespace, swept: bool) -> None:
    search, command = _searches(args), _verb()
    example = f"python src/train.py -m sweep={search.partition('=')[2].partition(',')[0]}"
    if search and command != "train":
        raise Refusal(search, f"a search belongs to src/train.py, not src/{command}.py", example=example)
    if search and not swept:
        raise Refusal(search, "a search takes -m", example=example)
    if "," in search or "(" in search:
        raise Refusal(search, "one search at a time", example=example)


def _unknown_choice(error: MissingConfigException) -> Refusal:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    options = list(error.options or [])
    close = nearest(choice, options)
    return Refusal(
        group or "the configuration",
        f"there is no choice '{choice}'",
        allowed=", ".join(each for each in options if each != "base"),
        nearest=close,
        example=f"{group}={close}" if close else "",
    )


def _from_hydra(error: Exception) -> Refusal:
    text = str(error)
    cause = f"{text}\n{error.__cause__ or ''}"
    full = re.search(r"Key '\w+' is not in struct\s+full_key: ([\w.]+)", cause)
    if found := full or re.search(r"Could not override '([^']*)'", cause):
        return _elsewhere(found[1]) or unknown_key(found[1], _siblings(found[1]))
    return Refusal(
        "the command line", " ".join(text.split()), example="python src/train.py model=mlp optimizer.lr=0.01"
    )


def _elsewhere(key: str) -> Refusal | None:
    """Return the refusal of a key that stands in a group, and was given without it: lr is optimizer.lr."""
    if "." in key:
        return None
    groups = {group: _siblings(f"{group}.{key}") for group in GROUPS}
    wanted = {key, nearest(key, [name for own in groups.values() for name in own]) if key in SYNONYMS else key}
    places = [f"{group}.{name}" for group, own in groups.items() for name in own if name in wanted]
    if not places:
        return None
    return Refusal(
        key,
        f"there is no key '{key}' here: it stands in a group",
        allowed=", ".join(places),
        nearest=places[0],
        example=f"{places[0]}=...",
    )


def _siblings(key: str) -> list[str]:
    """Return the keys beside `key` in what the command's choices of groups compose; at the top the groups too."""
    args = Namespace(config_dir=None, config_name=None)
    choices = [arg for arg in sys.argv[1:] if key_of(arg) in GROUPS and key_of(arg) != key and "," not in arg]
    composed = compose(args, choices)
    node: Any = OmegaConf.to_container(composed, resolve=False) if key.startswith("hydra.") else plain(composed)
    parents = key.split(".")[:-1]
    for part in parents:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return [*map(str, node), *(() if parents else GROUPS)] if isinstance(node, dict) else []
