"""What a training starts from: weights of another run, found, fetched and pinned to a place that stays."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

from crucible.app.compose import Job
from crucible.app.finished import finished_run
from crucible.app.project import ROOT, Config, home
from crucible.errors import Refusal
from crucible.models.features import RANDOM, pinned, unpinned
from crucible.tracking.mirror import FETCHED, fetch
from crucible.transfer import Pretrained, pretrained


def source_of(cfg: Config) -> Pretrained | None:
    """Return the weights that a configuration starts from; None: it starts from nothing.

    Raises:
        Refusal: there are none.
    """
    source = cfg["transfer"].get("source")
    return None if source is None else pretrained(Path(source))


def resolve_source(job: Job) -> Job:
    """Return the job with what it starts from, and what it compares pictures by, as local paths that stay.

    `latest` may point elsewhere tomorrow. Features are named with the hash of their weights: PATH@HASH.

    Raises:
        Refusal: it cannot be fetched, or DVC would not see it change.
    """
    if job.cfg["resume"] is not None:
        return job
    source, features = job.cfg["transfer"].get("source"), job.cfg["task"].get("features", RANDOM)
    if source is not None:
        local = _fetched(job, source) if source.startswith(FETCHED) else _local(job, "transfer.source", source)
        _require_seen_by_dvc("transfer.source", source, local)
        job = replace(job, cfg={**job.cfg, "transfer": {**job.cfg["transfer"], "source": str(local)}})
    if features != RANDOM:
        local = _local(job, "task.features", unpinned(features))
        _require_seen_by_dvc("task.features", features, local)
        job = replace(job, cfg={**job.cfg, "task": {**job.cfg["task"], "features": pinned(local, features)}})
    return job


def _fetched(job: Job, source: str) -> Path:
    uri = job.cfg["tracking"].get("uri") or f"sqlite:///{home() / 'mlflow.db'}"
    return fetch(source, uri, Path("artifacts/transfer"))


def _local(job: Job, key: str, source: str) -> Path:
    """Return where a source lies, links followed: they may point elsewhere tomorrow."""
    local = finished_run(source) if source == "latest" else Path(source).expanduser()
    local = ROOT / local if not local.exists() and (ROOT / local).exists() else local
    local = local.resolve()
    local = local.relative_to(Path.cwd()) if local.is_relative_to(Path.cwd()) else local
    if not job.new_folder and local.resolve() == job.folder.resolve():
        raise Refusal(f"{key}={source}", "it is this run's own folder", allowed="another run, or another hydra.run.dir")
    return local


def _require_seen_by_dvc(key: str, source: str, local: Path) -> None:
    if "DVC_STAGE" in os.environ and not local.resolve().is_relative_to(Path("pretrained").resolve()):
        raise Refusal(
            f"{key}={source}", "DVC would not see these weights change", allowed="a path under pretrained/",
            example=f"cp -r {shlex.quote(str(local))} pretrained/, then {key}={shlex.quote(f'pretrained/{local.name}')}",
        )  # fmt: skip
