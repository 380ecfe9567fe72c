"""Several yes-or-no labels for each example, learned by one network (notes 003, multi-task learning): a sigmoid for each.

A label that nobody gave is left out: it adds nothing to the loss, to its gradient or to any number.
"""

from math import log
from typing import Literal, Unpack

from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.labels.multilabel import Multilabel
from crucible.losses import masked_binary_cross_entropy, precise
from crucible.metrics.flags import MultilabelMetrics
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "accuracy", "precision", "recall", "f1"]


class Multitask(MonitoredTask):
    """T sigmoid units, one for each label; the loss is the mean over the labels that are known.

    Args:
        card: tells the labels. loss: the one there is.
        settings: see Monitoring; the numbers are means over the labels, which are given one by one, too.

    Raises:
        Refusal: a goal against the metric.
    """

    kind = Multilabel()
    metrics_class = MultilabelMetrics
    usual = "f1 task.goal=maximize"

    def __init__(
        self, card: Card, *, loss: Literal["cross_entropy"] = "cross_entropy", **settings: Unpack[Monitoring[Score]]
    ) -> None:
        super().__init__(card, **settings)
        self.names, self.num_outputs = card.classes, len(card.classes)
        self.confusion_labels = [f"{name}: {answer}" for name in self.names for answer in ("no", "yes")]
        self._known = card.splits.get("train", {}).get("known", [])

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch: `x` (B, ...), `label` (B, T) of 1, 0 and -1 for unknown."""
        return loss_terms(model, batch["x"], lambda outputs: self.loss(outputs, batch["label"]))

    def weight(self, batch: Batch) -> Tensor:
        """Return the number () of known labels."""
        return (batch["label"] >= 0).sum()

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, T) over the known labels."""
        return masked_binary_cross_entropy(outputs, label)

    def chance_loss(self, counts: list[int]) -> float:
        """Return the loss of always saying each label's share: ln 2 where all are as often yes as no."""
        pairs = [(yes / known, known) for yes, known in zip(counts, self._known, strict=False) if known]
        entropies = [-known * sum(q * log(q) for q in (p, 1 - p) if q > 0) for p, known in pairs]
        return sum(entropies) / sum(known for _, known in pairs) if pairs else 0.0

    def predict(self, outputs: Tensor) -> Tensor:
        """Return 1 (B, T) where the probability is above one half."""
        return (outputs > 0).long()

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the probability of each label (B, T)."""
        return precise(outputs).sigmoid()

    def metrics(self) -> MultilabelMetrics:
        """Return an empty accumulator."""
        return MultilabelMetrics(self.names, self.loss, self.predict)
