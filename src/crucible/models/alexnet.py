"""AlexNet, in the form for one GPU (Krizhevsky et al., 2012; notes 000, part 8, section 7)."""

from collections.abc import Sequence
from typing import Any

from crucible.models.convnet import ConvNet, require_images
from crucible.models.layers import TooSmall, parse, shapes
from crucible.schema import Probability

STEMS: tuple[dict[str, Any], ...] = (
    {"conv": 96, "f": 11, "s": 4},
    {"conv": 96, "f": 7, "s": 2},
    {"conv": 96, "f": 3, "p": "same"},
)
NORM: dict[str, Any] = {"local_response_norm": 5}
LAYERS: list[str | dict[str, Any]] = [  # after the stem, which leaves 55 of 227
    {"max_pool": 3, "s": 2},  # 27
    {"conv": 256, "f": 5, "p": "same"},
    {"max_pool": 3, "s": 2},  # 13
    {"conv": 384, "f": 3, "p": "same"},
    {"conv": 384, "f": 3, "p": "same"},
    {"conv": 256, "f": 3, "p": "same"},
    {"max_pool": 3, "s": 2},  # 6
    "flatten",  # 9216
    {"fc": 4096},
    {"fc": 4096},
]


class AlexNet(ConvNet):
    """Five convolutions and three fully connected layers: 62,378,344 parameters for 227x227x3 and 1000 classes.

    The paper says 224x224; only 227 gives its 55x55 maps. Its two GPUs shared the filters of some layers out; one sees all.

    Args:
        feature_shape: (C, H, W). The stem, 11x11 with stride 4, is 7x7 with stride 2 below 67x67, and 3x3 below 35x35;
            the smallest image is 15x15.
        num_outputs: 1 for a binary task, else the number of classes, K.
        keep_prob: of the fully connected units, in training; 0.5 in the paper.
        local_response_norm: after the first two convolutions, as in the paper.

    Raises:
        Refusal: smaller images.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, *, keep_prob: Probability, local_response_norm: bool
    ) -> None:
        require_images(feature_shape, "alexnet")
        rest = LAYERS if not local_response_norm else [NORM, *LAYERS[:2], NORM, *LAYERS[2:]]
        layers = next((found for stem in STEMS if _fits(found := [stem, *rest], feature_shape)), [STEMS[-1], *rest])
        super().__init__(
            feature_shape, num_outputs, layers=layers, activation="relu", batch_norm=False, keep_prob=keep_prob
        )


def _fits(layers: list[Any], shape: Sequence[int]) -> bool:
    try:
        shapes(parse(layers), tuple(shape))
    except TooSmall:
        return False
    return True
