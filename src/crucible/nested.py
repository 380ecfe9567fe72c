"""Tensors in dictionaries, lists and tuples, as they are or on another device."""

import copy
from typing import Any

import torch
from torch import Tensor


def moved(value: Any, device: torch.device, *, copied: bool = False) -> Any:
    """Return a value of the same kinds whose tensors are on a device; what is no tensor and holds none is the same object.

    Args:
        copied: whether tensors that are there already are copied: what is done to them later does not show.
    """
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=copied)
    if isinstance(value, dict):
        twin = copy.copy(value)  # of any kind: torch's schedules keep a Counter
        for key, each in value.items():
            twin[key] = moved(each, device, copied=copied)
        return twin
    if isinstance(value, (list, tuple)):
        parts = [moved(each, device, copied=copied) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
