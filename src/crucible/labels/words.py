"""The words of a text as they were written: its symbols say <UNK> for what train did not know."""

from collections.abc import Sequence

import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool
from crucible.data.objects import Objects
from crucible.data.readers.source import Source
from crucible.data.text import packed_words, unpacked_words
from crucible.labels.kind import Predictions

WORDS = "words"  # of a split: words.npy


def kept(source: Source, labels: ByPool) -> dict[str, Objects]:
    """Return by pool the words of its examples beside their labels; nothing where symbols say as much."""
    if any(pool.words is None for pool in source.pools.values()):
        return {}
    packed = packed_words([tokens for pool in source.pools.values() for tokens in pool.words or ()])
    made, start = {}, 0
    for name, pool in source.pools.items():
        made[name] = Objects(labels[name], {WORDS: packed[start : start + len(pool.labels)]}, [], 0)
        start += len(pool.labels)
    return made


def words_of(found: Predictions, row: int, symbols: Tensor, card: Card) -> Sequence[str]:
    """Return the words of one example: as they were written, or by its symbols (L,), NaN or -1 in the padding."""
    if WORDS in found.further:
        return unpacked_words(found.further[WORDS][row].cpu().numpy())
    there = symbols[~symbols.isnan() & (symbols >= 0)]
    return [(card.columns or [])[int(symbol)] for symbol in there.to(torch.int64).tolist()]
