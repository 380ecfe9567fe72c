"""What a language model says: how likely a text is, and texts of its own (notes 000, part 13, section 3)."""

from collections.abc import Iterator, Sequence
from typing import cast
from unicodedata import normalize

import numpy as np
import torch

from crucible.data.card import Card
from crucible.data.ragged import Padded
from crucible.data.readers.source import Array
from crucible.data.text import END, Vocabulary, spelling_of, tokens_of
from crucible.inference.saved_run import Predictor, Saved
from crucible.labels.texts import tokens_and_nats, unit_of
from crucible.models.sequence import SequenceNetwork
from crucible.tasks.language import Language
from crucible.tasks.steps import written


def cut(text: str, card: Card, *, strip: bool = True) -> Sequence[str]:
    """Return the tokens of a text, as the reader of a run's data cut its own; with the spaces around it, or without."""
    text = normalize("NFC", text.strip() if strip else text)
    return tokens_of(text, unit_of(card), card.recipe["reader"].get("punctuation", "keep"))


def symbols_of(tokens: Sequence[str], card: Card) -> Array:
    """Return tokens as the symbols (L,) or (L, F) of a run."""
    return Vocabulary(card.columns or []).numbers(tokens, spelling_of(card.recipe["reader"]))


def padded(examples: Sequence[Array]) -> Array:
    """Return examples (L_i, ...) of symbols as one array (B, L, ...), padded with -1."""
    offsets = torch.from_numpy(np.cumsum([0, *map(len, examples)]))
    return Padded(torch.from_numpy(np.concatenate(examples)), offsets)[:].numpy()


def nats_of(saved: Saved, text: str, *, ends: bool) -> list[tuple[str, float]]:
    """Return each token of a text and -ln of its probability after those before it; their sum is that of the whole text.

    Args:
        ends: whether <EOS> comes last.
    """
    tokens = [*cut(text, saved.card), *([END] if ends else [])]
    x = torch.from_numpy(symbols_of(tokens, saved.card)[None])
    with torch.inference_mode():
        [answer] = Predictor(saved).eval()(x)
    said = [nats for _, nats in tokens_and_nats(answer, saved.card)]
    return list(zip(tokens, said, strict=True))


def samples(saved: Saved, prefix: str, *, temperature: float, seed: int) -> Iterator[str]:
    """Give the tokens that a run writes after a prefix, which is not given again: see `written`."""
    tokens = [*cut(prefix, saved.card, strip=False), *([END] if cast(Language, saved.task).answers else [])]
    told = symbols_of(tokens, saved.card).tolist() if tokens else []
    return written(
        cast(SequenceNetwork, saved.model), saved.card.columns or [], told, temperature=temperature, seed=seed
    )
