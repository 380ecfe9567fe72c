"""Pairs of pictures measured: is it the same person, who of many is it, and how sure is that (notes 000, part 12).

A pair counts as one person where its distance is below the threshold. Distances are whatever a task compares codes by: squared
distances ||f_i - f_j||^2, or the negative logit of a unit that is fed with both codes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import comb

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator
from crucible.metrics.evidence import jackknife

Compare = Callable[[Tensor, Tensor], Tensor]
MOST = 4000  # pictures of a split that are compared with each other, whole people: 8 million pairs
MOST_QUERIES = 4000  # pairs of one person by which one-shot recognition is measured
FALSE_ACCEPTS = (0.1, 0.01, 0.001)
WAYS, MOST_WAYS, RANKS, GALLERIES, BLOCK = (5, 20), 100, (1, 5), 10, 1024


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Return ||f_i - f_j||^2 (n, m) of codes (n, D) and (m, D)."""
    squares = first.pow(2).sum(dim=1)[:, None] + second.pow(2).sum(dim=1) - 2 * first @ second.T
    return squares.clamp(min=0)


@dataclass(frozen=True)
class Roc:
    """The share of accepted pairs (T,) at each threshold (T,), from none to all: of different people, and of one person."""

    threshold: Tensor
    false_accept: Tensor
    true_accept: Tensor

    def equal_error(self) -> float:
        """Return the rate at which as many false pairs are accepted as true ones are refused, interpolated."""
        false_reject = 1 - self.true_accept
        k = int((self.false_accept >= false_reject).nonzero()[0])
        if k == 0:
            return float(self.false_accept[0])
        (low, high), (above, below) = self.false_accept[k - 1 : k + 1].tolist(), false_reject[k - 1 : k + 1].tolist()
        share = (above - low) / ((above - low) + (high - below))
        return float(low + share * (high - low))

    def best(self) -> float:
        """Return the threshold with the largest mean of accepted true and refused false pairs."""
        return float(self.threshold[(self.true_accept - self.false_accept).argmax()])

    def at(self, false_accept: float) -> tuple[float, float]:
        """Return the threshold, and the share of true pairs accepted, where at most this share of false ones is."""
        k = int((self.false_accept <= false_accept).nonzero()[-1])
        return float(self.threshold[k]), float(self.true_accept[k])


