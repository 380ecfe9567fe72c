"""Text measured token by token: a language model's surprise, and the spans that a tagger finds."""

from collections.abc import Callable, Sequence
from math import exp, log, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.data.readers.source import Array
from crucible.metrics.accumulator import Accumulator, tally

Span = tuple[str, int, int]  # type, first token, token after the last
KINDS = {  # of mistakes: label, predicted; and what fixing one adds to the names that are right, and to those found
    "missed": ("a name", "O", 1, 1), "invented": ("O", "a name", 0, -1), "boundary": ("a name", "with another end", 1, 0),
    "type": ("a name", "of another type", 1, 0),
}  # fmt: skip
LEAST = 30  # examples from which their own spread tells that of a rate of tokens


class LanguageMetrics(Accumulator):
    """The mean of -ln p over all tokens of a split.

    Args:
        nats: outputs (B, L, V) and a batch to -ln p (B, L) of its tokens, 0 where none counts. counted: which tokens (B, L) count.
    """

    minimised = frozenset({"loss", "perplexity", "bits_per_token", "error"})

    def __init__(self, nats: Callable[[Tensor, Batch], Tensor], counted: Callable[[Batch], Tensor]) -> None:
        self._nats, self._counted = nats, counted
        self._sums: list[Tensor] = []  # (B, 3) of each batch: nats, wrong, tokens of each example

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `x` (B, L) and `mask` (B, L)."""
        counted = self._counted(batch)
        wrong = (outputs.argmax(dim=2) != batch["x"]) & counted
        parts = (self._nats(outputs, batch), wrong, counted)
        self._sums.append(torch.stack([part.double().sum(dim=1) for part in parts], dim=1))

    def compute(self) -> dict[str, float]:
        """Return loss in nats a token, perplexity e^loss, bits_per_token loss / ln 2, and the share of wrong next tokens."""
        if not self._sums:
            return {}
        nats, wrong, tokens = torch.cat(self._sums).sum(dim=0).tolist()
        loss = nats / tokens
        return {
            "loss": loss,
            "perplexity": exp(min(loss, 700.0)),
            "bits_per_token": loss / log(2),
            "error": wrong / tokens,
        }

    def matrix(self) -> Tensor:
        """Return the counts (2, 2) of tokens that were told and that were not."""
        _, wrong, tokens = torch.cat(self._sums).sum(dim=0).tolist()
        return torch.tensor([[tokens - wrong, wrong], [0.0, 0.0]])

    def costs(self) -> list[dict[str, Any]]:
        """Return none: of thousands of tokens no pair says much."""
        return []

    def evidence(self, size: int) -> tuple[int, float | None]:
        """Return the number of tokens, and the error's standard error over examples; of few examples it is that of a rate."""
        _, wrong, tokens = torch.cat(self._sums).cpu().numpy().T
        count = int(tokens.sum())
        return count, ratio_spread(wrong, tokens) if len(tokens) >= LEAST else None


