"""Tagging: names by the rules of CoNLL, Viterbi by brute force, both directions, and the way from files to names."""

import csv
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import card_of
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import Refusal
from crucible.metrics.text import SpanMetrics, spans
from crucible.models.recurrent import lstm
from crucible.models.window import Window
from crucible.tasks.sequence import Sequence
from crucible.tasks.tagging import Tagging, transitions, viterbi

TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
CARD = replace(
    card_of((9, 7), classes=5), classes=TAGS, dtype="int64", lengths={"shortest": 1, "mean": 3.0, "longest": 9}
)


def tagging(**changes) -> Tagging:
    return Tagging(
        CARD,
        **{"monitor": "f1", "goal": "maximize", "tolerance": 0.02, "decode": "argmax", "outside_weight": 1.0} | changes,
    )


def conlleval(sentences: list[tuple[list[str], list[str]]]) -> tuple[int, int, int]:
    """Return right, found and true names as the script of the CoNLL-2000 task counts them (Tjong Kim Sang and Buchholz, 2000).

    A port of its loop: whether a chunk ends before a token, and whether one starts at it, from the tag before and the tag.
    """

    def ends(before: str, tag: str, kind_before: str, kind: str) -> bool:
        return (before, tag) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")} or (
            before != "O" and kind_before != kind
        )

    def starts(before: str, tag: str, kind_before: str, kind: str) -> bool:
        return (before, tag) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")} or (tag != "O" and kind_before != kind)

    right = found = true = 0
    inside = False
    before = [("O", ""), ("O", "")]
    for sentence in sentences:
        for pair in [*zip(*sentence, strict=True), ("O", "O")]:  # a boundary after each sentence
            now = [(tag.partition("-")[0], tag.partition("-")[2]) for tag in pair]
            end = [ends(before[i][0], now[i][0], before[i][1], now[i][1]) for i in range(2)]
            start = [starts(before[i][0], now[i][0], before[i][1], now[i][1]) for i in range(2)]
            if inside:
                if end[0] and end[1] and before[0][1] == before[1][1]:
                    inside = False
                    right += 1
                elif end[0] != end[1] or now[0][1] != now[1][1]:
                    inside = False
            if start[0] and start[1] and now[0][1] == now[1][1]:
                inside = True
            true += start[0]
            found += start[1]
            before = now
    return right + inside, found, true


Tagged = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=9)


