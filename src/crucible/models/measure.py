"""A network's layers, measured in one forward pass: shapes, parameters, multiplications, receptive fields.

On torch's meta device nothing is computed and no memory is taken: VGG-16 takes a tenth of a second.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Field = tuple[
    tuple[float, float], ...
]  # of each side: how many input pixels a value sees, and how far its neighbour is


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name, kind: as in the model. shape: of its output, for one example.
        parameters: its own. multiplications: for one example.
        receptive_field: input pixels along each side that one value sees; None: all of them.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiplications: int
    receptive_field: tuple[int, ...] | None

    @property
    def size(self) -> int:
        """Number of values in the output."""
        return prod(self.shape)


@dataclass(frozen=True)
class Saving:
    """What a 1x1 convolution before a larger one saves (notes 000, part 10): each pair is (with it, without it)."""

    name: str
    multiplications: tuple[int, int]
    parameters: tuple[int, int]


def measure(model: nn.Module, feature_shape: Sequence[int]) -> list[Row]:
    """Return a row for each layer in the order in which an example passes them, in evaluation mode.

    A layer is a module without parts, or one with parameters of its own.
    """
    trace, rows, training = _Trace(feature_shape), list[Row](), model.training
    model.eval()
    handles = [handle for name, module in _layers(model) for handle in _watched(name, module, trace, rows)]
    try:
        with torch.no_grad(), trace:
            model(trace.started(torch.zeros(1, *feature_shape, device=next(model.parameters()).device)))
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    return rows


def savings(model: nn.Module, rows: Sequence[Row]) -> list[Saving]:
    """Return the bottlenecks: a 1x1 convolution to fewer channels and a larger one after it in one sequence."""
    shapes, found = {row.name: row.shape for row in rows}, []
    for parent, sequence in model.named_modules():
        convs = [(name, m) for name, m in sequence.named_children() if isinstance(m, CONV)]
        for (first, a), (second, b) in pairwise(convs):
            narrows = (
                isinstance(sequence, nn.Sequential) and prod(a.kernel_size) == 1 and a.out_channels < a.in_channels
            )
            if not narrows or prod(b.kernel_size) == 1:
                continue
            direct = b.out_channels * a.in_channels * prod(b.kernel_size)
            sides = [prod(shapes[f"{parent}.{name}".lstrip(".")][1:]) for name in (first, second)]
            counted = a.weight.numel() * sides[0] + b.weight.numel() * sides[1]
            found.append(Saving(parent, (counted, direct * sides[1]), (a.weight.numel() + b.weight.numel(), direct)))
    return found


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        own = any(True for _ in module.parameters(recurse=False))
        if (own or not any(True for _ in module.children())) and not isinstance(module, nn.Identity):
            yield name or "model", module


def _watched(name: str, module: nn.Module, trace: "_Trace", rows: list[Row]) -> Iterator[Any]:
    before: list[int] = []
    yield module.register_forward_pre_hook(lambda module, inputs: before.append(trace.multiplications))

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output  # a max pool may give its places, too
        kind, parameters = type(module).__name__, sum(p.numel() for p in module.parameters(recurse=False))
        field = trace.field(output)
        sees = None if any(size == inf for size, _ in field) else tuple(int(size) for size, _ in field)
        rows.append(Row(name, kind, tuple(output.shape[1:]), parameters, trace.multiplications - before.pop(), sees))

    yield module.register_forward_hook(after)


class _Trace(TorchDispatchMode):
    """Count multiplications, and follow what each value sees through every operation."""

    def __init__(self, feature_shape: Sequence[int]) -> None:
        super().__init__()
        self.multiplications = 0
        self._sides = max(1, len(feature_shape) - 1)
        self._fields: dict[int, Field] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice

    def started(self, x: Tensor) -> Tensor:
        """Take in the input: each of its values sees itself."""
        self._keep(x, ((1.0, 1.0),) * self._sides)
        return x

    def field(self, output: Tensor) -> Field:
        """Return what a value of `output` sees."""
        return self._fields.get(id(output), ((inf, 1.0),) * self._sides)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(first, Tensor):
            name = func.overloadpacket.__name__
            self.multiplications += _MULTIPLICATIONS.get(name, lambda args, out: 0)(args, first)
            known = [self._fields[id(a)] for a in _tensors(args) if id(a) in self._fields]
            if known:
                widest = tuple((max(f[i][0] for f in known), max(f[i][1] for f in known)) for i in range(self._sides))
                self._keep(first, _seen(name, args, first, widest))
        return out

    def _keep(self, tensor: Tensor, field: Field) -> None:
        self._fields[id(tensor)] = field
        self._alive.append(tensor)


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from (each for each in arg if isinstance(each, Tensor))


def _convolved(args: Sequence[Any], out: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return (x.numel() if transposed else out.numel()) * weight[0].numel()


_MULTIPLICATIONS: dict[str, Callable[[Sequence[Any], Tensor], int]] = {
    "convolution": _convolved,
    "addmm": lambda args, out: out.numel() * args[1].shape[1],
    "mm": lambda args, out: out.numel() * args[0].shape[1],
}
WHOLE = ("addmm", "mm", "mean", "sum", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")


def _seen(name: str, args: Sequence[Any], out: Tensor, field: Field) -> Field:
    """Return what a value of `out` sees, of inputs whose values see `field` (notes 002, 7.2: receptive field)."""
    if name in WHOLE:
        return tuple((inf, 1.0) for _ in field)
    if name == "convolution":
        window, stride, grows = list(args[1].shape[2:]), list(args[3]), args[6]
    elif "pool" in name and "unpool" not in name:
        window, stride, grows = list(args[1]), list(args[2] if len(args) > 2 and args[2] else args[1]), False
    elif name.startswith("upsample"):
        factors = [after // before for after, before in zip(out.shape[2:], args[0].shape[2:], strict=True)]
        window, stride, grows = [2 if "linear" in name else 1] * len(factors), factors, True
        window = [w * s if "linear" in name else s for w, s in zip(window, stride, strict=True)]
    else:
        return field
    sides = list(zip(window, stride, strict=True))[-len(field) :]
    return tuple(_one_side(*side, *each, grows) for side, each in zip(sides, field, strict=True))


def _one_side(window: int, stride: int, size: float, jump: float, grows: bool) -> tuple[float, float]:
    if grows:  # each value comes from about window / stride neighbours, and stands closer to the next
        return size + (ceil(window / stride) - 1) * jump, jump / stride
    return size + (window - 1) * jump, jump * stride
