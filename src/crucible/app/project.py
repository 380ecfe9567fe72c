"""Where things stand: the project that runs are recorded in, and the configuration that the package brings."""

import json
import os
from pathlib import Path
from typing import Any

from crucible.tracking.folder import write_atomic

Config = dict[str, Any]  # a composed configuration, as plain values
PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]  # where the package stands in its repository
IN_CHECKOUT = (CHECKOUT / "conf" / "config.yaml").exists()
ROOT = CHECKOUT if IN_CHECKOUT else Path.cwd()  # the project: what stands in no repository works where it is called
CONF = (CHECKOUT if IN_CHECKOUT else PACKAGE) / "conf"


def own_conf() -> Path | None:
    """Return conf/ of the project in this folder; None where there is no conf/project.yaml, which says that it is one."""
    own = Path("conf").absolute()
    return own if (own / "project.yaml").exists() else None


def conf_folders() -> list[Path]:
    """Return where the choices of groups stand: the project's own before those of the package."""
    own = own_conf()
    return [CONF] if own is None else [own, CONF]


def home() -> Path:
    """Return the project that runs are recorded in: the parent of a temporary DVC experiment, else this one."""
    return Path(os.environ.get("DVC_ROOT") or ROOT)


def in_pipeline(folder: Path) -> bool:
    """Whether a run folder belongs to the pipeline."""
    return "DVC_STAGE" in os.environ or folder.parts[:1] == ("artifacts",)


def write_json(path: Path, value: Any) -> None:
    """Write a readable JSON file atomically, equal bytes for equal values."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
