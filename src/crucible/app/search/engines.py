"""Which engine a search is asked to run on, with what it needs there: code, configuration, and the folders that trials read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crucible.app.search.spec import SearchSpec
from crucible.errors import Refusal
from crucible.search.engine import Engine
from crucible.search.local import Local, Waiting
from crucible.search.plan import Settings
from crucible.training.device import choose_device


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


def engine_of(asked: Settings, spec: SearchSpec, waiting: Sequence[Waiting] = ()) -> Engine:
    """Return where the workers of a search run; on this machine processes wait for their work already."""
    if asked.engine == "local":
        return Local(spec.plan.n_jobs, _gpus(spec.cfg["trainer"]["device"]), waiting)
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
