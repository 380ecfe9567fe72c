"""GoogLeNet: nine Inception modules (Szegedy et al., 2015, arXiv:1409.4842, table 1; notes 000, part 10)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.contracts import Backbone
from crucible.models.norms import BatchNorm, apply_settings, is_on
from crucible.schema import NonNegative, Probability

# Table 1: channels of 1x1; 3x3 reduce and 3x3; 5x5 reduce and 5x5; 1x1 after the pool. None: a 3x3 max pool, stride 2.
MODULES: dict[str, tuple[int, ...] | None] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = ("4a", "4d")  # a head after each
HALVINGS, SIDE, SMALLEST = 3, 16, 10  # the stem halves up to three times, while maps of 16 are left


class Inception(Backbone):
    """A stem, nine modules of four branches side by side, average pool, linear: 6,998,552 parameters for 1000 classes.

    In training it gives (logits, logits of the first head, of the second); the task adds their losses, weighted. Those
    heads have 6,379,728 parameters more at 224x224.

    Args:
        feature_shape: (C, H, W); H and W at least 10. The stem halves images of 224 three times, smaller ones less often.
        num_outputs: 1 for a binary task, else the number of classes, K.
        batch_norm: after each convolution, in place of its bias.
        keep_prob: before the last layer, in training; 0.6 in the paper. Heads keep 0.3.
        auxiliary: weight of the two heads' losses, 0.3 in the paper; 0: no such heads.

    Raises:
        Refusal: smaller images.
    """

    trunk = ("stem", "stages")
    top = ("head", "heads", "dropout")

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        batch_norm: BatchNorm,
        keep_prob: Probability,
        auxiliary: NonNegative,
    ) -> None:
        super().__init__()
        if len(feature_shape) != 3 or min(feature_shape[1:]) < SMALLEST:
            raise Refusal(
                "model=inception",
                f"it needs images of at least {SMALLEST}x{SMALLEST}, an example has shape {list(feature_shape)}",
                allowed="model=convnet, model=mlp", example=f"data.image_size=[{SMALLEST},{SMALLEST}]",
            )  # fmt: skip
        halvings = sum(min(feature_shape[1:]) >= SIDE << i for i in range(1, HALVINGS + 1))
        norm = is_on(batch_norm)
        self.stem = _stem(feature_shape[0], halvings, norm)
        self.auxiliary, self.stages, self.heads = auxiliary, nn.ModuleDict(), nn.ModuleDict()
        channels, sides = 192, [_halved(n, halvings) for n in feature_shape[1:]]
        for name, widths in MODULES.items():
            if widths is None:
                self.stages[name], sides = nn.MaxPool2d(3, stride=2, padding=1), [_halved(n, 1) for n in sides]
                continue
            self.stages[name] = Module(channels, widths, norm)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
            if name in AUXILIARY and auxiliary:
                self.heads[name] = Head(channels, sides, num_outputs, norm)
        self.dropout = nn.Dropout(1 - keep_prob)
        self.head = nn.Linear(channels, num_outputs)
        apply_settings(self, batch_norm)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, C, H, W) to logits (B, K); in training to those of each head, the last layer's first."""
        further, x = [], self.stem(x)
        for name, stage in self.stages.items():
            x = stage(x)
            if self.training and name in self.heads:
                further.append(self.heads[name](x))
        logits = self.head(self.dropout(x.mean(dim=(2, 3))))
        return (logits, *further) if further else logits

    def middle_heads(self) -> list[nn.Module]:
        """Return the two heads of training."""
        return list(self.heads.values())


class Module(nn.Module):
    """1x1, 1x1 then 3x3, 1x1 then 5x5, pool then 1x1, side by side; the 1x1 before a larger filter is the bottleneck.

    Args:
        inputs: channels. widths: a row of table 1. batch_norm: after each convolution.
    """

    def __init__(self, inputs: int, widths: Sequence[int], batch_norm: bool) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.branch1 = nn.Sequential(*conv(inputs, one, 1, batch_norm))
        self.branch3 = nn.Sequential(*conv(inputs, reduce3, 1, batch_norm), *conv(reduce3, three, 3, batch_norm))
        self.branch5 = nn.Sequential(*conv(inputs, reduce5, 1, batch_norm), *conv(reduce5, five, 5, batch_norm))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *conv(inputs, pooled, 1, batch_norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, sum of the four widths, H, W)."""
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)], dim=1)


class Head(nn.Module):
    """A classifier in the middle: 5x5 average pool of stride 3, 1x1 to 128, fc 1024, dropout, linear (the paper, p. 6).

    Args:
        inputs: channels. sides: H, W. num_outputs: K. batch_norm: after the convolution.
    """

    def __init__(self, inputs: int, sides: Sequence[int], num_outputs: int, batch_norm: bool) -> None:
        super().__init__()
        h, w = ((side - 5) // 3 + 1 for side in sides)
        self.features = nn.Sequential(
            nn.AvgPool2d(5, stride=3),
            *conv(inputs, 128, 1, batch_norm),
            nn.Flatten(),
            nn.Linear(128 * h * w, 1024),
            nn.ReLU(),
            nn.Dropout(0.7),
        )
        self.linear = nn.Linear(1024, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to logits (B, K)."""
        return self.linear(self.features(x))


def conv(inputs: int, outputs: int, size: int, batch_norm: bool, stride: int = 1) -> list[nn.Module]:
    """Return a same convolution, [batch norm], ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=not batch_norm)
    return [layer, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU()]


def _stem(channels: int, halvings: int, batch_norm: bool) -> nn.Sequential:
    """7x7 to 64, pool, 1x1 to 64, 3x3 to 192, pool; each of the two pools and the first stride halves, if wanted."""
    pools = [[nn.MaxPool2d(3, stride=2, padding=1)] if halvings > i else [] for i in (1, 2)]
    first = conv(channels, 64, 7, batch_norm, 2) if halvings else conv(channels, 64, 3, batch_norm)
    return nn.Sequential(*first, *pools[0], *conv(64, 64, 1, batch_norm), *conv(64, 192, 3, batch_norm), *pools[1])


def _halved(n: int, times: int) -> int:
    return n if times == 0 else _halved((n + 1) // 2, times - 1)