@dataclass(frozen=True)
class Pairs:
    """All pairs of pictures.

    Attributes:
        rows: (n,) the pictures that are compared. label: (n,) who is on each, from 0. distance: (n, n).
    """

    rows: Tensor
    label: Tensor
    distance: Tensor

    @property
    def people(self) -> int:
        """How many there are."""
        return int(self.label.max()) + 1

    @cached_property
    def same(self) -> Tensor:
        """Whether two pictures are of one person (n, n)."""
        return self.label[:, None] == self.label

    def _each(self) -> tuple[Tensor, Tensor]:
        first, second = torch.triu_indices(len(self.label), len(self.label), offset=1)
        return self.distance[first, second], self.same[first, second]

    def by_sameness(self) -> tuple[Tensor, Tensor]:
        """Return the distances of pairs of one person, and of two."""
        distance, same = self._each()
        return distance[same], distance[~same]

    def roc(self) -> Roc:
        """Return the curve over all thresholds, each midway between two distances."""
        distance, same = self._each()
        distance, order = distance.sort(stable=True)
        same = same[order].double()
        last = torch.cat([distance.diff() > 0, torch.ones(1, dtype=torch.bool)])
        ends, step = distance[last], (distance[-1] - distance[0]).clamp(min=1e-6) / 2
        edges = torch.cat([ends[:1] - step, ends, ends[-1:] + step])
        accepted = [each.cumsum(dim=0)[last] / each.sum().clamp(min=1) for each in (1 - same, same)]
        none = torch.zeros(1, dtype=torch.float64)
        return Roc((edges[1:] + edges[:-1]) / 2, *(torch.cat([none, each]) for each in accepted))

    def accepted(self, threshold: float) -> tuple[Tensor, Tensor]:
        """Return how many pairs of each two people (P, P) are taken for one person, and how many there are."""
        first, second = torch.triu_indices(len(self.label), len(self.label), offset=1)
        cells = self.label[first] * self.people + self.label[second]
        taken = (self.distance[first, second] < threshold).double()
        size = self.people**2
        counts = torch.bincount(cells, taken, minlength=size), torch.bincount(cells, minlength=size).double()
        return counts[0].view(self.people, -1), counts[1].view(self.people, -1)

    def ranks(self) -> Tensor:
        """Return the place of the right person among all, nearest first, of every picture (Q,) that is no gallery's.

        A gallery holds one picture of everybody: the first, then the second, ...; up to ten of them.
        """
        own = [(self.label == k).nonzero()[:, 0] for k in range(self.people)]
        found = []
        for turn in range(min(GALLERIES, max(map(len, own)))):
            gallery = torch.stack([rows[turn % len(rows)] for rows in own])
            asked = torch.ones(len(self.label), dtype=torch.bool)
            asked[gallery] = False
            distances = self.distance[asked][:, gallery]
            right = distances.gather(1, self.label[asked][:, None])
            found.append((distances <= right).sum(dim=1))  # of equals the wrong one is first
        return torch.cat(found)

    def one_shot_errors(self) -> Tensor:
        """Return how often the wrong person is nearest (W - 1,) among 2, 3, ... W people, of each of whom one picture is known.

        Expected, not sampled: of a picture, and another of the same person, the right one is nearest if one picture each of n - 1
        other people, all drawn at random, are farther: a mean over all such sets, by elementary symmetric polynomials.
        """
        first, second = (self.same & ~torch.eye(len(self.label), dtype=torch.bool)).nonzero().unbind(dim=1)
        step = -(-len(first) // MOST_QUERIES)
        first, second = first[::step], second[::step]
        counts = torch.bincount(self.label, minlength=self.people).double()
        sums = torch.zeros(len(first), min(self.people, MOST_WAYS), dtype=torch.float64)
        sums[:, 0] = 1
        for person in range(self.people):
            other = self.distance[first][:, self.label == person] > self.distance[first, second][:, None]
            farther = torch.where(self.label[first] == person, 0.0, other.sum(dim=1) / counts[person])
            sums[:, 1:] = sums[:, 1:] + sums[:, :-1] * farther[:, None]
        sets = torch.tensor([float(comb(self.people - 1, n)) for n in range(sums.shape[1])], dtype=torch.float64)
        return 1 - (sums / sets).mean(dim=0)[1:]

    def hardest(self, count: int, *, same: bool) -> list[tuple[int, int, float]]:
        """Return the pictures and the distance of the pairs of one person that are farthest apart, or of two that are nearest."""
        first, second = torch.triu_indices(len(self.label), len(self.label), offset=1)
        own = (self.same[first, second] == same).nonzero()[:, 0]
        first, second = first[own], second[own]
        distance, found = self.distance[first, second].topk(min(count, len(own)), largest=same)
        pairs = zip(self.rows[first[found]].tolist(), self.rows[second[found]].tolist(), distance.tolist(), strict=True)
        return list(pairs)


def pairs_of(codes: Tensor, labels: Tensor, compare: Compare) -> Pairs:
    """Return the pairs of codes (N, D) of people (N,), at most MOST of them, whole people."""
    codes, labels = codes.detach().cpu().double(), labels.cpu()
    _, label = labels.unique(return_inverse=True)
    counts = torch.bincount(label).cumsum(dim=0)
    rows = (label <= int((counts <= MOST).sum().clamp(min=2)) - 1).nonzero()[:, 0]
    return Pairs(rows, label[rows], compare(codes[rows], codes[rows]))


def nearest(codes: Tensor, compare: Compare) -> Iterator[tuple[float, int]]:
    """Give for every code (N, D) the distance of the nearest other one, and its row."""
    codes = codes.double()
    for start in range(0, len(codes), BLOCK):
        distance = compare(codes[start : start + BLOCK], codes)
        distance[torch.arange(len(distance)), torch.arange(start, start + len(distance))] = torch.inf
        yield from zip(*(part.tolist() for part in distance.min(dim=1)), strict=True)


class VerificationMetrics(Accumulator):
    """Codes of a split, compared with each other at the end.

    Args:
        find: outputs to codes (B, D). compare: codes to their distances. loss: all pairs to the mean loss ().
        threshold: below it a pair counts as one person; None: the best on these pictures.
    """

    minimised = frozenset({"loss", "error", "eer"})

    def __init__(
        self,
        find: Callable[[Tensor], Tensor],
        compare: Compare,
        loss: Callable[[Pairs], Tensor],
        *,
        threshold: float | None = None,
    ) -> None:
        self._find, self._compare, self._loss, self._threshold = find, compare, loss, threshold
        self._codes: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._pairs: Pairs | None = None

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs for a batch with `label` (B,)."""
        self._codes.append(self._find(outputs).detach())
        self._labels.append(batch["label"])
        self._pairs = None

    @property
    def pairs(self) -> Pairs:
        """All pairs taken in."""
        if self._pairs is None:
            self._pairs = pairs_of(torch.cat(self._codes), torch.cat(self._labels), self._compare)
        return self._pairs

    def threshold(self) -> float:
        """Return the threshold that is used here."""
        return self.pairs.roc().best() if self._threshold is None else self._threshold

    def compute(self) -> dict[str, float]:
        """Return loss, error, accuracy, eer, rank1, one_shot_5, tar_at_far_0.1, threshold, ...; what cannot be told is left out.

        accuracy: the mean of two shares at the threshold, of pairs of one person that are accepted and of two that are refused.
        eer: equal error rate. rank1: recognised among all people of the split from one picture each; rank5: among the first
        five. one_shot_5: among five. tar_at_far_0.01: pairs of one person accepted where 1 % of the others are.
        """
        if not self._codes:
            return {}
        pairs, roc, threshold = self.pairs, self.pairs.roc(), self.threshold()
        accuracy = _accuracy(*pairs.accepted(threshold))
        numbers = {
            "loss": float(self._loss(pairs)),
            "error": 1 - accuracy,
            "accuracy": accuracy,
            "eer": roc.equal_error(),
        }
        ranks, errors = pairs.ranks(), pairs.one_shot_errors()
        numbers |= {f"rank{k}": float((ranks <= k).double().mean()) for k in RANKS if k < pairs.people}
        numbers |= {f"one_shot_{n}": 1 - float(errors[n - 2]) for n in WAYS if n <= pairs.people}
        same, different = pairs.by_sameness()
        numbers |= {
            "distance_same": float(same.mean()),
            "distance_different": float(different.mean()),
            "threshold": threshold,
        }
        for rate in FALSE_ACCEPTS:
            if rate * len(different) >= 1:  # fewer pairs do not tell it
                numbers[f"threshold_at_far_{rate}"], numbers[f"tar_at_far_{rate}"] = roc.at(rate)
        return numbers

    def matrix(self) -> Tensor:
        """Return the counts (2, 2) of pairs: rows of one person and of two, columns what they were taken for."""
        taken, there = self.pairs.accepted(self.threshold())
        same = torch.stack([taken.trace(), there.trace()])
        rest = torch.stack([taken.sum(), there.sum()]) - same
        return torch.stack([torch.stack([each[0], each[1] - each[0]]) for each in (same, rest)])

    def mistakes(self) -> Tensor:
        """Return the share of each kind of mistake (2, 2): both kinds of pairs count one half, however many there are."""
        counts = self.matrix()
        wrong = counts - torch.diag(counts.diagonal())
        return wrong / counts.sum(dim=1, keepdim=True).clamp(min=1) * counts.sum() / 2

    def evidence(self, size: int) -> tuple[int, float]:
        """Return how many people there are, and the standard error of the error, without each of them in turn."""
        taken, there = self.pairs.accepted(self.threshold())
        people = range(self.pairs.people)
        kept = [[k for k in people if k != left] for left in people]
        values = [_accuracy(taken[own][:, own], there[own][:, own]) for own in kept if len(own) > 1]
        return len(people), jackknife(values) if len(values) > 1 else 0.5


def _accuracy(taken: Tensor, there: Tensor) -> float:
    """Return the mean of the shares that are right: of pairs of one person accepted, and of two refused (P, P)."""
    same, all_same = taken.trace(), there.trace()
    false, all_false = taken.sum() - same, there.sum() - all_same
    return float((same / all_same.clamp(min=1) + 1 - false / all_false.clamp(min=1)) / 2)
