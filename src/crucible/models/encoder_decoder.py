"""From a sequence to one of another length: an encoder reads, a decoder writes (notes 000, part 13, section 2: many to many).

Sutskever et al., 2014, arXiv:1409.3215: the decoder begins with the state in which the encoder ended.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crucible.data.ragged import mask_of
from crucible.data.text import END_NUMBER
from crucible.errors import Refusal
from crucible.models.recurrent import Recurrent, gru, lstm, rnn
from crucible.models.sequence import SequenceNetwork, State
from crucible.schema import Count, Norm, Probability


class EncoderDecoder(SequenceNetwork):
    """Reads an example up to its first <EOS>, and tells each of the symbols after it from what it read and those before.

    Args:
        feature_shape: [L, V]. num_outputs: V. cell: `rnn`, `gru` (torch's form) or `lstm`, of both. hidden, layers, embedding,
            keep_prob, max_norm: of each, as of the recurrent networks.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        cell: Literal["rnn", "gru", "lstm"],
        hidden: Count,
        layers: Count,
        embedding: Count | None,
        keep_prob: Probability,
        max_norm: Norm,
    ) -> None:
        if len(feature_shape) != 2 or feature_shape[1] != num_outputs:
            raise Refusal("model=encoder_decoder", f"it reads and writes symbols, an example has shape {list(feature_shape)}",
                          allowed="task=language with a text", example="data=dates task=language task.of=answer")  # fmt: skip
        super().__init__(feature_shape, embedding, keep_prob)
        shared: Any = {
            "hidden": hidden,
            "layers": layers,
            "bidirectional": False,
            "embedding": embedding,
            "keep_prob": keep_prob,
        }

        def network() -> Recurrent:
            if cell == "rnn":
                return rnn(feature_shape, num_outputs, activation="tanh", **shared)
            if cell == "gru":
                return gru(feature_shape, num_outputs, form="torch", **shared)
            return lstm(feature_shape, num_outputs, peephole=False, **shared)

        self.encoder, self.decoder, self.max_norm = network(), network(), max_norm
        self.head = nn.Linear(hidden, num_outputs)
        unused: Any = nn.Identity()
        self.encoder.head = self.decoder.head = self.decoder.steps = unused  # the decoder's are ours

    def activations(
        self, x: Tensor, lengths: Tensor, states: Sequence[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Return the decoder's activations (B, L, D) of vectors (B, L, E), and its states."""
        return self.decoder.activations(x, lengths, states)

    def forward(self, x: Tensor) -> Tensor:
        """Map symbols (B, L) to logits (B, L, V): of each symbol after the first <EOS>; 0 before it."""
        if x.is_floating_point():  # one-hot vectors, as a network is measured with
            x = x.argmax(dim=2)
        lengths = mask_of(x).sum(dim=1)
        read = _inputs(x, lengths)
        _, states = self.encoder.activations(self.encoder.dropout(self.encoder.steps(x[:, : int(read.max())])), read)
        written = lengths - read
        places = read[:, None] + torch.arange(max(1, int(written.max())), device=x.device)
        there = places < lengths[:, None]
        symbols = x.gather(1, places.clamp(max=x.shape[1] - 1)).masked_fill(~there, -1)
        told = torch.cat([torch.full_like(symbols[:, :1], -1), symbols[:, :-1]], dim=1)
        activations, _ = self.decoder.activations(self.dropout(self.steps(told)), written.clamp(min=1), states)
        logits = self.head(self.dropout(activations))
        rows, columns = there.nonzero(as_tuple=True)
        everywhere = logits.new_zeros(*x.shape, logits.shape[2])
        return everywhere.index_put((rows, places[rows, columns]), logits[rows, columns])

    def after(self, symbol: Tensor | None, states: list[State] | None) -> tuple[Tensor, list[State]]:
        """Return the logits (1, V) of what comes after a symbol (1,): before the first <EOS> of nothing, then what the decoder says.

        The states of the encoder have one number () more in front, which says that it still reads.
        """
        device = self.head.weight.device
        one, reading = torch.ones(1, dtype=torch.int64, device=device), (torch.ones((), device=device),)
        if symbol is None:
            return torch.zeros(1, self.head.out_features, device=device), [reading]
        if states is None or states[0][0].dim() > 0:
            return super().after(symbol, states)
        _, read = self.encoder.activations(self.encoder.steps(symbol[:, None]), one, states[1:] or None)
        if int(symbol) == END_NUMBER:
            return super().after(None, read)
        return torch.zeros(1, self.head.out_features, device=device), [reading, *read]


def _inputs(x: Tensor, lengths: Tensor) -> Tensor:
    """Return how many symbols (B,) of each example are read: up to its first <EOS>, or all of them where there is none."""
    ends = x == END_NUMBER
    return torch.where(ends.any(dim=1), ends.int().argmax(dim=1) + 1, lengths)
