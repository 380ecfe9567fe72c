"""Found boxes measured by the rules of COCO (Lin et al., 2014, arXiv:1405.0312): average precision, and what went wrong.

Found boxes are (N, D, 6): corners in pixels, score, class, the highest score first, a score of 0 where there is none. True
ones are `boxes` (N, M, 4) and `labels` (N, M), below 0 where there is none. Loops run over ranks and classes, never boxes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.boxes import MATCHED, iou
from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator
from crucible.metrics.evidence import jackknife

BOUNDS = torch.linspace(0.5, 0.95, 10, dtype=torch.float64)
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))  # as pycocotools has them, to the last bit
GROUPS = 10  # of images that are left out together
TOUCHED = 0.1  # overlap from which a wrong box is about an object (Bolya et al., 2020, TIDE, arXiv:2008.08115)
OBJECTS, FOUND = "objects", "found boxes"  # what a kind of mistake is about
SCORES = torch.arange(1, 100, dtype=torch.float64) / 100  # among which the best to show boxes from is looked for
KINDS = ("wrong class", "badly placed", "duplicate", "background")  # of found boxes that are no hits


@dataclass(frozen=True)
class Found:
    """What was found and what was there, and which found boxes (bounds, N, D) are hits, at each overlap asked for.

    Attributes:
        given: boxes (N, D, 6). boxes, labels: true ones. truth: the true box (bounds, N, D) that each hit takes, else -1.
    """

    given: Tensor
    boxes: Tensor
    labels: Tensor
    truth: Tensor

    @property
    def hits(self) -> Tensor:
        """Whether each found box takes a true one (bounds, N, D)."""
        return self.truth >= 0


def matched(given: Tensor, boxes: Tensor, labels: Tensor, bounds: Tensor = BOUNDS, *, any_class: bool = False) -> Found:
    """Let every found box, the highest score first, take the true box of its class that it overlaps most and is still free.

    Args:
        given: (N, D, 6). boxes: (N, M, 4). labels: (N, M). bounds: overlaps from which a box may be taken (T,).
        any_class: whether a box of another class may be taken too.
    """
    overlaps = iou(given[:, :, None, :4].double(), boxes[:, None].double())
    allowed = (labels >= 0)[:, None] & (given[..., 4] > 0)[..., None]
    if not any_class:
        allowed = allowed & (given[..., 5, None] == labels[:, None])
    overlaps = torch.where(allowed, overlaps, -1.0)
    limits = bounds.to(overlaps.device).clamp(max=1 - 1e-10)[:, None]
    taken = torch.zeros((len(bounds), *labels.shape), dtype=torch.bool, device=labels.device)
    truth = torch.full((len(bounds), *given.shape[:2]), -1, device=labels.device)
    for rank in range(given.shape[1] if labels.shape[1] else 0):
        free = torch.where(taken, -1.0, overlaps[:, rank])
        best, place = free.flip(-1).max(dim=-1)  # of equals the last, as pycocotools does
        place = labels.shape[1] - 1 - place
        hit = best >= limits
        truth[:, :, rank] = torch.where(hit, place, -1)
        taken |= torch.zeros_like(taken).scatter(-1, place[..., None], hit[..., None])
    return Found(given, boxes, labels, truth)


def precisions(hits: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return the precision (T, 101) at recalls 0, 0.01, ... 1: the highest at that recall or a larger one.

    Args:
        hits: (T, n) whether each found box of a class is a hit. scores: (n,). count: true boxes of that class.
    """
    order = scores.argsort(descending=True, stable=True)
    right = hits[:, order].double().cumsum(dim=1)
    precision = right / torch.arange(1, len(order) + 1, device=hits.device)
    envelope = precision.flip(1).cummax(dim=1).values.flip(1) if len(order) else precision
    recall = right / max(1, count)
    places = torch.searchsorted(recall, RECALLS.to(hits.device).expand(len(hits), -1).contiguous())
    padded = torch.cat([envelope, envelope.new_zeros(len(hits), 1)], dim=1)
    return padded.gather(1, places)


