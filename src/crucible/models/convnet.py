"""A convolutional network declared as a list of layers (notes 000, part 8), and what the classic ones are built on."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.activations import Activation
from crucible.models.contracts import Backbone
from crucible.models.layers import Shape, Style, TooSmall, parse, shapes, smallest, stack
from crucible.models.norms import BatchNorm, apply_settings, is_on
from crucible.schema import Probability


class ConvNet(Backbone):
    """The declared layers, then one linear layer (flattening first what is not flat yet).

    Args:
        feature_shape: (F) or (C, L) signals, (C, H, W) images, (C, D, H, W) volumes; a vector is a signal of one channel.
        num_outputs: 1 for a binary task, else the number of classes, K.
        layers: see crucible.models.layers; hidden layers only.
        activation, batch_norm, keep_prob: for every layer that does not say otherwise; keep_prob for fc layers. batch_norm may be
            {decay: 0.99, eps: 1e-3}: with settings.

    Raises:
        Refusal: a layer that is none, or an example that is too small for them.
    """

    trunk = ("features",)

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        layers: list[str | dict[str, Any]],
        activation: Activation,
        batch_norm: BatchNorm,
        keep_prob: Probability,
    ) -> None:
        super().__init__()
        declared = parse(layers)
        self.shape: Shape = (1, *feature_shape) if len(feature_shape) == 1 else tuple(feature_shape)
        left = self._left(declared)
        if len(left) > 1:
            declared, left = declared + parse(["flatten"]), (_product(left),)
        self.features = stack(declared, self.shape, Style(activation, is_on(batch_norm), keep_prob))
        self.head = nn.Linear(left[0], num_outputs)
        apply_settings(self, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map examples (B, ...) to logits (B, K)."""
        return self.head(self.features(x.view(-1, *self.shape)))

    def _left(self, declared: list[Any]) -> Shape:
        try:
            return shapes(declared, self.shape)[-1] if declared else self.shape
        except TooSmall as error:
            side = smallest(declared, self.shape)
            example = f"data.image_size=[{side},{side}]" if len(self.shape) == 3 else ""
            name = type(self).__name__.lower()
            raise Refusal(
                f"model={name}", f"{error}: an example has shape {list(self.shape)}",
                allowed=f"sides of {side} or more", example=example,
            ) from None  # fmt: skip


def require_images(feature_shape: Sequence[int], name: str) -> None:
    """Refuse examples that are no images.

    Raises:
        Refusal: naming the model.
    """
    if len(feature_shape) != 3:
        raise Refusal(
            f"model={name}", f"it needs images, an example has shape {list(feature_shape)}", example="model=mlp"
        )


def _product(shape: Shape) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
