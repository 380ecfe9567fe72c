"""How weights and activations are spread, at the start and at the end (notes 002, 6.3: what the start does to the activations)."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.models.activations import ACTIVE
from crucible.models.profile import uncompiled
from crucible.models.sequence import SequenceNetwork, in_steps
from crucible.training.probe import LONGEST, MOST, WEIGHTED, hooked

BINS = 41  # an odd number: 0 stands in the middle of one
NEAR_ZERO = 1e-3  # a weight below has next to no effect
LARGEST = 1 << 18  # values of a layer that are counted; of more every k-th
Facts = dict[str, Any]


def spread(model: nn.Module, batch: Batch) -> dict[str, Facts]:
    """Return for each layer its weights, and for each activation function what it gives for some examples.

    Returns:
        {"weights": {LAYER: facts}, "activations": {NAME: facts}}, each facts: `norm` (of weights: the root of the sum of squares),
        `mean`, `deviation`, `near_zero` (the share below 0.001), and the histogram: `low`, `high`, `shares` (41) of the values in
        equal bins between them.

    Args:
        batch: the examples to look with, normalised; at most 64 of them are used.
    """
    weights = {
        name or "model": module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, WEIGHTED)
    }
    found: dict[str, Tensor] = {}
    was_training = model.training
    with ExitStack() as hooks, torch.inference_mode():
        for name, layer in model.named_modules():
            if isinstance(layer, ACTIVE):
                hooks.enter_context(hooked(layer, _keep(found, name or "model")))
        if any(isinstance(each, ACTIVE) for each in model.modules()):
            model.eval()
            x = batch["x"][:MOST]
            uncompiled(model)(in_steps(x)[:, :LONGEST] if isinstance(model, SequenceNetwork) else x)
    model.train(was_training)
    return {
        "weights": {name: {"norm": float(w.double().norm()), **_facts(w)} for name, w in weights.items()},
        "activations": {name: _facts(values) for name, values in found.items()},
    }


def _keep(found: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    def keep(outputs: Tensor) -> None:
        found.setdefault(name, outputs)  # a function that is used twice tells of its first time

    return keep


def _facts(values: Tensor) -> Facts:
    """Return the facts about what is finite: of a layer that overflowed that may be nothing."""
    flat = values.flatten()
    flat = flat[:: max(1, flat.numel() // LARGEST)].cpu().double()
    flat = flat[flat.isfinite()]
    if not len(flat):
        flat = flat.new_zeros(1)
    low, high = float(flat.min()), float(flat.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    shares = torch.histc(flat, BINS, low, high) / flat.numel()
    return {
        "mean": float(flat.mean()),
        "deviation": float(flat.std(correction=0)),
        "near_zero": float((flat.abs() < NEAR_ZERO).float().mean()),
        "low": low,
        "high": high,
        "shares": [round(share, 6) for share in shares.tolist()],
    }
