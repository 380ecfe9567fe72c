"""Language models: the loss by hand, the state carried over windows, sampling, and the commands that ask them."""

import csv
import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import card_of

from crucible.data.batches import following, streams
from crucible.data.ragged import concatenated
from crucible.errors import Refusal
from crucible.inference.language import nats_of, samples
from crucible.inference.saved_run import load_run
from crucible.metrics.text import ratio_spread
from crucible.models.encoder_decoder import EncoderDecoder
from crucible.models.recurrent import gru, lstm, rnn
from crucible.models.sequence import Steps
from crucible.models.window import Window
from crucible.tasks.language import Language
from crucible.tasks.steps import _drawn
from crucible.training.fit import evaluate
from crucible.training.lag import gradient_at_lags

V = 7
TEXT = card_of((9, V))
SYMBOLS = replace(
    TEXT,
    dtype="int64",
    lengths={"shortest": 1, "mean": 3.0, "longest": 9, "entropy": 1.5, "answers": True, "most": {"dev": 0.25}},
)
SETTINGS = {"hidden": 6, "layers": 2, "bidirectional": False, "keep_prob": 1.0}
NETWORKS = {
    "rnn": lambda **k: rnn([9, V], V, **SETTINGS | k, activation="tanh"),
    "gru": lambda **k: gru([9, V], V, **SETTINGS | k, form="notes"),
    "lstm": lambda **k: lstm([9, V], V, **SETTINGS | k, peephole=True),
    "window": lambda **k: Window(
        [9, V], V, width=3, side="past", layers=[6], activation="tanh", embedding=k.get("embedding"), keep_prob=1.0
    ),
}


def language(**settings) -> Language:
    return Language(SYMBOLS, **{"monitor": "loss", "goal": "minimize", "tolerance": 0.02} | settings)


def network(name: str, **settings) -> torch.nn.Module:
    torch.manual_seed(3)
    model = NETWORKS[name](**settings).double()
    return language().attach(model)


def batch_of(x: torch.Tensor, **more) -> dict[str, torch.Tensor]:
    return {"x": x, "mask": x >= 0, "label": torch.zeros(len(x), dtype=torch.int64), **more}


def texts(lengths, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(V, (n,), generator=draw) for n in lengths]


def padded(examples) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(examples, batch_first=True, padding_value=-1)


