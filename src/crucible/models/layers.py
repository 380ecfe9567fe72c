"""Layers as data: one line each, the size each leaves, and the modules it becomes (notes 000, part 8; 002, chapter 7).

A layer is a word, or a mapping whose first key names it and holds its main number:

    {conv: 16, f: 5, s: 1, p: same}     16 filters of 5x5; p: a number, valid (0) or same ((f - 1) / 2)
    {max_pool: 2}  {average_pool: 3, s: 2, p: 1}  global_average
    {upsample: 2, mode: linear}  {transposed: 8, f: 2, s: 2}  {unpool: 2}     (002, 7.2: three ways to grow)
    {local_response_norm: 5}  {dropout: 0.5}  flatten  {fc: 120}

They serve one, two or three spatial dimensions alike: signals (C, L), images (C, H, W), volumes (C, D, H, W).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi, prod, radians, sin
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.models.activations import ACTIVATIONS, Activation
from crucible.models.contracts import leave_as_given
from crucible.schema import Count, Probability, Section, Whole, check, nearest

Shape = tuple[int, ...]  # of one example: (C, ...) or (F,)
Padding = Whole | Literal["same", "valid"]
Declared = str | Mapping[str, Any]
CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOL = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
LINEAR = ("linear", "bilinear", "trilinear")
LARGEST = 1024  # the largest image that is tried when the smallest possible one is looked for

VERTICAL = ((1.0, 0.0, -1.0),) * 3
FILTERS: dict[str, tuple[tuple[float, ...], ...]] = {  # bright on the left: notes 000, part 8, section 1
    "vertical": VERTICAL,
    "sobel": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "scharr": ((3.0, 0.0, -3.0), (10.0, 0.0, -10.0), (3.0, 0.0, -3.0)),
    "red": VERTICAL,  # of the first channel only (section 4)
}
FILTER = re.compile(r"vertical|horizontal|red|(sobel|scharr)(_\d{1,3})?")  # the name of one; turned by so many degrees


class TooSmall(ValueError):
    """Nothing is left of an example at this layer."""


def output_size(n: int, f: int, s: int = 1, p: int = 0) -> int:
    """Return floor((n + 2 p - f) / s) + 1: what a filter or a pool of size f leaves of n (notes 000, part 8, section 3).

    Raises:
        TooSmall: the filter does not fit.
    """
    if n + 2 * p < f:
        raise TooSmall(f"a window of {f} does not fit into {n + 2 * p}")
    return (n + 2 * p - f) // s + 1


@dataclass(frozen=True)
class Style:
    """What holds for every layer that does not say otherwise."""

    activation: Activation = "relu"
    batch_norm: bool = False
    keep_prob: float = 1.0


class Layer(Section, ABC):
    """One layer; its first field bears its name."""

    def out(self, shape: Shape) -> Shape:
        """Return the shape that is left of `shape`."""
        return shape

    @abstractmethod
    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        """Return its modules by name, for examples of `shape`."""


class Conv(Layer):
    """`conv` filters of size f. filters: hand-set ones, each over all channels alike, fixed unless `learn`.

    vertical, horizontal, red; sobel, scharr, and turned by degrees: sobel_45, scharr_70; sobel_90 is the horizontal one.
    """

    conv: Count
    f: Count
    s: Count = 1
    p: Padding = "valid"
    activation: Activation | None = None
    batch_norm: bool | None = None
    bias: bool | None = None  # None: unless batch norm follows, which has its own
    filters: list[str] | None = None
    learn: bool = False

    @property
    def padding(self) -> int:
        """The zeros on each side."""
        if self.p == "same" and self.f % 2 == 0:
            raise Refusal("model.layers", f"same padding of f={self.f} is no whole number", allowed="an odd f")
        return {"same": (self.f - 1) // 2, "valid": 0}.get(self.p, 0) if isinstance(self.p, str) else self.p

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "conv")
        return (self.conv, *(output_size(n, self.f, self.s, self.padding) for n in shape[1:]))

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        norm = style.batch_norm if self.batch_norm is None else self.batch_norm
        bias = (not norm and self.filters is None) if self.bias is None else self.bias
        dims = len(shape) - 1
        conv = CONV[dims - 1](shape[0], self.conv, self.f, stride=self.s, padding=self.padding, bias=bias)
        if self.filters is not None:
            _set_by_hand(conv, self.filters, learn=self.learn)
        parts: dict[str, nn.Module] = {"conv": conv}
        if norm:
            parts["norm"] = NORM[dims - 1](self.conv)
        return parts | _activated(self.activation or style.activation)


class Pool(Layer):
    """The largest value of each window, or their mean."""

    s: Count | None = None  # None: as large as the window
    p: Whole = 0

    @property
    @abstractmethod
    def f(self) -> int:
        """The size of the window."""

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "a pool")
        if self.p > self.f // 2:
            raise Refusal(
                "model.layers",
                f"padding of {self.p} is more than half of a pool of {self.f}",
                allowed=f"p up to {self.f // 2}",
            )
        return (shape[0], *(output_size(n, self.f, self.s or self.f, self.p) for n in shape[1:]))


class MaxPool(Pool):
    """The largest value of each window."""

    max_pool: Count

    @property
    def f(self) -> int:
        return self.max_pool

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        return {"max_pool": MAX_POOL[len(shape) - 2](self.f, self.s or self.f, self.p)}


class AveragePool(Pool):
    """The mean of each window."""

    average_pool: Count

    @property
    def f(self) -> int:
        return self.average_pool

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        return {"average_pool": AVERAGE_POOL[len(shape) - 2](self.f, self.s or self.f, self.p)}


class GlobalAverage(Layer):
    """The mean of each whole map."""

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "global_average")
        return shape[:1]

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        return {"global_average": Mean()}


class Upsample(Layer):
    """Each side `upsample` times as long: values repeated, or interpolated between."""

    upsample: Count
    mode: Literal["nearest", "linear"] = "nearest"

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "upsample")
        return (shape[0], *(n * self.upsample for n in shape[1:]))

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        mode = LINEAR[len(shape) - 2] if self.mode == "linear" else "nearest"
        return {"upsample": nn.Upsample(scale_factor=float(self.upsample), mode=mode)}


class Transposed(Layer):
    """A transposed convolution: sides of (n - 1) s - 2 p + f."""

    transposed: Count
    f: Count
    s: Count = 1
    p: Whole = 0
    activation: Activation | None = None
    batch_norm: bool | None = None

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "transposed")
        sides = [(n - 1) * self.s - 2 * self.p + self.f for n in shape[1:]]
        if min(sides) < 1:
            raise TooSmall(f"padding of {self.p} leaves nothing")
        return (self.transposed, *sides)

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        norm = style.batch_norm if self.batch_norm is None else self.batch_norm
        make, dims = TRANSPOSED[len(shape) - 2], len(shape) - 1
        conv = make(shape[0], self.transposed, self.f, stride=self.s, padding=self.p, bias=not norm)
        parts: dict[str, nn.Module] = {"transposed": conv}
        if norm:
            parts["norm"] = NORM[dims - 1](self.transposed)
        return parts | _activated(self.activation or style.activation)


class Unpool(Layer):
    """Each value back to where the last max pool that has no unpooling yet took it from; zeros elsewhere."""

    unpool: Count

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "unpool")
        return (shape[0], *(n * self.unpool for n in shape[1:]))

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        return {"unpool": Unpooling(self.unpool)}


class LocalResponseNorm(Layer):
    """b = a / (k + alpha sum a^2)^beta over neighbouring channels (Krizhevsky et al., 2012, section 3.3).

    torch divides alpha by the number of channels summed over; the paper does not: so alpha is 5 times the paper's 1e-4.
    """

    local_response_norm: Count

    def out(self, shape: Shape) -> Shape:
        _require_maps(shape, "local_response_norm")
        return shape

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        n = self.local_response_norm
        return {"local_response_norm": nn.LocalResponseNorm(n, alpha=n * 1e-4, beta=0.75, k=2.0)}


class Dropout(Layer):
    """Drop this share of the units in training."""

    dropout: Annotated[float, Field(ge=0, lt=1)]

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        return {"dropout": nn.Dropout(self.dropout)}


class Flatten(Layer):
    """Maps to one vector, channel by channel."""

    def out(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        return {"flatten": nn.Flatten()}


class FullyConnected(Layer):
    """`fc` units, each of all inputs."""

    fc: Count
    activation: Activation | None = None
    batch_norm: bool | None = None
    keep_prob: Probability | None = None

    def out(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise Refusal(
                "model.layers", f"fc takes a vector, not {list(shape)}", allowed="flatten, or global_average, before it"
            )
        return (self.fc,)

    def parts(self, shape: Shape, style: Style) -> dict[str, nn.Module]:
        norm = style.batch_norm if self.batch_norm is None else self.batch_norm
        keep = style.keep_prob if self.keep_prob is None else self.keep_prob
        parts: dict[str, nn.Module] = {"fc": nn.Linear(shape[0], self.fc, bias=not norm)}
        if norm:
            parts["norm"] = nn.BatchNorm1d(self.fc)
        parts |= _activated(self.activation or style.activation)
        return parts | ({"dropout": nn.Dropout(1 - keep)} if keep < 1 else {})


KINDS: dict[str, type[Layer]] = {
    "conv": Conv, "max_pool": MaxPool, "average_pool": AveragePool, "global_average": GlobalAverage, "upsample": Upsample,
    "transposed": Transposed, "unpool": Unpool, "local_response_norm": LocalResponseNorm, "dropout": Dropout,
    "flatten": Flatten, "fc": FullyConnected,
}  # fmt: skip


class Mean(nn.Module):
    """The mean over all axes but the first two."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to (B, C)."""
        return x.flatten(2).mean(dim=2)


