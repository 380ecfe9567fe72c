"""Text as symbols: cut into tokens, and those numbered by a vocabulary of train alone (notes 000, part 13, sections 1 and 3).

The first symbols of a vocabulary are <UNK>, for what is not in it, and where sentences end <EOS>. <PAD> is no symbol: batches
are padded with -1, which no network can take for one (see crucible.data.ragged).
"""

import io
import re
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from crucible.data.readers.source import Array, Pool, Source, require_whole
from crucible.data.splits import SPLITS
from crucible.errors import Refusal
from crucible.schema import Count

UNKNOWN, END = "<UNK>", "<EOS>"
SPECIAL = (UNKNOWN, END)
SEPARATOR = "\x1f"  # no token holds it: it is white space
END_NUMBER = 1  # of <EOS>, where sentences end
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # how a file says its encoding
LARGEST = 1 << 30  # bytes of a text: all of it is held in memory
EXAMPLES_PER_CHUNK = 1024
Unit = Literal["character", "word", "space", "code"]
Punctuation = Literal["keep", "drop"]
Spell = Callable[[str], tuple[str, ...]]


class Reading(TypedDict):
    """What every reader of text is told.

    encoding: null: what the file's first bytes say, else UTF-8. lower: small letters alone. vocabulary: the most frequent tokens of
    train that have a number; null: all. min_count: how often a token must come in train to have one. max_length: tokens of an
    example; null: any. too_long: whether what is longer is `cut`, and counted, or refused (`refuse`).
    """

    encoding: str | None
    lower: bool
    vocabulary: Count | None
    min_count: Count
    max_length: Count | None
    too_long: Literal["cut", "refuse"]


def decoded(path: Path, encoding: str | None) -> str:
    """Return a file's text, its line ends as \\n, each letter with its accent as one character (NFC).

    Raises:
        Refusal: too large, an encoding that nobody knows, or bytes that are none of it: with line and byte.
    """
    if (size := path.stat().st_size) > LARGEST:
        raise Refusal(str(path), f"{size:,} bytes of text", allowed=f"at most {LARGEST:,}: it is held in memory")
    raw = path.read_bytes()
    name = encoding or next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(name)
    except LookupError:
        raise Refusal("data.reader.encoding", f"{name!r} is no encoding", allowed="utf-8, latin-1, utf-16, gb18030, ...",
                      example="data.reader.encoding=latin-1") from None  # fmt: skip
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Refusal(f"{path}, line {line}", f"byte {error.start} (0x{raw[error.start]:02x}) is no {name}",
                      allowed="the encoding that the file was written in; old English text is often latin-1",
                      example="data.reader.encoding=latin-1") from None  # fmt: skip
    if "\0" in text:
        raise Refusal(f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}", f"it holds a NUL character: as {name} it is no text",
                      allowed="a text file; or its encoding", example="data.reader.encoding=utf-16-le")  # fmt: skip
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


@cache
def _words() -> re.Pattern[str]:
    """Return what words and signs look like; accents and vowel signs are parts of the letter before them."""
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    letter = rf"\w[{marks}]*"
    return re.compile(rf"(?:{letter})+(?:['\u2019](?:{letter})+)*|[^\w\s]")


def tokens_of(text: str, unit: Unit, punctuation: Punctuation) -> Sequence[str]:
    """Return characters, words and signs, what stands between spaces, or tokens of Python (`code`); `drop`: without signs."""
    if unit == "character":
        return text if punctuation == "keep" else "".join(c for c in text if c.isspace() or _is_letter(c))
    tokens = _code(text) if unit == "code" else _words().findall(text) if unit == "word" else text.split()
    return tokens if punctuation == "keep" else [token for token in tokens if any(map(_is_letter, token))]


