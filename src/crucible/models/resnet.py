"""A residual network for small images: three stages of basic blocks (He et al., 2016, arXiv:1512.03385, section 4.2)."""

from collections.abc import Sequence

from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.schema import Count, Probability

STEM_SIZE = 32  # the paper's images; larger ones are halved at the stem until they fit
SMALLEST = 4


class ResNet(nn.Module):
    """A 3x3 stem, three stages of (depth - 2) / 6 blocks with width, 2 width, 4 width channels, average pool, linear.

    Args:
        feature_shape: (C, H, W); H and W at least 4.
        num_outputs: 1 for a binary task, else the number of classes, K.
        depth: weighted layers on the main path: 8 is one block a stage, 14 two, 20 three.
        width: channels of the first stage.
        keep_prob: probability of keeping a pooled feature in training.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, *, depth: Count, width: Count, keep_prob: Probability
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise Refusal("model.depth", f"{depth} is not 6n + 2", allowed="8, 14, 20, 26, 32, ...")
        if len(feature_shape) != 3 or min(feature_shape[1:]) < SMALLEST:
            raise Refusal(
                "model=resnet",
                f"it needs images of at least {SMALLEST}x{SMALLEST}, an example has shape {list(feature_shape)}",
                allowed="model=logistic, model=mlp",
            )
        halvings = sum(max(feature_shape[1:]) > STEM_SIZE << i for i in range(16))
        self.stem = nn.Sequential(
            nn.Conv2d(feature_shape[0], width, 3, stride=min(2, 1 + halvings), padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *(nn.MaxPool2d(3, stride=2, padding=1) for _ in range(halvings - 1)),
        )
        channels, blocks = width, []
        for stage in range(3):
            for block in range((depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Block(channels, width << stage, stride))
                channels = width << stage
        self.stages = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(1 - keep_prob)
        self.head = nn.Linear(channels, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        features = self.stages(self.stem(x)).mean(dim=(2, 3))  # (B, 4 width)
        return self.head(self.dropout(features))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the identity, or a 1x1 projection where the shape changes.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution and of the projection.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.activation1, self.activation2 = nn.ReLU(), nn.ReLU()
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        residual = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        return self.activation2(residual + self.shortcut(x))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
