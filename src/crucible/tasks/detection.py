"""Every object in a picture: a grid of cells, anchors, and suppression of what was found twice (notes 000, part 11; 003)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.boxes import clipped, generalised_iou, iou, size_iou, suppress, to_centre, to_corners
from crucible.constants import Constant, constant
from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.boxes import Boxes
from crucible.labels.located import cut
from crucible.losses import cross_entropies, precise
from crucible.metrics.detection import DetectionMetrics
from crucible.schema import Count, NonNegative, Positive, Probability
from crucible.tasks.task import MonitoredTask, Monitoring

Score = Literal["loss", "error", "map50", "map50_95", "precision", "recall", "f1", "mean_iou"]
Anchors = Count | list[Annotated[list[Positive], Field(min_length=2, max_length=2)]]
PRIOR = log(99)  # an untrained network says of each cell that 1 in 100 holds an object (Lin et al., 2017, RetinaNet)
CANDIDATES = 300  # boxes of an image that suppression looks at
LEAST = 0.001  # their least score
MOST = 100  # boxes of an image after it, as COCO counts
FAR = 4.0  # a box is at most e^4 times its anchor


@dataclass(frozen=True)
class _Targets:
    """Where on the grid each object of a batch is learned: flat places (B, P) in (A, rows, columns), and who has them.

    Attributes:
        places: (B, P). mine: (B, P), whether the object has its place, or has lost it to a larger one. boxes: (B, P, 4).
        labels: (B, P). lost: objects without any place.
    """

    places: Tensor
    mine: Tensor
    boxes: Tensor
    labels: Tensor
    lost: Tensor


class Detection(MonitoredTask):
    """YOLO (Redmon and Farhadi, 2017, arXiv:1612.08242): on each cell and anchor p_c, b_x, b_y, b_h, b_w, c_1 ... c_K.

    An object belongs to the cell of its centre and to the anchor of the shape most like its own. There the box is learned by
    1 - generalised IoU, p_c = 1 and the class by log loss; elsewhere p_c = 0 by log loss, but where what the cell says
    overlaps an object already it is left alone. Two objects with one cell and anchor: the larger has it, and the other is
    counted as a collision.

    form=notes is that of the course (000, part 11, sections 1, 4 and 5): b_x and b_y from 0 to 1 within the cell, b_h and b_w in cells,
    squared error of all numbers where there is an object, of p_c alone elsewhere; boxes with p_c below `score` are dropped before
    suppression, which goes by p_c.

    Args:
        card: tells the classes, the images' size and the anchors found in the boxes of train.
        anchors: how many of those found, or sizes w, h in stored pixels.
        form: `modern`, or `notes`. near: whether the two cells nearest to an object's centre learn it, too (YOLOv5's way to more examples).
        box_weight, class_weight, background_weight: of these parts of the loss; that of p_c where there is an object is 1.
        ignore: overlap with an object from which a cell that is not its own is left alone.
        score: from which a box is shown (the notes' 0.6). overlap: of two boxes of a class from which the weaker is dropped.
        settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric, more anchors than there are different boxes.
    """

    kind = Boxes()
    metrics_class = DetectionMetrics
    usual = "map50 task.goal=maximize"
    error = "1 - mAP50"
    anchors: Sequence[Sequence[float]]
    wants_maps = True  # of a model: (B, A (5 + K), rows, columns)

    def __init__(
        self,
        card: Card,
        *,
        anchors: Anchors,
        form: Literal["modern", "notes"] = "modern",
        near: bool,
        box_weight: NonNegative,
        class_weight: NonNegative,
        background_weight: Positive,
        ignore: Probability,
        score: Probability,
        overlap: Probability,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        self._card = card
        self.names, self.confusion_labels = card.classes, [*card.classes, "background"]
        self.size = (card.feature_shape[1], card.feature_shape[2])
        self.anchors = _sizes(anchors, card)
        self._sizes = Constant(torch.tensor(self.anchors))
        self.num_outputs = len(self.anchors) * (5 + len(self.names))
        self.score = score
        self._near, self._weights = near, (box_weight, class_weight, background_weight)
        self._ignore, self._overlap = ignore, overlap
        self._notes = form == "notes"
        self._prior = 0.0 if self._notes else PRIOR

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch: `x` (B, C, H, W), `boxes` (B, M, 4) in pixels, `label` (B, M), below 0 for none."""
        return self.loss(model(batch["x"]), batch)

    def loss(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` () of maps (B, A (5 + K), rows, columns), and its parts `loss/box`, `loss/class`, `loss/objectness`.

        Each is a sum over the grid, a mean over objects; in float32 at least, whatever the network computes in.
        """
        maps = self._split(outputs)
        targets = self._targets(maps, batch)
        if self._notes:
            return self._squares(maps, targets, len(outputs))
        boxes = self._boxes(maps)
        own = maps.flatten(3).transpose(2, 3).flatten(1, 2)  # (B, A * cells, 5 + K)
        rows = targets.places[..., None]
        found = boxes.gather(1, rows.expand(-1, -1, 4))
        predicted = own.gather(1, rows.expand(-1, -1, own.shape[2]))[..., 5:]
        mine = targets.mine
        place = (1 - generalised_iou(found, targets.boxes)) * mine
        kind = cross_entropies(predicted, targets.labels.clamp(min=0)) * mine
        there = torch.zeros_like(own[..., 0]).scatter_reduce(1, targets.places, mine.to(own.dtype), "amax")
        weight = torch.where(there > 0, 1.0, self._weights[2] * (1 - self._covered(boxes, batch)))
        objects = F.binary_cross_entropy_with_logits(own[..., 0] - PRIOR, there, weight, reduction="sum")
        count = mine.sum().clamp(min=len(outputs))  # pictures without objects count as one each
        box, class_ = self._weights[0] * place.sum(), self._weights[1] * kind.sum()
        parts = {"loss/box": box, "loss/class": class_, "loss/objectness": objects}
        return {
            "loss": (box + class_ + objects) / count,
            **{name: part.detach() / count for name, part in parts.items()},
        }

    def _squares(self, maps: Tensor, targets: _Targets, size: int) -> dict[str, Tensor]:
        """Return the notes' loss and its parts for maps (B, A, 5 + K, rows, columns)."""
        own = maps.flatten(3).transpose(2, 3).flatten(1, 2)
        said = own.gather(1, targets.places[..., None].expand(-1, -1, own.shape[2]))
        rows, columns = maps.shape[3:]
        step = constant([self.size[1] / columns, self.size[0] / rows], own)
        centre = to_centre(targets.boxes) / torch.cat([step, step])
        at = torch.stack([targets.places % columns, targets.places // columns % rows], dim=2)
        x, y, h, w = said[..., 1:5].unbind(dim=2)
        offsets = torch.stack([x, y], dim=2).sigmoid() - (centre[..., :2] - at)
        sizes = torch.stack([w, h], dim=2) - centre[..., 2:]
        place = (offsets.pow(2).sum(dim=2) + sizes.pow(2).sum(dim=2)) * targets.mine
        wanted = F.one_hot(targets.labels.clamp(min=0), len(self.names))
        kind = (said[..., 5:].softmax(dim=2) - wanted).pow(2).sum(dim=2) * targets.mine
        there = torch.zeros_like(own[..., 0]).scatter_reduce(1, targets.places, targets.mine.to(own.dtype), "amax")
        objects = (own[..., 0].sigmoid() - there).pow(2) * torch.where(there > 0, 1.0, self._weights[2])
        count = targets.mine.sum().clamp(min=size)
        parts = {
            "loss/box": self._weights[0] * place.sum(),
            "loss/class": self._weights[1] * kind.sum(),
            "loss/objectness": objects.sum(),
        }
        return {
            "loss": sum(parts.values(), start=place.new_zeros(())) / count,
            **{name: part.detach() / count for name, part in parts.items()},
        }

    def weight(self, batch: Batch) -> Tensor:
        """Return the number () of objects; pictures without count as one each."""
        return (batch["label"] >= 0).sum().clamp(min=len(batch["label"]))

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the boxes found (B, D, 6): corners in stored pixels, score, class; the highest first, score 0 for none."""
        return self.postprocess(outputs)

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the boxes found (B, D, 6), D = 100 at most: decoded, the likeliest 300, suppressed class by class."""
        return self.suppressed(self.candidates(outputs))

    def candidates(self, outputs: Tensor) -> Tensor:
        """Return the likeliest 300 boxes (B, D, 6), the highest score first; below the least score it is 0."""
        every = self.raw_detections(outputs)
        share, kind = every[..., 5:].max(dim=2)
        sure = torch.where(every[..., 4] >= self.score, every[..., 4], 0.0) if self._notes else every[..., 4] * share
        scores, chosen = sure.topk(min(CANDIDATES, every.shape[1]), dim=1)
        boxes, kind = every[..., :4].gather(1, chosen[..., None].expand(-1, -1, 4)), kind.gather(1, chosen)
        scores = torch.where(scores >= LEAST, scores, 0.0)
        return torch.cat([boxes, scores[..., None], kind[..., None].to(boxes.dtype)], dim=2)

    def suppressed(self, found: Tensor) -> Tensor:
        """Return the candidates (B, D, 6) that stay, 100 at most, the highest score first, 0 for none; a loop that reads the device."""
        boxes, kind = found[..., :4], found[..., 5]
        scores = found[..., 4] * suppress(boxes, found[..., 4], kind, bound=self._overlap)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :MOST]
        found = torch.cat([boxes, scores[..., None], kind[..., None]], dim=2)
        return found.gather(1, order[..., None].expand(-1, -1, 6)) * (scores.gather(1, order) > 0)[..., None]

    def raw_detections(self, outputs: Tensor) -> Tensor:
        """Return what every cell and anchor says (B, A * cells, 5 + K): corners in stored pixels, p_c, share of each class."""
        maps = self._split(outputs)
        own = maps.flatten(3).transpose(2, 3).flatten(1, 2)
        boxes = clipped(self._boxes(maps), self.size)
        return torch.cat([boxes, (own[..., :1] - self._prior).sigmoid(), own[..., 5:].softmax(dim=2)], dim=2)

    def within(self, found: Tensor, batch: Batch) -> Tensor:
        """Return boxes found (B, D, 6) cut at the edges of the batch's pictures, as they came."""
        return cut(found, batch["size"], self._card) if "size" in batch else found

    def metrics(self) -> DetectionMetrics:
        """Return an empty accumulator."""
        return DetectionMetrics(
            self.names,
            self.loss,
            self.candidates,
            score=self.score,
            collisions=self.collisions,
            within=self.within,
            settle=self.suppressed,
        )

    def figures(self, train: Batch, facts: Mapping[str, Any], home: Path) -> dict[str, Path]:
        """Draw the anchors among the boxes of train."""
        from crucible.plots import boxes  # matplotlib: only where a report is drawn

        corners = train["boxes"][train["label"] >= 0]
        sizes = (corners[:, 2:] - corners[:, :2]).cpu().numpy()
        boxes.anchors(facts["anchors"], sizes, self.anchors, home / "anchors.png")
        return {"Anchors and the boxes of train": home / "anchors.png"}

    def collisions(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return how many objects () of a batch have no cell and anchor of their own."""
        return self._targets(self._split(outputs), batch).lost.sum()

    def _split(self, outputs: Tensor) -> Tensor:
        """Return maps (B, A, 5 + K, rows, columns)."""
        maps: Tensor = precise(outputs).unflatten(1, (len(self.anchors), 5 + len(self.names)))
        return maps

    def _boxes(self, maps: Tensor) -> Tensor:
        """Return the box (B, A * cells, 4) that each cell and anchor says, corners in pixels."""
        rows, columns = maps.shape[3:]
        step = constant([self.size[1] / columns, self.size[0] / rows], maps)
        right, down = (torch.arange(n, device=maps.device, dtype=maps.dtype) for n in (columns, rows))
        corner = torch.stack(torch.meshgrid(right, down, indexing="xy"), dim=2)  # (rows, columns, 2)
        x, y, h, w = maps[:, :, 1:5].unbind(dim=2)
        if self._notes:
            inside, size = torch.stack([x, y], dim=-1).sigmoid(), torch.stack([w, h], dim=-1).clamp(min=0) * step
            return to_corners(torch.cat([(corner + inside) * step, size], dim=-1)).flatten(1, 3)
        inside = 2 * torch.stack([x, y], dim=-1).sigmoid() - 0.5  # beyond the cell, so that its edges can be reached
        size = self._sizes.like(maps)[:, None, None] * torch.stack([w, h], dim=-1).clamp(-FAR, FAR).exp()
        return to_corners(torch.cat([(corner + inside) * step, size], dim=-1)).flatten(1, 3)

    def _targets(self, maps: Tensor, batch: Batch) -> _Targets:
        rows, columns = maps.shape[3:]
        boxes, labels, anchors = batch["boxes"].to(maps.dtype), batch["label"], self._sizes.like(maps)
        centre = to_centre(boxes)
        real = (labels >= 0) & (centre[..., 2:].amin(dim=2) > 0)
        at = centre[..., :2] / constant([self.size[1] / columns, self.size[0] / rows], maps)
        cell = at.floor()
        best = size_iou(centre[..., None, 2:], anchors).argmax(dim=2)
        cells = [cell]
        if self._near:
            side = torch.where(at - cell < 0.5, -1.0, 1.0)
            cells += [cell + side * constant(axis, side) for axis in ([1, 0], [0, 1])]
        spots = torch.stack(cells, dim=1).flatten(1, 2)  # (B, P, 2), all objects' own cells first
        limit = constant([columns, rows], spots)
        inside = ((spots >= 0) & (spots < limit)).all(dim=2)
        x, y = spots.clamp(min=0).minimum(limit - 1).long().unbind(dim=2)
        places = (best.repeat(1, len(cells)) * rows + y) * columns + x
        valid = inside & real.repeat(1, len(cells))
        mine = _won(places, valid, centre[..., 2:].prod(dim=2), len(anchors) * rows * columns)
        lost = real & ~mine.view(len(real), len(cells), -1).any(dim=1)
        return _Targets(places, mine, boxes.repeat(1, len(cells), 1), labels.repeat(1, len(cells)), lost)

    def _covered(self, boxes: Tensor, batch: Batch) -> Tensor:
        """Return 1 (B, A * cells) where what a cell says overlaps an object, else 0."""
        with torch.no_grad():
            overlaps = iou(boxes[:, :, None], batch["boxes"][:, None].to(boxes.dtype))
            overlaps = torch.where((batch["label"] >= 0)[:, None], overlaps, 0.0)
            return (overlaps.amax(dim=2) > self._ignore).to(boxes.dtype)


def _won(places: Tensor, valid: Tensor, area: Tensor, count: int) -> Tensor:
    """Return which objects (B, P) have their place: an object's own cell before its neighbours', then the larger object."""
    rounds = places.shape[1] // area.shape[1]
    order = area.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = torch.cat([order + i * area.shape[1] for i in range(rounds)], dim=1)
    rank = torch.where(valid, rank, places.shape[1])
    first = torch.full((len(places), count), places.shape[1], device=places.device)
    first = first.scatter_reduce(1, places, rank, "amin")
    return valid & (first.gather(1, places) == rank)


def _sizes(anchors: Anchors, card: Card) -> list[list[float]]:
    if not isinstance(anchors, int):
        if not anchors:
            raise Refusal(
                "task.anchors", "there is none", allowed="a number, or sizes [w, h]", example="task.anchors=3"
            )
        return [list(map(float, each)) for each in anchors]
    found = (card.objects or {}).get("anchors", {})
    if str(anchors) not in found:
        most: Sequence[str] = sorted(found, key=int)
        raise Refusal("task.anchors", f"{anchors} are asked for", allowed=f"1 to {most[-1]}, or sizes [w, h]" if most else "sizes [w, h]",
                      example=f"task.anchors={most[-1] if most else '[[10, 10]]'}")  # fmt: skip
    return list(found[str(anchors)]["sizes"])
