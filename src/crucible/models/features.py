"""What a network sees in a picture, layer by layer: the maps that a painting is compared by (notes 000, part 12).

Three sources: filters drawn at random, a run of this project, or a file of VGG-16 or VGG-19 weights.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crucible.data.card import Card, read_card
from crucible.data.normalize import shift_and_scale
from crucible.errors import Refusal
from crucible.files import CONFIG, WEIGHTS
from crucible.instantiate import build
from crucible.integrity import require_unchanged, sha256_of
from crucible.models.contracts import Backbone, Detector
from crucible.schema import nearest

RANDOM, HEX = "random", 12
PIN = rf"@[0-9a-f]{{{HEX}}}$"
WIDTHS = ((32, 32), (64, 64), (128, 128), (128, 128))  # of random filters: each stage's convolutions
VGG = {
    "VGG-16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "VGG-19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of what VGG's weights were trained on
LUMA = (0.299, 0.587, 0.114)


class Features(nn.Module):
    """Named layers that a picture passes one after the other; none of them learns.

    Args:
        layers: name to module. shift, scale: (C, 1, 1), x * scale + shift is what the first layer takes; of one channel the luma.

    Attributes:
        middle: the layer by which content is usually compared. usual: those for style.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], shift: Tensor, scale: Tensor, *, middle: str, usual: Sequence[str]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.shift, self.scale = nn.Buffer(shift.float()), nn.Buffer(scale.float())
        self.luma = nn.Buffer(torch.tensor(LUMA).view(3, 1, 1))
        self.middle, self.usual = middle, list(usual)
        self.eval().requires_grad_(requires_grad=False)

    @property
    def names(self) -> list[str]:
        """The layers, in the order in which a picture passes them."""
        return list(self.layers)

    def forward(self, pictures: Tensor, wanted: Sequence[str] = ()) -> dict[str, Tensor]:
        """Map pictures (B, 3, H, W) in [0, 1] to the maps (B, C, h, w) of some layers."""
        if len(self.shift) == 1:
            pictures = (pictures * self.luma).sum(dim=1, keepdim=True)
        x, found = pictures * self.scale + self.shift, dict[str, Tensor]()
        for name, layer in self.layers.items():
            x = layer(x)
            if name in wanted:
                found[name] = x
        return found

    def until(self, wanted: Sequence[str]) -> "Features":
        """Return these features without the layers behind the last wanted one."""
        last = max(self.names.index(name) for name in wanted)
        layers = {name: self.layers[name] for name in self.names[: last + 1]}
        return Features(layers, self.shift, self.scale, middle=self.middle, usual=self.usual)

    def require_room(self, size: Sequence[int]) -> None:
        """Refuse pictures (H, W) that are too small for a layer.

        Raises:
            Refusal: naming what can be changed.
        """
        try:
            self(torch.zeros(1, 3, *size, device=self.shift.device))
        except RuntimeError:
            raise Refusal("task.features", f"pictures of {size[0]} x {size[1]}, the smallest that are painted, are too small for {self.names[-1]}",
                          allowed="fewer model.levels, a larger data.reader.size, or layers that lie before", example="model.levels=1") from None  # fmt: skip

    def require(self, key: str, wanted: Sequence[str]) -> None:
        """Refuse layers that this network has not.

        Raises:
            Refusal: naming the first.
        """
        if missing := next((name for name in wanted if name not in self.names), None):
            raise Refusal(key, f"the network has no layer {missing!r}", allowed=", ".join(self.names),
                          nearest=nearest(missing, self.names), example=f"{key}={self.middle}")  # fmt: skip


def features_of(source: str) -> Features:
    """Return the features of a source.

    Args:
        source: `random`; a run folder; or a .safetensors file of VGG-16 or VGG-19; these two perhaps with the hash of their weights.

    Raises:
        Refusal: there is none of these, or it is damaged.
    """
    if source == RANDOM:
        return random_features()
    path = Path(unpinned(source))
    if path.exists():
        pinned(path, source)
    if path.is_dir():
        return features_of_run(path)
    if path.is_file():
        return features_of_vgg(path)
    raise Refusal("task.features", f"there is no {source}", allowed="random, a run folder, or a .safetensors file of VGG-16 or VGG-19",
                  example="task.features=random")  # fmt: skip


def unpinned(source: str) -> str:
    """Return PATH of PATH@HASH."""
    return re.sub(PIN, "", source)


