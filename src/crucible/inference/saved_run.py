"""A finished run as an object: the model with its weights, its task and its data card, from the run folder alone."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crucible.data.card import Card, read_card
from crucible.data.normalize import WIDE, normalizer
from crucible.data.ragged import mask_of
from crucible.errors import Refusal
from crucible.files import CONFIG, SUMMARY, WEIGHTS
from crucible.instantiate import build
from crucible.integrity import require_unchanged
from crucible.models.contracts import Placed
from crucible.tasks.task import MonitoredTask, build_network

NEEDED = ("data", "model", "monitor", "epochs", "train", "diagnosis", "threads", "parameters")  # of train.json
SECTIONS = ("data", "augment", "model", "init", "task", "regularizer", "optimizer", "schedule", "trainer", "tracking")


@dataclass(frozen=True)
class Saved:
    """What a run folder holds, ready to predict."""

    config: dict[str, Any]
    card: Card
    task: MonitoredTask
    model: nn.Module


def read_config(folder: Path) -> dict[str, Any]:
    """Return the composed configuration of a run.

    Raises:
        Refusal: the folder is no run folder, or its configuration is damaged.
    """
    try:
        return _sections(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise Refusal(
            f"run={folder}", f"no run folder: {error}", allowed="a folder made by src/train.py, or latest"
        ) from None


def _sections(config: Any) -> dict[str, Any]:
    """Return a configuration as it is, if it has the form of one."""
    if not isinstance(config, dict) or not all(isinstance(config.get(name), dict) for name in SECTIONS):
        raise ValueError(f"{CONFIG} holds no configuration, or it is damaged")
    return config


def read_summary(folder: Path) -> dict[str, Any]:
    """Return train.json of a finished run.

    Raises:
        Refusal: there is none, or it is damaged.
    """
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return {key: found[key] for key in (*NEEDED, *found)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            str(folder / SUMMARY),
            f"no result of a training, or damaged: {error!r}",
            allowed="the file that the run wrote",
        ) from None


def on_device(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Return the model on the device; its image filters stored channels last are 1.5 times as fast on the CPU."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    for part in (*model.to(device).parameters(), *model.buffers()):
        if part.dim() == 4:
            part.data = part.data.contiguous(memory_format=form)
    return model


def is_channels_last(model: nn.Module) -> bool:
    """Whether image filters are stored channels last, and otherwise than contiguously."""
    return any(part.dim() == 4 and not part.is_contiguous() for part in model.parameters())


def build_calibrated(folder: Path, node: Mapping[str, Any], card: Card) -> MonitoredTask:
    """Return a task with what a run has chosen on dev."""
    task: MonitoredTask = build("task", node, card)
    summary = read_summary(folder)
    task.calibrate(summary.get("dev") or summary["train"])
    return task


def answering_run(folder: Path, device: torch.device) -> Saved:
    """Return a run as `load_run` does, which says something of an example.

    Raises:
        Refusal: its model is a point.
    """
    saved = load_run(folder, device)
    if isinstance(saved.model, Placed):
        raise Refusal(f"run={folder}", "its model is a point, which says nothing of an example", allowed="a run with a network",
                      example="python src/evaluate.py run=latest")  # fmt: skip
    return saved


def load_run(folder: Path, device: torch.device) -> Saved:
    """Build the run's model on the device and load its weights.

    Raises:
        Refusal: no run folder, a run that has not finished, or weights that are damaged or of another model.
    """
    config, card = read_config(folder), read_card(folder)
    if not ((folder / WEIGHTS).exists() and (folder / SUMMARY).exists()):
        raise Refusal(
            f"run={folder}",
            "this run has not finished",
            example=f"python src/train.py resume={shlex.quote(str(folder))}",
        )
    for name in require_unchanged(folder, editable=[CONFIG]):
        print(f"note: {folder / name} is not as the run wrote it: it was edited, or it is damaged", file=sys.stderr)
    task = build_calibrated(folder, config["task"], card)
    model = build_network(config["model"], card, task)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise Refusal(
            str(folder / WEIGHTS), f"damaged, or of another model: {str(error).splitlines()[0]}",
            allowed="the file that this run wrote", example=f"python src/train.py resume={shlex.quote(str(folder))}",
        ) from None  # fmt: skip
    return Saved(
        config, card, task, on_device(model.eval(), device, channels_last=config["trainer"].get("channels_last", True))
    )


def input_dtype(card: Card) -> torch.dtype:
    """Return the type in which stored values must come: float64 where float32 would lose their differences."""
    return torch.float64 if card.dtype in WIDE else torch.float32


class Predictor(nn.Module):
    """From stored values to answers: normalise as the card says, run the model, say what its outputs mean.

    Args:
        settled: false leaves a detector's boxes as they are before suppression, which is a loop: for formats without any.
    """

    def __init__(self, saved: Saved, *, settled: bool = True) -> None:
        super().__init__()
        self.normalized, self.model, self._symbols = normalizer(saved.card), saved.model, saved.card.holds_symbols
        self._answers = saved.task.postprocess if settled else saved.task.raw_detections
        self._within = saved.task.within if self._symbols else None

    def forward(self, x: Tensor) -> Tensor:
        """Map stored values (B, C, H, W) or (B, F) to probabilities (B, K), or to numbers (B, 1); of text see its kind of label."""
        x = self.normalized(x)
        found = self._answers(self.model(x))
        return found if self._within is None else self._within(found, {"x": x, "mask": mask_of(x)})
