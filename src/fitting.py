"""Does the configuration fit the data: what only the data card can tell, refused before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crucible.data.card import Card
from crucible.data.seen import require_unseen
from crucible.errors import Refusal
from crucible.models.activations import Step
from crucible.models.measure import measure
from crucible.resources import available_memory, is_allocation
from crucible.targets import build
from crucible.training.device import choose_device, require_compiler
from starting import source_of

Config = dict[str, Any]


def fits(cfg: Config) -> Callable[[Card, Path | None], None]:
    """Return the check of a data card against the rest of the configuration: shapes, classes, batch norm, images.

    It takes the folder of the arrays too, where there is one: dev and test must not be what the weights have seen.
    """

    def accept(card: Card, folder: Path | None = None) -> None:
        _require_declared(cfg["data"], card)
        copies = _require_steps(cfg)
        task = build(cfg["task"], card)
        require_classes(cfg["data"], card)
        model = _outlined(cfg["model"], card.feature_shape, task.num_outputs)
        _require_memory(model, copies if cfg["transfer"].get("freeze") is None else 1, cfg["trainer"]["device"])
        _require_passage(model, card.feature_shape)
        _require_maps(task, model)
        _require_gradients(model)
        source = source_of(cfg)
        build(cfg["transfer"], source, card).check(model, fixed=is_fixed(cfg))
        if folder is not None and source is not None and source.seen is not None:
            sizes = {split: card.size(split) for split in card.splits}
            require_unseen(source.seen.rows(folder, list(sizes)), sizes, cfg["transfer"]["seen"], "the source")
        if cfg["trainer"]["compile"]:
            require_compiler()
        if cfg["trainer"]["batch_size"] == 1 and any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()
        ):
            raise Refusal(
                "trainer.batch_size=1", "batch norm has no deviation over one example", allowed="2 or more, or null",
                example="trainer.batch_size=64",
            )  # fmt: skip
        augment = build(cfg["augment"], cfg["data"]["flip_keeps_label"])
        if task.targets == "points" and (getattr(augment, "flip", False) or getattr(augment, "upside_down", False)):
            raise Refusal("augment", "a mirrored left eye is a right one: points cannot be mirrored",
                          example="data.flip_keeps_label=false augment.upside_down=false")  # fmt: skip
        if augment.needs_images and not card.is_images:
            raise Refusal(
                "augment", f"it moves images, an example has shape {card.feature_shape}", example="augment=none"
            )

    return accept


def require_classes(data: Config, card: Card) -> None:
    """Refuse what only classes can have where there are none, or an error that is no rate."""
    if card.classes and (data["human_error"] or 0) > 1:
        raise Refusal("data.human_error", f"{data['human_error']} is no error rate", allowed="a share from 0 to 1")
    if card.recipe.get("targets", "classes") != "classes" and data["sampling"] == "balanced":
        raise Refusal("data.sampling=balanced", "these data have no classes", example="data.sampling=shuffle")


def _require_passage(model: nn.Module, feature_shape: list[int]) -> None:
    """Let an example pass; on the device that computes nothing torch would first import its compiler, for a second."""
    with torch.no_grad():
        for buffer in model.to_empty(device="cpu").buffers():
            buffer.zero_()  # there are places among them, which what lay in memory need not be
    try:
        measure(model, feature_shape)
    except (RuntimeError, ValueError) as error:
        raise Refusal(
            "model", f"an example of shape {feature_shape} does not pass: {str(error).splitlines()[0]}"
        ) from None


def _require_maps(task: Any, model: nn.Module) -> None:
    if getattr(task, "wants_maps", False) is not hasattr(model, "backbone"):
        wanted = "model=yolo" if hasattr(task, "wants_maps") else "task=detection"
        raise Refusal("task, model", "only model=yolo says something of every cell, and only task=detection takes that",
                      allowed="model=yolo task=detection, or neither", example=wanted)  # fmt: skip


def _require_gradients(model: nn.Module) -> None:
    if any(isinstance(m, Step) for m in model.modules()):
        raise Refusal(
            "model.activation=step", "a step has no gradient: layers before it cannot learn",
            allowed="sigmoid, tanh, relu, leaky_relu, identity", example="model.activation=sigmoid",
        )  # fmt: skip


def _outlined(settings: Config, feature_shape: list[int], num_outputs: int) -> nn.Module:
    """Return the model without memory for its numbers."""
    try:
        with torch.device("meta"):
            return build(settings, feature_shape, num_outputs)
    except RuntimeError as error:
        if not is_allocation(error):
            raise
        raise Refusal("model", f"no memory holds it: {str(error).splitlines()[0]}", allowed="a smaller one") from None


def _require_memory(model: nn.Module, copies: int, device: str) -> None:
    """Refuse a model whose numbers cannot be held; what examples and layers take comes on top, and is not counted."""
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    needed, there = size * copies, available_memory(choose_device(device))
    if needed > there:
        raise Refusal(
            "model", f"{sum(p.numel() for p in model.parameters()):,} parameters take {needed / 2**30:,.1f} GiB in training: "
            f"weights, gradient and what the optimizer remembers; {there / 2**30:,.1f} GiB are available",
            allowed="a smaller model, or a larger machine",
        )  # fmt: skip


def _require_steps(cfg: Config) -> int:
    """Take one step on a parameter that nobody needs: optimizers that want a closure are not for this loop.

    Return how many numbers a parameter takes: itself, its gradient, and what the optimizer remembers of it.
    """
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = build(cfg["optimizer"], [parameter])
    schedule = build(cfg["schedule"], optimizer)
    parameter.grad = torch.zeros(2, 2)
    try:
        optimizer.step()
        schedule.step()
    except TypeError as error:
        raise Refusal("optimizer, schedule", f"they cannot step by themselves: {error}") from None
    kept = [each for each in optimizer.state[parameter].values() if getattr(each, "shape", None) == parameter.shape]
    return 2 + len(kept)


def _require_declared(data: Config, card: Card) -> None:
    for key, found in (("feature_shape", card.feature_shape), ("num_classes", len(card.classes))):
        if data[key] is not None and data[key] != found:
            raise Refusal(f"data.{key}", f"{data[key]} is declared, the data have {found}", example=f"data.{key}=null")


def is_fixed(cfg: Config) -> bool:
    """Whether the features of frozen layers are the same in every epoch, and the head takes them as they are."""
    return not build(cfg["augment"], False).needs_images and cfg["trainer"]["precision"] == "float32"
