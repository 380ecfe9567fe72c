"""Numbers of the program on a device, copied there once: each copy from the host would be waited for."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


class Constant:
    """A tensor of the host that others ask for in their own type and on their own device; not to be changed."""

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def tolist(self) -> list[float]:
        """Return the values."""
        return list(self._values.tolist())

    def like(self, other: Tensor) -> Tensor:
        """Return the values in the type and on the device of another tensor."""
        key = other.device, other.dtype
        if key not in self._made:
            with torch.inference_mode(mode=False):  # else autograd could not take it
                self._made[key] = self._values.to(other)
        return self._made[key]


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return values (n,) in the type and on the device of another tensor; not to be changed."""
    return _constant(tuple(values)).like(like)


@lru_cache(maxsize=1024)
def _constant(values: tuple[float, ...]) -> Constant:
    return Constant(torch.tensor(values, dtype=torch.float64))
