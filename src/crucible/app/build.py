"""From the configuration to objects: plain values go in, built parts come out, and the library sees only those."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from crucible.app.compatibility import is_fixed
from crucible.app.pretrained import source_of
from crucible.app.project import Config
from crucible.data.batches import Batches
from crucible.data.card import Card, read_card
from crucible.data.seen import Seen, report
from crucible.inference.saved_run import is_channels_last, on_device
from crucible.instantiate import build
from crucible.models.contracts import largest_norm
from crucible.optim.guard import GuardedOptimizer
from crucible.seeds import seed_global
from crucible.tasks.task import Task, build_network
from crucible.training.device import compiled, with_precision
from crucible.transfer import NoTransfer


def seen_policy(cfg: Config) -> str:
    """Return what becomes of examples that the weights have seen; runs of before had no choice."""
    return str(cfg["transfer"].get("seen", "keep"))


@dataclass(frozen=True)
class Data:
    """A prepared folder, its card, and the device on which its batches are made."""

    folder: Path
    card: Card
    device: torch.device


@dataclass(frozen=True)
class Parts:
    """The objects of one training, built.

    Attributes:
        penalised: the task with the penalty of the regularizer. fixed: whether nothing changes the examples in training.
        before: what the runs that the weights come from have seen. seen: what of it is judged here.
    """

    task: Any
    penalised: Task
    model: nn.Module
    batches: Batches
    optimizer: GuardedOptimizer
    schedule: LRScheduler
    transfer: NoTransfer
    fixed: bool
    before: Seen
    seen: dict[str, Any]

    @cached_property
    def fitted(self) -> tuple[nn.Module, Batches]:
        """The model and its batches; or its head alone, and what frozen layers give it.

        Computed when it is first asked for, with the threads that the training has.
        """
        return self.transfer.fitted(self.model, self.batches, fixed=self.fixed)

    @property
    def trained(self) -> tuple[nn.Module, Task, Batches, GuardedOptimizer, LRScheduler]:
        """What `fit` takes by position."""
        model, batches = self.fitted
        return model, self.penalised, batches, self.optimizer, self.schedule


def build_task(cfg: Config, card: Card) -> Any:
    """Return the task: what a label means, what is minimised, what is measured."""
    return build("task", cfg["task"], card)


def build_model(cfg: Config, data: Data, task: Any) -> tuple[nn.Module, NoTransfer]:
    """Return the model on its device, initialised or transferred, and where its weights come from.

    The weights are drawn on the CPU: the same start on every device.
    """
    trainer = cfg["trainer"]
    seed_global(cfg["seed"], "init")
    model = build_network(cfg["model"], data.card, task)
    build("init", cfg["init"])(model)
    transfer = build("transfer", cfg["transfer"], source_of(cfg), data.card)
    transfer(model)
    model = on_device(model, data.device, channels_last=trainer["channels_last"])
    return compiled(with_precision(model, data.device, trainer["precision"]), wanted=trainer["compile"]), transfer


def build_optimizer(cfg: Config, model: nn.Module, transfer: NoTransfer) -> tuple[GuardedOptimizer, LRScheduler]:
    """Return the optimizer of the parameters that are not frozen, and the schedule of its rate."""
    optimizer = build("optimizer", cfg["optimizer"], transfer.groups(model))
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("share", 1.0)
    max_norm = min(cfg["trainer"]["max_norm"], largest_norm(model))
    return GuardedOptimizer(optimizer, max_norm=max_norm), build("schedule", cfg["schedule"], optimizer)


def assemble(
    cfg: Config,
    data: Data,
    task: Any,
    model: nn.Module,
    transfer: NoTransfer,
    optimizer: GuardedOptimizer,
    schedule: LRScheduler,
) -> Parts:
    """Return the parts of a training, its batches and the penalised task among them."""
    source = source_of(cfg)
    before = source.seen if source else Seen()
    return Parts(
        task=task,
        penalised=build("regularizer", cfg["regularizer"], task, data.card.size("train")),
        model=model,
        batches=build_batches(cfg, data.folder, data.card, data.device, before, channels_last=is_channels_last(model)),
        optimizer=optimizer,
        schedule=schedule,
        transfer=transfer,
        fixed=is_fixed(cfg),
        before=before,
        seen=report(before, data.card, seen_policy(cfg)),
    )


def build_batches(
    cfg: Config, folder: Path, card: Card, device: torch.device, seen: Seen, *, channels_last: bool = False
) -> Batches:
    """Return the batches of a prepared folder, normalised as `card` says, without what the weights have seen before."""
    augment = build("augment", cfg["augment"], cfg["data"]["flip_keeps_label"])
    left_out = seen.rows(read_card(folder)) if seen_policy(cfg) == "drop" else {}
    return Batches(folder, card, device, batch_size=cfg["trainer"]["batch_size"], augment=augment,
                   seed=cfg["seed"], channels_last=channels_last, sampling=cfg["data"]["sampling"], order=cfg["data"].get("order", "shuffled"), left_out=left_out)  # fmt: skip