def _is_letter(character: str) -> bool:
    """Whether it is a letter, a digit, or a mark on one."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _code(line: str) -> list[str]:
    """Return the tokens of a line of Python; of one that is none, words and signs."""
    with suppress(tokenize.TokenError, SyntaxError):
        found = [token.string for token in tokenize.generate_tokens(io.StringIO(line).readline)]
        return [token for token in found if token.strip()]
    return re.findall(r"\w+|[^\w\s]", line)


def spelling(*, lower: bool, affixes: int = 0) -> Spell:
    """Return what stands for a token in the vocabulary: itself, and with `affixes` its shape, first and last characters.

    A step is then the sum of several one-hot vectors (as in Bojanowski et al., 2017, arXiv:1607.04606): a word never seen has an
    ending that was.
    """

    def spell(token: str) -> tuple[str, ...]:
        own = token.lower() if lower and token not in SPECIAL else token
        if not affixes:
            return (own,)
        ends = range(1, affixes + 1)
        return (own, f"#{_shape(token)}", *(f"^{own[:n]}" for n in ends), *(f"{own[-n:]}$" for n in ends))

    return spell


def _shape(token: str) -> str:
    """Return X for capitals, x for other letters, 9 for digits, the rest as it is; of a run of one kind no more than two."""
    kinds = "".join("X" if c.isupper() else "x" if c.isalpha() else "9" if c.isdigit() else c for c in token)
    return re.sub(r"(.)\1{2,}", r"\1\1", kinds)


def fitting(tokens: Sequence[str], settings: Reading, where: Callable[[], str], *, ends: bool = False) -> Sequence[str]:
    """Return the tokens of an example, cut to the longest length; with <EOS> where it ends and was not cut.

    Raises:
        Refusal: it is too long, and that is refused.
    """
    longest = settings["max_length"]
    tokens = [*tokens, END] if ends else tokens
    if longest is None or len(tokens) <= longest:
        return tokens
    if settings["too_long"] == "refuse":
        raise Refusal(where(), f"it has {len(tokens):,} tokens", allowed=f"at most data.reader.max_length={longest}",
                      example="data.reader.too_long=cut")  # fmt: skip
    return tokens[:longest]


@dataclass(frozen=True)
class Corpus:
    """Examples of text before there is a vocabulary.

    Attributes:
        pools: each with `labels`, `groups` and `names`. examples: of each pool, the tokens of its examples. spell: see `spelling`.
        vocabulary, min_count: see Reading. facts: what the card tells of their lengths. written: whether words are kept as they
            were written, since <UNK> tells nobody anything.
    """

    pools: Mapping[str, Pool]
    examples: Mapping[str, Sequence[Sequence[str]]]
    spell: Spell
    vocabulary: int | None
    min_count: int
    facts: Mapping[str, Any]
    written: bool = True

    def source(self, files: Mapping[str, Path], classes: Sequence[str] | None = None) -> Source:
        """Return the source: its examples are hashes of their tokens until it is known what is in train.

        Raises:
            Refusal: there is no token.
        """
        table = sorted({token for examples in self.examples.values() for tokens in examples for token in tokens})
        if not table:
            raise Refusal("the data", "there is no text", allowed="one token or more")
        index = {token: i for i, token in enumerate(table)}
        numbers = {pool: [np.array([index[token] for token in tokens], np.int64) for tokens in examples]
                   for pool, examples in self.examples.items()}  # fmt: skip
        spelled = [self.spell(token) for token in table]
        hashed = np.array([[_hash(part) for part in parts] for parts in spelled])
        return Source(
            self._pools(numbers, hashed), files, classes, learn=partial(self._learned, files, classes, numbers, spelled)
        )

    def _learned(self, files: Mapping[str, Path], classes: Sequence[str] | None, numbers: Mapping[str, Sequence[Array]],
                 spelled: Sequence[tuple[str, ...]], split_of: Mapping[str, Array], known: Sequence[str] | None) -> Source:  # fmt: skip
        """Return the source in the numbers of a vocabulary: that of its train examples, or of the run that judges it."""
        train = _by_split(numbers, split_of).get(0, [])
        counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *train]), minlength=len(spelled))
        symbols = list(known) if known is not None else self._vocabulary(spelled, counts.tolist())
        place = Vocabulary(symbols).table(spelled)
        words = place[:, 0]
        own = {SPLITS[k]: words[np.concatenate(rows)] for k, rows in _by_split(numbers, split_of).items()}
        tokens_seen = own.get("train", np.concatenate(list(own.values())))
        frequent = int(np.bincount(tokens_seen, minlength=len(symbols)).argmax())
        facts = {
            "unknown": {split: float((tokens == 0).mean()) for split, tokens in own.items()},
            "frequent": symbols[frequent],
            "most": {split: float((tokens == frequent).mean()) for split, tokens in own.items()},
            "entropy": _entropy(np.bincount(tokens_seen)),
        }
        return Source(self._pools(numbers, place), files, classes, columns=symbols, facts={**self.facts, **facts})

    def _vocabulary(self, spelled: Sequence[tuple[str, ...]], counts: Sequence[int]) -> list[str]:
        seen: Counter[str] = Counter()
        for parts, count in zip(spelled, counts, strict=True):
            for part in set(parts):  # a short token has some of them several times
                seen[part] += count
        kept = [token for token, count in seen.items() if count >= self.min_count and token not in SPECIAL]
        kept = sorted(kept, key=lambda token: (-seen[token], token))[: self.vocabulary]
        if len(kept) < 2:
            raise Refusal("the vocabulary", f"train has {len(kept)} symbol(s) of its own: there is nothing to tell apart",
                          allowed="two or more; a smaller data.reader.min_count, a larger data.reader.vocabulary")  # fmt: skip
        ends = any(parts[0] == END for parts in spelled)
        return [UNKNOWN, *([END] if ends else []), *kept]

    def _pools(self, numbers: Mapping[str, Sequence[Array]], place: Array) -> dict[str, Pool]:
        """Return the pools with each token as its row of `place` (T, F); one number of it where F is 1."""
        rows = place[:, 0] if place.shape[1] == 1 else place
        return {
            name: Pool(
                pool.labels,
                partial(_chunks, numbers[name], rows),
                pool.groups,
                pool.names,
                ragged=True,
                words=self.examples[name] if self.written else None,
            )
            for name, pool in self.pools.items()
        }


def _chunks(numbers: Sequence[Array], rows: Array) -> Iterator[list[Array]]:
    for start in range(0, len(numbers), EXAMPLES_PER_CHUNK):
        yield [rows[own] for own in numbers[start : start + EXAMPLES_PER_CHUNK]]


def _by_split(numbers: Mapping[str, Sequence[Array]], split_of: Mapping[str, Array]) -> dict[int, list[Array]]:
    """Return the examples of each split, by its place in SPLITS."""
    found: dict[int, list[Array]] = {}
    for pool, rows in split_of.items():
        for own, split in zip(numbers[pool], rows.tolist(), strict=True):
            found.setdefault(split, []).append(own)
    return {split: found[split] for split in sorted(found) if split >= 0}


def _entropy(counts: Array) -> float:
    """Return the nats a token of guessing by frequency alone."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def packed_words(examples: Sequence[Sequence[str]]) -> Array:
    """Return the tokens of examples as bytes (N, W) of UTF-8, a separator after each, 0 at the end."""
    rows = ["".join(f"{token}{SEPARATOR}" for token in tokens).encode("utf-8", "replace") for tokens in examples]
    width = max(map(len, rows))
    require_whole((len(rows), width), np.dtype(np.uint8), "the words of all examples")
    return np.frombuffer(b"".join(row.ljust(width, b"\0") for row in rows), np.uint8).reshape(len(rows), width)


