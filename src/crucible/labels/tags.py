"""One tag for each token, which together say where names begin and end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from crucible.data.card import Card
from crucible.data.kind import ByPool, Encoded
from crucible.data.objects import Objects, Resize
from crucible.data.readers.source import Array, Source
from crucible.data.splits import SPLITS
from crucible.errors import Refusal
from crucible.labels.kind import WORST, Answer, Kind, Mistake, Predictions, table_of
from crucible.labels.words import kept, words_of
from crucible.metrics.text import spans

NO_TAG = -1
SYMBOL, TAG = 0, 1  # what is said of each token: its number, and its tag's


class Tags(Kind):
    """Tags (N, L), -1 in the padding; an answer (L, 2) holds each token and its tag."""

    name = "tags"
    is_rate = False
    worst_picture = "worst.png"

    def encode(self, source: Source, judge: Sequence[str] | None) -> Encoded:
        """Return the tags (N, L) in the order of the source, or of the run that judges them.

        Raises:
            Refusal: the data have no tag for each token, or one that the run does not know.
        """
        labels = {pool: np.asarray(each.labels) for pool, each in source.pools.items()}
        if source.learn is None or source.classes is None or any(each.ndim != 2 for each in labels.values()):
            raise Refusal("task=tagging", "these data have no tag for each token", allowed="data=stdlib, conll, wnut17",
                          example="python src/train.py experiment=tagging")  # fmt: skip
        order = list(source.classes)
        if judge is not None:
            known = {int(tag) for each in labels.values() for tag in np.unique(each[each >= 0])}
            if unknown := [order[tag] for tag in sorted(known) if order[tag] not in judge]:
                raise Refusal("the labels", f"the tag {unknown[0]!r} is unknown", allowed=", ".join(judge))
            place = np.array([*(judge.index(tag) if tag in judge else NO_TAG for tag in order), NO_TAG])
            labels, order = {pool: place[each] for pool, each in labels.items()}, list(judge)
        return Encoded(order, labels, {pool: np.zeros(len(each), np.int64) for pool, each in labels.items()})

    def place(
        self, source: Source, labels: ByPool, sizes: ByPool, shape: Sequence[int], resize: Resize
    ) -> dict[str, Objects]:
        """Return the words beside the tags."""
        return kept(source, labels)

    def require_learnable(
        self, split_of: ByPool, labels: ByPool, classes: Sequence[str], expected: Sequence[int]
    ) -> None:
        """Refuse a split without a name."""
        for number in expected:
            if not any((labels[pool][own == number] > 0).any() for pool, own in split_of.items()):
                raise Refusal(f"the {SPLITS[number]} split", "there is no name in it: every tag is O",
                              allowed="sentences with names in every split", example="data.split.train=6 data.split.dev=2 data.split.test=2")  # fmt: skip

    def counts(self, labels: Array, num_classes: int) -> dict[str, Any]:
        """Return the tokens of each tag."""
        return {"class_counts": np.bincount(labels[labels >= 0], minlength=num_classes).tolist()}

    def comparable(self, labels: Array) -> Array:
        """Return the share (N,) of each sentence's tokens that are in a name."""
        return np.asarray((labels > 0).sum(axis=1) / (labels >= 0).sum(axis=1))

    def constant(self, card: Card, num_outputs: int, *, single: bool) -> tuple[Tensor | None, str]:
        """No name anywhere, which finds none."""
        return None, "always 'O'"

    def say(self, answers: Tensor, sizes: Array, card: Card) -> list[tuple[Any, dict[str, float]]]:
        """Return the names: type, first token and the one after the last, counted from 0."""
        return [([{"type": kind, "start": start, "end": end} for kind, start, end in spans(tags)], {})
                for tags in (tags_of(row[:, TAG], card) for row in answers)]  # fmt: skip

    def with_tokens(self, predicted: list[dict[str, Any]], tokens: Sequence[str]) -> list[dict[str, Any]]:
        """Return the names with their text."""
        return [{"text": " ".join(tokens[each["start"] : each["end"]]), **each} for each in predicted]

    def in_words(self, predicted: list[dict[str, Any]]) -> str:
        """Return each name and its type."""
        return "; ".join(f"{each.get('text', each['start'])} ({each['type']})" for each in predicted) or "no name"

    def columns(self, answers: Sequence[Answer]) -> list[str]:
        """Return the columns of a table of answers: a row for each name."""
        return ["input", "text", "type", "start", "end"]

    def cells(self, answer: Answer) -> list[list[object]]:
        """Return the names of one text."""
        return [
            [answer.name, each.get("text", ""), each["type"], each["start"], each["end"]] for each in answer.predicted
        ]

    def tables(self, found: Predictions, card: Card) -> dict[str, str]:
        """Return the tags of each sentence and those predicted; and all tokens in the format of CoNLL, for any other scorer."""
        cells, lines = [], list[str]()
        for row, (label, answer) in enumerate(zip(found.label, found.answers, strict=True)):
            own, said = tags_of(label, card), tags_of(answer[:, TAG], card)
            words = words_of(found, row, answer[:, SYMBOL], card)
            cells.append([" ".join(own), " ".join(said[: len(own)])])
            lines += [" ".join(cell) for cell in zip(map(_in_one, words), own, said, strict=False)] + [""]
        return table_of(found, ["label", "predicted"], cells) | {"predictions.conll": "\n".join(lines) + "\n"}

    def worst(self, found: Predictions, card: Card, score: float) -> list[Mistake]:
        """Return the sentences with the most names missed and invented."""
        mistakes = []
        for row, (label, answer) in enumerate(zip(found.label, found.answers, strict=True)):
            own = tags_of(label, card)
            there, said = set(spans(own)), set(spans(tags_of(answer[: len(own), TAG], card)))
            if there != said:
                what = f"{len(there - said)} missed, {len(said - there)} invented"
                mistakes.append((len(there ^ said), Mistake(row, what, what)))
        return [each for _, each in sorted(mistakes, key=lambda pair: (-pair[0], pair[1].row))[:WORST]]

    def figures(self, found: Predictions, images: Array, card: Card, home: Path) -> dict[str, Path]:
        """Draw the worst sentences, each name as it is and as it was found."""
        from crucible.plots import text as draw  # matplotlib: only where a report is drawn

        shown = []
        for each in self.worst(found, card, 0.5):
            own, answer = tags_of(found.label[each.row], card), found.answers[each.row]
            words = words_of(found, each.row, answer[:, SYMBOL], card)
            shown.append(list(zip(words, own, tags_of(answer[:, TAG], card), strict=False)))
        if not shown:
            return {}
        draw.names(shown, home / "names.png")
        return {"Worst sentences: green is found, orange missed, red invented": home / "names.png"}


def _in_one(word: str) -> str:
    """Return a word without white space, which would be the end of a column."""
    return "_".join(word.split()) or "_"


def tags_of(numbers: Tensor, card: Card) -> list[str]:
    """Return the names of tags (L,); what is below 0 or no number is padding."""
    return [card.classes[int(tag)] for tag in numbers.tolist() if tag == tag and tag >= 0]
