"""What a training starts from: weights of another run, found, fetched and pinned to a place that stays."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

from crucible.app.compose import Job
from crucible.app.finished import finished_run
from crucible.app.project import ROOT, Config, home
from crucible.errors import Refusal
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
    """Return the job with what it starts from as a local path that stays: `latest` may point elsewhere tomorrow.

    Raises:
        Refusal: it cannot be fetched, or DVC would not see it change.
    """
    source = job.cfg["transfer"].get("source")
    if source is None or job.cfg["resume"] is not None:
        return job
    if source.startswith(FETCHED):
        uri = job.cfg["tracking"].get("uri") or f"sqlite:///{home() / 'mlflow.db'}"
        local = fetch(source, uri, Path("artifacts/transfer"))
    else:
        local = finished_run(source) if source == "latest" else Path(source).expanduser()
        local = ROOT / local if not local.exists() and (ROOT / local).exists() else local
        local = local.resolve()  # a link may point elsewhere tomorrow
        local = local.relative_to(Path.cwd()) if local.is_relative_to(Path.cwd()) else local
        if not job.new_folder and local.resolve() == job.folder.resolve():
            raise Refusal(
                f"transfer.source={source}",
                "it is this run's own folder",
                allowed="another run, or another hydra.run.dir",
            )
    if "DVC_STAGE" in os.environ and not local.resolve().is_relative_to(Path("pretrained").resolve()):
        raise Refusal(
            f"transfer.source={source}", "DVC would not see these weights change", allowed="a path under pretrained/",
            example=f"cp -r {shlex.quote(str(local))} pretrained/, then transfer.source={shlex.quote(f'pretrained/{local.name}')}",
        )  # fmt: skip
    return replace(job, cfg={**job.cfg, "transfer": {**job.cfg["transfer"], "source": str(local)}})
