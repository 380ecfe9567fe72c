"""A tag for each token: where names are, and of what type (notes 000, part 13, sections 1 and 4)."""

from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.constants import Constant
from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.labels.tags import NO_TAG, Tags
from crucible.losses import precise
from crucible.metrics.text import SpanMetrics
from crucible.schema import Positive
from crucible.tasks.steps import padding, reading
from crucible.tasks.task import MonitoredTask, Monitoring

Score = Literal["loss", "error", "precision", "recall", "f1"]
Decode = Literal["argmax", "viterbi"]


class Tagging(MonitoredTask):
    """Softmax over the tags at each step; the loss is the mean over all tokens, F1 is that of whole names.

    Args:
        card: tells the tags. decode: `argmax`: each token's likeliest tag; `viterbi`: the likeliest sequence in which I-TYPE comes
            after B-TYPE or I-TYPE alone. outside_weight: what a token outside of names counts in the loss that is minimised: below 1,
            more names are found, and more that are none. settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric.
    """

    kind = Tags()
    metrics_class = SpanMetrics
    usual = "f1 task.goal=maximize"

    def __init__(
        self, card: Card, *, decode: Decode, outside_weight: Positive, **settings: Unpack[Monitoring[Score]]
    ) -> None:
        super().__init__(card, **settings)
        self.confusion_labels, self.num_outputs = card.classes, len(card.classes)
        self._decode = decode
        self._weight = Constant(torch.tensor([outside_weight, *(1.0 for _ in card.classes[1:])]))
        self._allowed = Constant(transitions(card.classes))

    def attach(self, model: nn.Module) -> nn.Module:
        """Return the network, told that each step has an output."""
        return reading(model, "each", "tagging")

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch with `x` (B, L), `label` (B, M), -1 in the padding; and the share of padding in it."""
        outputs = model(batch["x"])
        label, weight = batch["label"][:, : outputs.shape[1]], self._weight.like(precise(outputs))
        return {"loss": self._loss(outputs, label, weight), "padding/share": padding(batch)}

    def weight(self, batch: Batch) -> Tensor:
        """Return the sum () of the weights of the tags."""
        label, there = batch["label"].clamp(min=0), batch["label"] >= 0
        return (self._weight.like(label.float())[label] * there).sum()

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss () a token of logits (B, L, K) and tags (B, L), -1 in the padding."""
        return self._loss(outputs, label, None)

    def _loss(self, outputs: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
        logits = precise(outputs).flatten(0, 1)
        return F.cross_entropy(logits, label.flatten(), weight, ignore_index=NO_TAG)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the tags (B, L)."""
        if self._decode == "argmax":
            return outputs.argmax(dim=2)
        scores = precise(outputs).log_softmax(dim=2)
        return viterbi(scores, self._allowed.like(scores))

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the tags (B, L)."""
        return self.predict(outputs)

    def within(self, found: Tensor, batch: Batch) -> Tensor:
        """Return the tokens and their tags (B, L, 2), NaN in the padding."""
        symbols = batch["x"] if batch["x"].dim() == 2 else batch["x"][..., 0]
        pairs = torch.stack([symbols, found], dim=2).float()
        return torch.where(batch["mask"][..., None], pairs, torch.nan)

    def metrics(self) -> SpanMetrics:
        """Return empty counts."""
        return SpanMetrics(self.confusion_labels, self.loss, self.predict)


def transitions(tags: list[str]) -> Tensor:
    """Return 0 (K, K) where a tag may come after another, else -inf: of BIO tags, I-TYPE comes after B-TYPE and I-TYPE alone.

    Where there is no B-TYPE (the scheme IO), all may.
    """
    begun = {tag[2:] for tag in tags if tag.startswith("B-")}
    bad = [
        [after.startswith("I-") and after[2:] in begun and before[2:] != after[2:] for after in tags] for before in tags
    ]
    return torch.zeros(len(tags), len(tags)).masked_fill(torch.tensor(bad), -torch.inf)


def viterbi(scores: Tensor, allowed: Tensor) -> Tensor:
    """Return the tags (B, L) of the largest sum of scores (B, L, K) over allowed transitions (K, K) (Viterbi, 1967).

    No sentence begins with what may not come after O, tag 0.
    """
    best, back = scores[:, 0] + allowed[0], []
    for t in range(1, scores.shape[1]):
        total = best[:, :, None] + allowed
        best, came = total.max(dim=1)
        best = best + scores[:, t]
        back.append(came)
    path = [best.argmax(dim=1)]
    for came in reversed(back):
        path.append(came.gather(1, path[-1][:, None])[:, 0])
    return torch.stack(path[::-1], dim=1)