def curves(found: Found, num_classes: int) -> dict[int, Tensor]:
    """Return the precisions (T, 101) of every class that there is a true box of."""
    scores, kinds = found.given[..., 4].flatten(), found.given[..., 5].flatten()
    counts, hits = torch.bincount(found.labels[found.labels >= 0], minlength=num_classes), found.hits.flatten(1)
    rows = {k: ((kinds == k) & (scores > 0)).nonzero()[:, 0] for k in range(num_classes) if counts[k]}
    return {k: precisions(hits[:, own], scores[own], int(counts[k])) for k, own in rows.items()}


def mean_precision(found: Found, num_classes: int) -> Tensor:
    """Return the mean average precision (T,) over the classes that there are; 0 without any."""
    each = [curve.mean(dim=1) for curve in curves(found, num_classes).values()]
    return torch.stack(each).mean(dim=0) if each else torch.zeros(len(found.truth), dtype=torch.float64)


def f1_from(found: Found, scores: Tensor) -> Tensor:
    """Return the F1 (S,) of the boxes with at least each score (S,), at the first overlap; weaker ones take nothing from them."""
    real = found.given[..., 4] > 0
    given, order = found.given[..., 4][real].double().sort()
    hits = found.hits[0][real][order].double()
    first = torch.searchsorted(given, scores)  # of those shown
    right = hits.sum() - torch.cat([hits.new_zeros(1), hits.cumsum(dim=0)])[first]
    return 2 * right / (len(given) - first + (found.labels >= 0).sum()).clamp(min=1)


def shown_from(found: Found, score: float) -> dict[str, float]:
    """Return precision, recall and F1 of the boxes with at least this score, at the first overlap, and the mean IoU of the hits; 0 of none."""
    shown = found.given[..., 4].double() >= score
    hits = found.hits[0] & shown
    right, count, objects = (
        int(hits.sum()),
        int((shown & (found.given[..., 4] > 0)).sum()),
        int((found.labels >= 0).sum()),
    )
    taken = found.truth[0].clamp(min=0)[..., None].expand(-1, -1, 4)
    overlaps = (
        iou(found.given[..., :4].double(), found.boxes.double().gather(1, taken))
        if found.labels.shape[1]
        else hits.double()
    )
    return {
        "precision": right / count if count else 0.0,
        "recall": right / objects if objects else 0.0,
        "f1": 2 * right / (count + objects) if count + objects else 0.0,
        "mean_iou": float(overlaps[hits].mean()) if right else 0.0,
    }