class Unpooling(nn.Module):
    """Put values back where a max pool found them; `pool` is set when the network is put together."""

    def __init__(self, f: int) -> None:
        super().__init__()
        self.f, self.pool = float(f), [MaxPoolWithIndices()]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to what the pool took: each value in its place, zeros around it."""
        large = F.interpolate(x, scale_factor=self.f)
        places = F.interpolate(self.pool[0].places.double(), scale_factor=self.f)
        own = torch.arange(large[0, 0].numel(), device=x.device).view(large.shape[2:])
        return torch.where(places == own, large, torch.zeros_like(large))


class MaxPoolWithIndices(nn.Module):
    """A max pool that remembers, until it is called again, where its values stood."""

    places: Tensor

    def __init__(self, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to the pooled maps."""
        assert self.layer is not None
        x, self.places = self.layer(x)
        return x


def parse(layers: Sequence[Declared], where: str = "model.layers") -> list[Layer]:
    """Return declared layers, checked.

    Raises:
        Refusal: a layer that is none, an unknown key, a value out of range; with its place in the list.
    """
    return [_parsed(each, f"{where}.{i}") for i, each in enumerate(layers)]


def _parsed(declared: Declared, where: str) -> Layer:
    keys = {} if isinstance(declared, str) else dict(declared)
    name = declared if isinstance(declared, str) else next((key for key in keys if key in KINDS), next(iter(keys), ""))
    if name not in KINDS:
        raise Refusal(where, f"there is no layer '{name}'", allowed=", ".join(KINDS), nearest=nearest(name, KINDS),
                      example="model.layers=[{conv: 8, f: 3, p: same}, {max_pool: 2}, flatten, {fc: 64}]")  # fmt: skip
    keys = {key: value for key, value in keys.items() if not (key == name and name not in KINDS[name].model_fields)}
    check(KINDS[name], keys, where)
    return KINDS[name](**keys)