def unpacked_words(row: Array) -> list[str]:
    """Return the tokens in a row (W,) of `packed_words`."""
    return row.tobytes().rstrip(b"\0").decode("utf-8").split(SEPARATOR)[:-1]


def _hash(token: str) -> int:
    """Return 63 bits that are the same for a token wherever it stands: by them, copies are found across data sets."""
    return int.from_bytes(blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") >> 1


class Vocabulary:
    """Symbols and their numbers.

    Args:
        symbols: the names of numbers 0, 1, ...; the first is <UNK>.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self._place = {symbol: i for i, symbol in enumerate(self.symbols)}

    def table(self, spelled: Sequence[tuple[str, ...]]) -> Array:
        """Return the numbers (T, F) of tokens as they are spelled; 0 for what is not known."""
        return np.array([[self._place.get(part, 0) for part in parts] for parts in spelled], np.int64)

    def numbers(self, tokens: Sequence[str], spell: Spell) -> Array:
        """Return the numbers (L,), or (L, F) of tokens of several parts."""
        table = self.table([spell(token) for token in tokens])
        return table[:, 0] if table.shape[1] == 1 else table


AS_TRAINED = ("unit", "punctuation", "lower", "affixes", "item")
WHOLE = {"train": 0.0, "dev": 0.0, "test": 1.0}


def as_trained(reader: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reader's settings for data that a run judges: tokens cut and spelled as the run's were, one text judged whole."""
    same = {key: trained[key] for key in AS_TRAINED if key in reader and key in trained}
    return {**reader, **same, **({"parts": WHOLE} if "parts" in reader else {})}


def joined(tokens: Sequence[str], unit: Unit) -> str:
    """Return tokens as text: characters without, words with spaces between them, none before a sign."""
    if unit == "character":
        return "".join(tokens)
    return re.sub(r" (?=[.,;:!?)\]}](?: |$))", "", " ".join(tokens)) if unit == "word" else " ".join(tokens)


def spelling_of(settings: Mapping[str, Any]) -> Spell:
    """Return how a prepared folder's reader spelled its tokens."""
    return spelling(lower=bool(settings.get("lower")), affixes=int(settings.get("affixes", 0)))
