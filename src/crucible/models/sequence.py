"""What networks of sequences have in common: how a step becomes a vector, and what is read out of the activations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.data.ragged import mask_of
from crucible.errors import Refusal

State = tuple[Tensor, ...]  # of a cell after a step, (B, H) each: a, or a and c
Carried = tuple[Tensor, list[State]]  # the last step's vector (B, 1, E), and each cell's state after it
Readout = Literal["last", "mean", "max", "each", "next"]


class Steps(nn.Module):
    """From steps to vectors: numbers as they are, symbols as one-hot vectors or as embeddings (notes 000, part 13, section 1).

    Args:
        features: numbers a step, or symbols that there are, V. embedding: E; None: one-hot vectors.

    Attributes:
        width: numbers of a vector. embeds: whether they are learned.
    """

    def __init__(self, features: int, embedding: int | None) -> None:
        super().__init__()
        self.features, self.embeds = features, embedding is not None
        self.width = features if embedding is None else embedding
        self.zero = nn.Buffer(torch.zeros(()), persistent=False)  # in the type and on the device of the network
        self.weight = nn.Parameter(torch.randn(features, embedding) * embedding**-0.5) if embedding else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L) or (B, L, F) to vectors (B, L, E), 0 in the padding; the vector of several symbols is the sum of theirs."""
        if x.is_floating_point():
            x = torch.nan_to_num(x if x.dim() == 3 else x[..., None])
            return x if self.weight is None else x @ self.weight
        there = (x >= 0)[..., None]
        place = x.clamp(min=0)
        vectors = (
            F.one_hot(place, self.features).to(self.zero.dtype)
            if self.weight is None
            else F.embedding(place, self.weight)
        )
        vectors = torch.where(there, vectors, self.zero)
        return vectors if x.dim() == 2 else vectors.sum(dim=2)


def in_steps(x: Tensor) -> Tensor:
    """Return examples as sequences: images (B, C, H, W) as their rows (B, H, C W), all else as it is."""
    return x.transpose(1, 2).flatten(2) if x.dim() == 4 else x


class SequenceNetwork(nn.Module, ABC):
    """A network that goes through a sequence; the task says what is read out of it.

    Args:
        feature_shape: [L, F]; [L] of one number a step; or (C, H, W), an image that is read row by row, C W numbers a step.
        embedding: numbers that are learned for a symbol; None: its one-hot vector. keep_prob: of an embedding, and before the head.

    Attributes:
        readout: of activations (B, L, D): the `last` (B, D) of each example, their `mean` or `max`, `each` (B, L, D), or `next`: each,
            where a step has seen those before it alone, and x<1> = 0 (notes 000, part 13, section 3: x<t> = y<t-1>).
        sees_ahead: whether an activation depends on later steps. head: the last layer.
    """

    readout: Readout = "last"
    head: nn.Linear

    def __init__(self, feature_shape: Sequence[int], embedding: int | None, keep_prob: float) -> None:
        super().__init__()
        if len(feature_shape) > 3:
            raise Refusal("model", f"it goes through a sequence, an example has shape {list(feature_shape)}",
                          allowed="[length], [length, features], or an image, which is read row by row", example="data=series")  # fmt: skip
        features = prod(feature_shape[::2] if len(feature_shape) == 3 else feature_shape[1:])
        self.steps, self.dropout = Steps(features, embedding), nn.Dropout(1 - keep_prob)
        self._carried: Carried | None = None
        self._follows: Tensor | None = None

    @property
    def sees_ahead(self) -> bool:
        """Whether a step's activation depends on later steps."""
        return False

    @abstractmethod
    def activations(
        self, x: Tensor, lengths: Tensor, states: Sequence[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Map vectors (B, L, E) to activations (B, L, D), and to the states after the last step of each example.

        Args:
            lengths: (B,). states: before the first step; None: zeros.
        """

    def last(self, activations: Tensor, lengths: Tensor, states: Sequence[State]) -> Tensor:
        """Return the last activation (B, D) of each example."""
        return activations.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, activations.shape[2]))[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        """Map symbols (B, L) or (B, L, F), padded with -1, numbers (B, L) or (B, L, F), padded with NaN, or images (B, C, H, W)."""
        x = in_steps(x)
        mask = mask_of(x)
        inputs, lengths = self.steps(x), mask.sum(dim=1)
        follows, self._follows = self._follows, None  # said of this batch alone
        before = self._before(inputs, follows)
        shifted = self.shifted(inputs, before)
        shifted = self.dropout(shifted) if self.steps.embeds else shifted
        activations, states = self.activations(shifted, lengths, before and before[1])
        if follows is not None:
            self._keep(inputs, lengths, states)
        return self.head(self.dropout(self.read_out(activations, mask, lengths, states)))

    def follow(self, follows: Tensor | None) -> None:
        """Say which examples (B,) of the coming batch go on where those of the batch before ended; None: none, and nothing is kept."""
        self._follows = follows

    def _before(self, inputs: Tensor, follows: Tensor | None) -> Carried | None:
        """Return what is carried into a batch of vectors (B, L, E): 0 for examples that follow none."""
        if follows is None or self._carried is None or len(self._carried[0]) != len(inputs):
            return None
        vector, states = self._carried
        kept = follows.to(inputs.device, inputs.dtype)[:, None]
        return vector * kept[..., None], [tuple(each * kept for each in state) for state in states]

    def _keep(self, inputs: Tensor, lengths: Tensor, states: Sequence[State]) -> None:
        """Keep what the next batch may follow: without its past, so that back-propagation ends here (truncated)."""
        ends = (lengths - 1)[:, None, None].expand(-1, 1, inputs.shape[2])
        self._carried = inputs.gather(1, ends).detach(), [tuple(each.detach() for each in state) for state in states]

    def after(self, symbol: Tensor | None, states: list[State] | None) -> tuple[Tensor, list[State]]:
        """Return the logits (1, V) of what comes after a symbol (1,), and the states; None: after nothing, x<1> = 0."""
        vector = self.steps.zero.expand(1, 1, self.steps.width) if symbol is None else self.steps(symbol[:, None])
        length = torch.ones(1, dtype=torch.int64, device=vector.device)
        activations, states = self.activations(vector, length, states)
        return self.head(activations[:, 0]), states

    def shifted(self, inputs: Tensor, before: Carried | None) -> Tensor:
        """Return vectors (B, L, E) as the cells take them: where the next one is told, the one before each."""
        if self.readout != "next":
            return inputs
        first = torch.zeros_like(inputs[:, :1]) if before is None else before[0]
        return torch.cat([first, inputs[:, :-1]], dim=1)

    def read_out(self, activations: Tensor, mask: Tensor, lengths: Tensor, states: Sequence[State]) -> Tensor:
        """Return what the head takes, (B, D) or (B, L, D).

        Args:
            activations: (B, L, D). mask: (B, L), where examples are. lengths, states: as of `activations`.
        """
        if self.readout == "last":
            return self.last(activations, lengths, states)
        if self.readout == "mean":
            return torch.where(mask[..., None], activations, 0.0).sum(dim=1) / lengths[:, None]
        if self.readout == "max":
            return torch.where(mask[..., None], activations, -torch.inf).amax(dim=1)
        return activations
