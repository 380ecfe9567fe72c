"""Recurrent networks: RNN, GRU and LSTM, any depth, one direction or both (notes 000, part 13; 003, LSTM).

A cell is written out as the notes print it. Where torch's fused kernel computes the same, that one runs: the plain cell is what the
tests hold it against. W = [W_aa, W_ax] is one matrix, applied to [a<t-1>, x<t>].
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crucible.data.ragged import mask_of
from crucible.errors import Refusal
from crucible.models.contracts import OwnFanIn
from crucible.schema import Count, Probability

State = tuple[Tensor, ...]  # a, or a and c: (B, H) each


class Cell(OwnFanIn, ABC):
    """One direction of one layer: from inputs (B, L, I) to activations (B, L, H).

    Args:
        inputs: I. hidden: H.

    Attributes:
        gates: blocks of W, each (H, H + I). states: what is carried from step to step. fused: torch's layer of the same function, if
            there is one.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.n_in = hidden, hidden + inputs
        self.weight = nn.Parameter(torch.empty(self.gates * hidden, hidden + inputs))
        self.bias = nn.Parameter(torch.zeros(self.gates * hidden))
        nn.init.uniform_(self.weight, -(hidden**-0.5), hidden**-0.5)
        self.fused: tuple[nn.RNNBase, ...] = ()  # in a tuple: its weights are no parameters of ours

    @abstractmethod
    def step(self, x: Tensor, state: State) -> State:
        """Return the state after an input (B, I)."""

    def start(self, x: Tensor) -> State:
        """Return the state before inputs (B, L, I): a<0> = 0."""
        return tuple(x.new_zeros(len(x), self.hidden) for _ in range(self.states))

    def linear(self, a: Tensor, x: Tensor) -> Sequence[Tensor]:
        """Return W [a, x] + b in its blocks (B, H)."""
        return nn.functional.linear(torch.cat([a, x], dim=1), self.weight, self.bias).chunk(self.gates, dim=1)

    def recurrent_bias(self) -> Tensor:
        """Return torch's second bias, which the notes' cells do not have."""
        return torch.zeros_like(self.bias)

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map (B, L, I) to activations (B, L, H), 0 in the padding, and the state after the last input of each example.

        Args:
            lengths: (B,). state: before the first input; None: zeros.
        """
        state = self.start(x) if state is None else state
        return self._fused(x, lengths, state) if self.fused else self.plain(x, lengths, state)

    def plain(self, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """Go from step to step; an example that has ended keeps its state."""
        outputs = []
        for t in range(x.shape[1]):
            here = (t < lengths)[:, None]
            state = tuple(
                torch.where(here, new, old) for new, old in zip(self.step(x[:, t], state), state, strict=True)
            )
            outputs.append(torch.where(here, state[0], 0.0))
        return torch.stack(outputs, dim=1), state

    def _fused(self, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        own = {"weight_hh_l0": self.weight[:, : self.hidden], "weight_ih_l0": self.weight[:, self.hidden :], "bias_ih_l0": self.bias,
               "bias_hh_l0": self.recurrent_bias()}  # fmt: skip
        whole = x.is_meta or bool((lengths == x.shape[1]).all())
        packed = x if whole else pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        carried = tuple(each[None] for each in state)
        outputs, after = functional_call(self.fused[0], own, (packed, carried if len(carried) > 1 else carried[0]))
        if not whole:
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
        return outputs, tuple(each[0] for each in (after if isinstance(after, tuple) else (after,)))


class RnnCell(Cell):
    """a<t> = g(W [a<t-1>, x<t>] + b), g tanh or relu (notes 000, part 13, section 2)."""

    gates = 1

    def __init__(self, inputs: int, hidden: int, *, activation: Literal["tanh", "relu"]) -> None:
        super().__init__(inputs, hidden)
        self._activation = torch.tanh if activation == "tanh" else torch.relu
        self.fused = (_unweighted(nn.RNN, inputs, hidden, nonlinearity=activation),)

    def step(self, x: Tensor, state: State) -> State:
        """Return (a,) after an input (B, I)."""
        [z] = self.linear(state[0], x)
        return (self._activation(z),)


class GruCell(Cell):
    """The notes' GRU (000, part 13, section 5), with c = a.

    G_u = sigmoid(W_u [c, x] + b_u), G_r = sigmoid(W_r [c, x] + b_r), c~ = tanh(W_c [G_r * c, x] + b_c),
    c<t> = G_u * c~ + (1 - G_u) * c<t-1>. The blocks of W are u, r, c.
    """

    gates = 3

    def step(self, x: Tensor, state: State) -> State:
        """Return (c,) after an input (B, I)."""
        [c] = state
        update, reset = torch.sigmoid(self._part(c, x, slice(0, 2 * self.hidden))).chunk(2, dim=1)
        candidate = torch.tanh(self._part(reset * c, x, slice(2 * self.hidden, None)))
        return (update * candidate + (1 - update) * c,)

    def _part(self, a: Tensor, x: Tensor, rows: slice) -> Tensor:
        return nn.functional.linear(torch.cat([a, x], dim=1), self.weight[rows], self.bias[rows])


class TorchGruCell(Cell):
    """torch's GRU: another function than the notes'. It resets W_ca c + b_ca instead of c, and its update gate keeps, not replaces.

    r = sigmoid(W_r [h, x] + b_r), z = sigmoid(W_z [h, x] + b_z), n = tanh(W_nx x + b_n + r * (W_nh h + d_n)),
    h<t> = (1 - z) * n + z * h<t-1> (Cho et al., 2014, arXiv:1406.1078, with a second bias). The blocks of W are r, z, n.
    """

    gates = 3

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden)
        self.second_bias = nn.Parameter(torch.zeros(hidden))  # d_n
        self.fused = (_unweighted(nn.GRU, inputs, hidden),)

    def step(self, x: Tensor, state: State) -> State:
        """Return (h,) after an input (B, I)."""
        [h] = state
        of_h, of_x = (
            nn.functional.linear(each, weight)
            for each, weight in ((h, self.weight[:, : self.hidden]), (x, self.weight[:, self.hidden :]))
        )
        (r_h, z_h, n_h), (r_x, z_x, n_x) = of_h.chunk(3, dim=1), (of_x + self.bias).chunk(3, dim=1)
        reset, keep = torch.sigmoid(r_h + r_x), torch.sigmoid(z_h + z_x)
        candidate = torch.tanh(n_x + reset * (n_h + self.second_bias))
        return ((1 - keep) * candidate + keep * h,)

    def recurrent_bias(self) -> Tensor:
        """Return (0, 0, d_n)."""
        return torch.cat([torch.zeros_like(self.bias[: 2 * self.hidden]), self.second_bias])


class LstmCell(Cell):
    """The notes' LSTM (000, part 13, section 6), a and c two things.

    G_u, G_f, G_o = sigmoid(W [a, x] + b), c~ = tanh(W_c [a, x] + b_c), c<t> = G_u * c~ + G_f * c<t-1>, a<t> = G_o * tanh(c<t>).
    The blocks of W are u, f, c, o. Its forget gate starts at b_f = 1 (Jozefowicz et al., 2015): it remembers until it learns not to.

    Args:
        inputs, hidden: of a cell. peephole: the gates see c too, each unit its own (Gers and Schmidhuber, 2000; 003, LSTM).
    """

    gates = 4
    states = 2

    def __init__(self, inputs: int, hidden: int, *, peephole: bool) -> None:
        super().__init__(inputs, hidden)
        self.peephole = nn.Parameter(torch.zeros(3, hidden)) if peephole else None
        self.fused = () if peephole else (_unweighted(nn.LSTM, inputs, hidden),)
        with torch.no_grad():
            self.bias[hidden : 2 * hidden] = 1.0

    def step(self, x: Tensor, state: State) -> State:
        """Return (a, c) after an input (B, I)."""
        (a, c), seen = state, self.peephole
        update, forget, candidate, output = self.linear(a, x)
        if seen is not None:
            update, forget = update + seen[0] * c, forget + seen[1] * c
        c = torch.sigmoid(update) * torch.tanh(candidate) + torch.sigmoid(forget) * c
        output = output if seen is None else output + seen[2] * c
        return torch.sigmoid(output) * torch.tanh(c), c


class Recurrent(nn.Module):
    """Cells over cells, a[i]<t> from a[i]<t-1> and a[i-1]<t>; then one linear layer of the last activation (many to one).

    Of both directions a layer gives [a_forward, a_backward], and the last activations are those at the two ends.

    Args:
        feature_shape: [L, F]; [L] of one number a step; or (C, H, W), an image that is read row by row, C W numbers a step. num_outputs: 1 for a binary task, else the number of classes, K.
        cell: makes one of (inputs, hidden). hidden: H. layers: cells over each other. bidirectional: whether there is a second
            direction. keep_prob: of an activation between layers and before the last one, in training.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        cell: Callable[[int, int], Cell],
        *,
        hidden: Count,
        layers: Count,
        bidirectional: bool,
        keep_prob: Probability,
    ) -> None:
        super().__init__()
        if len(feature_shape) > 3:
            raise Refusal("model", f"it goes through a sequence, an example has shape {list(feature_shape)}",
                          allowed="[length], [length, features], or an image, which is read row by row", example="data=series")  # fmt: skip
        directions, width = (
            1 + bidirectional,
            prod(feature_shape[::2] if len(feature_shape) == 3 else feature_shape[1:]),
        )
        self.forwards, self.backwards = nn.ModuleList(), nn.ModuleList()
        for i in range(layers):
            inputs = width if i == 0 else directions * hidden
            self.forwards.append(cell(inputs, hidden))
            if bidirectional:
                self.backwards.append(cell(inputs, hidden))
        self.dropout = nn.Dropout(1 - keep_prob)
        self.head = nn.Linear(directions * hidden, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map examples (B, L) or (B, L, F), padded with NaN, or images (B, C, H, W), to logits (B, K)."""
        x = x.transpose(1, 2).flatten(2) if x.dim() == 4 else x
        lengths = mask_of(x).sum(dim=1)
        x = torch.nan_to_num(x if x.dim() == 3 else x[..., None])
        _, last = self.activations(x, lengths)
        return self.head(self.dropout(last))

    def activations(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, L, F) to the last layer's activations (B, L, D), and to its last ones (B, D)."""
        last: list[Tensor] = []
        for i, forwards in enumerate(self.forwards):
            x = self.dropout(x) if i else x
            outputs, state = forwards(x, lengths)
            last = [state[0]]
            if self.backwards:
                back, state = self.backwards[i](reversed_in_time(x, lengths), lengths)
                outputs = torch.cat([outputs, reversed_in_time(back, lengths)], dim=2)
                last.append(state[0])
            x = outputs
        return x, torch.cat(last, dim=1)


def reversed_in_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Return examples (B, L, F) backwards, each within its own length (B,); the padding stays behind."""
    places = torch.arange(x.shape[1], device=x.device)
    turned = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
    return x.gather(1, turned[..., None].expand_as(x))


def rnn(
    feature_shape: Sequence[int],
    num_outputs: int,
    *,
    hidden: Count,
    layers: Count,
    bidirectional: bool,
    keep_prob: Probability,
    activation: Literal["tanh", "relu"],
) -> Recurrent:
    """Return a plain recurrent network."""
    make = partial(RnnCell, activation=activation)
    return Recurrent(
        feature_shape, num_outputs, make, hidden=hidden, layers=layers, bidirectional=bidirectional, keep_prob=keep_prob
    )


def gru(
    feature_shape: Sequence[int],
    num_outputs: int,
    *,
    hidden: Count,
    layers: Count,
    bidirectional: bool,
    keep_prob: Probability,
    form: Literal["notes", "torch"],
) -> Recurrent:
    """Return a network of gated recurrent units, as the notes or as torch has them."""
    make = GruCell if form == "notes" else TorchGruCell
    return Recurrent(
        feature_shape, num_outputs, make, hidden=hidden, layers=layers, bidirectional=bidirectional, keep_prob=keep_prob
    )


def lstm(
    feature_shape: Sequence[int],
    num_outputs: int,
    *,
    hidden: Count,
    layers: Count,
    bidirectional: bool,
    keep_prob: Probability,
    peephole: bool,
) -> Recurrent:
    """Return a network of long short-term memory."""
    make = partial(LstmCell, peephole=peephole)
    return Recurrent(
        feature_shape, num_outputs, make, hidden=hidden, layers=layers, bidirectional=bidirectional, keep_prob=keep_prob
    )


def _unweighted(kind: Callable[..., nn.RNNBase], inputs: int, hidden: int, **more: str) -> nn.RNNBase:
    """Return torch's layer without numbers: a cell lends it its own."""
    return kind(inputs, hidden, batch_first=True, device="meta", **more).requires_grad_(requires_grad=False)
