"""The multilayer perceptron: any depth and widths (notes 000, parts 2 to 4 and 6)."""

from collections import OrderedDict
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from crucible.errors import Refusal
from crucible.models.activations import ACTIVATIONS, Activation
from crucible.models.contracts import leave_as_given
from crucible.models.norms import BatchNorm, apply_settings, is_on
from crucible.schema import Count, Probability


class Embeddings(nn.Module):
    """A learned vector for each category in place of its one-hot features; one that train never saw has the vector 0.

    Args:
        plain: features before the one-hot ones, which stay. sizes: one-hot features of each category. width: of a vector.
    """

    def __init__(self, plain: int, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.out_features, self._parts = plain + width * len(sizes), [plain, *sizes]
        self.vectors = nn.ParameterList(torch.randn(size, width) * width**-0.5 for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, F) to (B, plain + width of each category)."""
        plain, *one_hot = x.split(self._parts, dim=1)
        return torch.cat([plain, *(part @ own for part, own in zip(one_hot, self.vectors, strict=True))], dim=1)


class MLP(nn.Module):
    """Hidden layers of linear, [batch norm], activation, [dropout]; then one linear layer.

    Args:
        feature_shape: (C, H, W) or (F).
        num_outputs: 1 for a binary task, else the number of classes, K.
        layers: hidden widths only: [] is logistic regression, [64] one hidden layer, [64, 32] two.
        activation: after each hidden layer.
        keep_prob: probability of keeping a hidden unit in training; one number, or one for each hidden layer.
        batch_norm: normalise before each activation; the linear layer then needs no bias. {decay: 0.99, eps: 1e-3}: with settings.
        bias: whether the units have one. weights: to start from, of each layer, of the output too, one unit after the other; with
            biases of 0; null: what `init` draws.
        embedding: numbers that are learned for each category of a table; None: its one-hot features (Guo and Berkhahn, 2016,
            arXiv:1604.06737).

    Raises:
        Refusal: other numbers of values than layers, or of weights than a layer has.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        layers: list[Count],
        activation: Activation,
        keep_prob: Probability | list[Probability],
        batch_norm: BatchNorm,
        embedding: Count | None = None,
        bias: bool = True,
        weights: list[list[float]] | None = None,
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
            self.hidden.add_module(f"linear{i}", nn.Linear(widths[i], width, bias=bias and not is_on(batch_norm)))
            if is_on(batch_norm):
                self.hidden.add_module(f"norm{i}", nn.BatchNorm1d(width))
            self.hidden.add_module(f"activation{i}", ACTIVATIONS[activation]())
            if k < 1:
                self.hidden.add_module(f"dropout{i}", nn.Dropout(1 - k))
        self.head = nn.Linear(widths[-1], num_outputs, bias=bias)
        self._embedding = embedding
        apply_settings(self, batch_norm)
        if weights is not None:
            self._start_from(weights)

    def _start_from(self, weights: list[list[float]]) -> None:
        layers = [each for each in self.modules() if isinstance(each, nn.Linear)]
        sizes = [each.weight.numel() for each in layers]
        if self._embedding is not None or [len(own) for own in weights] != sizes:
            needed = " and ".join(f"{each.out_features} x {each.in_features}" for each in layers)
            raise Refusal(
                "model.weights", f"{' and '.join(str(len(own)) for own in weights)} weights for layers of {needed}",
                allowed="one list a layer, one unit after the other, without model.embedding", example="model.weights=[[0.1,0.8,0.4,0.6],[0.3,0.9]]",
            )  # fmt: skip
        with torch.no_grad():
            for layer, own in zip(layers, weights, strict=True):
                layer.weight.copy_(torch.tensor(own).view_as(layer.weight))
                if layer.bias is not None:
                    layer.bias.zero_()
                leave_as_given(layer)

    def embed_categories(self, plain: int, sizes: Sequence[int]) -> None:
        """Put vectors in place of one-hot features, if that is declared.

        Raises:
            Refusal: it is declared, and there are no categories.
        """
        if self._embedding is None:
            return
        if not sizes:
            raise Refusal("model.embedding", "these data have no categories", allowed="null, or a table with columns that are",
                          example="model.embedding=null")  # fmt: skip
        embeddings = Embeddings(plain, sizes, self._embedding)
        home, name = (self.hidden, "linear0") if len(self.hidden) else (self, "head")
        first: nn.Linear = getattr(home, name)
        setattr(home, name, nn.Linear(embeddings.out_features, first.out_features, bias=first.bias is not None))
        self.hidden = nn.Sequential(OrderedDict([("embeddings", embeddings), *self.hidden.named_children()]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, F) to logits (B, K)."""
        return self.head(self.hidden(x.flatten(1)))
