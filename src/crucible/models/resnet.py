"""Residual networks: those of table 1 of the paper, its small ones for 32x32 (He et al., 2016, arXiv:1512.03385), and ResNet-9.

ResNet-9 (Page, How to train your ResNet, 2018) learns small photographs in a fraction of the others' time: width is spent where
maps are small, pools halve, and the largest value of each last map is read out.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.contracts import Backbone
from crucible.schema import Count, Probability

# Table 1: blocks of each of the four stages, and whether they are bottlenecks (1x1, 3x3, 1x1 to four times the width).
TABLE: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
FAST = 9  # ResNet-9
STEM_SIZE = 32  # section 4.2: the paper's small images; larger ones are halved at the stem until they fit
SMALLEST, SMALLEST_FAST = 4, 8
LARGE = 64  # from 64x64 on the networks of table 1 begin with 7x7, stride 2, and a pool


class ResNet(Backbone):
    """A stem, stages of residual blocks, a pool over each map, linear.

    depth 18, 34, 50, 101, 152: four stages with width, 2, 4 and 8 times width channels (table 1): 11,689,512, 21,797,672,
    25,557,032, 44,549,160 and 60,192,808 parameters for 224x224x3 and 1000 classes.
    depth 6n + 2 (8, 14, 20, 26, 32, 56, 110): three stages of n blocks with width, 2 and 4 times width (section 4.2).
    depth 9: three stages that widen to 2, 4 and 8 times width, a residual block in the first and in the last (ResNet-9); the largest
    value of each map is read out, in the others the mean.

    Args:
        feature_shape: (C, H, W); H and W at least 4, for depth 9 at least 8.
        num_outputs: 1 for a binary task, else the number of classes, K.
        depth: weighted layers on the main path.
        width: channels of the first stage, of depth 9 of the stem; null: 64 in table 1 and of depth 9, 16 in section 4.2.
        keep_prob: probability of keeping a pooled feature in training.
        residual: false leaves the shortcuts out: the paper's plain networks.
    """

    trunk = ("stem", "stages")
    top = ("head", "dropout")

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        depth: Count,
        width: Count | None,
        keep_prob: Probability,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if depth not in (FAST, *TABLE) and (depth < 8 or (depth - 2) % 6):
            raise Refusal("model.depth", f"{depth} is neither in table 1 nor 6n + 2", allowed=f"{', '.join(map(str, TABLE))}; 8, 14, 20, 26, 32, ...; 9")  # fmt: skip
        smallest = SMALLEST_FAST if depth == FAST else SMALLEST
        if len(feature_shape) != 3 or min(feature_shape[1:]) < smallest:
            raise Refusal(
                "model=resnet",
                f"it needs images of at least {smallest}x{smallest}, an example has shape {list(feature_shape)}",
                allowed="model=logistic, model=mlp",
            )
        first = width or first_width(depth)
        self.stem = nn.Sequential(*(_stem if depth in TABLE else _small_stem)(feature_shape, first))
        self.stages, channels = (_fast_stages if depth == FAST else _stages)(depth, first, residual=residual)
        self._depth = depth
        self.dropout = nn.Dropout(1 - keep_prob)
        self.head = nn.Linear(channels, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        maps = self.stages(self.stem(x))
        largest = self._depth == FAST
        features = maps.amax(dim=(2, 3)) if largest else maps.mean(dim=(2, 3))  # (B, channels of the last stage)
        return self.head(self.dropout(features))

    def names_in_timm(self) -> dict[str, str]:
        """Return the names of the networks of table 1: conv1, bn1, layerS.B.convN, .bnN, .downsample.N, fc."""
        if self._depth not in TABLE:
            return {}
        blocks, _ = TABLE[self._depth]
        places = [f"layer{stage + 1}.{block}" for stage, count in enumerate(blocks) for block in range(count)]
        prefixes = {"stem.0": "conv1", "stem.1": "bn1", "head": "fc"} | {
            f"stages.{i}": place for i, place in enumerate(places)
        }
        found = {}
        for name in self.state_dict():
            start = next((own for own in prefixes if name.startswith(f"{own}.")), "")
            rest = name.removeprefix(start).replace(".norm", ".bn").replace(".shortcut.", ".downsample.")
            found[prefixes.get(start, start) + rest] = name
        return found


def first_width(depth: int) -> int:
    """Return the channels of the paper's first stage."""
    return 64 if depth in (FAST, *TABLE) else 16


