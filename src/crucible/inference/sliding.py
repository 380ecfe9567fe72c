"""Sliding windows: a classifier looks at every part of a picture, one by one or all at once (notes 000, part 11, section 3).

All at once: fully connected layers become convolutions, and what windows have in common is computed once (Sermanet et al.,
2014, OverFeat, arXiv:1312.6229).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.models.convnet import ConvNet
from crucible.models.layers import Mean

AT_A_TIME = 4096  # windows
WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def window_by_window(model: nn.Module, images: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Return the model's outputs (B, K, rows, columns) for every window of `size` (H, W), `stride` pixels apart.

    Args:
        model: of windows (n, C, H, W) to (n, K), in evaluation mode. images: (B, C, H', W').
    """
    rows, columns = ((n - f) // stride + 1 for n, f in zip(images.shape[2:], size, strict=True))
    parts = F.unfold(images, tuple(size), stride=stride)  # (B, C * H * W, rows * columns)
    batch = parts.transpose(1, 2).reshape(-1, images.shape[1], *size)
    outputs = torch.cat([model(some) for some in batch.split(AT_A_TIME)])
    return outputs.view(len(images), rows * columns, -1).transpose(1, 2).unflatten(2, (rows, columns))


class FullyConvolutional(nn.Module):
    """A classifier's layers as convolutions: outputs for every window of an image.

    Attributes:
        net: the layers. size: (H, W) of a window. stride: pixels from one window to the next.
    """

    def __init__(self, net: nn.Sequential, size: Sequence[int], stride: int) -> None:
        super().__init__()
        self.net, self.size, self.stride = net, tuple(size), stride

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H', W') to outputs (B, K, rows, columns), for windows that lie within the image."""
        rows, columns = ((n - f) // self.stride + 1 for n, f in zip(images.shape[2:], self.size, strict=True))
        return self.net(images)[..., :rows, :columns]


def convolutional(model: nn.Module) -> FullyConvolutional:
    """Return the network of the same weights that looks at every window at once.

    Its output in row i, column j is what `model` says of the window that begins i and j strides from the upper left corner.

    Raises:
        Refusal: the model is no list of layers, or some layer sees beyond its window: padding, neighbours of a whole map.
    """
    if not isinstance(model, ConvNet) or len(model.shape) != 3 or type(model).forward is not ConvNet.forward:
        raise Refusal(
            f"model={type(model).__name__.lower()}", "its layers are no plain list", allowed="model=convnet, on images",
            example="model=convnet model.layers='[{conv: 16, f: 5}, {max_pool: 2}, flatten, {fc: 400}]'",
        )  # fmt: skip
    net, stride, shape = nn.Sequential(), 1, tuple(model.shape)
    for name, layer in [*model.features.named_children(), ("head", model.head)]:
        net.add_module(name, _as_convolution(layer, shape))
        stride *= _stride(layer, name)
        if isinstance(layer, WINDOWED):
            shape = _after(layer, shape)
        elif isinstance(layer, (nn.Linear, Mean)):
            shape = (layer.out_features if isinstance(layer, nn.Linear) else shape[0], 1, 1)
    return FullyConvolutional(net, model.shape[1:], stride).train(model.training)


def _as_convolution(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Return what does the same for every window at once, where the maps of one window have this shape (C, H, W)."""
    if isinstance(layer, nn.Linear):
        conv = nn.Conv2d(shape[0], layer.out_features, (shape[1], shape[2]), bias=layer.bias is not None)
        conv.weight, conv.bias = nn.Parameter(layer.weight.detach().view_as(conv.weight)), layer.bias
        return conv.requires_grad_(layer.weight.requires_grad)
    if isinstance(layer, nn.BatchNorm1d):
        norm = nn.BatchNorm2d(layer.num_features, eps=layer.eps)
        norm.load_state_dict(layer.state_dict())
        return norm
    if isinstance(layer, nn.Flatten):
        return nn.Identity()
    return nn.AvgPool2d((shape[1], shape[2]), stride=1) if isinstance(layer, Mean) else layer


def _stride(layer: nn.Module, name: str) -> int:
    """Return how many places a step to the next output is; refuse what sees beyond a window."""
    if not isinstance(layer, WINDOWED):
        plain = (nn.Linear, nn.Flatten, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.LocalResponseNorm, Mean)
        if isinstance(layer, plain) or (
            not any(True for _ in layer.buffers()) and "upsample" not in name and "pool" not in name
        ):
            return 1
        raise Refusal("model.layers", f"'{name}' is not the same for all places", allowed="conv, pools, flatten, fc")
    padding = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,)
    if any(each != 0 for each in padding):
        raise Refusal(
            "model.layers", f"'{name}' frames its window with zeros: in the picture there are none",
            allowed="valid padding", example="{conv: 16, f: 5, p: valid}",
        )  # fmt: skip
    steps = layer.stride if isinstance(layer.stride, tuple) else (layer.stride,)
    return int(steps[0])


def _after(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    with torch.no_grad():
        device = next((p.device for p in layer.parameters()), torch.device("cpu"))
        training = layer.training
        found = tuple(layer.eval()(torch.zeros(1, *shape, device=device)).shape[1:])
        layer.train(training)
    return found