@pytest.mark.parametrize("embedding", [None, 4])
def test_a_step_is_its_one_hot_vector_or_a_row_of_a_matrix(embedding) -> None:
    steps, x = Steps(V, embedding), torch.tensor([[2, 0, -1], [6, 6, 1]])
    matrix = torch.eye(V) if embedding is None else steps.weight
    wanted = torch.stack(
        [torch.stack([matrix[s] if s >= 0 else torch.zeros(steps.width) for s in row]) for row in x.tolist()]
    )
    assert torch.equal(steps(x), wanted)
    several = torch.tensor([[[2, 0], [1, 1]]])
    assert torch.allclose(steps(several)[0], torch.stack([matrix[2] + matrix[0], 2 * matrix[1]]))
    assert torch.allclose(steps(F.one_hot(x.clamp(min=0), V).float()), steps(x.clamp(min=0)))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_is_that_of_a_loop_over_tokens(name) -> None:
    """Each text alone, one token after the other, from x<1> = 0: sum of -ln p over all tokens, divided by their number."""
    model, examples = network(name), texts([5, 1, 9, 3])
    total = 0.0
    for text in examples:
        states = None
        logits, states = model.after(None, states)
        for symbol in text:
            total -= float(logits.log_softmax(dim=1)[0, symbol])
            logits, states = model.after(symbol[None], states)
    found = language().losses(model, batch_of(padded(examples)))
    assert float(found["loss"]) == pytest.approx(total / 18, rel=1e-6)
    assert float(found["padding/share"]) == pytest.approx(1 - 18 / 36)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_knows_nothing_of_its_own_token_and_those_after_it(name) -> None:
    model, [text] = network(name), texts([9])
    before = model(text[None])
    for t in range(9):
        other = text.clone()
        other[t] = (other[t] + 1) % V
        after = model(other[None])
        assert torch.equal(before[0, : t + 1], after[0, : t + 1])
        assert t == 8 or not torch.allclose(before[0, t + 1], after[0, t + 1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_padded_batch_is_its_texts_one_by_one(name) -> None:
    model, examples = network(name), texts([4, 9, 1])
    together = model(padded(examples))
    for row, text in enumerate(examples):
        assert torch.allclose(together[row, : len(text)], model(text[None])[0], atol=1e-12)


@pytest.mark.parametrize("embedding", [None, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_state_carried_over_windows_is_one_long_pass(name, embedding) -> None:
    model, [first, second] = network(name, embedding=embedding), texts([12, 12])
    whole = model(torch.stack([first, second]))
    parts = []
    for start in (0, 4, 8):
        model.follow(torch.full((2,), start > 0))
        parts.append(model(torch.stack([first, second])[:, start : start + 4]))
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-12)
    model.follow(torch.tensor([True, False]))  # of the second text nothing is carried on
    mixed = model(torch.stack([first[:4], second[:4]]))
    assert torch.allclose(mixed[1], whole[1, :4], atol=1e-12) and not torch.allclose(mixed[0], whole[0, :4])
    model.follow(None)
    assert torch.allclose(model(first[None, :4])[0], whole[0, :4], atol=1e-12)


def test_back_propagation_ends_at_the_edge_of_a_window() -> None:
    """Truncated back-propagation: the gradient of the second window alone, its start taken for a constant."""
    task, model, [text] = language(), network("lstm"), texts([8])
    task.losses(model, batch_of(text[None, :4], follows=torch.tensor([False])))
    vector, states = model._carried
    task.losses(model, batch_of(text[None, 4:], follows=torch.tensor([True])))["loss"].backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    inputs = torch.cat([vector, model.steps(text[None, 4:-1])], dim=1)
    activations, _ = model.activations(inputs, torch.tensor([4]), states)
    F.cross_entropy(model.head(activations)[0], text[4:]).backward()
    wanted = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, wanted, strict=True))


def test_streams_take_every_window_once_and_go_on() -> None:
    order = streams(torch.zeros(23), torch.Generator().manual_seed(1), 4)
    assert sorted(order.tolist()) == list(range(23))
    follows = following(order, 4)
    assert not follows[:4].any()
    for place in range(4, 20):
        assert bool(follows[place]) == (order[place] == order[place - 4] + 1)
    assert follows[4:20].sum() >= 15  # but where the text begins anew
    other = streams(torch.zeros(23), torch.Generator().manual_seed(2), 4)
    assert not torch.equal(order, other)


def test_the_numbers_are_their_definitions() -> None:
    task, model, examples = language(), network("gru"), texts([5, 2, 7], seed=4)
    nats, wrong = 0.0, 0
    for text in examples:
        logits = model(text[None])[0].log_softmax(dim=1)
        nats -= float(logits.gather(1, text[:, None]).sum())
        wrong += int((logits.argmax(dim=1) != text).sum())
    found = evaluate(model, task, [batch_of(padded(examples[:2])), batch_of(padded(examples[2:]))])
    assert found == {
        "loss": pytest.approx(nats / 14), "perplexity": pytest.approx(math.exp(nats / 14)),
        "bits_per_token": pytest.approx(nats / 14 / math.log(2)), "error": pytest.approx(wrong / 14),
    }  # fmt: skip


def test_the_spread_of_a_ratio_is_that_of_many_samples() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(1, 30, (4000, 200)).astype(float)
    part = rng.binomial(whole.astype(int), rng.beta(2, 5, (4000, 200)))
    measured = (part.sum(axis=1) / whole.sum(axis=1)).std()
    assert np.mean([ratio_spread(part[i], whole[i]) for i in range(200)]) == pytest.approx(measured, rel=0.05)


def test_what_cannot_be_a_language_model_is_refused() -> None:
    with pytest.raises(Refusal, match="from the end has seen it"):
        language().attach(NETWORKS["lstm"](bidirectional=True))
    with pytest.raises(Refusal, match="step by step"):
        language().attach(torch.nn.Linear(2, 2))
    with pytest.raises(Refusal, match="makes models worse"):
        language(goal="maximize")


def test_an_answer_alone_counts() -> None:
    model, text = network("gru"), torch.tensor([[3, 4, 1, 5, 2, 1]])  # 1 is <EOS>
    task = language(of="answer")
    logits = model(text)[0].log_softmax(dim=1)
    wanted = -logits.gather(1, text[0][:, None])[3:].mean()
    assert float(task.losses(model, batch_of(text))["loss"]) == pytest.approx(float(wanted))
    assert language(of="answer").chance_loss([]) is None and language().chance_loss([]) == 1.5


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_decoder_begins_where_the_encoder_ended(cell) -> None:
    torch.manual_seed(0)
    model = EncoderDecoder([9, V], V, cell=cell, hidden=5, layers=2, embedding=4, keep_prob=1.0, max_norm=1.0).double()
    language(of="answer").attach(model)
    x = torch.tensor([[3, 4, 1, 5, 2, 1, -1], [6, 1, 2, 1, -1, -1, -1]])
    found = model(x)
    for row, (read, written) in enumerate([(3, 3), (2, 2)]):
        _, states = model.encoder.activations(model.encoder.steps(x[row : row + 1, :read]), torch.tensor([read]))
        told = torch.tensor([[-1, *x[row, read : read + written - 1].tolist()]])
        activations, _ = model.decoder.activations(model.steps(told), torch.tensor([written]), states)
        assert torch.allclose(found[row, read : read + written], model.head(activations)[0], atol=1e-12)
        states, one = None, []
        logits, states = model.after(None, None)
        for symbol in x[row, : read + written].tolist():
            one.append(logits)
            logits, states = model.after(torch.tensor([symbol]), states)
        assert torch.allclose(torch.cat(one)[read:], found[row, read : read + written], atol=1e-12)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_the_gradient_at_a_lag_is_a_finite_difference(name) -> None:
    model, x = network(name), torch.stack(texts([9, 9, 9]))
    found = gradient_at_lags(model, x)
    assert list(found) == [f"gradient_at_lag/{lag}" for lag in (0, 1, 2, 4, 8)]
    draw = torch.randn(6, generator=torch.Generator().manual_seed(0)).double()

    def last(vectors: torch.Tensor) -> float:
        lengths = torch.full((3,), 9)
        activations, _ = model.activations(vectors, lengths)
        return float((activations[:, -1] @ draw).sum())

    vectors, step = model.steps(x).double(), 1e-6
    for lag in (0, 4):
        slopes = []
        for i in range(3):
            for j in range(V):
                moved = [vectors.clone() for _ in range(2)]
                moved[0][i, 8 - lag, j] += step
                moved[1][i, 8 - lag, j] -= step
                slopes.append((last(moved[0]) - last(moved[1])) / (2 * step))
        assert found[f"gradient_at_lag/{lag}"] == pytest.approx(math.sqrt(np.mean(np.square(slopes))), rel=1e-4)


def test_gates_keep_a_gradient_that_a_plain_network_loses() -> None:
    """Bengio et al., 1994: over 64 steps the gradient of tanh units shrinks; an LSTM that forgets little keeps some of it."""
    x, kept = torch.stack([each.repeat(8)[:65] for each in texts([9, 9])]), {}
    for name in ("rnn", "lstm"):
        model = network(name, layers=1, hidden=20)
        with torch.no_grad():
            if name == "lstm":
                model.forwards[0].bias[20:40] = 4.0
        found = gradient_at_lags(model, x)
        kept[name] = found["gradient_at_lag/64"] / found["gradient_at_lag/0"]
    assert kept["lstm"] > 1000 * kept["rnn"]


def test_batches_of_other_lengths_are_joined_padded() -> None:
    joined = concatenated([torch.ones(2, 3), torch.zeros(1, 2)])
    assert joined.shape == (3, 3) and joined[2, :2].tolist() == [0, 0] and bool(joined[2, 2].isnan())
    assert concatenated([torch.ones(1, 1, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)]).tolist() == [
        [1, -1],
        [0, 0],
    ]
    assert concatenated([torch.ones(2), torch.zeros(1)]).tolist() == [1, 1, 0]


NAMES = "".join(
    f"{a}{b}{c}saurus\n"
    for a in ("tri", "bron", "al", "ste")
    for b in ("o", "a", "ce")
    for c in ("to", "lo", "go", "ra")
)
QUICK = (
    "data=text",
    "task=language",
    "model=gru",
    "model.hidden=24",
    "tracking=none",
    "trainer.threads=1",
    "trainer.batch_size=8",
    "optimizer.lr=0.02",
)


@pytest.fixture
def names(tmp_path) -> Path:
    (tmp_path / "names.txt").write_text(NAMES)
    return tmp_path / "names.txt"


def test_names_are_learned_scored_and_made(command, names) -> None:
    done = command("train", *QUICK, f"data.path={names}", "trainer.total_epochs=20")
    assert done.code == 0, done.err
    summary = json.loads(Path("outputs/latest/train.json").read_text())
    assert set(summary["dev"]) == {"loss", "perplexity", "bits_per_token", "error"}
    assert summary["dev"]["loss"] < 1.0 < summary["diagnosis"]["signs"]["loss_of_guessing"]
    saved = load_run(Path("outputs/latest"), torch.device("cpu"))
    pairs = nats_of(saved, "tricetosaurus", ends=True)
    assert [token for token, _ in pairs] == [*"tricetosaurus", "<EOS>"]
    done = command("score", "tricetosaurus", "xq", "ends=true", "format=json")
    rows = json.loads(done.out)
    assert rows[0]["log_probability"] == pytest.approx(-sum(nats for _, nats in pairs), abs=1e-4)
    assert rows[0]["log_probability"] > rows[1]["log_probability"] and rows[1]["unknown"] == ["x", "q"]
    done = command("score", "tricetosaurus", "tricetosaurux")
    assert "the likeliest is 'tricetosaurus'" in done.out and "<UNK>" in done.out
    made = ["".join(islice(samples(saved, "", temperature=0.5, seed=seed), 40)) for seed in range(20)]
    assert np.mean([name.endswith("saurus") for name in made]) > 0.8
    done = command("sample", "count=3", "temperature=0.5")
    assert done.out.splitlines()[:3] == made[:3]
    assert "a second" in done.out
    assert "".join(samples(saved, "tri", temperature=0, seed=0)).endswith("saurus")
    done = command("evaluate", "run=latest")
    assert done.code == 0, done.err
    metrics = json.loads(Path("outputs/latest/metrics.json").read_text())
    rows = list(csv.DictReader(Path("outputs/latest/predictions.csv").read_text().splitlines()))
    nats = sum(int(row["tokens"]) * float(row["nats_per_token"]) for row in rows) / sum(
        int(row["tokens"]) for row in rows
    )
    assert metrics["test"]["loss"] == pytest.approx(nats, abs=1e-5)
    (names.parent / "new.txt").write_text("tricetosaurus\nxxxx\n")
    done = command("predict", f"input={names.parent / 'new.txt'}", "format=json")
    said = json.loads(done.out)
    assert said[0]["predicted"]["nats_per_token"] < said[1]["predicted"]["nats_per_token"]


def test_a_model_is_resumed_to_the_same_bits(command, train_until_killed, names) -> None:
    words = (*QUICK, f"data.path={names}", "data.reader.item=file", "data.reader.window=10", "data.sampling=streams", "trainer.total_epochs=4",
             "model.keep_prob=0.8", "trainer.checkpoint_every=1")  # fmt: skip
    assert command("train", *words, "hydra.run.dir=outputs/whole").code == 0
    train_until_killed(*words, "hydra.run.dir=outputs/killed")
    assert command("train", "resume=outputs/killed").code == 0
    weights = [(Path("outputs") / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert command("train", *words, "seed=1", "hydra.run.dir=outputs/other").code == 0
    assert (Path("outputs/other") / "weights.safetensors").read_bytes() != weights[0]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("task=language",), "these data are no text"),
        (("data=text", "task=language", "model=lstm", "data.path=none.txt"), "does not exist"),
        (("data=text", "task=language", "model=mlp", "data.path=names.txt"), "step by step"),
        (("data=text", "task=language", "model=lstm", "data.path=empty.txt"), "no text in it"),
        (("data=text", "task=language", "model=lstm", "data.path=names.txt", "model.bidirectional=true"), "has seen it"),
        (("data=text", "task=language", "model=lstm", "data.path=one.txt"), "nothing to tell apart"),
        (("data=text", "task=language", "model=lstm", "data.path=names.txt", "data.normalize=standard"), "symbols have no mean"),
        (("data=prose_or_code", "task=sequence", "model=lstm", "data.sampling=streams"), "go on from each other"),
        (("data=text", "task=language", "model=lstm", "data.path=names.txt", "data.sampling=balanced"), "no classes"),
        (("data=text", "task=classification", "model=lstm", "data.path=names.txt"), "classes"),
        (("data=text", "task=language", "model=lstm", "data.path=names.txt", "data.reader.max_length=5", "data.reader.too_long=refuse"), "tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_any_work(command, words, what) -> None:
    Path("names.txt").write_text(NAMES)
    Path("empty.txt").write_text("\n  \n")
    Path("one.txt").write_text("a\naa\naaa\naaaa\naaaaa\naaaaaa\n")
    done = command("train", "tracking=none", *words)
    assert done.code == 2 and what in done.err and "Traceback" not in done.err, done.err
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("verb", "words", "what"),
    [
        ("sample", (), "no language model"),
        ("score", ("a b",), "no language model"),
        ("sample", ("temperature=-1",), "number from 0"),
        ("sample", ("length=0",), "length=0"),
    ],
)
def test_a_run_of_another_task_writes_nothing(command, verb, words, what) -> None:
    assert command("train", "tracking=none", "trainer.total_epochs=1").code == 0
    done = command(verb, *words)
    assert done.code == 2 and what in done.err, done.err


def test_a_score_needs_a_text(command, names) -> None:
    assert command("train", *QUICK, f"data.path={names}", "trainer.total_epochs=1").code == 0
    assert "is missing" in command("score").err
    assert "no token in ''" in command("score", "").err
    assert (
        "no text" in command("predict", f"input={names.parent}").err
        or "takes text" in command("predict", f"input={names.parent}").err
    )


def test_a_gradient_that_time_eats_is_named_with_what_keeps_it(command) -> None:
    words = ("data=agreement", "data.reader.distance=40", "data.reader.train_size=200", "data.reader.dev_size=100", "data.reader.test_size=50",
             "task=sequence", "tracking=none", "trainer.threads=1", "trainer.total_epochs=2", "trainer.batch_size=64")  # fmt: skip
    done = command("train", *words, "model=rnn", "model.hidden=10")
    assert done.code == 0 and "gradients vanish over time" in done.err
    summary = json.loads(Path("outputs/latest/train.json").read_text())
    assert any("model=lstm" in each["command"] for each in summary["diagnosis"]["advice"] if each["command"])
    done = command("train", *words, "model=lstm")
    assert done.code == 0 and "over time" not in done.err
    header = Path("outputs/latest/curves.csv").read_text().splitlines()[0]
    assert "gradient_at_lag/32" in header and "train/padding/share" in header


@pytest.mark.slow
def test_the_gradient_check_goes_through_time(command, names) -> None:
    for model in (
        ("model=rnn",),
        ("model=gru",),
        ("model=lstm", "model.peephole=true"),
        ("model=lstm", "model.embedding=5"),
    ):
        done = command("train", *QUICK[:2], *model, "model.hidden=6", f"data.path={names}", "trainer.gradient_check=true", "trainer.total_epochs=1",
                       "tracking=none")  # fmt: skip
        assert done.code == 0 and "largest relative difference" in done.out, done.err


def test_an_exploding_gradient_is_cut_or_caught_and_named(command, names) -> None:
    words = ("data=text", "task=language", "model=rnn", "model.activation=relu", f"data.path={names}", "optimizer=sgd", "optimizer.lr=300",
             "tracking=none", "trainer.total_epochs=30", "trainer.threads=1")  # fmt: skip
    done = command("train", *words, "model.max_norm=inf")
    assert done.code == 2 and ("not finite" in done.err or "is nan after epoch" in done.err), done.err
    done = command("train", *words, "optimizer.lr=0.5")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_another_text_is_judged_whole_and_cut_as_the_runs_was(command, names) -> None:
    words = (
        "data=text",
        "task=language",
        "model=gru",
        "tracking=none",
        "trainer.threads=1",
        "trainer.total_epochs=1",
        f"data.path={names}",
    )
    assert (
        command(
            "train",
            *words,
            "data.reader.unit=word",
            "data.reader.item=file",
            "data.reader.window=9",
            "data.reader.lower=true",
        ).code
        == 0
    )
    Path("other.txt").write_text("TRICETOSAURUS bronolosaurus\n" * 40)
    done = command("evaluate", "run=latest", "data=text", "data.path=other.txt", "hydra.run.dir=judged")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(Path("judged/predictions.csv").read_text().splitlines()))
    card = json.loads(Path("judged/card.json").read_text())
    assert sum(int(row["tokens"]) for row in rows) == 80 and card["recipe"]["reader"]["unit"] == "word"
    train = json.loads(Path("outputs/latest/card.json").read_text())
    assert ("tricetosaurus" in train["columns"]) == (card["lengths"]["unknown"]["test"] < 0.9)


@pytest.mark.slow
def test_what_answers_is_not_scored_and_what_does_not_is_no_answer(command, names) -> None:
    dates = ("data=dates", "data.reader.train_size=60", "data.reader.dev_size=20", "data.reader.test_size=20", "task=language", "tracking=none",
             "trainer.total_epochs=1", "trainer.threads=1")  # fmt: skip
    assert "task.of=answer" in command("train", *dates, "model=encoder_decoder").err
    assert command("train", *dates, "model=encoder_decoder", "task.of=answer", "hydra.run.dir=answering").code == 0
    assert "it answers what it reads" in command("score", "run=answering", "3 May 1990").err
    assert "it does not judge texts" in command("predict", "run=answering", f"input={names}").err
    assert command("sample", "run=answering", "prefix=3 May 1990", "length=12").code == 0
    assert "no pairs of what is read" in command("train", *QUICK, f"data.path={names}", "task.of=answer").err
    done = command("train", *QUICK, f"data.path={names}", "data.sampling=streams")
    assert done.code == 2 and "go on from each other" in done.err


def test_train_is_measured_in_passages_as_dev_is(command, names) -> None:
    """Windows are where back-propagation ends; a train loss from an empty state every window would look like bias."""
    words = (
        *QUICK,
        f"data.path={names}",
        "data.reader.item=file",
        "data.reader.window=10",
        "data.reader.passage=60",
        "data.sampling=streams",
    )
    assert command("train", *words, "trainer.total_epochs=2").code == 0
    saved, card = (
        load_run(Path("outputs/latest"), torch.device("cpu")),
        json.loads(Path("outputs/latest/card.json").read_text()),
    )
    folder = next(Path("artifacts/prepared").glob("*/train"))
    text = torch.from_numpy(np.load(folder / "x.npy"))
    assert len(np.load(folder / "y.npy")) == -(-len(text) // 10) and card["feature_shape"][0] == 60
    nats = 0.0
    for passage in text.split(60):
        nats -= float(saved.model(passage[None])[0].log_softmax(dim=1).gather(1, passage[:, None]).detach().sum())
    assert json.loads(Path("outputs/latest/train.json").read_text())["train"]["loss"] == pytest.approx(
        nats / len(text), rel=1e-5
    )


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    """4,000 draws from softmax(z / T); <UNK> is left out, and at 0 the likeliest comes."""
    logits, names, draw = (
        torch.tensor([9.0, 1.0, 0.0, 2.0]).double(),
        ["<UNK>", "a", "b", "c"],
        torch.Generator().manual_seed(0),
    )
    for temperature in (0.5, 1.0, 2.0):
        drawn = torch.tensor([_drawn(logits.clone(), names, temperature, draw) for _ in range(4000)])
        wanted = torch.cat([torch.zeros(1), (logits[1:] / temperature).softmax(dim=0).float()])
        assert torch.allclose(torch.bincount(drawn, minlength=4) / 4000, wanted, atol=0.03)
    assert _drawn(logits.clone(), names, 0, draw) == 3 and _drawn(logits.clone(), names, 1e-310, draw) == 3
