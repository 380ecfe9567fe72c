"""The computation graph of one example: every value on the way forward, every gradient on the way back (notes 004, 1.6; 002, chapter 5)."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.errors import Refusal
from crucible.models.activations import ACTIVATIONS
from crucible.models.profile import layers
from crucible.tasks.task import MonitoredTask

MOST_WEIGHTS, MOST_UNITS = 40, 8  # of all layers, and of a layer: more cannot be followed with a pencil
SHOWN: tuple[type[nn.Module], ...] = (nn.Linear, *ACTIVATIONS.values())
PASSED: tuple[type[nn.Module], ...] = (nn.Flatten, nn.Identity)


@dataclass(frozen=True)
class Value:
    """A number, and how the loss changes with it; None where that is not known one by one."""

    value: float
    gradient: float | None


@dataclass(frozen=True)
class Unit:
    """One unit.

    Attributes:
        name: as z1. weights: one for each unit of the column before. bias: None where there is none. total: the sum z. given: what the
            activation function makes of it; None where it has none.
    """

    name: str
    weights: Sequence[Value]
    bias: Value | None
    total: Value
    given: Value | None

    @property
    def out(self) -> Value:
        """What the next column takes."""
        return self.given or self.total


@dataclass(frozen=True)
class Graph:
    """One example through a small network.

    Attributes:
        inputs: the features. columns: the units of each layer, the output last. function: of each column, its activation function;
            empty where it has none. answer: what the task says, and to what it is compared. loss: its value.
    """

    inputs: Sequence[Value]
    columns: Sequence[Sequence[Unit]]
    functions: Sequence[str]
    answer: Sequence[Value]
    label: str
    loss: float


def trace(model: nn.Module, task: MonitoredTask, batch: Batch) -> Graph:
    """Return the graph of the first example of a batch.

    Raises:
        Refusal: a network with other layers than linear ones and activation functions, or too large for paper.
    """
    _require_small(model)
    one = {name: value[:1] for name, value in batch.items()}
    x = one["x"] = one["x"].flatten(1).clone().requires_grad_()
    seen: list[tuple[nn.Module, Tensor]] = []

    def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append((layer, output))

    model.eval().requires_grad_(True)  # of frozen weights, too, the graph says how the loss changes with them
    with ExitStack() as hooks:
        for _, layer in layers(model):
            if isinstance(layer, SHOWN):
                hooks.callback(layer.register_forward_hook(keep).remove)
        loss = task.losses(model, one)["loss"]
    loss.backward()
    outputs = seen[-1][1]
    columns, functions, width = [], [], x.shape[1]
    for i, (layer, total) in enumerate(seen):
        if isinstance(layer, nn.Linear):
            after = seen[i + 1] if i + 1 < len(seen) and not isinstance(seen[i + 1][0], nn.Linear) else None
            columns.append(_units(layer, width, total, after[1] if after else None))
            functions.append(type(after[0]).__name__.lower() if after else "")
            width = layer.out_features
    label = (
        task.kind.in_words(one["label"][0].item())
        if not task.kind.has_classes
        else task.confusion_labels[int(one["label"][0])]
    )
    return Graph(_values(x[0], x.grad), columns, functions, _answer(task, outputs), str(label), float(loss.detach()))


def _units(layer: nn.Linear, width: int, total: Tensor, given: Tensor | None) -> list[Unit]:
    weights, biases = layer.weight, layer.bias
    assert weights.grad is not None
    return [
        Unit(
            f"{k + 1}",
            _values(weights[k], weights.grad[k]),
            Value(float(biases[k].detach()), float(biases.grad[k]))
            if biases is not None and biases.grad is not None
            else None,
            _values(total[0], total.grad)[k],
            _values(given[0], given.grad)[k] if given is not None else None,
        )
        for k in range(layer.out_features)
    ]


def _values(values: Tensor, gradients: Tensor | None) -> list[Value]:
    assert gradients is not None
    return [Value(*pair) for pair in zip(values.flatten().tolist(), gradients.flatten().tolist(), strict=True)]


def _answer(task: MonitoredTask, outputs: Tensor) -> list[Value]:
    """Return what the task says; of one output with how the loss changes with it, by the chain rule."""
    z = outputs.detach().clone().requires_grad_()
    said = task.postprocess(z)[0]
    if outputs.shape[1] > 1:
        return [Value(each, None) for each in said.tolist()]
    [slope] = torch.autograd.grad(said[-1], z)
    assert outputs.grad is not None
    gradient = float(outputs.grad[0, 0] / slope[0, 0]) if float(slope[0, 0]) else None
    return [Value(float(said[-1].detach()), gradient)]


def _require_small(model: nn.Module) -> None:
    found = list(layers(model))
    other = next((layer for _, layer in found if not isinstance(layer, (*SHOWN, *PASSED))), None)
    if other is not None:
        raise Refusal("graph", f"a graph is drawn of linear layers and activation functions; this network has {type(other).__name__}",
                      allowed="a small mlp, or logistic", example="python src/describe.py experiment=backpropagation graph=true")  # fmt: skip
    linear = [layer for _, layer in found if isinstance(layer, nn.Linear)]
    count, widest = sum(each.weight.numel() for each in linear), max(max(each.weight.shape) for each in linear)
    if count > MOST_WEIGHTS or widest > MOST_UNITS:
        raise Refusal("graph", f"{count:,} weights, up to {widest} units in a column, cannot be followed with a pencil",
                      allowed=f"{MOST_WEIGHTS} weights, {MOST_UNITS} units a column", example="python src/describe.py data=moons task=binary model.layers=[2] graph=true")  # fmt: skip
