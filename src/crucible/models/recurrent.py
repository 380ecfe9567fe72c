"""Recurrent networks: RNN, GRU and LSTM, any depth, one direction or both (notes 000, part 13; 003, LSTM).

A cell is written out as the notes print it. Where torch's fused kernel computes the same, that one runs: the plain cell is what the
tests hold it against. W = [W_aa, W_ax] is one matrix, applied to [a<t-1>, x<t>].
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, ClassVar, Literal, NotRequired, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from crucible.models.contracts import OwnFanIn
from crucible.models.sequence import SequenceNetwork, State
from crucible.schema import Count, Norm, Probability


class Cell(OwnFanIn, ABC):
    """One direction of one layer: from inputs (B, L, I) to activations (B, L, H).

    Args:
        inputs: I. hidden: H.

    Attributes:
        gates: blocks of W, each (H, H + I). states: what is carried from step to step. fused: torch's kernel of the same function, if
            there is one.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    fused: Callable[..., Any] | None = None

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.n_in = hidden, hidden + inputs
        self.weight = nn.Parameter(torch.empty(self.gates * hidden, hidden + inputs))
        self.bias = nn.Parameter(torch.zeros(self.gates * hidden))
        nn.init.uniform_(self.weight, -(hidden**-0.5), hidden**-0.5)

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
        kernel = (
            self._fused if self.fused is not None and x.shape[1] > 1 else self.plain
        )  # one step alone copies less than the kernel
        return kernel(x, lengths, state)

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
        """Let torch's kernel of one layer do the same; its weights lie in one piece, as CUDA wants them."""
        assert self.fused is not None
        weights, carried = self._in_one_piece(), [each[None] for each in state]
        settings = (True, 1, 0.0, True, False)  # biases, layers, dropout, a backward pass, one direction
        if x.is_meta or bool((lengths == x.shape[1]).all()):
            outputs, *after = self.fused(x, _one_or_all(carried), weights, *settings, True)
            return outputs, tuple(each[0] for each in after)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        there, back = packed.sorted_indices, packed.unsorted_indices
        carried = [each[:, there] for each in carried]
        values, *after = self.fused(packed.data, packed.batch_sizes, _one_or_all(carried), weights, *settings)
        outputs, _ = pad_packed_sequence(
            PackedSequence(values, packed.batch_sizes, there, back), batch_first=True, total_length=x.shape[1]
        )
        return outputs, tuple(each[0, back] for each in after)

    def _in_one_piece(self) -> list[Tensor]:
        """Return W_ax, W_aa and both biases as torch's kernels take them, one after the other in memory."""
        parts = [self.weight[:, self.hidden :], self.weight[:, : self.hidden], self.bias, self.recurrent_bias()]
        flat = torch.cat([part.reshape(-1) for part in parts])
        return [
            piece.view(part.shape)
            for piece, part in zip(flat.split([part.numel() for part in parts]), parts, strict=True)
        ]


class RnnCell(Cell):
    """a<t> = g(W [a<t-1>, x<t>] + b), g tanh or relu (notes 000, part 13, section 2)."""

    gates = 1

    def __init__(self, inputs: int, hidden: int, *, activation: Literal["tanh", "relu"]) -> None:
        super().__init__(inputs, hidden)
        self._activation = torch.tanh if activation == "tanh" else torch.relu
        self.fused = torch.rnn_tanh if activation == "tanh" else torch.rnn_relu

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
        self.fused = torch.gru

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
        self.fused = None if peephole else torch.lstm
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


class Settings(TypedDict):
    """What every recurrent network is told.

    hidden: H. layers: cells over each other. bidirectional: whether there is a second direction. embedding: numbers that are learned
    for a symbol; null: a symbol is its one-hot vector. keep_prob: of an activation before each layer but the first, and before the
    last one, in training; of an embedding, too. max_norm: to which its gradient is cut, which else may explode (notes 000, part 13, 5).
    """

    hidden: Count
    layers: Count
    bidirectional: bool
    embedding: NotRequired[Count | None]
    keep_prob: Probability
    max_norm: NotRequired[Norm]


