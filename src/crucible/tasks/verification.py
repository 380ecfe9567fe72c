"""Is it the same person: a code for every picture, near for one person and far apart for two (notes 000, part 12; 003)."""

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.labels.identities import Identities
from crucible.losses import Mining, contrastive, cross_entropy, pair_cross_entropy, precise, triplet
from crucible.metrics.verification import Pairs, VerificationMetrics, squared_distances
from crucible.models.contracts import TaskUnit
from crucible.schema import Count, NonNegative, Positive
from crucible.tasks.comparison import SMALL, PairUnit, People, Unit, Whitening
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "accuracy", "eer", "rank1"]
Loss = Literal["triplet", "contrastive", "pair", "chi_square", "softmax"]
SAMPLED = 20_000  # triplets of a split over which its loss is a mean
EQUAL = 0.01  # codes whose distances differ by less than this share are one code


class Verification(MonitoredTask):
    """A network gives each picture a code f(x); d = ||f(x_i) - f(x_j)||^2 below a threshold: one person (a Siamese network).

    Both pictures of a pair go through the same weights. The threshold is chosen on dev.

    Args:
        card: tells how many people there are. dimensions: numbers of a code. normalize: to length 1.
        loss: `triplet`: max(d(A, P) - d(A, N) + margin, 0). `contrastive`: d of one person, and max(margin - sqrt(d), 0)^2 of
            two. `pair`: a logistic unit over |f_i - f_j|; `chi_square`: over (f_i - f_j)^2 / (|f_i| + |f_j|), which is the
            notes' form where codes are not negative. `softmax`: one class for each person of train, which the notes argue
            against; on people never seen it has no loss, there `contrastive` stands in the record.
        whitening: null, or the share of the mean variance that is added to the covariance of one person's codes before all codes
            are whitened by it: see Whitening.
        mining: of the triplets of a batch `random`, `semi_hard` or `hard` ones; data.sampling={per_class: 4} puts several
            pictures of a person into each batch.
        margin: of triplet and contrastive. 0: all codes may become equal. settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric.
    """

    kind = Identities()
    metrics_class = VerificationMetrics
    usual = "eer task.goal=minimize"
    confusion_labels = ("one person", "two people")

    def __init__(
        self,
        card: Card,
        *,
        dimensions: Count,
        normalize: bool,
        loss: Loss,
        mining: Mining,
        margin: NonNegative,
        whitening: Positive | None,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        self.kind = Identities(self.compare)
        self.num_outputs, self._people, self._normalize = dimensions, len(card.classes), normalize
        self._loss, self._mining, self._margin, self._whitening = loss, mining, margin, whitening
        self._unit = Unit()
        self._threshold: float | None = None

    def attach(self, model: nn.Module) -> nn.Module:
        """Return a network with the logistic unit, the class of each person, and the whitening that are learned too."""
        found = dict(model.named_children()).get(TaskUnit.NAME)
        self._unit = found if isinstance(found, Unit) else self._new_unit()
        if self._unit.state_dict():
            model.add_module(TaskUnit.NAME, self._unit)
        return model

    def _new_unit(self) -> Unit:
        whitening = Whitening(self.num_outputs, self._whitening) if self._whitening is not None else None
        if self._loss in ("pair", "chi_square"):
            return Unit(whitening, PairUnit(self.num_outputs, chi_square=self._loss == "chi_square"))
        return Unit(whitening, People(self.num_outputs, self._people) if self._loss == "softmax" else None)

    def calibrate(self, scores: Mapping[str, float]) -> None:
        """Take the threshold that was chosen on dev."""
        self._threshold = scores["threshold"]

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, `x` (B, ...), `label` (B,); of triplets `triplets/active`, the share that still teaches."""
        active, seen = list[Tensor](), list[Tensor]()
        unit: Unit = getattr(model, TaskUnit.NAME, self._unit)  # of this model, which may be a copy

        def loss(outputs: Tensor) -> Tensor:
            mean, share = self._batch_loss(unit, self._codes(unit, outputs), batch["label"])
            active.append(share)
            seen.append(outputs.detach())
            return mean

        terms = loss_terms(model, batch["x"], loss)
        unit.update(
            precise(seen[0]), batch["label"]
        )  # of the network's head: those in its middle have codes of their own
        return terms | ({"triplets/active": active[0].detach()} if self._loss == "triplet" else {})

    def _batch_loss(self, unit: Unit, codes: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss () of codes (B, D), and the share () of triplets above 0."""
        none = codes.new_zeros(())
        if self._loss == "softmax":
            return cross_entropy(unit.head(codes), label), none
        first, second = torch.triu_indices(len(codes), len(codes), offset=1, device=codes.device)
        same = label[first] == label[second]
        if self._loss in ("pair", "chi_square"):
            return pair_cross_entropy(unit.head(codes[first], codes[second]), same), none
        if self._loss == "contrastive":
            return contrastive((codes[first] - codes[second]).pow(2).sum(dim=1), same, self._margin), none
        return triplet((codes[:, None] - codes).pow(2).sum(dim=2), label, self._margin, self._mining)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the codes (B, D)."""
        return self.postprocess(outputs)

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the codes (B, D), of length 1 where they are normalised."""
        return self._codes(self._unit, outputs)

    def _codes(self, unit: Unit, outputs: Tensor) -> Tensor:
        codes = unit(precise(outputs))
        return F.normalize(codes, dim=1) if self._normalize else codes

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Return how different codes (n, D) and (m, D) are (n, m): ||f_i - f_j||^2, or less the surer the unit is of one person."""
        unit = self._unit.head
        if not isinstance(unit, PairUnit):
            return squared_distances(first, second)
        with torch.no_grad():
            rows = [-unit(each[None], second.to(unit.weight)) for each in first.to(unit.weight)]
        return torch.stack(rows).to(first)

    def split_loss(self, pairs: Pairs) -> Tensor:
        """Return the mean loss () over pairs of a split; of triplets over 20,000 drawn at random, the same ones every time."""
        first, second = torch.triu_indices(len(pairs.label), len(pairs.label), offset=1)
        distance, same = pairs.distance[first, second], pairs.same[first, second]
        if self._loss in ("pair", "chi_square"):
            return pair_cross_entropy(-distance, same)
        if self._loss != "triplet":
            return contrastive(distance, same, self._margin)
        draw = torch.Generator().manual_seed(0)
        alone = torch.eye(len(pairs.label), dtype=torch.bool)
        near, far = (torch.nonzero(each) for each in (pairs.same & ~alone, ~pairs.same))
        near = near[torch.randint(len(near), (SAMPLED,), generator=draw)]
        start, count = (
            torch.searchsorted(far[:, 0].contiguous(), near[:, 0].contiguous()),
            (~pairs.same).sum(dim=1)[near[:, 0]],
        )
        other = far[start + (torch.rand(SAMPLED, generator=draw) * count).long(), 1]
        apart = pairs.distance[near[:, 0], near[:, 1]] - pairs.distance[near[:, 0], other]
        return (apart + self._margin).clamp(min=0).mean()

    def symptoms(self, rows: Sequence[Mapping[str, float]]) -> list[str]:
        """Return `collapsed` where at the end all codes are one: the distances of one person and of two are the same."""
        last = next((row for row in reversed(rows) if "dev/distance_different" in row), None)
        if last is None:
            return []
        same, different = last["dev/distance_same"], last["dev/distance_different"]
        return ["collapsed"] if abs(different - same) <= EQUAL * abs(different) or abs(different) < SMALL else []

    def metrics(self) -> VerificationMetrics:
        """Return an empty accumulator."""
        return VerificationMetrics(self.postprocess, self.compare, self.split_loss, threshold=self._threshold)