@given(st.lists(Tagged, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_names_are_counted_as_conlleval_counts_them(sentences) -> None:
    metrics = SpanMetrics(TAGS, lambda outputs, label: torch.zeros(()), lambda outputs: outputs.argmax(dim=2))
    for sentence in sentences:
        label, said = (torch.tensor([[TAGS.index(pair[i]) for pair in sentence]]) for i in range(2))
        metrics.update(F.one_hot(said, 5).double(), {"label": torch.cat([label, torch.full((1, 3), -1)], dim=1)})
    right, found, true = conlleval([([a for a, _ in each], [b for _, b in each]) for each in sentences])
    scores = metrics.compute()
    assert scores["precision"] == pytest.approx(right / found if found else 0.0)
    assert scores["recall"] == pytest.approx(right / true if true else 0.0)
    assert scores["f1"] == pytest.approx(2 * right / (found + true) if found + true else 0.0)
    assert scores["error"] == pytest.approx(1 - scores["f1"])


def test_names_begin_and_end_as_the_papers_examples_do() -> None:
    assert spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER"]) == [
        ("PER", 0, 2),
        ("LOC", 3, 4),
        ("LOC", 4, 5),
        ("PER", 5, 6),
    ]
    assert spans(["O", "O"]) == [] and spans(["I-LOC", "I-LOC"]) == [("LOC", 0, 2)]


def test_what_each_kind_of_mistake_costs() -> None:
    """By hand: 5 names are there, 5 found: 1 right, 1 of another type, 1 with another end, 2 missed, 2 invented."""
    label = [1, 2, 0, 3, 0, 1, 2, 0, 3, 0, 3, 0, 0]
    said = [1, 2, 0, 1, 0, 1, 0, 0, 0, 0, 0, 3, 1]
    metrics = SpanMetrics(TAGS, lambda outputs, own: torch.zeros(()), lambda outputs: outputs.argmax(dim=2))
    metrics.update(F.one_hot(torch.tensor([said]), 5).double(), {"label": torch.tensor([label])})
    assert metrics.compute()["f1"] == pytest.approx(2 / 10)
    costs = {(row["label"], row["predicted"]): (row["count"], row["error_if_mended"]) for row in metrics.costs()}
    assert costs == {
        ("a name", "O"): (2, pytest.approx(1 - 6 / 12)), ("O", "a name"): (2, pytest.approx(1 - 2 / 8)),
        ("a name", "with another end"): (1, pytest.approx(1 - 4 / 10)), ("a name", "of another type"): (1, pytest.approx(1 - 4 / 10)),
    }  # fmt: skip
    assert metrics.matrix()[0].tolist() == [4, 1, 0, 1, 0]


@pytest.mark.parametrize("length", [1, 2, 4])
def test_viterbi_is_the_best_of_all_sequences(length) -> None:
    scores = torch.randn(6, length, 5, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    found = viterbi(scores, transitions(TAGS).double())
    for row in range(6):
        valid = [tags for tags in product(range(5), repeat=length) if _is_valid([TAGS[t] for t in tags])]
        best = max(valid, key=lambda tags: sum(float(scores[row, t, tag]) for t, tag in enumerate(tags)))
        assert found[row].tolist() == list(best)
    assert not transitions(["O", "I-LOC", "I-PER"]).isinf().any()  # the scheme IO


def _is_valid(tags: list[str]) -> bool:
    return all(
        not tag.startswith("I-") or (before[2:] == tag[2:] and before != "O")
        for before, tag in zip(["O", *tags], tags, strict=False)
    )


def test_padding_does_not_change_the_loss_and_weights_are_of_what_is_outside() -> None:
    torch.manual_seed(0)
    task = tagging(outside_weight=0.25)
    model = task.attach(lstm([9, 7], 5, hidden=4, layers=1, bidirectional=True, keep_prob=1.0, peephole=False)).double()
    examples = [(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2])), (torch.tensor([4]), torch.tensor([3]))]
    x = torch.nn.utils.rnn.pad_sequence([own for own, _ in examples], batch_first=True, padding_value=-1)
    label = torch.full((2, 6), -1)
    weighted, weights, plain = 0.0, 0.0, 0.0
    for row, (own, tags) in enumerate(examples):
        label[row, : len(tags)] = tags
        nats = -model(own[None])[0].log_softmax(dim=1)[torch.arange(len(own)), tags]
        each = torch.where(tags == 0, 0.25, 1.0)
        weighted, weights, plain = (
            weighted + float((nats * each).sum()),
            weights + float(each.sum()),
            plain + float(nats.sum()),
        )
    found = task.losses(model, {"x": x, "mask": x >= 0, "label": label})
    assert float(found["loss"]) == pytest.approx(weighted / weights)
    assert float(task.loss(model(x), label[:, :3])) == pytest.approx(plain / 4)


@pytest.mark.parametrize(
    ("pool", "wanted"), [("last", lambda a: a[-1]), ("mean", lambda a: a.mean(dim=0)), ("max", lambda a: a.amax(dim=0))]
)
def test_a_sequence_is_read_out_as_declared(pool, wanted) -> None:
    torch.manual_seed(0)
    task = Sequence(replace(CARD, classes=["a", "b"]), pool=pool, monitor="f1", goal="maximize", tolerance=0.02)
    model = task.attach(
        lstm([9, 7], 2, hidden=4, layers=2, bidirectional=False, keep_prob=1.0, peephole=False)
    ).double()
    x = torch.tensor([[1, 2, 3, 4], [5, 6, -1, -1]])
    for row, length in enumerate((4, 2)):
        activations, _ = model.activations(model.steps(x[row : row + 1, :length]), torch.tensor([length]))
        assert torch.allclose(model(x)[row], model.head(wanted(activations[0])), atol=1e-12)
    with pytest.raises(Refusal, match="step by step"):
        task.attach(torch.nn.Linear(2, 2))
    window = Window(
        [9, 7], 2, width=3, side="past", layers=[4], activation="tanh", embedding=None, keep_prob=1.0
    ).double()
    window = task.attach(window)
    assert pool == "last" or torch.allclose(window(x)[1], window(x[1:, :2])[0], atol=1e-12)  # the padding is not read