class DetectionMetrics(Accumulator):
    """Everything found on a split, measured at the end.

    Args:
        names: of the classes. losses: outputs and batch to the mean loss () and its parts. find: outputs to found boxes (B, D, 6).
        settle: those to what stays of them, which may read the device: it is called when the numbers are asked for.
        score: from which a box is counted where boxes are counted one by one, as in the confusion matrix.
        collisions: outputs and batch to the number () of objects that share a place of the grid with another one.
        within: found boxes (B, D, 6) and their batch to the boxes within each picture; the stored picture is all of it.
    """

    def __init__(
        self,
        names: Sequence[str],
        losses: Callable[[Any, Batch], dict[str, Tensor]],
        find: Callable[[Any], Tensor],
        *,
        score: float,
        collisions: Callable[[Any, Batch], Tensor],
        within: Callable[[Tensor, Batch], Tensor] = lambda found, batch: found,
        settle: Callable[[Tensor], Tensor] = lambda found: found,
    ) -> None:
        self._within, self._settle = within, settle
        self._names, self._losses, self._find, self._score = names, losses, find, score
        self._open: list[tuple[Tensor, Batch]] = []
        self._taken: list[tuple[Tensor, Tensor, Tensor]] = []
        self._totals: dict[str, Tensor] = {}
        self._collisions, self._lost = collisions, torch.zeros(())

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the outputs for a batch with `boxes` (B, M, 4) and `label` (B, M)."""
        self._open.append((self._find(outputs), {name: value for name, value in batch.items() if name != "x"}))
        for name, value in self._losses(outputs, batch).items():
            self._totals[name] = self._totals.get(name, 0.0) + value.double() * len(batch["x"])
        self._lost = self._lost + self._collisions(outputs, batch)

    def found(self, *, bounds: Tensor = BOUNDS, any_class: bool = False) -> Found:
        """Return everything taken in, matched."""
        for found, batch in self._open:
            self._taken.append((self._within(self._settle(found), batch), batch["boxes"], batch["label"]))
        self._open.clear()
        given, boxes, labels = (torch.cat(each).cpu() for each in zip(*self._taken, strict=True))
        if any_class:  # counted one by one: only what would be shown
            given = torch.where(given[..., 4:5] >= self._score, given, torch.zeros_like(given))
        return matched(given, boxes, labels, bounds, any_class=any_class)

    def compute(self) -> dict[str, float]:
        """Return loss, loss/PART, map50, map50_95, error (1 - map50), collisions, and per_class/NAME, the precision at 0.5.

        And of the boxes that are shown, those from the task's score on, at an overlap of 0.5: precision, recall, f1, and mean_iou,
        the mean overlap of those that are right.
        """
        if not self._open and not self._taken:
            return {}
        found = self.found()
        of_classes = curves(found, len(self._names))
        means = mean_precision(found, len(self._names))
        size = sum(len(given) for given, _, _ in self._taken)
        losses = {name: float(total) / size for name, total in self._totals.items()}
        first, whole = float(means[0]), float(means.mean())
        per_class = {f"per_class/{self._names[k]}": float(curve[0].mean()) for k, curve in of_classes.items()}
        numbers = {**losses, "map50": first, "map50_95": whole, "error": 1 - first, "collisions": float(self._lost)}
        return numbers | shown_from(found, self._score) | per_class

    def evidence(self, size: int) -> tuple[int, float]:
        """Return the number of images and the standard error of 1 - mAP50, without each tenth of them in turn."""
        found = self.found(bounds=BOUNDS[:1])
        size, place = len(found.labels), torch.arange(len(found.labels))
        parts = [place % GROUPS != group for group in range(min(GROUPS, size))]
        left = [Found(found.given[own], found.boxes[own], found.labels[own], found.truth[:, own]) for own in parts]
        return size, jackknife([float(mean_precision(each, len(self._names))[0]) for each in left]) if size > 1 else 1.0

    def suggested(self) -> dict[str, Any]:
        """Return the score from which the boxes shown have the best F1 at an overlap of 0.5, and that of the one that is set.

        Of equals it is the one nearest to the one set; nothing where no box is a hit.
        """
        found, now = self.found(bounds=BOUNDS[:1]), torch.tensor([self._score], dtype=torch.float64)
        f1, f1_now = f1_from(found, SCORES), float(f1_from(found, now)[0])
        if not float(f1.max()):
            return {}
        nearest = torch.where(f1 == f1.max(), (SCORES - now).abs(), torch.inf).argmin()
        best = {"task.score": float(SCORES[nearest]), "f1": float(f1.max())}
        own = {"task.score": self._score, "f1": f1_now}
        return {**(own if f1_now >= best["f1"] else best), "now": own}

    def matrix(self) -> Tensor:
        """Return the counts (K + 1, K + 1): rows are labels, columns what was found; last: background, missed or made up."""
        found, k = self.found(bounds=BOUNDS[:1], any_class=True), len(self._names)
        labels, kinds, truth = found.labels, found.given[..., 5].long(), found.truth[0]
        hit, shown = truth >= 0, found.given[..., 4] > 0
        predicted = torch.full_like(labels, k)
        rows = torch.arange(len(labels))[:, None].expand_as(truth)
        predicted[rows[hit], truth[hit]] = kinds[hit]
        real = labels >= 0
        cells = torch.cat([labels[real] * (k + 1) + predicted[real], k * (k + 1) + kinds[shown & ~hit]])
        return torch.bincount(cells, minlength=(k + 1) ** 2).view(k + 1, k + 1).double()

    def costs(self) -> list[dict[str, Any]]:
        """Return what fixing each kind of mistake would give, the costliest first: rows as of an error analysis."""
        found, classes = self.found(bounds=BOUNDS[:1]), len(self._names)
        error = 1 - float(mean_precision(found, classes)[0])
        kinds, lost = kinds_of(found)
        fixed = {kind: _without(found, kinds, kind) for kind in KINDS} | {"missed": _remembered(found, lost)}
        left = {kind: 1 - float(mean_precision(each, classes)[0]) for kind, each in fixed.items()}
        whole = sum(max(0.0, error - each) for each in left.values())
        sure = torch.where(found.given[..., 4:5] >= self._score, found.given, torch.zeros_like(found.given))
        seen, unseen = kinds_of(matched(sure, found.boxes, found.labels, BOUNDS[:1]))  # counted: what would be shown
        counts = {kind: int((seen == i).sum()) for i, kind in enumerate(KINDS)} | {"missed": int(unseen.sum())}
        rows = [
            {"label": OBJECTS if kind == "missed" else FOUND, "predicted": kind, "count": counts[kind],
             "share": max(0.0, error - each) / whole, "error_if_mended": each}
            for kind, each in left.items() if each < error
        ]  # fmt: skip
        return sorted(rows, key=lambda row: -row["share"])


def kinds_of(found: Found) -> tuple[Tensor, Tensor]:
    """Return what is wrong with each found box (N, D), as a place in KINDS or -1, and which true boxes (N, M) are missed.

    After TIDE: a box that overlaps a true one of its class enough is a duplicate, one of another class has the wrong class;
    one that overlaps less, but some, is badly placed, or where only another class is there has the wrong class; else it is
    background. Missed is what no hit took and no box with the wrong class or place is about.
    """
    overlaps = iou(found.given[:, :, None, :4], found.boxes[:, None].to(found.given.dtype))
    overlaps = torch.where((found.labels >= 0)[:, None], overlaps, -1.0)
    same = found.given[..., 5, None] == found.labels[:, None]
    own, other = (torch.where(which, overlaps, -1.0) for which in (same, ~same))
    if not found.labels.shape[1]:
        own = other = torch.full((*found.given.shape[:2], 1), -1.0)
    (own_best, own_at), (other_best, other_at) = own.max(dim=2), other.max(dim=2)
    kind = torch.full(own_best.shape, KINDS.index("background"))
    kind[other_best >= TOUCHED] = KINDS.index("wrong class")
    kind[own_best >= TOUCHED] = KINDS.index("badly placed")
    kind[other_best >= MATCHED] = KINDS.index("wrong class")
    kind[own_best >= MATCHED] = KINDS.index("duplicate")
    kind[found.hits[0] | (found.given[..., 4] <= 0)] = -1
    about = torch.where(
        kind == KINDS.index("badly placed"), own_at, torch.where(kind == KINDS.index("wrong class"), other_at, -1)
    )
    about = torch.where(found.hits[0], found.truth[0], about)
    seen = torch.zeros(len(found.labels), found.labels.shape[1] + 1, dtype=torch.bool)
    seen.scatter_(1, torch.where(about < 0, found.labels.shape[1], about), True)
    return kind, (found.labels >= 0) & ~seen[:, :-1]


def _without(found: Found, kinds: Tensor, kind: str) -> Found:
    """Return what would be found if this kind were fixed: boxes in their place or class where that is free, else gone."""
    wrong = kinds == KINDS.index(kind)
    given = torch.where(wrong[..., None], torch.zeros_like(found.given), found.given)
    if kind not in ("wrong class", "badly placed") or not found.labels.shape[1]:
        return replace(found, given=given)
    overlaps = torch.where((found.labels >= 0)[:, None], iou(found.given[:, :, None, :4], found.boxes[:, None]), -1.0)
    same = found.given[..., 5, None] == found.labels[:, None]
    place = torch.where(same == (kind == "badly placed"), overlaps, -1.0).argmax(dim=2)
    right = torch.cat(
        [
            found.boxes.gather(1, place[..., None].expand(-1, -1, 4)).to(given.dtype),
            found.given[..., 4:5],
            found.labels.gather(1, place)[..., None].to(given.dtype),
        ],
        dim=2,
    )
    taken = torch.zeros_like(found.labels, dtype=torch.bool)
    hit_rows = torch.arange(len(taken))[:, None].expand_as(place)
    taken[hit_rows[found.hits[0]], found.truth[0][found.hits[0]]] = True
    free = wrong & ~taken.gather(1, place)
    return matched(torch.where(free[..., None], right, given), found.boxes, found.labels, BOUNDS[:1])


def _remembered(found: Found, lost: Tensor) -> Found:
    """Return what would be found if what is missed were not there to be found."""
    return replace(found, labels=torch.where(lost, -1, found.labels))
