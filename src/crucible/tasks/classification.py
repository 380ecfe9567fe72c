"""One class for each example: softmax over K classes, or one sigmoid unit for two (notes 000, parts 1 and 6)."""

from math import log
from typing import Annotated, Literal, Unpack

import torch
from pydantic import Field
from torch import Tensor, nn

from crucible.constants import Constant
from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.classes import Classes
from crucible.losses import binary_cross_entropy, cross_entropy, precise, squared_probabilities
from crucible.metrics.classification import ConfusionMatrix
from crucible.schema import NonNegative, Positive, nearest
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "accuracy", "precision", "recall", "f1"]
Loss = Literal["cross_entropy", "mean_squared_error", "half_squared_error"]
Smoothing = Annotated[float, Field(ge=0, lt=1)]
Weights = Literal["none", "balanced"] | list[Positive]
Name = str | int  # of a class: YAML reads 3 as a number
Costs = dict[Name, NonNegative | dict[Name, NonNegative]] | None


class Classification(MonitoredTask):
    """Softmax over the classes of the data.

    Precision, recall and F1 are those of the second class where there are two, else means over the classes that have examples.
    Weights and smoothing change what is minimised; metrics, the loss among them, are without them.

    Args:
        card: tells the classes.
        loss: `cross_entropy`; of the probabilities (to see why not) `mean_squared_error`, or `half_squared_error`: 1/2 sum (y - t)^2 over
            the outputs (002, 4.2 and chapter 5).
        label_smoothing: the share of a label's probability that is spread over all classes.
        class_weights: `none`; `balanced`: m / (K m_k) for class k, as if classes were equally frequent; or one a class.
        mistake_costs: {LABEL: 10}: what each mistake about such an example costs, or {LABEL: {PREDICTED: 10}}; others cost 1. The
            error, and with it monitor, verdict and ceiling, are then of costs; the loss is not (class_weights).
        settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric, another number of weights than classes, or costs of what is no class.
    """

    kind: Classes = Classes()
    metrics_class = ConfusionMatrix
    usual = "f1 task.goal=maximize"

    def __init__(
        self,
        card: Card,
        *,
        loss: Loss = "cross_entropy",
        label_smoothing: Smoothing = 0.0,
        class_weights: Weights = "none",
        mistake_costs: Costs = None,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        self.confusion_labels, self.num_classes = card.classes, len(card.classes)
        self.positive = card.classes[1] if self.num_classes == 2 else None
        self.num_outputs = self._outputs()
        self._kind, self._smoothing = loss, label_smoothing
        self._share = (
            self.num_outputs / 2 if loss == "half_squared_error" else 1.0
        )  # of the mean over the probabilities
        counts = card.splits.get("train", {}).get("class_counts", [])
        self._weight = _class_weights(class_weights, counts)
        self._costs = _costs(mistake_costs, card.classes)
        if self._costs is not None:
            self.error = "weighted error"

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, `x` (B, ...), `label` (B,), and that of the model's further heads."""
        label, smoothing = batch["label"], self._smoothing
        weight = None if self._weight is None else self._weight.like(label.float())
        return loss_terms(model, batch["x"], lambda outputs: self._loss(outputs, label, weight, smoothing))

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, K), unweighted and unsmoothed."""
        return self._loss(outputs, label, None, 0.0)

    def chance_loss(self, counts: list[int]) -> float:
        """Return the least that can be minimised to without looking at the examples, for such class counts.

        ln K where classes are equally frequent: 0.6931 for two. Weights and smoothing are counted in.
        """
        weights = [1.0] * len(counts) if self._weight is None else self._weight.tolist()
        mass = [weight * count for weight, count in zip(weights, counts, strict=True)]
        spread = self._smoothing / max(1, len(counts))
        shares = [(1 - self._smoothing) * each / sum(mass) + spread for each in mass]
        if self._kind != "cross_entropy":
            plain = [each / sum(mass) for each in mass]
            least = (1 - self._smoothing) ** 2 * sum(share * (1 - share) for share in plain) / max(1, len(counts))
            least *= self._share
        else:
            least = -sum(share * log(share) for share in shares if share > 0)
        return least * sum(mass) / sum(counts) if counts else 0.0

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the class (B,) with the highest logit."""
        return outputs.argmax(dim=1)

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return one probability for each class (B, K)."""
        return precise(outputs).softmax(dim=1)

    def metrics(self) -> ConfusionMatrix:
        """Return an empty confusion matrix."""
        return ConfusionMatrix(self.num_classes, self.loss, self.predict, self._costs)

    def constant(self, card: Card) -> tuple[Tensor | None, str]:
        """Return the outputs that always say the class which costs least on train: without costs the most frequent."""
        if self._costs is None:
            return super().constant(card)
        counts = torch.tensor(card.splits["train"]["class_counts"], dtype=torch.float64)
        return self.kind.always(card, int((counts @ self._costs).argmin()), self.num_outputs)

    def _outputs(self) -> int:
        return self.num_classes

    def _loss(self, outputs: Tensor, label: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
        if self._kind != "cross_entropy":
            return self._share * squared_probabilities(self.postprocess(outputs), label, weight, smoothing)
        return self._cross_entropy(outputs, label, weight, smoothing)

    def _cross_entropy(self, outputs: Tensor, label: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
        return cross_entropy(outputs, label, weight, smoothing)


class Binary(Classification):
    """One sigmoid unit for two classes.

    Raises:
        Refusal: the data have more than two.
    """

    def _outputs(self) -> int:
        if self.num_classes != 2:
            raise Refusal(
                "task=binary", f"the data have {self.num_classes} classes", allowed="two", example="task=classification"
            )
        return 1

    def predict(self, outputs: Tensor) -> Tensor:
        """Return 1 (B,) where the probability is above one half."""
        return (outputs[:, 0] > 0).long()

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of both classes (B, 2)."""
        positive = precise(outputs[:, 0]).sigmoid()
        return torch.stack([1 - positive, positive], dim=1)

    def _cross_entropy(self, outputs: Tensor, label: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
        return binary_cross_entropy(outputs, label, weight, smoothing)


def _class_weights(weights: Weights, counts: list[int]) -> Constant | None:
    if weights == "none":
        return None
    if weights == "balanced":
        return Constant(torch.tensor([sum(counts) / (len(counts) * count) for count in counts]))
    if len(weights) != len(counts):
        raise Refusal(
            "task.class_weights", f"{len(weights)} weights for {len(counts)} classes", allowed="one for each class"
        )
    return Constant(torch.tensor([float(each) for each in weights]))


def _costs(declared: Costs, classes: list[str]) -> Tensor | None:
    """Return what each mistake costs (K, K), 1 unless declared; None where nothing is.

    Raises:
        Refusal: a name that is no class, an answer that is right, or costs that are all 0.
    """
    if declared is None:
        return None
    costs = 1 - torch.eye(len(classes), dtype=torch.float64, device="cpu")  # also where a network is only described
    for label, own in declared.items():
        row = _place(str(label), classes, "task.mistake_costs")
        pairs = own.items() if isinstance(own, dict) else ((name, own) for name in classes if name != str(label))
        for predicted, cost in pairs:
            column = _place(str(predicted), classes, f"task.mistake_costs.{label}")
            if row == column:
                raise Refusal(
                    f"task.mistake_costs.{label}", f"{label!r} taken for itself is no mistake", allowed="other classes"
                )
            costs[row, column] = cost
    if not costs.any():
        raise Refusal("task.mistake_costs", "no mistake costs anything", allowed="one at least above 0")
    return costs


def _place(name: str, classes: list[str], where: str) -> int:
    if name not in classes:
        close = nearest(name, classes)
        raise Refusal(where, f"there is no class {name!r}", allowed=", ".join(map(repr, classes)), nearest=close,
                      example="'task.mistake_costs={" + (close or classes[0]) + ": 10}'")  # fmt: skip
    return classes.index(name)
