"""Does the configuration fit the data: what only the data card can tell, refused before any work."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crucible.app.pretrained import source_of
from crucible.app.project import Config
from crucible.data.augment import Strong
from crucible.data.card import Card
from crucible.data.ragged import Padded
from crucible.data.seen import require_unseen
from crucible.errors import Refusal
from crucible.instantiate import build, refusing
from crucible.models.activations import Step
from crucible.models.contracts import Detector, Placed
from crucible.models.profile import measure
from crucible.resources import available_memory
from crucible.tasks.task import MonitoredTask, build_network
from crucible.training.device import choose_device, require_compiler


def fits(cfg: Config) -> Callable[[Card], None]:
    """Return the check of a data card against the rest of the configuration: shapes, classes, batch norm, images, leaks."""

    def accept(card: Card) -> None:
        _require_declared(cfg["data"], card)
        _require_whole_groups(cfg)
        copies = _require_steps(cfg)
        task = build("task", cfg["task"], card)
        require_classes(cfg["data"], card, task)
        model = _checked_model(cfg, card, task, copies)
        _check_transfer(cfg, card, model)
        if cfg["trainer"]["compile"]:
            require_compiler()
        if cfg["trainer"]["batch_size"] == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
            raise Refusal("trainer.batch_size=1", "batch norm has no deviation over one example", allowed="2 or more, or null",
                          example="trainer.batch_size=64")  # fmt: skip
        _check_augment(cfg, card, task)
        _require_shards(cfg)
        if isinstance(cfg["trainer"]["checkpoint_every"], dict) and not can_stop_within(cfg):
            raise Refusal("trainer.checkpoint_every", "with data.sampling=streams a checkpoint within an epoch would lose what came before",
                          allowed="epochs, or null", example="trainer.checkpoint_every=1")  # fmt: skip

    return accept


def can_stop_within(cfg: Config) -> bool:
    """Whether a training can go on within an epoch: where a batch goes on from the one before, the model holds what came before."""
    return bool(cfg["data"]["sampling"] != "streams")


def _require_shards(cfg: Config) -> None:
    """Refuse shards of batches that go on from each other, or of fewer than two examples."""
    shards, size = cfg["trainer"].get("shards", 1), cfg["trainer"]["batch_size"]
    if shards == "auto":
        return
    if shards > 1 and cfg["data"]["sampling"] == "streams":
        raise Refusal("trainer.shards", "with data.sampling=streams a batch goes on where the one before ended, and is not cut",
                      allowed="1; or data.sampling=shuffle", example="trainer.shards=1")  # fmt: skip
    sampling = cfg["data"]["sampling"]
    if shards > 1 and isinstance(sampling, dict) and size is not None:
        together = 2 * sampling["per_class"]
        if size % shards or size // shards < together or (size // shards) % sampling["per_class"]:
            raise Refusal("trainer.shards", f"a shard of a batch of {size} must hold two classes or more with {sampling['per_class']} examples each (data.sampling)",
                          allowed=f"a shard of {together}, {together + sampling['per_class']}, ... examples: fewer shards, or a larger batch",
                          example=f"trainer.shards={shards} trainer.batch_size={shards * together}")  # fmt: skip
    if size is not None and 1 < shards > size // 2:
        raise Refusal("trainer.shards", f"a batch of {size} has no two examples for each of {shards}", allowed=f"1 to {max(1, size // 2)}",
                      example=f"trainer.shards={max(1, size // 2)}")  # fmt: skip


def _checked_model(cfg: Config, card: Card, task: MonitoredTask, copies: int) -> nn.Module:
    """Return the model, nothing in its weights, after an example has passed it."""
    with torch.device("meta"):  # no memory for its numbers yet
        model = build_network(cfg["model"], card, task)
    with refusing("model", model, "its size is not known"):
        _require_memory(model, copies if cfg["transfer"].get("freeze") is None else 1, cfg["trainer"]["device"])
    _require_passage(model, card.feature_shape, task.num_outputs)
    if card.is_ragged:
        _require_mask(model, card)
    _require_maps(task, model)
    _require_gradients(model)
    return model


def _check_transfer(cfg: Config, card: Card, model: nn.Module) -> None:
    """Refuse a source whose layers are others, or that has seen what is judged here."""
    source = source_of(cfg)
    transfer = build("transfer", cfg["transfer"], source, card)
    with refusing("transfer", model, "it does not know this model's layers"):
        transfer.check(model, fixed=is_fixed(cfg))
    if source is not None:
        require_unseen(source.seen, card, cfg["transfer"].get("seen", "keep"), "the source")
    build("optimizer", cfg["optimizer"], transfer.groups(model))


def _check_augment(cfg: Config, card: Card, task: MonitoredTask) -> None:
    augment = build("augment", cfg["augment"], cfg["data"]["flip_keeps_label"])
    if task.kind.no_mirror and augment.mirrors:
        raise Refusal("augment", task.kind.no_mirror, example="data.flip_keeps_label=false augment.upside_down=false")
    if isinstance(augment, Strong) and augment.elastic and task.kind.where:
        raise Refusal(
            "augment.elastic",
            "a box or a point does not bend with its picture",
            allowed="0",
            example="augment.elastic=0",
        )
    if augment.needs_images and not card.is_images:
        raise Refusal("augment", f"it moves images, an example has shape {card.feature_shape}", example="augment=none")
    if augment.needs_images and task.kind.no_gap:
        raise Refusal("augment", "one picture is painted after two that must stay as they are", example="augment=none")


def require_classes(data: Config, card: Card, task: MonitoredTask) -> None:
    """Refuse what only classes can have where there are none, or an error that is no rate."""
    for key in ("human_error", "bayes_error"):
        if card.classes and (data.get(key) or 0) > 1:
            raise Refusal(f"data.{key}", f"{data[key]} is no error rate", allowed="a share from 0 to 1")
    human, bayes = data["human_error"], data.get("bayes_error")
    least = least_error(bayes, card, task)
    if human is not None and least is not None and human < least:
        raise Refusal("data.human_error", f"{human} is below the Bayes error {least:.4g}: nobody is better than what is possible",
                      allowed=f"{least:.4g} or more", example="data.human_error=null")  # fmt: skip
    if not task.kind.drawable and data["sampling"] not in ("shuffle", "streams"):
        raise Refusal(
            f"data.sampling={data['sampling']}", "these data have no classes", example="data.sampling=shuffle"
        )
    lengths, dropped = card.lengths or {}, card.duplicates.get("policy") == "drop" and card.duplicates["found"]
    if data["sampling"] == "streams" and (not lengths.get("of_one_text") or data["split"].get("train_dev") or dropped):
        raise Refusal("data.sampling=streams", "only windows of one long text, none taken out, go on from each other", allowed="shuffle; or data.reader.item=file, data.split.train_dev=0",
                      example="data.sampling=shuffle")  # fmt: skip


def least_error(declared: float | None, card: Card, task: MonitoredTask) -> float | None:
    """Return the least error that is possible: declared, or computed by who made the data; None: unknown.

    What is computed is a share of mistakes: it says nothing of a weighted error, or of one that is no share of mistakes.
    """
    counts_mistakes = task.kind.one_class and task.error == MonitoredTask.error
    return card.bayes_error if declared is None and counts_mistakes else declared


def _require_whole_groups(cfg: Config) -> None:
    """Refuse an order for what has its own, and batches that cannot hold so many examples of each of two classes or more."""
    sampling, size = cfg["data"]["sampling"], cfg["trainer"]["batch_size"]
    if sampling != "shuffle" and (order := cfg["data"].get("order", "shuffled")) != "shuffled":
        raise Refusal(f"data.order={order}", f"data.sampling={sampling} has an order of its own", allowed="shuffled; or data.sampling=shuffle",
                      example="data.order=shuffled")  # fmt: skip
    if isinstance(sampling, dict) and size is not None and (size % (each := sampling["per_class"]) or size < 2 * each):
        raise Refusal("trainer.batch_size", f"{size} examples are not several classes of {each} examples each (data.sampling)",
                      allowed=f"{2 * each}, {3 * each}, ...", example=f"trainer.batch_size={8 * each}")  # fmt: skip


def _require_passage(model: nn.Module, feature_shape: list[int], num_outputs: int) -> None:
    """Let an example pass; on the device that computes nothing torch would first import its compiler, for a second."""
    if next(model.parameters(), None) is None:
        raise Refusal("model", "it has no parameters: there is nothing to learn", example="model=mlp")
    with refusing("model", model, f"an example of shape {feature_shape} does not pass"):
        with torch.no_grad():
            model._apply(_room)
            for buffer in model.buffers():
                buffer.zero_()  # there are places among them, which what lay in memory need not be
        measure(model, feature_shape)
        if not type(model).__module__.startswith("crucible."):
            _require_outputs(model, feature_shape, num_outputs)


def _room(value: Tensor) -> Tensor:
    """Return memory for a tensor; Module.to_empty asks for some like that one, for which torch imports its compiler, for half a second."""
    return torch.empty(value.shape, dtype=value.dtype)


@torch.no_grad()
def _require_mask(model: nn.Module, card: Card) -> None:
    """Refuse a network that takes the padding of a shorter example for numbers: NaN times 0 is NaN."""
    for parameter in model.parameters():
        parameter.zero_()
    lengths = torch.tensor([0, card.feature_shape[0], card.feature_shape[0] + 1])
    shape, dtype = ([], torch.int64) if card.holds_symbols else (card.example_shape, None)
    values = torch.zeros(int(lengths[-1]), *shape, dtype=dtype)
    with refusing("model", model, "it takes no examples of different lengths"):
        outputs = model(Padded(values, lengths)[:])
    if not outputs.isfinite().all():
        raise Refusal("model", "it takes examples of one length; these have different ones, and it would learn from their padding",
                      allowed="a model that begins with mask_of (crucible.data.ragged)")  # fmt: skip


@torch.no_grad()
def _require_outputs(model: nn.Module, feature_shape: list[int], num_outputs: int) -> None:
    """Refuse a network of elsewhere that does not give what the task reads."""
    outputs = model(torch.zeros(2, *feature_shape))
    shape = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != [2, num_outputs]:
        raise Refusal("model", f"of 2 examples it gives {shape}", allowed=f"a tensor of shape [2, {num_outputs}]")


def _require_maps(task: MonitoredTask, model: nn.Module) -> None:
    if isinstance(model, Placed) and task.kind.name != "unlabelled":
        raise Refusal("model=point", "a point says nothing of an example: there is nothing to learn from labels",
                      allowed="data=surface task=surface", example="python src/train.py experiment=surface")  # fmt: skip
    if task.wants_maps is not isinstance(model, Detector):
        wanted = "model=yolo" if task.wants_maps else "task=detection"
        raise Refusal("task, model", "only model=yolo predicts for every cell of a grid, and only task=detection learns that",
                      allowed="model=yolo task=detection, or neither", example=wanted)  # fmt: skip


def _require_gradients(model: nn.Module) -> None:
    if any(isinstance(m, Step) for m in model.modules()):
        raise Refusal(
            "model.activation=step", "a step has no gradient: layers before it cannot learn",
            allowed="sigmoid, tanh, relu, leaky_relu, identity", example="model.activation=sigmoid",
        )  # fmt: skip


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
    optimizer = build("optimizer", cfg["optimizer"], [parameter])
    schedule = build("schedule", cfg["schedule"], optimizer)
    parameter.grad = torch.zeros(2, 2)
    with refusing("optimizer", optimizer, "it cannot step by itself"):
        optimizer.step()
    with refusing("schedule", schedule, "it cannot step by itself"):
        schedule.step()
    kept = [each for each in optimizer.state[parameter].values() if getattr(each, "shape", None) == parameter.shape]
    return 2 + len(kept)


def _require_declared(data: Config, card: Card) -> None:
    for key, found in (("feature_shape", card.feature_shape), ("num_classes", len(card.classes))):
        if data[key] is not None and data[key] != found:
            raise Refusal(f"data.{key}", f"{data[key]} is declared, the data have {found}", example=f"data.{key}=null")


def is_fixed(cfg: Config) -> bool:
    """Whether the features of frozen layers are the same in every epoch, and the head takes them as they are."""
    return not build("augment", cfg["augment"], False).needs_images and cfg["trainer"]["precision"] != "bfloat16"
