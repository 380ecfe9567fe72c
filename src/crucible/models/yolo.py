"""YOLO: a network of the vision family cut where its maps are the grid, and what each cell says (notes 000, part 11; 003).

Redmon et al., 2016, arXiv:1506.02640; with anchors: Redmon and Farhadi, 2017, arXiv:1612.08242.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.errors import Refusal
from crucible.instantiate import section_of
from crucible.models.alexnet import AlexNet
from crucible.models.contracts import Backbone, Detector
from crucible.models.convnet import ConvNet, require_images
from crucible.models.inception import Inception
from crucible.models.lenet5 import LeNet5
from crucible.models.resnet import ResNet
from crucible.models.vgg16 import VGG16
from crucible.schema import Count, check, nearest

Name = Literal["resnet", "vgg16", "inception", "alexnet", "lenet5", "convnet"]
LAYERS = [
    layer for width in (16, 32, 64, 64) for layer in ({"conv": width, "f": 3, "p": "same"}, {"max_pool": 2})
]  # of a convnet where none are given
BACKBONES: dict[str, tuple[Callable[..., Backbone], dict[str, Any]]] = {
    "resnet": (ResNet, {"depth": 18, "width": 32, "keep_prob": 1.0, "residual": True}),  # the paper's width is 64
    "vgg16": (VGG16, {"batch_norm": True, "keep_prob": 1.0}),
    "inception": (Inception, {"batch_norm": True, "keep_prob": 1.0, "auxiliary": 0.0}),
    "alexnet": (AlexNet, {"local_response_norm": False, "keep_prob": 1.0}),
    "lenet5": (LeNet5, {"variant": "notes", "keep_prob": 1.0}),
    "convnet": (ConvNet, {"layers": LAYERS, "activation": "relu", "batch_norm": True, "keep_prob": 1.0}),
}


class Yolo(Detector):
    """A backbone's maps brought together on one grid, convolved twice more, and for every cell the numbers of the task.

    Coarser maps than the grid's know more of what surrounds a cell: with `context` each is enlarged and added to the next
    finer one (Lin et al., 2017, feature pyramids, arXiv:1612.03144).

    Args:
        feature_shape: (C, H, W).
        num_outputs: of each cell: A (5 + K) for A anchors and K classes.
        backbone: which network. settings: its own keys, over its defaults: {depth: 20, width: 16}; None: the default.
        stride: pixels of a cell, or a little fewer.
        width: channels of the maps that are brought together; null: as many as the backbone has on the grid.
        context: whether maps coarser than the grid are used; else the backbone is cut before them.

    Raises:
        Refusal: a key that the backbone does not have, no image, a backbone whose maps never are that fine or that coarse.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        backbone: Name,
        settings: Mapping[str, Any],
        stride: Count,
        width: Count | None,
        context: bool,
    ) -> None:
        super().__init__()
        require_images(feature_shape, "yolo")
        self.backbone = _built(backbone, feature_shape, settings)
        levels = _levels(self.backbone, feature_shape, stride)
        levels = levels if context else levels[:1]
        self.backbone.cut(levels[-1][0])
        self.taken = [place for place, _ in levels]  # after how many parts a map is taken, the grid's first
        inner = width or levels[0][1]
        self.sides = nn.ModuleList(nn.Conv2d(channels, inner, 1) for _, channels in levels)
        self.neck = nn.Sequential(*_conv(inner, inner), *_conv(inner, inner))
        self.head = nn.Conv2d(inner, num_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to maps (B, num_outputs, rows, columns)."""
        maps = []
        for place, unit in enumerate(self.backbone.units(), 1):
            x = unit(x)
            if place in self.taken:
                maps.append(x)
        sides = [side(each) for side, each in zip(self.sides, maps, strict=True)]
        whole = sides[-1]
        for finer in reversed(sides[:-1]):
            whole = finer + F.interpolate(whole, size=finer.shape[2:])
        return self.head(self.neck(whole))


def _built(name: str, feature_shape: Sequence[int], settings: Mapping[str, Any]) -> Backbone:
    make, defaults = BACKBONES[name]
    given = {key: value for key, value in settings.items() if value is not None}
    if unknown := [key for key in given if key not in defaults]:
        raise Refusal(f"model.settings.{unknown[0]}", f"{name} has no such key", allowed=", ".join(defaults),
                      nearest=nearest(unknown[0], defaults))  # fmt: skip
    return make(feature_shape, 1, **check(section_of(make), {**defaults, **given}, prefix="model.settings"))


def _levels(backbone: Backbone, feature_shape: Sequence[int], stride: int) -> list[tuple[int, int]]:
    """Return for the grid, and each coarser map, after how many parts it is there, and its channels."""
    rows, training = -(-feature_shape[1] // stride), backbone.training
    backbone.eval()
    x, found = torch.zeros(1, *feature_shape), dict[int, tuple[int, int]]()  # rows -> the last place with so many
    with torch.no_grad():
        for place, part in enumerate(backbone.units(), 1):
            x = part(x)
            found[x.shape[2]] = (place, x.shape[1])
    backbone.train(training)
    grids = [each for each in found if rows <= each < 2 * rows]
    if not grids:
        raise Refusal(
            "model.stride", f"a stride of {stride} on {feature_shape[1]} pixels makes {rows} rows; the maps of this backbone have {', '.join(map(str, found))}",
            allowed="a stride that the backbone has", example=f"model.stride={max(1, feature_shape[1] // max(min(found), 1))}",
        )  # fmt: skip
    return [found[each] for each in sorted(found, reverse=True) if each <= min(grids)]


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
