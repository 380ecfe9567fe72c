"""A network's layers, measured in one forward pass: shapes, parameters, multiplications, receptive fields.

On torch's meta device nothing is computed and no memory is taken: VGG-16 takes a tenth of a second.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ReceptiveField:
    """What the values of a map see of the input along one side, in pixels.

    Attributes:
        size: of the window that one value sees; infinite: everything. jump: from one value's window to the next one's.
        start: the middle of the first value's window.
    """

    size: float = 1.0
    jump: float = 1.0
    start: float = 0.5


Field = tuple[ReceptiveField, ...]
WHOLE = ReceptiveField(inf)


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name, kind: as in the model. shape: of its output, for one example.
        parameters: its own. multiplications: for one example.
        sight: along each side of the input.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiplications: int
    sight: Field

    @property
    def receptive_field(self) -> tuple[int, ...] | None:
        """Input pixels along each side that one value sees; None: all of them."""
        return None if any(each.size == inf for each in self.sight) else tuple(int(each.size) for each in self.sight)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        names = ("name", "kind", "shape", "size", "parameters", "multiplications", "receptive_field")
        return {name: getattr(self, name) for name in names}

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
    handles = [handle for name, module in layers(model) for handle in _watched(name, module, trace, rows)]
    try:
        with torch.no_grad(), trace:
            uncompiled(model)(trace.started(torch.zeros(1, *feature_shape, device=next(model.parameters()).device)))
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    return rows


def uncompiled(model: nn.Module) -> Callable[..., Any]:
    """Return the model as it is written: in compiled code nobody calls the hooks of its layers."""
    return model._call_impl


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


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give what a row is about: modules without parts, or with parameters of their own, and their names."""
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
        rows.append(
            Row(
                name,
                kind,
                tuple(output.shape[1:]),
                parameters,
                trace.multiplications - before.pop(),
                trace.field(output),
            )
        )

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
        self._keep(x, (ReceptiveField(),) * self._sides)
        return x

    def field(self, output: Tensor) -> Field:
        """Return what a value of `output` sees."""
        return self._fields.get(id(output), (WHOLE,) * self._sides)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(first, Tensor):
            name = func.overloadpacket.__name__
            self.multiplications += _MULTIPLICATIONS.get(name, lambda args, out: 0)(args, first)
            known = [self._fields[id(a)] for a in _tensors(args) if id(a) in self._fields]
            if known:
                widest = tuple(max((f[i] for f in known), key=lambda sight: sight.size) for i in range(self._sides))
                self._keep(first, _seen(name, args, first, widest))
        return out

    def _keep(self, tensor: Tensor, field: Field) -> None:
        self._fields[id(tensor)] = field
        self._alive.append(tensor)


# torch would import its compiler at the first use, only to learn that it must not compile this: declared here, as in crucible.optim
if (_written := getattr(_Trace.__torch_dispatch__, "__wrapped__", None)) is not None:
    vars(_written).setdefault("__dynamo_disable", _written)


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
WHOLE_OF = ("addmm", "mm", "mean", "sum", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")


def _seen(name: str, args: Sequence[Any], out: Tensor, field: Field) -> Field:
    """Return what a value of `out` sees, of inputs whose values see `field` (notes 002, 7.2: receptive field)."""
    if name in WHOLE_OF:
        return (WHOLE,) * len(field)
    if name == "constant_pad_nd":
        before = (args[1][-2::-2] + [0] * len(field))[: len(field)] if len(field) > 1 else args[1][:1]
        return tuple(replace(s, start=s.start - n * s.jump) for s, n in zip(field, before, strict=True))
    if name == "convolution":
        window, stride, padding, grows = list(args[1].shape[2:]), args[3], args[4], args[6]
    elif "pool" in name and "unpool" not in name:
        window, stride, padding, grows = (
            args[1],
            args[2] if len(args) > 2 and args[2] else args[1],
            (*args[3:4], [0])[0],
            False,
        )
    elif name.startswith("upsample"):
        stride = [after // before for after, before in zip(out.shape[2:], args[0].shape[2:], strict=True)]
        window = [2 * s if "linear" in name else s for s in stride]
        padding, grows = [(w - s) / 2 for w, s in zip(window, stride, strict=True)], True
    else:
        return field
    windows, strides, paddings = (_each(part, len(field)) for part in (window, stride, padding))
    found = zip(windows, strides, paddings, field, strict=True)
    return tuple(_one_side(w, s, p, sight, grows) for w, s, p, sight in found)


def _each(values: Sequence[float], count: int) -> list[float]:
    """Return one value for each side: the last ones of many, or one for all."""
    values = list(values)
    return values[-count:] if len(values) >= count else values * count


def _one_side(window: float, stride: float, padding: float, sight: ReceptiveField, grows: bool) -> ReceptiveField:
    if grows:  # each value comes from about window / stride neighbours, and stands closer to the next
        jump = sight.jump / stride
        return ReceptiveField(
            sight.size + (ceil(window / stride) - 1) * sight.jump,
            jump,
            sight.start + (padding - (window - 1) / 2) * jump,
        )
    start = sight.start + ((window - 1) / 2 - padding) * sight.jump
    return ReceptiveField(sight.size + (window - 1) * sight.jump, sight.jump * stride, start)
