"""The multilayer perceptron: any depth and widths (notes 000, parts 2 to 4 and 6)."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.activations import ACTIVATIONS, Activation
from crucible.schema import Count, Probability


class MLP(nn.Module):
    """Hidden layers of linear, [batch norm], activation, [dropout]; then one linear layer.

    Args:
        feature_shape: (C, H, W) or (F).
        num_outputs: 1 for a binary task, else the number of classes, K.
        layers: hidden widths only: [] is logistic regression, [64] one hidden layer, [64, 32] two.
        activation: after each hidden layer.
        keep_prob: probability of keeping a hidden unit in training; one number, or one for each hidden layer.
        batch_norm: normalise before each activation; the linear layer then needs no bias.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        layers: list[Count],
        activation: Activation,
        keep_prob: Probability | list[Probability],
        batch_norm: bool,
    ) -> None:
        super().__init__()
        keep = keep_prob if isinstance(keep_prob, list) else [keep_prob] * len(layers)
        if len(keep) != len(layers):
            raise Refusal(
                "model.keep_prob", f"{len(keep)} values for {len(layers)} hidden layers", allowed="one, or one for each"
            )
        widths = [prod(feature_shape), *layers]
        self.hidden = nn.Sequential()
        for i, (width, k) in enumerate(zip(layers, keep, strict=True)):
            self.hidden.add_module(f"linear{i}", nn.Linear(widths[i], width, bias=not batch_norm))
            if batch_norm:
                self.hidden.add_module(f"norm{i}", nn.BatchNorm1d(width))
            self.hidden.add_module(f"activation{i}", ACTIVATIONS[activation]())
            if k < 1:
                self.hidden.add_module(f"dropout{i}", nn.Dropout(1 - k))
        self.head = nn.Linear(widths[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, F) to logits (B, K)."""
        return self.head(self.hidden(x.flatten(1)))
