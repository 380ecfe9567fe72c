"""What a machine's bits depend on: the same numbers come out where all of this is the same, and may differ where it is not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256

import torch
from torch import nn
from torch.nn import functional as F


@lru_cache
def fingerprint(device: torch.device, threads: int) -> dict[str, str]:
    """Return torch's version, the device, what its processor can do, and a digest of the gradients of a small network on it.

    Kernels for AVX2 and for AVX-512 add in another order, and so do several threads: the same program then gives other last bits.
    """
    with _undeclared(threads):
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "gradients": _probe(device),
        }


@contextmanager
def _undeclared(threads: int) -> Iterator[None]:
    """Compute with so many threads, and as torch does where nothing is declared: what a training declares is no part of its machine."""
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before, tf32, exact = (
        torch.get_num_threads(),
        [each.allow_tf32 for each in kinds],
        torch.are_deterministic_algorithms_enabled(),
    )
    _declare(threads, [False, False], exact=False)
    try:
        yield
    finally:
        _declare(before, tf32, exact=exact)


def _declare(threads: int, tf32: Sequence[bool], *, exact: bool) -> None:
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    if exact != torch.are_deterministic_algorithms_enabled():  # the call itself imports a compiler
        torch.use_deterministic_algorithms(exact)


def _probe(device: torch.device) -> str:
    """Return the first letters of the sha256 of what a convolution and two layers learn from made numbers."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 64), nn.Tanh(), nn.Linear(64, 10)]
        model, x = nn.Sequential(*layers).to(device), torch.randn(16, 3, 16, 16)
        label = torch.arange(16) % 10
    F.cross_entropy(model(x.to(device)), label.to(device)).backward()
    found = sha256()
    for parameter in model.parameters():
        assert parameter.grad is not None
        found.update(parameter.grad.cpu().numpy().tobytes())
    return found.hexdigest()[:16]
