"""Where to compute, with how many threads, and how exactly."""

import os
import shutil
from typing import Literal

import torch
from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.profile import measure

SMALL_STEP = (
    1e9  # floating-point operations, about 15 ms on a core: below, a second thread gains little and, on a busy machine,
)
# loses much: where another process held a core, steps of 3 ms were seen to take 20, and of 25 ms 146

NONDETERMINISTIC = {  # steps of the way back
    "UpsampleLinear1DBackward": "linear interpolation of sequences",
    "UpsampleBicubic2DBackward": "bicubic interpolation",
    "UpsampleTrilinear3DBackward": "linear interpolation of volumes",
    "AvgPool3DBackward": "average pooling of volumes",
    "AdaptiveAvgPool2DBackward": "adaptive average pooling",
    "AdaptiveAvgPool3DBackward": "adaptive average pooling of volumes",
    "AdaptiveMaxPool2DBackward": "adaptive max pooling",
    "FractionalMaxPool2DBackward": "fractional max pooling",
    "FractionalMaxPool3DBackward": "fractional max pooling of volumes",
    "ReflectionPad1DBackward": "reflection at the edges",
    "ReflectionPad2DBackward": "reflection at the edges",
    "ReflectionPad3DBackward": "reflection at the edges",
    "NllLoss2DBackward": "the loss of a map of classes",
    "CtcLossBackward": "the CTC loss",
    "GridSampler2DBackward": "sampling between the pixels",
    "GridSampler3DBackward": "sampling between the voxels",
}


def choose_device(name: str) -> torch.device:
    """Return the device: `auto` takes CUDA when there is one.

    Raises:
        Refusal: CUDA is asked for and there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Refusal("trainer.device", f"{name}: torch {torch.__version__} sees no CUDA device", allowed="auto, cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def choose_threads(
    threads: int | Literal["auto"], model: nn.Module, feature_shape: list[int], batch_size: int, *, further: int = 0
) -> int:
    """Return the number of CPU threads: `auto` takes one where a step is small or the machine busy, else one a core.

    Args:
        further: multiplications an example of what the loss itself computes.
    """
    if threads != "auto":
        return threads
    multiplications = further + sum(row.multiplications for row in measure(model, feature_shape))
    operations = 6 * multiplications * batch_size  # 2 a multiply-add; backward is twice forward
    return 1 if operations < SMALL_STEP or is_busy() else len(os.sched_getaffinity(0))


def is_busy() -> bool:
    """Whether others want more than half of the cores: a thread that waits for a core holds up all the others."""
    return os.getloadavg()[0] > len(os.sched_getaffinity(0)) / 2


def require_precision(device: torch.device, precision: str) -> None:
    """Refuse to train in a precision that the device does not have."""
    if precision == "tf32" and device.type != "cuda":
        raise Refusal("trainer.precision=tf32", f"the device is {device.type}: TF32 is CUDA's (Ampere and later)",
                      allowed="float32, bfloat16", example="trainer.precision=float32")  # fmt: skip


def be_deterministic(deterministic: bool) -> None:
    """Ask torch for deterministic kernels; on the CPU ours are so already.

    Before the first product on the device: cuBLAS reads its part of the environment once.
    """
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call itself imports a compiler
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic)


def require_deterministic(loss: Tensor) -> None:
    """Refuse a loss (), computed with gradients, whose way back has a step that torch has no deterministic CUDA kernel for.

    Source: torch.use_deterministic_algorithms, the operations that throw.
    """
    seen, left = set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [each for each, _ in node.next_functions]
        if (kind := node.name().rstrip("0123456789")) in NONDETERMINISTIC:
            what = f"torch has no deterministic backward on CUDA for {NONDETERMINISTIC[kind]}"
            raise Refusal("trainer.deterministic=true", what, allowed="another layer; trainer.device=cpu; or bits that may differ",
                          example="trainer.deterministic=false")  # fmt: skip


def require_compiler() -> None:
    """Refuse to compile where there is no C++ compiler, which torch needs for it."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise Refusal(
            "trainer.compile=true", "there is no C++ compiler", allowed="install g++", example="trainer.compile=false"
        )


def compiled(model: nn.Module, *, wanted: bool) -> nn.Module:
    """Return the model, compiled in place where that is wanted."""
    if wanted:
        model.compile()
    return model


def with_precision(model: nn.Module, device: torch.device, precision: str) -> nn.Module:
    """Return the model with its forward pass as declared; weights and losses stay float32.

    tf32: on CUDA, convolutions, linear and recurrent layers multiply with 10 bits of the fraction and add in float32. float32: none
    of them does; torch by itself would let convolutions, and them alone. Where there is no CUDA both are the same.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if precision == "bfloat16":
        model.forward = torch.autocast(device.type, dtype=torch.bfloat16)(model.forward)
    return model