def _stages(depth: int, width: int, *, residual: bool) -> tuple[nn.Sequential, int]:
    """Return the paper's stages and the channels of the last."""
    blocks, bottleneck = TABLE.get(depth, (((depth - 2) // 6,) * 3, False))
    make, channels, stages = Bottleneck if bottleneck else Block, width, nn.Sequential()
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            stages.append(make(channels, width << stage, stride, residual=residual))
            channels = make.expansion * width << stage
    return stages, channels


def _fast_stages(depth: int, width: int, *, residual: bool) -> tuple[nn.Sequential, int]:
    """Return the stages of ResNet-9 and the channels of the last."""
    w = width
    return nn.Sequential(
        Halving(w, 2 * w), Beside(2 * w, residual=residual), Halving(2 * w, 4 * w), Halving(4 * w, 8 * w), Beside(8 * w, residual=residual)
    ), 8 * w  # fmt: skip


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the identity, or a 1x1 projection where the shape changes.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution and of the projection.
        residual: whether there is a shortcut.
    """

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int, *, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.activation1, self.activation2 = nn.ReLU(), nn.ReLU()
        self.shortcut = _shortcut(inputs, outputs, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        changed = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        return self.activation2(changed + self.shortcut(x) if self.shortcut is not None else changed)


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3, 1x1 to four times `width`, beside a shortcut (section 4.1; the stride is the 3x3's).

    Args:
        inputs: channels. width: of the 3x3. stride: of the 3x3 and of the projection. residual: whether there is a shortcut.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, residual: bool = True) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.activation1, self.activation2, self.activation3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.shortcut = _shortcut(inputs, outputs, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 width, H/stride, W/stride)."""
        changed = self.activation1(self.norm1(self.conv1(x)))
        changed = self.norm3(self.conv3(self.activation2(self.norm2(self.conv2(changed)))))
        return self.activation3(changed + self.shortcut(x) if self.shortcut is not None else changed)


class Halving(nn.Sequential):
    """3x3 to other channels, then a pool to half the height and width.

    Args:
        inputs, outputs: channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*_unit(inputs, outputs), nn.MaxPool2d(2))


class Beside(nn.Module):
    """Two 3x3 convolutions beside the identity; what they give is added after their activations, not before.

    Args:
        channels: of what comes in and goes out. residual: whether the identity is added.
    """

    def __init__(self, channels: int, *, residual: bool = True) -> None:
        super().__init__()
        self.changed = nn.Sequential(*_unit(channels, channels), *_unit(channels, channels))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        changed = self.changed(x)
        return x + changed if self.residual else changed


def _unit(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


def _stem(feature_shape: Sequence[int], width: int) -> list[nn.Module]:
    """7x7, stride 2, and a pool; 3x3 for images below 64x64."""
    large = min(feature_shape[1:]) >= LARGE
    size, stride, padding = (7, 2, 3) if large else (3, 1, 1)
    first = nn.Conv2d(feature_shape[0], width, size, stride=stride, padding=padding, bias=False)
    return [first, nn.BatchNorm2d(width), nn.ReLU(), *([nn.MaxPool2d(3, stride=2, padding=1)] if large else [])]


def _small_stem(feature_shape: Sequence[int], width: int) -> list[nn.Module]:
    """3x3; halved until 32x32 are left."""
    halvings = sum(max(feature_shape[1:]) > STEM_SIZE << i for i in range(16))
    return [
        nn.Conv2d(feature_shape[0], width, 3, stride=min(2, 1 + halvings), padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *(nn.MaxPool2d(3, stride=2, padding=1) for _ in range(halvings - 1)),
    ]
