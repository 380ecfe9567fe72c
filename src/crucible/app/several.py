"""A training on several processes (torchrun --nproc-per-node N src/train.py trainer.shards=S ...): who leads, who follows, and when not."""

import os
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from crucible.app.build import Data, Parts, assemble, build_model, build_optimizer, build_task
from crucible.app.compose import Job
from crucible.app.project import Config
from crucible.data.card import Card, read_card
from crucible.errors import Refusal
from crucible.training.device import be_deterministic, choose_device
from crucible.training.evaluation import outputs_of
from crucible.training.fingerprint import fingerprint
from crucible.training.fit import Outputs, Step, fit, train_step
from crucible.training.run import Run
from crucible.training.shards import ShardedStep
from crucible.training.together import Following, InTurn, Leading
from crucible.training.world import Several, World, launch

_TRAININGS = count()
STARTED = Path("outputs/.torchrun")  # of each torchrun the folder of its run: a restart goes on there


def world_of(cfg: Config) -> World:
    """Return the processes that torchrun has started, or this one alone.

    Raises:
        Refusal: there are more of them than shards.
    """
    size, shards = int(os.environ.get("WORLD_SIZE", "1")), cfg["trainer"].get("shards", 1)
    if "TORCHELASTIC_RUN_ID" not in os.environ or size == 1:
        return World()
    if shards == "auto":
        raise Refusal("trainer.shards=auto", f"{size} processes share the shards of each batch: say how many those are",
                      allowed=f"{size} or more", example=f"trainer.shards={max(8, size)}")  # fmt: skip
    if size > shards:
        what = f"{size} processes would share {shards} shard(s) of each batch"
        raise Refusal(
            "torchrun",
            what,
            allowed=f"trainer.shards={size} or more, or fewer processes",
            example=f"trainer.shards={max(8, size)}",
        )
    device = choose_device(cfg["trainer"]["device"])
    if device.type == "cuda":
        _require_own_gpu(cfg["trainer"]["device"], int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return Several(device)


def _require_own_gpu(device: str, place: int) -> None:
    """Refuse processes that would share a GPU."""
    if ":" in device or place >= torch.cuda.device_count():
        what = f"process {place} of this host has no GPU of its own: there are {torch.cuda.device_count()}, and trainer.device is {device}"
        raise Refusal("torchrun", what, allowed="trainer.device=cuda, or auto, and at most as many processes as GPUs; or trainer.device=cpu",
                      example=f"--nproc-per-node {max(1, torch.cuda.device_count())}")  # fmt: skip


def noted() -> Path | None:
    """Return the file in which this torchrun notes the folder of this training: of the first in a process, of the second, ...; alone None."""
    name = launch()
    return None if name is None else STARTED / f"{name}-{next(_TRAININGS)}"


def where_it_was(job: Job, note: Path | None) -> Job:
    """Return the job in the folder in which this torchrun began it, where it has started its processes anew."""
    if note is not None and note.exists() and job.new_folder:
        return replace(job, folder=Path(note.read_text(encoding="utf-8")), new_folder=False)
    return job


def remember(job: Job, note: Path | None) -> None:
    """Note the folder of this run, for when torchrun starts its processes anew."""
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(job.folder), encoding="utf-8")


def shards_of(cfg: Config, card: Card, device: torch.device) -> int:
    """Return the pieces of a batch: declared, or chosen by the data and the device alone, so that a training that goes on has as many.

    On a processor a piece of 256 pictures stays in its cache: steps of convolutional networks become faster (docs/scale.md).
    """
    declared: int | str = cfg["trainer"].get("shards", 1)
    if isinstance(declared, int):
        return declared
    size = cfg["trainer"]["batch_size"] or card.size("train")
    return max(1, min(8, size // 256)) if card.is_images and device.type == "cpu" else 1


def step_of(cfg: Config, data: Data, world: World, taken: int) -> Step:
    """Return how a training takes a step, of which so many have been taken: in one piece, or in shards."""
    if (shards := shards_of(cfg, data.card, data.device)) == 1:
        return train_step
    step = ShardedStep(shards, seed=cfg["seed"], world=world)
    step.step = taken
    return step


def outputs_in(world: World) -> Outputs:
    """Return how the outputs for dev are had: by one process, or by all in turn."""
    return outputs_of if world.size == 1 else InTurn(world)


def leading(job: Job, data: Data, parts: Parts, run: Run, world: World) -> Any:
    """Tell the others what to train, and return what leads them through the epochs; alone the run itself does.

    Raises:
        Refusal: a process computes other bits than this one.
    """
    if world.size == 1:
        return run
    cfg = {**job.cfg, "prepared": str(data.folder.absolute())}
    state: dict[str, Any] = {"model": parts.model, "optimizer": parts.optimizer.optimizer, "schedule": parts.schedule}
    if run.is_within_an_epoch:
        state["batches"] = parts.fitted[1]
    world.shared({"cfg": cfg, "threads": torch.get_num_threads(), "step": run.step, "seen": parts.before,
                  "state": {name: part.state_dict() for name, part in state.items()}})  # fmt: skip
    mine, *others = world.gathered(fingerprint(data.device, torch.get_num_threads()))
    for rank, other in enumerate(others, 1):
        if other != mine:
            raise Refusal("torchrun", f"process {rank} has {other}, process 0 {mine}: their bits would not be the same",
                          allowed="processes with the same torch on the same kind of device and processor")  # fmt: skip
    return Leading(run, world)


def follow(world: World) -> float:
    """Train what rank 0 says, step by step with it; nothing is written and nothing shown here, and no number is known."""
    said = world.shared(None)
    cfg = said["cfg"]
    device = choose_device(cfg["trainer"]["device"])
    be_deterministic(cfg["trainer"]["deterministic"])
    folder = Path(cfg["prepared"])
    data = Data(folder, read_card(folder), device)
    task = build_task(cfg, data.card)
    model, transfer = build_model(cfg, data, task)
    optimizer, schedule = build_optimizer(cfg, model, transfer)
    parts = assemble(cfg, data, task, model, transfer, optimizer, schedule)
    torch.set_num_threads(said["threads"])
    own: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer.optimizer,
        "schedule": schedule,
        "batches": parts.fitted[1],
    }
    for name, state in said["state"].items():
        own[name].load_state_dict(state)
    world.gathered(fingerprint(device, said["threads"]))
    run: Any = Following(optimizer, schedule, world, seed=cfg["seed"])
    step, outputs = step_of(cfg, data, world, said["step"]), outputs_in(world)
    fit(*parts.trained, run, step, outputs, total_epochs=cfg["trainer"]["total_epochs"])
    world.close()
    return float("nan")