class SpanMetrics(Accumulator):
    """Names found by the rules of CoNLL: a name counts where its type and both of its ends are right.

    Args:
        tags: their names in label order. loss: outputs (B, L, K) and labels (B, L), -1 in the padding, to the mean loss () a token.
        predict: outputs to tags (B, L).
    """

    def __init__(
        self, tags: Sequence[str], loss: Callable[[Tensor, Tensor], Tensor], predict: Callable[[Tensor], Tensor]
    ) -> None:
        self._tags, self._loss, self._predict = list(tags), loss, predict
        self._counts = torch.zeros(len(tags), len(tags), dtype=torch.float64)
        self._total: Tensor | float = 0.0
        self._open: list[tuple[Tensor, Tensor]] = []  # label and predicted (B, L)
        self._spans: list[tuple[int, int, int]] = []  # of each example: right, found, there
        self._missed = dict.fromkeys(KINDS, 0)

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `label` (B, M), -1 in the padding."""
        label = batch["label"][:, : outputs.shape[1]]
        self._open.append((label, self._predict(outputs)))
        self._total = self._total + self._loss(outputs, label).double() * (label >= 0).sum()

    def _settle(self) -> None:
        """Count what was taken in, which reads the device, when numbers are asked for."""
        k = len(self._tags)
        for label, predicted in self._open:
            there = label >= 0
            self._counts += tally(label[there] * k + predicted[there], k * k).view(k, k).cpu()
            for own, found, length in zip(label.tolist(), predicted.tolist(), there.sum(dim=1).tolist(), strict=True):
                names = [[self._tags[tag] for tag in tags[:length]] for tags in (own, found)]
                self._add(*(set(spans(each)) for each in names))
        self._open.clear()

    def _add(self, there: set[Span], found: set[Span]) -> None:
        self._spans.append((len(there & found), len(found), len(there)))
        left, extra = there - found, found - there
        for span in sorted(left):
            same = next((each for each in sorted(extra) if each[1:] == span[1:]), None)
            near = same or next((each for each in sorted(extra) if each[0] == span[0] and _overlap(each, span)), None)
            extra -= {near} if near else set()
            self._missed["type" if same else "boundary" if near else "missed"] += 1
        self._missed["invented"] += len(extra)

    def compute(self) -> dict[str, float]:
        """Return loss, precision, recall and f1 of spans, and the error 1 - f1; without a name f1 is 0."""
        self._settle()
        if not self._spans:
            return {}
        right, found, there = (sum(column) for column in zip(*self._spans, strict=True))
        f1 = _ratio(2 * right, found + there)
        return {"loss": float(self._total) / float(self._counts.sum()), "precision": _ratio(right, found),
                "recall": _ratio(right, there), "f1": f1, "error": 1 - f1}  # fmt: skip

    def matrix(self) -> Tensor:
        """Return the counts (K, K) of tokens: rows are tags, columns what was predicted."""
        self._settle()
        return self._counts

    def costs(self) -> list[dict[str, Any]]:
        """Return what each kind of mistake costs: names missed, invented, with a wrong end, of another type."""
        self._settle()
        right, found, there = (sum(column) for column in zip(*self._spans, strict=True))
        error = 1 - _ratio(2 * right, found + there)
        rows = []
        for kind, (label, predicted, more, other) in KINDS.items():
            count = self._missed[kind]
            left = 1 - _ratio(2 * (right + more * count), found + other * count + there)
            rows.append({"label": label, "predicted": predicted, "count": count, "share": (error - left) / error if error else 0.0,
                         "error_if_mended": left})  # fmt: skip
        return sorted((row for row in rows if row["count"]), key=lambda row: row["error_if_mended"])

    def evidence(self, size: int) -> tuple[int, float]:
        """Return the number of sentences, and the standard error of 1 - F1 = (found + there - 2 right) / (found + there) over them."""
        self._settle()
        right, found, there = np.array(self._spans, float).reshape(-1, 3).T
        return size, ratio_spread(found + there - 2 * right, found + there)


def ratio_spread(part: Array, whole: Array) -> float:
    """Return the standard error of sum(part) / sum(whole) over independent examples (Cochran, Sampling Techniques, 2.11)."""
    total, count = float(whole.sum()), len(whole)
    if total <= 0 or count < 2:
        return 0.0
    rest = part - part.sum() / total * whole
    return sqrt(count / (count - 1) * float((rest**2).sum())) / total


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the names that tags (BIO or IO) say, by the rules of conlleval: I-TYPE after O or another type begins one, too."""
    found: list[Span] = []
    kind, start = "", 0
    for place, tag in enumerate([*tags, "O"]):
        mark, _, own = tag.partition("-")
        if kind and (mark != "I" or own != kind):
            found.append((kind, start, place))
            kind = ""
        if mark in ("B", "I") and not kind:
            kind, start = own, place
    return found


def _overlap(one: Span, other: Span) -> bool:
    return one[1] < other[2] and other[1] < one[2]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
