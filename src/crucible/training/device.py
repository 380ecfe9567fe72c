"""Where to compute, with how many threads, and how exactly."""

import os
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crucible.errors import Refusal

SMALL_STEP = (
    1e9  # floating-point operations, about 15 ms on a core: below, a second thread gains little and, on a busy machine,
)
# loses much: where another process held a core, steps of 3 ms were seen to take 20, and of 25 ms 146


def choose_device(name: str) -> torch.device:
    """Return the device: `auto` takes CUDA when there is one.

    Raises:
        Refusal: CUDA is asked for and there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Refusal("trainer.device", f"{name}: torch {torch.__version__} sees no CUDA device", allowed="auto, cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def choose_threads(threads: int | Literal["auto"], model: nn.Module, feature_shape: list[int], batch_size: int) -> int:
    """Return the number of CPU threads: `auto` takes one where a step is small, else one a core."""
    if threads != "auto":
        return threads
    operations = 6 * multiplications(model, feature_shape) * batch_size  # 2 a multiply-add; backward is twice forward
    return 1 if operations < SMALL_STEP else len(os.sched_getaffinity(0))


def multiplications(model: nn.Module, feature_shape: list[int]) -> int:
    """Return the multiplications of one example's forward pass through linear and convolutional layers."""
    counts: list[int] = []

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        counts.append(prod(output.shape) * weight[0].numel())

    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *feature_shape, device=next(model.parameters()).device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def be_deterministic(deterministic: bool) -> None:
    """Ask torch for deterministic kernels; on the CPU ours are so already."""
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call itself imports a compiler
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic)


def with_precision(model: nn.Module, device: torch.device, precision: str) -> nn.Module:
    """Return the model, its forward pass in bfloat16 where that is asked for; weights and losses stay float32."""
    if precision == "bfloat16":
        model.forward = torch.autocast(device.type, dtype=torch.bfloat16)(model.forward)
    return model
