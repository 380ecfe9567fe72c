"""What makes two trainings the same, and what is recorded of each: hashes of configuration, data and code, name and tags."""

import getpass
import os
import shlex
import subprocess
from contextlib import suppress
from functools import cache
from hashlib import sha256
from typing import Any

import yaml

from crucible.app.compose import Job
from crucible.app.overrides import overrides_of
from crucible.app.pretrained import source_of
from crucible.app.project import CHECKOUT, IN_CHECKOUT, PACKAGE, ROOT, Config
from crucible.app.quoting import GROUPS
from crucible.data.card import Card
from crucible.errors import as_called
from crucible.integrity import code_of, sha256_of
from crucible.text import redacted
from crucible.tracking.start import Identity

LONGEST = 60  # letters of a run's name
NO_RESULT = (
    "tracking",
    "run_name",
    "report",
    "graph",
    "run",
    "resume",
    "prepared",
)  # these keys cannot change a result
NO_DATA = ("path", "workers", "engine")  # nor can these of `data`


def identity(cfg: Config, card: Card) -> Identity:
    """Return what makes two trainings the same one: configuration, data, code."""
    kept = {key: value for key, value in cfg.items() if key not in NO_RESULT}
    kept["data"] = {key: value for key, value in cfg["data"].items() if key not in NO_DATA}
    if (start := source_of(cfg)) is not None:  # what it starts from, wherever that lies
        kept["transfer"] = {**cfg["transfer"], "source": sha256_of(start.file)}
    return Identity(sha256(repr(kept).encode()).hexdigest(), card.key, _code())


@cache
def _code() -> str:
    """Return the hash of the code as it was when this process first asked."""
    return code_of(CHECKOUT / "src" if IN_CHECKOUT else PACKAGE)


def config_text(cfg: Config) -> str:
    """Return the configuration as it stands in a run folder: without passwords."""
    return redacted(yaml.safe_dump({**cfg, "run": None, "resume": None}, sort_keys=False, allow_unicode=True))


def record(job: Job, who: Identity) -> dict[str, Any]:
    """Return the name and tags of a run."""
    differing = [each for each in overrides_of(job.cfg) if not each.startswith("data.path")]
    tags = {
        "git.commit": commit(),
        "user": _user(),
        "command": redacted(as_called(shlex.join(["python", "src/train.py", *job.overrides]))),
        "data.key": who.data,
        "config.hash": who.config,
        "hydra.overrides": redacted(" ".join(job.overrides)),
        "dvc.exp.name": os.environ.get("DVC_EXP_NAME", ""),
        **job.tags,
    }
    return {"name": job.cfg["run_name"] or _short(differing) or "defaults", "tags": tags}


def _short(words: list[str]) -> str:
    """Return overrides as a name: choices of groups by themselves, other keys without their group; of many the first."""
    parts = [
        value if key in GROUPS else f"{key.rpartition('.')[2]}={value}"
        for key, _, value in (word.partition("=") for word in words)
    ]
    name = " ".join(parts)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3].rstrip()}..."


def _user() -> str:
    """Return who trains; empty where this machine does not know."""
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""


@cache
def commit() -> str:
    """Return the commit of this code; empty where git does not know it, is not there, or no process is to be had.

    On a host to which a search has brought the code the search has said it.
    """
    if (said := os.environ.get("CRUCIBLE_COMMIT")) is not None:
        return said
    with suppress(OSError):
        git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        return git.stdout.strip() if git.returncode == 0 else ""
    return ""
