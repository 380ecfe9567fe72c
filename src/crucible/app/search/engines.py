"""Which engine a search is asked to run on, with what it needs there: code, configuration, and the folders that trials read."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from crucible.app.identity import commit
from crucible.app.project import CHECKOUT, CONF, IN_CHECKOUT, PACKAGE, own_conf
from crucible.app.search.spec import SearchSpec
from crucible.errors import Refusal
from crucible.search.engine import Engine
from crucible.search.local import Local
from crucible.search.plan import Settings
from crucible.training.device import choose_device


@contextmanager
def connected(asked: Settings) -> Iterator[None]:
    """Be part of a cluster as long as the search lasts; of this machine nothing needs to be said.

    Raises:
        Refusal: Ray is not installed, or no cluster answers.
    """
    if asked.engine == "local":
        yield
        return
    try:
        from crucible.search import ray
    except ModuleNotFoundError as error:
        raise Refusal("hydra.sweeper.engine=ray", f"there is no module {error.name} here", allowed="local; or Ray, on every host",
                      example="pip install 'crucible-dl[ray]'") from None  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="crucible-") as home:
        path = _staged(Path(home))
        with ray.connected(Path(home), path, CRUCIBLE_COMMIT=commit()):
            yield


def workers(asked: Settings, cfg: Mapping[str, Any]) -> int:
    """Return how many workers a search begins with.

    Raises:
        Refusal: no host has what a worker is to have.
    """
    if asked.engine == "local":
        if asked.n_jobs != "auto":
            return asked.n_jobs
        on_gpus = _gpus(cfg["trainer"]["device"])
        return len(on_gpus) or max(1, len(os.sched_getaffinity(0)) // asked.resources.cpus)
    if not (room := _cluster(asked, cfg, {}).capacity()):
        raise Refusal("hydra.sweeper.resources", f"no host of the cluster has {asked.resources.cpus} CPU(s) and what GPUs are asked for",
                      allowed="what one host has", example="hydra.sweeper.resources.cpus=1")  # fmt: skip
    return room


def threads_each(asked: Settings, jobs: int) -> int | None:
    """Return the threads of a trial where several share a machine; None: a trial looks for itself."""
    if asked.engine == "ray":
        return asked.resources.cpus
    return max(1, len(os.sched_getaffinity(0)) // jobs) if jobs > 1 else None


def engine_of(asked: Settings, spec: SearchSpec) -> Engine:
    """Return where the workers of a search run."""
    if asked.engine == "local":
        return Local(spec.plan.n_jobs, _gpus(spec.cfg["trainer"]["device"]))
    return _cluster(asked, spec.cfg, spec.folders)


def _cluster(asked: Settings, cfg: Mapping[str, Any], folders: Mapping[str, Path]) -> Engine:
    from crucible.search import ray

    gpus = asked.resources.gpus
    if gpus == "auto":
        gpus = float(cfg["trainer"]["device"] != "cpu" and ray.gpus_there())
    most = None if asked.n_jobs == "auto" else asked.n_jobs
    return ray.Cluster(cpus=asked.resources.cpus, gpus=gpus, most=most, folders=folders)


def _gpus(device: str) -> list[str]:
    """Return what CUDA calls the GPUs of this machine that trials share out; none where there is none, or one is named."""
    if choose_device(device).index is not None or choose_device(device).type != "cuda":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _staged(home: Path) -> str:
    """Copy code and configuration into a folder as a host is to have them; return where in it the packages are."""
    code, path = (CHECKOUT / "src", "src") if IN_CHECKOUT else (PACKAGE.parent, ".")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("crucible", "hydra_plugins"):
        shutil.copytree(code / name, home / path / name, ignore=ignored)
    if IN_CHECKOUT:
        shutil.copytree(CONF, home / "conf", ignore=ignored)
    elif (own := own_conf()) is not None:
        shutil.copytree(own, home / "conf", ignore=ignored)
    return path
