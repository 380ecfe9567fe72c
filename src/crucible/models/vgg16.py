"""VGG-16: thirteen 3x3 convolutions in five stages, each halved (Simonyan and Zisserman, 2015, arXiv:1409.1556, D)."""

from collections.abc import Sequence
from typing import Any

from crucible.models.convnet import ConvNet, require_images
from crucible.models.norms import BatchNorm
from crucible.schema import Probability

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels of each convolution
FC = (4096, 4096)


class VGG16(ConvNet):
    """138,357,544 parameters for 224x224x3 and 1000 classes; 138,365,992 with batch norm.

    Args:
        feature_shape: (C, H, W); H and W at least 32.
        num_outputs: 1 for a binary task, else the number of classes, K.
        batch_norm: after each convolution, which keeps its bias (so that the count is the usual one).
        keep_prob: of the fully connected units, in training; 0.5 in the paper.

    Raises:
        Refusal: smaller images.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, *, batch_norm: BatchNorm, keep_prob: Probability
    ) -> None:
        require_images(feature_shape, "vgg16")
        layers: list[str | dict[str, Any]] = []
        for stage in STAGES:
            layers += [{"conv": channels, "f": 3, "p": "same", "bias": True} for channels in stage]
            layers.append({"max_pool": 2})
        layers += ["flatten", *({"fc": width, "batch_norm": False} for width in FC)]
        super().__init__(
            feature_shape, num_outputs, layers=layers, activation="relu", batch_norm=batch_norm, keep_prob=keep_prob
        )