def shapes(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """Return the shape after each layer.

    Raises:
        TooSmall: nothing is left at one of them.
    """
    found = []
    for layer in layers:
        shape = layer.out(shape)
        found.append(shape)
    return found


def smallest(layers: Sequence[Layer], shape: Shape) -> int:
    """Return the smallest side with which examples of these channels and dimensions go through."""
    for side in range(1, LARGEST):
        try:
            shapes(layers, (shape[0], *[side] * (len(shape) - 1)))
        except TooSmall:
            continue
        return side
    raise Refusal(
        "model.layers", f"nothing is left even of sides of {LARGEST}", allowed="fewer pools, or smaller filters"
    )


def stack(layers: Sequence[Layer], shape: Shape, style: Style) -> nn.Sequential:
    """Return the modules of all layers, named by kind and number: conv1, norm1, activation1, max_pool1, conv2, ...

    Raises:
        Refusal: an unpooling without a max pool.
    """
    net, counts = nn.Sequential(), dict.fromkeys(("conv", "fc", "activation", "norm"), 0)
    open_pools: list[tuple[str, Shape]] = []  # and what they took
    for layer, after in zip(layers, shapes(layers, shape), strict=True):
        for name, module in layer.parts(shape, style).items():
            counts[name] = counts.get(name, 0) + 1
            numbered = f"{name}{counts[name]}"
            net.add_module(numbered, module)
            if name == "max_pool":
                open_pools.append((numbered, shape))
            if isinstance(module, Unpooling):
                _pair(net, module, open_pools, after)
        shape = after
    return net


def _pair(net: nn.Sequential, unpooling: Unpooling, open_pools: list[tuple[str, Shape]], after: Shape) -> None:
    name, taken = open_pools.pop() if open_pools else ("", ())
    if taken != after:
        raise Refusal(
            "model.layers",
            f"unpool gives {list(after)}, and no max_pool before it that is not undone yet took that",
            allowed="as many channels and the same sides as at the pool, which must divide them",
            example="[{max_pool: 2}, {unpool: 2}]",
        )
    pool: Any = net.get_submodule(name)
    if pool.stride != pool.kernel_size or pool.padding:
        raise Refusal(
            "model.layers",
            "only a max_pool without overlap and padding can be undone",
            example="[{max_pool: 2}, {unpool: 2}]",
        )
    pool.return_indices = True
    unpooling.pool = [MaxPoolWithIndices(pool)]
    setattr(net, name, unpooling.pool[0])


def _activated(name: Activation) -> dict[str, nn.Module]:
    return {} if name == "identity" else {"activation": ACTIVATIONS[name]()}


def _require_maps(shape: Shape, name: str) -> None:
    if not 2 <= len(shape) <= 4:
        raise Refusal("model.layers", f"{name} takes maps (channels, then one to three sides), not {list(shape)}",
                      allowed="before flatten, on signals, images or volumes")  # fmt: skip


def _edge_filter(name: str) -> Tensor:
    """Return the filter (3, 3) of a name, turned from bright on the left towards bright above by the degrees that it ends in.

    A derivative in any direction is a sum of those along two axes (Freeman and Adelson, 1991, IEEE PAMI 13:891).
    """
    if not FILTER.fullmatch(name):
        known = ["vertical", "horizontal", "red", "sobel", "scharr"]
        raise Refusal("model.layers", f"there is no filter {name!r}", allowed=f"{', '.join(known)}; sobel_45, scharr_70, ...: turned by degrees",
                      nearest=nearest(name, known), example="{conv: 2, f: 3, filters: [vertical, sobel]}")  # fmt: skip
    plain, _, degrees = ("vertical", "", "90") if name == "horizontal" else name.partition("_")
    kernel, angle = torch.tensor(FILTERS[plain]), radians(int(degrees or 0))
    if angle == pi / 2:
        return kernel.T  # to the last bit, which cos(pi / 2) is not
    return cos(angle) * kernel + sin(angle) * kernel.T


def _set_by_hand(conv: nn.Module, filters: Sequence[str], *, learn: bool) -> None:
    weight = conv.weight
    assert isinstance(weight, nn.Parameter)
    if weight.dim() != 4 or weight.shape[2:] != (3, 3) or len(filters) != len(weight):
        raise Refusal("model.layers", f"{len(filters)} hand-set filters of 3x3 for a layer of {list(weight.shape)}",
                      allowed="one name for each filter, f: 3", example="{conv: 2, f: 3, filters: [vertical, sobel]}")  # fmt: skip
    with torch.no_grad():
        for kernel, name in zip(weight, filters, strict=True):
            kernel.copy_(_edge_filter(name).to(kernel.device))
            if name == "red":
                kernel[1:].zero_()
    weight.requires_grad_(learn)
    leave_as_given(conv)
