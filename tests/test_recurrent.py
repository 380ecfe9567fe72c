"""Recurrent networks: cells against torch's own layers and hand-written loops, padding against examples one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from crucible.models.recurrent import Cell, GruCell, LstmCell, RnnCell, TorchGruCell, gru, lstm, reversed_in_time, rnn

CELLS = {
    "rnn tanh": lambda i, h: RnnCell(i, h, activation="tanh"),
    "rnn relu": lambda i, h: RnnCell(i, h, activation="relu"),
    "gru torch": TorchGruCell,
    "gru": GruCell,
    "lstm": lambda i, h: LstmCell(i, h, peephole=False),
    "lstm peephole": lambda i, h: LstmCell(i, h, peephole=True),
}
LENGTHS = torch.tensor([7, 3, 5, 1])


def made(name: str) -> Cell:
    torch.manual_seed(0)
    cell = CELLS[name](3, 5).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.5)
    return cell


@pytest.mark.parametrize("name", ["rnn tanh", "rnn relu", "gru torch", "lstm"])
@pytest.mark.parametrize("lengths", [LENGTHS, torch.full((4,), 7)], ids=["padded", "full"])
def test_the_plain_cell_is_the_fused_one_forward_and_backward(name, lengths) -> None:
    cell = made(name)
    x = torch.randn(4, 7, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for way in (cell.forward, lambda x, n: cell.plain(x, n, cell.start(x))):
        outputs, state = way(x, lengths)
        (outputs.pow(2).sum() + sum(each.sum() for each in state)).backward()
        found.append(
            [outputs.detach(), *(each.detach() for each in state), x.grad, *(p.grad for p in cell.parameters())]
        )
        x.grad = None
        cell.zero_grad()
    for fused, plain in zip(*found, strict=True):
        assert torch.allclose(fused, plain, atol=1e-6)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_the_notes_gru_is_their_formulas_in_a_loop() -> None:
    cell, x = made("gru"), torch.randn(1, 6, 3, dtype=torch.float64)
    w, b, c = cell.weight.detach().numpy(), cell.bias.detach().numpy(), np.zeros(5)
    for t in range(6):
        joined = np.concatenate([c, x[0, t].numpy()])
        update, reset = sigmoid(w[:5] @ joined + b[:5]), sigmoid(w[5:10] @ joined + b[5:10])
        candidate = np.tanh(w[10:] @ np.concatenate([reset * c, x[0, t].numpy()]) + b[10:])
        c = update * candidate + (1 - update) * c
    assert np.allclose(cell(x, torch.tensor([6]))[1][0][0].detach().numpy(), c, atol=1e-12)


def test_the_peephole_lstm_is_its_formulas_in_a_loop() -> None:
    cell, x = made("lstm peephole"), torch.randn(1, 6, 3, dtype=torch.float64)
    w, b, p = (each.detach().numpy() for each in (cell.weight, cell.bias, cell.peephole))
    a, c = np.zeros(5), np.zeros(5)
    for t in range(6):
        u, f, n, o = np.split(w @ np.concatenate([a, x[0, t].numpy()]) + b, 4)
        c_new = sigmoid(u + p[0] * c) * np.tanh(n) + sigmoid(f + p[1] * c) * c
        a, c = sigmoid(o + p[2] * c_new) * np.tanh(c_new), c_new
    assert np.allclose(cell(x, torch.tensor([6]))[1][0][0].detach().numpy(), a, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_padding_changes_nothing_and_windows_with_carried_state_are_one_long_pass(name) -> None:
    cell, x = made(name), torch.randn(4, 7, 3, dtype=torch.float64)
    outputs, state = cell(x, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        alone, last = cell(x[i : i + 1, :length], torch.tensor([length]))
        assert torch.allclose(outputs[i, :length], alone[0], atol=1e-12) and not outputs[i, length:].any()
        assert all(torch.allclose(a[i], b[0], atol=1e-12) for a, b in zip(state, last, strict=True))
    whole, end = cell(x, torch.full((4,), 7))
    first, carried = cell(x[:, :4], torch.full((4,), 4))
    second, after = cell(x[:, 4:], torch.full((4,), 3), carried)
    assert torch.allclose(torch.cat([first, second], dim=1), whole, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(after, end, strict=True))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_whole_networks_are_torchs(kind, layers, bidirectional) -> None:
    torch.manual_seed(0)
    make = {"rnn": lambda *a, **k: rnn(*a, **k, activation="tanh"), "gru": lambda *a, **k: gru(*a, **k, form="torch"),
            "lstm": lambda *a, **k: lstm(*a, **k, peephole=False)}[kind]  # fmt: skip
    ours = make([9, 3], 4, hidden=5, layers=layers, bidirectional=bidirectional, keep_prob=1.0).double()
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind](
        3, 5, layers, batch_first=True, bidirectional=bidirectional
    ).double()
    with torch.no_grad():
        for i in range(layers):
            for suffix, cells in (("", ours.forwards), ("_reverse", ours.backwards)):
                if len(cells):
                    getattr(theirs, f"weight_hh_l{i}{suffix}").copy_(cells[i].weight[:, :5])
                    getattr(theirs, f"weight_ih_l{i}{suffix}").copy_(cells[i].weight[:, 5:])
                    getattr(theirs, f"bias_ih_l{i}{suffix}").copy_(cells[i].bias)
                    getattr(theirs, f"bias_hh_l{i}{suffix}").copy_(cells[i].recurrent_bias())
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    wanted, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    found, states = ours.activations(x, LENGTHS)
    last = torch.cat([state[0] for state in states[-1 - bidirectional :]], dim=1)
    assert torch.allclose(found, wanted, atol=1e-6)
    ends = [wanted[i, n - 1, :5] for i, n in enumerate(LENGTHS.tolist())]
    assert torch.allclose(last[:, :5], torch.stack(ends), atol=1e-6)
    if bidirectional:
        assert torch.allclose(last[:, 5:], wanted[:, 0, 5:], atol=1e-6)
    padded = x.masked_fill(torch.arange(7)[None, :, None] >= LENGTHS[:, None, None], torch.nan)
    assert torch.allclose(ours(padded), ours.head(last), atol=1e-12)


def test_backwards_is_within_each_length() -> None:
    x = torch.arange(6.0).view(1, 6, 1).repeat(2, 1, 1)
    assert reversed_in_time(x, torch.tensor([6, 4]))[..., 0].tolist() == [[5, 4, 3, 2, 1, 0], [3, 2, 1, 0, 4, 5]]


def test_an_image_is_read_row_by_row() -> None:
    torch.manual_seed(0)
    model = lstm([2, 4, 3], 5, hidden=6, layers=1, bidirectional=True, keep_prob=1.0, peephole=False)
    x = torch.randn(3, 2, 4, 3)
    rows = torch.stack([torch.cat([x[:, 0, i], x[:, 1, i]], dim=1) for i in range(4)], dim=1)
    assert torch.allclose(model(x), model(rows), atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [lambda: RnnCell(3, 5, activation="tanh"), lambda: TorchGruCell(3, 5), lambda: LstmCell(3, 5, peephole=False)],
)
def test_a_state_goes_with_its_example_whatever_the_order_of_lengths(make) -> None:
    torch.manual_seed(0)
    cell = make().double()
    x, lengths = torch.randn(4, 7, 3, dtype=torch.float64), torch.tensor([3, 7, 1, 5])
    state = tuple(torch.randn(4, 5, dtype=torch.float64) for _ in range(cell.states))
    (found, after), (wanted, end) = cell(x, lengths, state), cell.plain(x, lengths, state)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(after, end, strict=True))
