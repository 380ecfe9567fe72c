"""Text as symbols: tokens, vocabularies of train alone, and the readers with what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DATASETS

from crucible.data.readers import conll, labelled_lines, sentences
from crucible.data.readers import text as text_reader
from crucible.data.text import (
    END,
    UNKNOWN,
    Vocabulary,
    decoded,
    joined,
    packed_words,
    spelling,
    tokens_of,
    unpacked_words,
)
from crucible.errors import Refusal

READING: dict[str, Any] = {
    "encoding": None,
    "lower": False,
    "vocabulary": None,
    "min_count": 1,
    "max_length": None,
    "too_long": "cut",
}
LINES = {
    **READING,
    "unit": "word",
    "punctuation": "keep",
    "item": "line",
    "window": 4,
    "passage": 8,
    "parts": {"train": 1.0},
}
TAGGED = {**READING, "affixes": 0, "scheme": "bio"}


def test_the_sentence_of_the_notes_is_nine_words_and_a_sign() -> None:
    sentence = "Harry Potter and Herminoe Granger invented a new spell."
    assert tokens_of(sentence, "word", "keep") == [*sentence[:-1].split(), "."]
    assert tokens_of(sentence, "word", "drop") == sentence[:-1].split()
    assert tokens_of("a b.", "character", "keep") == "a b."
    assert tokens_of("a b.", "character", "drop") == "a b"
    assert tokens_of("it's 'so' --", "space", "keep") == ["it's", "'so'", "--"]
    assert tokens_of("it's 'so' --", "space", "drop") == ["it's", "'so'"]
    assert tokens_of("हिन्दी भाषा, ok", "word", "drop") == ["हिन्दी", "भाषा", "ok"]
    assert tokens_of("x = foo(1)", "code", "keep") == ["x", "=", "foo", "(", "1", ")"]
    assert tokens_of("x = (", "code", "keep") == ["x", "=", "("]
    assert joined(tokens_of("Well, it's (so) odd!", "word", "keep"), "word") == "Well, it's ( so) odd!"


def test_a_vocabulary_is_of_train_alone_the_most_frequent_first(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("b a b\nc b\nzebra a\n")
    source = text_reader.read(tmp_path / "a.txt", **LINES)
    split_of = {"all": np.array([0, 0, 2])}
    learned = source.learned(split_of, None)
    assert learned.columns == [UNKNOWN, END, "b", "a", "c"]
    [chunk] = list(learned.pools["all"].chunks())
    assert [each.tolist() for each in chunk] == [[2, 3, 2, 1], [4, 2, 1], [0, 3, 1]]
    assert learned.facts["unknown"] == {"train": 0.0, "test": pytest.approx(1 / 3)}
    assert learned.facts["most"]["train"] == pytest.approx(3 / 7)
    assert learned.facts["entropy"] == pytest.approx(-sum(p * np.log(p) for p in (3 / 7, 2 / 7, 1 / 7, 1 / 7)))
    judged = source.learned({"all": np.array([2, 2, 2])}, [UNKNOWN, END, "zebra"])
    assert [each.tolist() for each in next(judged.pools["all"].chunks())] == [[0, 0, 0, 1], [0, 0, 1], [2, 0, 1]]


def test_a_vocabulary_is_limited_by_number_and_by_count(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("b a b c c\nd b\n")
    split_of = {"all": np.array([0, 0])}
    for key, value, wanted in (
        ("vocabulary", 2, ["b", "c"]),
        ("min_count", 2, ["b", "c"]),
        ("min_count", 1, ["b", "c", "a", "d"]),
    ):
        source = text_reader.read(tmp_path / "a.txt", **{**LINES, key: value})
        assert source.learned(split_of, None).columns == [UNKNOWN, END, *wanted]
    with pytest.raises(Refusal, match="1 symbol"):
        text_reader.read(tmp_path / "a.txt", **{**LINES, "vocabulary": 1}).learned(split_of, None)


def test_a_token_is_known_by_its_parts() -> None:
    assert spelling(lower=True)("Paris") == ("paris",)
    assert spelling(lower=True, affixes=2)("McD42") == ("mcd42", "#XxX99", "^m", "^mc", "2$", "42$")
    assert spelling(lower=False, affixes=1)("HELLOooo!!!") == ("HELLOooo!!!", "#XXxx!!", "^H", "!$")
    symbols = Vocabulary([UNKNOWN, "#Xxx", "s$", "paris"])
    assert symbols.numbers(["Paris", "Nantes"], spelling(lower=True, affixes=1)).tolist() == [
        [3, 1, 0, 2],
        [0, 1, 0, 2],
    ]


def test_words_are_kept_as_they_were_written() -> None:
    examples = [["Z\u00fcrich", "\u5b57", ","], ["a"]]
    packed = packed_words(examples)
    assert packed.dtype == np.uint8 and [unpacked_words(row) for row in packed] == examples


def test_copies_are_found_across_data_sets_by_the_same_hashes(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("one two\nthree\n")
    (tmp_path / "b.txt").write_text("zero\nthree\nfour one\n")
    first, second = (next(text_reader.read(tmp_path / f"{n}.txt", **LINES).pools["all"].chunks()) for n in "ab")
    assert first[1].tolist() == second[1].tolist()
    assert first[0][0] == second[2][1]


def test_one_text_is_tested_on_its_end(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghijklmnopqrst")
    settings = {**LINES, "unit": "character", "item": "file", "parts": {"train": 6.0, "dev": 2.0, "test": 2.0}}
    source = text_reader.read(tmp_path / "a.txt", **settings)
    learned = source.learned({"train": np.zeros(3, int), "dev": np.array([1]), "test": np.array([2])}, None)
    assert learned.columns == [UNKNOWN, *"abcdefghijkl"]
    assert [[len(each) for each in next(pool.chunks())] for pool in learned.pools.values()] == [[4, 4, 4], [4], [4]]
    assert next(learned.pools["train"].chunks())[1].tolist() == [5, 6, 7, 8]
    with pytest.raises(Refusal, match="none of them"):
        text_reader.read(tmp_path / "a.txt", **{**settings, "parts": {"train": 1.0, "test": 0.001}})


def test_long_lines_are_cut_and_counted_or_refused(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("a b c d\na b\n")
    source = text_reader.read(tmp_path / "a.txt", **{**LINES, "max_length": 3})
    learned = source.learned({"all": np.array([0, 0])}, None)
    assert [len(each) for each in next(learned.pools["all"].chunks())] == [3, 3]
    assert END not in [learned.columns[i] for i in next(learned.pools["all"].chunks())[0]]
    assert learned.facts["cut"] == 1
    with pytest.raises(Refusal, match="5 tokens") as refused:
        text_reader.read(tmp_path / "a.txt", **{**LINES, "max_length": 3, "too_long": "refuse"})
    assert "line 1" in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "encoding", "wanted"),
    [
        ("na\u00efve".encode(), None, "na\u00efve"),
        (b"\xef\xbb\xbfabc", None, "abc"),
        ("abc".encode("utf-16"), None, "abc"),
        ("na\u00efve".encode("latin-1"), "latin-1", "na\u00efve"),
        (b"a\r\nb\rc", None, "a\nb\nc"),
    ],
)
def test_encodings_are_declared_or_told_by_the_file(tmp_path, raw, encoding, wanted) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    assert decoded(tmp_path / "a.txt", encoding) == wanted


@pytest.mark.parametrize(
    ("raw", "encoding", "what"),
    [
        (b"ok\nna\xefve", None, "line 2.*0xef.*utf-8"),
        ("abc".encode("utf-16-le"), None, "NUL"),
        (b"abc", "klingon", "klingon.*no encoding"),
        ("\u00e9".encode(), "ascii", "line 1.*0xc3.*ascii"),
    ],
)
def test_a_wrong_encoding_is_refused_with_its_place(tmp_path, raw, encoding, what) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(Refusal, match=f"(?s){what}") as refused:
        decoded(tmp_path / "a.txt", encoding)
    assert "data.reader.encoding" in str(refused.value)


def test_tags_are_read_and_document_starts_dropped(tmp_path) -> None:
    (tmp_path / "a.conll").write_text(
        "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\nJohn NNP B-PER\nSmith NNP I-PER\n"
    )
    source = conll.read(tmp_path / "a.conll", column=None, **TAGGED)
    assert source.classes == ["O", "B-ORG", "B-PER", "I-PER"]
    assert source.pools["all"].labels.tolist() == [[1, 0], [2, 3]]
    assert list(source.pools["all"].names or []) == ["a.conll, line 3", "a.conll, line 6"]
    with pytest.raises(Refusal, match="'NNP' is no tag"):
        conll.read(tmp_path / "a.conll", column=1, **TAGGED)


@pytest.mark.parametrize(
    ("written", "scheme", "what"),
    [
        ("a O\nb X-PER\n", "bio", "line 2.*'X-PER'"),
        ("a B-PER\n", "io", "'B-PER'.*scheme io"),
        ("a\n", "bio", "1 column"),
        ("\n\n", "bio", "no sentence"),
        ("a B-\n", "bio", "'B-'"),
    ],
)
def test_what_is_no_tag_is_refused_with_its_line(tmp_path, written, scheme, what) -> None:
    (tmp_path / "a.conll").write_text(written)
    with pytest.raises(Refusal, match=f"(?s){what}"):
        conll.read(tmp_path / "a.conll", column=None, **{**TAGGED, "scheme": scheme})


def test_tags_are_cut_with_their_tokens(tmp_path) -> None:
    (tmp_path / "a.conll").write_text("a O\nb B-X\nc I-X\n")
    source = conll.read(tmp_path / "a.conll", column=None, **{**TAGGED, "max_length": 2})
    assert source.pools["all"].labels.tolist() == [[0, 1]]


def test_code_names_what_the_right_context_tells() -> None:
    [call] = list(conll._code("value = os.path.join(first, other)\n", "m"))
    assert dict(zip(call.tokens, call.tags, strict=True)) | {".": "I-call"} == {
        "value": "O", "=": "O", "os": "B-call", ".": "I-call", "path": "I-call", "join": "I-call", "(": "O", "first": "O", ",": "O",
        "other": "O", ")": "O",
    }  # fmt: skip
    tags = [each.tags for each in conll._code("import os.path\nclass A(B):\n    def f(self): return g\n", "m")]
    assert tags[0] == ["O", "B-module", "I-module", "I-module"]
    assert tags[1][:2] == ["O", "B-class"]
    assert tags[2][:2] == ["O", "B-function"] and set(tags[2][2:]) == {"O"}


def test_the_class_of_a_line_is_its_file_or_its_last_cell(tmp_path) -> None:
    (tmp_path / "rt.pos").write_text("good film\n\n")
    (tmp_path / "rt.neg").write_text("bad film\nworse\n")
    settings = {**READING, "unit": "space", "punctuation": "keep"}
    assert labelled_lines.read(tmp_path, **settings).pools["all"].labels.tolist() == ["neg", "neg", "pos"]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "train_x.csv").write_text('"so, so\t",2\nfine,1\n')
    (tmp_path / "t" / "test_x.csv").write_text("food,1\n")
    tables = labelled_lines.read(tmp_path / "t", **settings)
    assert {pool: each.labels.tolist() for pool, each in tables.pools.items()} == {"train": ["2", "1"], "test": ["1"]}
    (tmp_path / "t" / "test_x.csv").write_text("food\n")
    with pytest.raises(Refusal, match="one column"):
        labelled_lines.read(tmp_path / "t", **settings)
    (tmp_path / "t" / "test_x.csv").write_text("food,\n")
    with pytest.raises(Refusal, match="the class, is empty"):
        labelled_lines.read(tmp_path / "t", **settings)
    (tmp_path / "t" / "test_x.csv").write_text('ok,1\n"unbalanced,0\nmore,1\n')
    with pytest.raises(Refusal, match="no CSV"):
        labelled_lines.read(tmp_path / "t", **settings)
    with pytest.raises(Refusal, match="second class"):
        labelled_lines.read(tmp_path / "rt.pos", **settings)


def test_made_sentences_differ_and_agree() -> None:
    source = sentences.agreement(None, distance=5, train_size=60, dev_size=10, test_size=10, seed=1).learned(
        {"train": np.zeros(60, int), "dev": np.ones(10, int), "test": np.full(10, 2)}, None
    )
    rows = [tuple(source.columns[i] for i in each) for each in next(source.pools["train"].chunks())]
    assert len(set(rows)) == 60 and {len(row) for row in rows} == {6}
    verbs = {subject: verb for verb, subjects in sentences.SUBJECTS.items() for subject in subjects}
    assert [verbs[row[1]] for row in rows] == source.pools["train"].labels.tolist()
    with pytest.raises(Refusal, match="only 8 different"):
        sentences.agreement(None, distance=1, train_size=60, dev_size=0, test_size=10, seed=1)


def test_a_date_is_followed_by_its_iso_form() -> None:
    source = sentences.dates(None, unit="character", train_size=50, dev_size=0, test_size=5, seed=0)
    learned = source.learned({"train": np.zeros(50, int), "test": np.full(5, 2)}, None)
    for each in next(learned.pools["train"].chunks()):
        written, iso, rest = "".join(learned.columns[i] if i != 1 else "|" for i in each).split("|")
        year, month, day = iso.split("-")
        assert rest == "" and year in written and str(int(day)) in written
        assert sentences.MONTHS[int(month) - 1][:3] in written or f"{int(month)}" in written


@pytest.mark.skipif(not DATASETS.exists(), reason="the data sets are not on this machine")
def test_the_real_sets_are_as_their_sources_count_them(tmp_path: Path) -> None:
    """The numbers of the README of the data sets: 3394 / 1009 / 1287 sentences, 62730 / 15733 / 23394 tokens, 1975 / 836 / 1079 names."""
    source = conll.read(DATASETS / "wnut17", column=None, **TAGGED)
    labels = {name: pool.labels for name, pool in source.pools.items()}
    assert {name: len(each) for name, each in labels.items()} == {"train": 3394, "dev": 1009, "test": 1287}
    assert {name: int((each >= 0).sum()) for name, each in labels.items()} == {
        "train": 62730,
        "dev": 15733,
        "test": 23394,
    }
    begun = [i for i, tag in enumerate(source.classes or []) if tag.startswith("B-")]
    assert {name: int(np.isin(each, begun).sum()) for name, each in labels.items()} == {
        "train": 1975,
        "dev": 836,
        "test": 1079,
    }
    films = labelled_lines.read(
        DATASETS / "rt-polarity", **{**READING, "encoding": "latin-1", "unit": "space", "punctuation": "keep"}
    )
    assert np.unique(films.pools["all"].labels, return_counts=True)[1].tolist() == [5331, 5331]
    with pytest.raises(Refusal, match="no utf-8"):
        labelled_lines.read(DATASETS / "rt-polarity", **{**READING, "unit": "space", "punctuation": "keep"})
    dinos = text_reader.read(DATASETS / "dinos" / "dinos.txt", **{**LINES, "unit": "character"})
    assert len(dinos.pools["all"].labels) == 1536
    assert json.dumps(sorted(dinos.pools)) == '["all"]'