def pinned(path: Path, source: str) -> str:
    """Return PATH@HASH of a run folder or a file of weights.

    Args:
        source: as it is named; with a hash it must be that of the weights.

    Raises:
        Refusal: there are no weights, or they are others than these.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise Refusal(f"task.features={source}", f"there is no {file}", allowed="random, a finished run, or a .safetensors file",
                      example="task.features=random")  # fmt: skip
    found = f"@{sha256_of(file)[:HEX]}"
    if (wanted := re.search(PIN, source)) and wanted[0] != found:
        raise Refusal(f"task.features={source}", f"its weights are others by now: their hash is {found[1:]}",
                      allowed="the weights that this training began with", example=f"task.features={path}")  # fmt: skip
    return f"{path}{found}"


def random_features() -> Features:
    """Return convolutions of 3 x 3 whose filters are drawn once and for all (He et al., 2016, arXiv:1606.04801)."""
    layers = _stages(WIDTHS)
    draw = torch.Generator().manual_seed(0)
    for conv in _convolutions(layers):
        nn.init.kaiming_normal_(conv.weight, generator=draw)
        conv.load_state_dict({"weight": conv.weight, "bias": torch.zeros(conv.out_channels)})
    return Features(
        layers, torch.full((3, 1, 1), -2.0), torch.full((3, 1, 1), 4.0), middle="conv3_2", usual=_firsts(WIDTHS)
    )


def features_of_vgg(path: Path) -> Features:
    """Return the convolutions of VGG-16 or VGG-19 with the weights of a file, under torchvision's names: features.0.weight, ...

    Raises:
        Refusal: another file, or a damaged one.
    """
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise Refusal(
            f"task.features={path}", f"no safetensors file, or damaged: {error}", allowed="VGG-16 or VGG-19"
        ) from None
    names = sorted((key for key in weights if key.startswith("features.") and key.endswith(".weight")), key=_place)
    shapes = [tuple(weights[name].shape) for name in names]
    for widths in VGG.values():
        layers = _stages(widths)
        convolutions = _convolutions(layers)
        if shapes == [tuple(conv.weight.shape) for conv in convolutions]:
            break
    else:
        raise Refusal(f"task.features={path}", f"its {len(names)} weights called features.N.weight are neither VGG-16 nor VGG-19",
                      allowed="torchvision's names and shapes: features.0.weight (64, 3, 3, 3), features.2.weight, ...")  # fmt: skip
    for conv, name in zip(convolutions, names, strict=True):
        bias = weights.get(name.replace(".weight", ".bias"))
        if bias is None or bias.shape != (conv.out_channels,):
            raise Refusal(
                f"task.features={path}", f"{name.replace('.weight', '.bias')} is missing, or of another shape"
            )
        conv.load_state_dict({"weight": weights[name].float(), "bias": bias.float()})
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in IMAGENET)
    return Features(layers, -mean / deviation, 1 / deviation, middle="conv4_2", usual=_firsts(widths))


def features_of_run(folder: Path) -> Features:
    """Return the layers of a finished run's network of images, from the picture to what is made a vector: unit1, unit2, ...

    Values 0 to 1 become what the run's own pictures span: two deviations around their mean where they are standardised, else all
    that a byte, or a share, can be.

    Raises:
        Refusal: no finished run, or none of such a network.
    """
    card, where = read_card(folder), f"task.features={folder}"
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        require_unchanged(folder, editable=[CONFIG])
        model = build("model", config["model"], card.feature_shape, _outputs_of(config, card))
        weights = load_file(folder / WEIGHTS)
        model.load_state_dict({name: weights[name] for name in model.state_dict()})
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError, yaml.YAMLError) as error:
        raise Refusal(where, f"no finished run, or damaged: {error}", allowed="a folder made by src/train.py") from None
    network = model.backbone if isinstance(model, Detector) else model
    channels = card.feature_shape[0]
    if not isinstance(network, Backbone) or len(card.feature_shape) != 3 or channels not in (1, 3):
        raise Refusal(
            where,
            "its network is none whose maps can be taken",
            allowed="a run of convnet, lenet5, resnet, vgg16, ... on images of 1 or 3 channels",
        )
    layers = {f"unit{i}": unit for i, unit in enumerate(_activated(network.units()), start=1)}
    names = list(layers)
    shift, scale = (part.float() for part in shift_and_scale(card))
    low, span = _spanned(card)
    return Features(layers, shift + low * scale, span * scale, middle=names[len(names) // 2], usual=names)


def _spanned(card: Card) -> tuple[Tensor, Tensor]:
    """Return the stored values that black and white stand for: the lowest, and how far the highest is from it (C, 1, 1)."""
    mean, deviation = (torch.tensor(card.normalize[key]).view(-1, 1, 1) for key in ("mean", "std"))
    if card.normalize["kind"] == "standard":
        return mean - 2 * deviation, 4 * deviation
    return torch.zeros_like(mean), torch.full_like(mean, 255.0 if card.dtype == "uint8" else 1.0)


def _activated(units: Sequence[nn.Module]) -> list[nn.Module]:
    """Return units in groups that end behind an activation, a pooling or a block: what a layer says, not what it sums."""
    groups: list[list[nn.Module]] = [[]]
    for unit in units:
        groups[-1].append(unit)
        if not isinstance(unit, (nn.Conv2d, nn.BatchNorm2d)):
            groups.append([])
    return [nn.Sequential(*group) for group in groups if group]


def _outputs_of(config: Mapping[str, Any], card: Card) -> int:
    count: int = build("task", config["task"], card).num_outputs
    return count


def _stages(widths: Sequence[Sequence[int]]) -> dict[str, nn.Module]:
    """Return VGG's stages as conv1_1, conv1_2, ..., each with its relu, halved between stages by means (Gatys et al., 2016)."""
    layers, channels = dict[str, nn.Module](), 3
    for i, stage in enumerate(widths, start=1):
        for j, width in enumerate(stage, start=1):
            halved = [nn.AvgPool2d(2)] if i > 1 and j == 1 else []
            layers[f"conv{i}_{j}"] = nn.Sequential(*halved, nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
            channels = width
    return layers


def _firsts(widths: Sequence[Sequence[int]]) -> list[str]:
    return [f"conv{i}_1" for i in range(1, len(widths) + 1)]


def _convolutions(layers: Mapping[str, nn.Module]) -> list[nn.Conv2d]:
    return [part for layer in layers.values() for part in layer.modules() if isinstance(part, nn.Conv2d)]


def _place(name: str) -> int:
    return int(name.split(".")[1]) if name.split(".")[1].isdigit() else -1
