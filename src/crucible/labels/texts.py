"""No label besides the text itself: each token is told from those before it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.objects import Objects, Resize
from crucible.data.readers.source import Array, Source
from crucible.data.text import joined
from crucible.errors import Refusal
from crucible.labels.kind import WORST, Answer, Kind, Mistake, Predictions, table_of
from crucible.labels.words import kept, words_of

SYMBOL, NATS = 0, 1  # what is said of each token: its number, and -ln of the probability that it was given


class Texts(Kind):
    """Text; an answer (L, 2) holds each token and -ln of its probability."""

    name = "texts"
    has_classes = False
    worst_picture = "worst.png"

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return zeros: the label is the text.

        Raises:
            Refusal: the data are no text.
        """
        if source.learn is None:
            raise Refusal("task=language", "these data are no text", allowed="data=pydoc, text, tinyshakespeare, dinos",
                          example="python src/train.py experiment=language")  # fmt: skip
        nothing = {pool: np.zeros(len(each.labels), np.int64) for pool, each in source.pools.items()}
        return Encoded([], nothing, nothing)

    def place(
        self, source: Source, labels: ByPool, sizes: ByPool, shape: Sequence[int], resize: Resize
    ) -> dict[str, Objects]:
        """Return the words, where symbols do not say as much."""
        return kept(source, labels)

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor | None, str]:
        """The token that is most frequent in train."""
        return None, f"always {card.lengths['frequent']!r}" if card.lengths else ""

    def trivial_error(self, card: Card, split: str) -> float:
        """Return the share of the tokens of a split that are another than the most frequent one."""
        return 1 - float((card.lengths or {})["most"][split])

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return nats a token, perplexity, and each token with its probability."""
        return [(_said(row, card), {}) for row in answers]

    def in_words(self, predicted: dict[str, Any]) -> str:
        """Return nats and perplexity."""
        return f"{predicted['nats_per_token']:.4f} nats a token, perplexity {predicted['perplexity']:.2f}"

    def columns(self, answers: Sequence[Answer]) -> list[str]:
        """Return the columns of a table of answers."""
        return ["input", "tokens", "nats_per_token", "perplexity"]

    def cells(self, answer: Answer) -> list[list[object]]:
        """Return the numbers of one text."""
        said = answer.predicted
        return [[answer.name, len(said["tokens"]), f"{said['nats_per_token']:.6f}", f"{said['perplexity']:.6f}"]]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return of each text its tokens, nats a token, and the share of tokens that were not the likeliest."""
        cells = []
        for answer, predicted in zip(found.answers, found.predicted, strict=True):
            there = ~answer[:, NATS].isnan()
            wrong = (predicted[: len(there)][there] != answer[there, SYMBOL].long()).double().mean()
            cells.append([int(there.sum()), f"{answer[there, NATS].double().mean():.6f}", f"{wrong:.6f}"])
        return table_of(found, ["tokens", "nats_per_token", "error"], cells)

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the texts that were least expected."""
        nats = found.answers[..., NATS].double().nanmean(dim=1)
        order = nats.argsort(descending=True, stable=True)[:WORST].tolist()
        return [Mistake(row, f"{nats[row]:.2f} nats a token", f"{nats[row]:.2f} nats a token") for row in order]

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw the texts that were least expected, each token coloured by how surprising it was."""
        from crucible.plots import text as draw  # matplotlib: only where a report is drawn

        rows = [each.row for each in self.worst(found, card, 0.5)]
        shown = [[(word, nats) for word, (_, nats) in zip(words_of(found, row, found.answers[row, :, SYMBOL], card),
                                                          tokens_and_nats(found.answers[row], card), strict=False)] for row in rows]  # fmt: skip
        draw.surprise(shown, home / "surprise.png", unit_of(card))
        return {"The least expected texts: the darker a token, the less likely it was": home / "surprise.png"}


def tokens_and_nats(answer: Tensor, card: Card) -> list[tuple[str, float]]:
    """Return each token of an answer (L, 2), and -ln of its probability."""
    there = answer[~answer[:, NATS].isnan()]
    return [((card.columns or [])[int(symbol)], nats) for symbol, nats in there.tolist()]


def unit_of(card: Card) -> Any:
    """Return what the tokens of the data are."""
    return card.recipe["reader"].get("unit", "space")


def _said(answer: Tensor, card: Card) -> dict[str, Any]:
    pairs = tokens_and_nats(answer, card)
    mean = sum(nats for _, nats in pairs) / max(1, len(pairs))
    return {"text": joined([token for token, _ in pairs], unit_of(card)), "nats_per_token": mean,
            "perplexity": float(torch.tensor(mean).exp()), "tokens": [[token, round(nats, 4)] for token, nats in pairs]}  # fmt: skip