class Recurrent(SequenceNetwork):
    """Cells over cells, a[i]<t> from a[i]<t-1> and a[i-1]<t>; then one linear layer of what the task reads out.

    Of both directions a layer gives [a_forward, a_backward], and the last activations are those at the two ends.

    Args:
        feature_shape: see SequenceNetwork. num_outputs: K.
        cell: makes one of (inputs, hidden). settings: see Settings.
    """

    def __init__(
        self, feature_shape: Sequence[int], num_outputs: int, cell: Callable[[int, int], Cell], settings: Settings
    ) -> None:
        super().__init__(feature_shape, settings.get("embedding"), settings["keep_prob"])
        hidden, directions = settings["hidden"], 1 + settings["bidirectional"]
        self.forwards, self.backwards = nn.ModuleList(), nn.ModuleList()
        for i in range(settings["layers"]):
            inputs = directions * hidden if i else self.steps.width
            self.forwards.append(cell(inputs, hidden))
            if settings["bidirectional"]:
                self.backwards.append(cell(inputs, hidden))
        self.max_norm = settings.get("max_norm") or inf
        self.head = nn.Linear(directions * hidden, num_outputs)

    @property
    def sees_ahead(self) -> bool:
        """Whether a step's activation depends on later steps."""
        return len(self.backwards) > 0

    def activations(
        self, x: Tensor, lengths: Tensor, states: Sequence[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Map (B, L, F) to the last layer's activations (B, L, D), and to each cell's state after the last step.

        Args:
            lengths: (B,). states: of each layer before the first step; None: zeros.
        """
        after: list[State] = []
        for i, forwards in enumerate(self.forwards):
            x = self.dropout(x) if i else x
            outputs, state = forwards(x, lengths, states[i] if states else None)
            after.append(state)
            if self.backwards:
                back, state = self.backwards[i](reversed_in_time(x, lengths), lengths)
                outputs = torch.cat([outputs, reversed_in_time(back, lengths)], dim=2)
                after.append(state)
            x = outputs
        return x, after

    def last(self, activations: Tensor, lengths: Tensor, states: Sequence[State]) -> Tensor:
        """Return the last layer's last activation (B, D), of both directions."""
        return torch.cat([state[0] for state in states[-1 - self.sees_ahead :]], dim=1)


def reversed_in_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Return examples (B, L, F) backwards, each within its own length (B,); the padding stays behind."""
    places = torch.arange(x.shape[1], device=x.device)
    turned = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
    return x.gather(1, turned[..., None].expand_as(x))


def rnn(
    feature_shape: Sequence[int], num_outputs: int, *, activation: Literal["tanh", "relu"], **settings: Unpack[Settings]
) -> Recurrent:
    """Return a plain recurrent network."""
    return Recurrent(feature_shape, num_outputs, partial(RnnCell, activation=activation), settings)


def gru(
    feature_shape: Sequence[int], num_outputs: int, *, form: Literal["notes", "torch"], **settings: Unpack[Settings]
) -> Recurrent:
    """Return a network of gated recurrent units, as the notes or as torch has them."""
    return Recurrent(feature_shape, num_outputs, GruCell if form == "notes" else TorchGruCell, settings)


def lstm(feature_shape: Sequence[int], num_outputs: int, *, peephole: bool, **settings: Unpack[Settings]) -> Recurrent:
    """Return a network of long short-term memory."""
    return Recurrent(feature_shape, num_outputs, partial(LstmCell, peephole=peephole), settings)


def _one_or_all(state: list[Tensor]) -> Any:
    """Return a state as torch's kernels take it: one tensor, or a pair."""
    return state[0] if len(state) == 1 else state
