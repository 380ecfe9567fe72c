"""What goes on inside the layers: how large activations and gradients are, and which units are dead."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.models.activations import Step
from crucible.models.profile import uncompiled
from crucible.models.sequence import SequenceNetwork, in_steps
from crucible.training.lag import gradient_at_lags

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CAN_DIE = (nn.ReLU, Step)
MOST, LONGEST = 64, 256  # examples, and steps of a sequence


class Probe:
    """Looks at the layers with weights after each epoch.

    Args:
        model: what trains. batch: the examples to look with, normalised; at most 64 of them are used.
    """

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self._model, self._x = model, batch["x"][:MOST].clone()
        if isinstance(model, SequenceNetwork):
            self._x = in_steps(self._x)[:, :LONGEST].clone()
        self._layers = {name or "model": m for name, m in model.named_modules() if isinstance(m, WEIGHTED)}

    def __call__(self) -> dict[str, float]:
        """Return `activation/LAYER`, the deviation of its outputs over examples and units, and `gradient/LAYER`, the root
        mean square of its weights' gradient in the last step taken; of a network of sequences, how far back its gradient goes."""
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name, layer in self._layers.items():
                hooks.enter_context(hooked(layer, lambda outputs, name=name: found.update({name: outputs})))
            self._model.eval()
            with torch.inference_mode():
                uncompiled(self._model)(self._x)
        activations = {f"activation/{name}": outputs.float().std(correction=0) for name, outputs in found.items()}
        gradients = {
            f"gradient/{name}": layer.weight.grad.float().pow(2).mean().sqrt()
            for name, layer in self._layers.items()
            if layer.weight.grad is not None
        }
        names = [*activations, *gradients]
        if not names:
            return {}
        values = torch.stack([*activations.values(), *gradients.values()]).tolist()  # one read from the device
        back = gradient_at_lags(self._model, self._x) if isinstance(self._model, SequenceNetwork) else {}
        return dict(zip(names, values, strict=True)) | back


def dead_units(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Return for each layer of units that can die the share of them that fire for no example (notes 000, part 2, 3).

    A unit is an output of a layer of vectors, or a channel of a layer of maps.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, CAN_DIE)}
    fired: dict[str, Tensor] = {}

    def look(name: str, outputs: Tensor) -> None:
        alive = (outputs > 0).transpose(0, 1).flatten(1).any(dim=1)
        fired[name] = fired[name] | alive if name in fired else alive

    model.eval()
    with ExitStack() as hooks, torch.inference_mode():
        for name, layer in layers.items():
            hooks.enter_context(hooked(layer, lambda outputs, name=name: look(name, outputs)))
        for batch in batches:
            uncompiled(model)(batch["x"])
    return {name: 1 - float(alive.float().mean()) for name, alive in fired.items()}


class hooked:  # noqa: N801  (a context manager, named as it is used)
    """Call `look` with a layer's output while the context lasts."""

    def __init__(self, layer: nn.Module, look: Any) -> None:
        self._handle = layer.register_forward_hook(lambda layer, inputs, output: look(output))

    def __enter__(self) -> None:
        """Hooked already."""

    def __exit__(self, *error: object) -> None:
        self._handle.remove()