CODE = "".join(f"{a}.{b}({c})\n{a}.{b} = {c}\nx = {a} + {b}\n" for a in "fghk" for b in ("run", "walk") for c in "stuv")
QUICK = (
    "task=tagging",
    "model=lstm",
    "model.embedding=12",
    "model.hidden=16",
    "tracking=none",
    "trainer.threads=1",
    "optimizer.lr=0.02",
    "trainer.batch_size=8",
)


def write(path: Path) -> None:
    """Write names that are told by the sign after them: B-CALL I-CALL I-CALL before a parenthesis."""
    lines = []
    for line in CODE.splitlines():
        words = line.replace(".", " . ").replace("(", " ( ").replace(")", " )").split()
        call = "(" in words
        lines += [
            f"{word}\t{'O' if not call or i > 2 else 'B-CALL' if i == 0 else 'I-CALL'}" for i, word in enumerate(words)
        ] + [""]
    path.write_text("\n".join(lines))


def test_the_right_context_decides_and_one_direction_cannot_see_it(command, tmp_path) -> None:
    write(tmp_path / "calls.conll")
    words = (
        *QUICK,
        "data=conll",
        "data.reader.affixes=0",
        f"data.path={tmp_path / 'calls.conll'}",
        "trainer.total_epochs=12",
    )
    reached = {}
    for both in ("true", "false"):
        done = command("train", *words, f"model.bidirectional={both}", f"hydra.run.dir=outputs/{both}")
        assert done.code == 0, done.err
        reached[both] = json.loads(Path(f"outputs/{both}/train.json").read_text())["dev"]
    assert set(reached["true"]) == {"loss", "precision", "recall", "f1", "error"}
    assert reached["true"]["f1"] > 0.95 and reached["false"]["f1"] < 0.8
    done = command("evaluate", "run=outputs/true", "hydra.run.dir=outputs/judged")
    assert done.code == 0, done.err
    metrics = json.loads(Path("outputs/judged/metrics.json").read_text())
    rows = list(csv.DictReader(Path("outputs/judged/predictions.csv").read_text().splitlines()))
    right, found, true = conlleval([(row["label"].split(), row["predicted"].split()) for row in rows])
    assert metrics["test"]["f1"] == pytest.approx(2 * right / (found + true))
    assert (
        metrics["diagnosis"]["evidence"]["test"]["low"]
        <= metrics["test"]["f1"]
        <= metrics["diagnosis"]["evidence"]["test"]["high"]
    )
    table = [line.split() for line in Path("outputs/judged/predictions.conll").read_text().splitlines()]
    assert sum(len(cells) == 3 for cells in table) == sum(len(row["label"].split()) for row in rows)
    assert (Path("outputs/judged/report.html")).stat().st_size > 10_000
    Path("new.txt").write_text("g . run ( s )\ng . run = s\n")
    said = json.loads(command("predict", "run=outputs/true", "input=new.txt", "format=json").out)
    assert (
        said[0]["predicted"] == [{"text": "g . run", "type": "CALL", "start": 0, "end": 3}]
        and said[1]["predicted"] == []
    )
    assert "g . run (CALL)" in command("predict", "run=outputs/true", "input=new.txt").out
    assert "g . run,CALL,0,3" in command("predict", "run=outputs/true", "input=new.txt", "format=csv").out


def test_other_data_are_judged_in_the_runs_tags_and_words(command, tmp_path) -> None:
    write(tmp_path / "calls.conll")
    words = (
        *QUICK,
        "data=conll",
        f"data.path={tmp_path / 'calls.conll'}",
        "trainer.total_epochs=2",
        "task.decode=viterbi",
    )
    assert command("train", *words).code == 0
    (tmp_path / "other.conll").write_text("new O\nrun B-CALL\n\ng O\n= O\n")
    done = command(
        "evaluate", "run=latest", "data=conll", f"data.path={tmp_path / 'other.conll'}", "hydra.run.dir=outputs/other"
    )
    assert done.code == 0, done.err
    metrics = json.loads(Path("outputs/other/metrics.json").read_text())
    assert 0 <= metrics["test"]["f1"] <= 1
    (tmp_path / "strange.conll").write_text("new O\nrun B-WALK\n")
    done = command(
        "evaluate",
        "run=latest",
        "data=conll",
        f"data.path={tmp_path / 'strange.conll'}",
        "hydra.run.dir=outputs/strange",
    )
    assert done.code == 2 and "'B-WALK' is unknown" in done.err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("task=tagging", "model=lstm"), "no tag for each token"),
        (("task=tagging", "model=mlp", "data=stdlib"), "step by step"),
        (("task=tagging", "model=lstm", "data=conll", "data.path=plain.conll"), "every tag is O"),
        (("task=tagging", "model=lstm", "data=conll", "data.path=bad.conll"), "bad.conll, line 3"),
        (("task=tagging", "model=lstm", "data=conll", "data.path=half"), "no file for test"),
        (("task=language", "model=lstm", "data=conll", "data.path=plain.conll"), "affixes"),
    ],
)
def test_what_cannot_be_tagged_is_refused_before_any_work(command, words, what) -> None:
    Path("plain.conll").write_text("a O\n\nb O\n\nc O\n\nd O\n\ne O\n")
    Path("bad.conll").write_text("a O\nb O\nc Q-X\n")
    Path("half").mkdir()
    Path("half/train.conll").write_text("a B-X\n")
    done = command("train", "tracking=none", *words)
    assert done.code == 2 and what in done.err and "Traceback" not in done.err, done.err
    assert not Path("outputs").exists()


def test_the_shares_of_tags_are_compared() -> None:
    labels = np.array([[1, 0, -1], [0, 0, 0]])
    assert tagging().kind.comparable(labels).tolist() == [0.5, 0.0]


@pytest.mark.slow
def test_word_vectors_become_embeddings_and_stay_where_they_are_frozen(command, tmp_path) -> None:
    write(tmp_path / "calls.conll")
    Path("v.txt").write_text("3 12\nrun " + " ".join(f"0.{i}" for i in range(12)) + "\nelsewhere " + "1 " * 11 + "1\n")
    words = (*QUICK, "data=conll", "data.reader.affixes=0", f"data.path={tmp_path / 'calls.conll'}", "trainer.total_epochs=1",
             "transfer=word_vectors", "transfer.vectors=v.txt")  # fmt: skip
    done = command("train", *words, "transfer.freeze=true")
    assert done.code == 0, done.err
    assert "vectors of 1 of" in done.out
    from safetensors.torch import load_file

    weights, card = (
        load_file("outputs/latest/weights.safetensors"),
        json.loads(Path("outputs/latest/card.json").read_text()),
    )
    assert torch.allclose(
        weights["steps.weight"][card["columns"].index("run")], torch.tensor([float(f"0.{i}") for i in range(12)])
    )
    assert "12 numbers, embeddings 5" in command("train", *words, "model.embedding=5").err
    assert "no embedding" in command("train", *words, "model.embedding=null").err
    Path("v.txt").write_text("run " + "1 " * 11 + "1\nwalk 1 2\n")
    assert "no word vectors, line 2" in command("train", *words).err
    Path("v.txt").write_text("run a b\n")
    assert "no word vectors" in command("train", *words).err
    other = tmp_path / "other.conll"
    other.write_text((tmp_path / "calls.conll").read_text().replace("walk", "jump"))
    done = command("train", *words[:-2], f"data.path={other}", "transfer=from_run", "transfer.source=latest")
    assert done.code == 2 and "other symbols" in done.err
