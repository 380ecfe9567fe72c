"""One class for each example: softmax over K classes, or one sigmoid unit for two (notes 000, parts 1 and 6)."""

from typing import Literal

import torch
from torch import Tensor, nn

from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.losses import binary_cross_entropy, cross_entropy
from crucible.metrics.classification import ConfusionMatrix
from crucible.schema import NonNegative
from crucible.tasks.task import Batch

Monitor = Literal["loss", "error", "accuracy", "precision", "recall", "f1"]


class Classification:
    """Softmax over the classes of the data.

    Args:
        card: tells the classes.
        monitor: the number on dev that picks the best epoch.
        goal: `maximize` or `minimize`.
        tolerance: a part of the gap above it is high.
    """

    def __init__(
        self, card: Card, *, monitor: Monitor, goal: Literal["maximize", "minimize"], tolerance: NonNegative
    ) -> None:
        if (monitor in ("loss", "error")) != (goal == "minimize"):
            raise Refusal(
                "task.goal", f"{goal} {monitor} makes models worse", example="task.monitor=f1 task.goal=maximize"
            )
        self.monitor, self.goal, self.tolerance = monitor, goal, tolerance
        self.num_classes = len(card.classes)
        self.num_outputs = self.num_classes

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of a batch: `x` (B, ...), `label` (B,)."""
        return {"loss": self.loss(model(batch["x"]), batch["label"])}

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, K)."""
        return cross_entropy(outputs, label)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the class (B,) with the highest logit."""
        return outputs.argmax(dim=1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return one probability for each class (B, K)."""
        return outputs.float().softmax(dim=1)

    def metrics(self) -> ConfusionMatrix:
        """Return an empty confusion matrix."""
        return ConfusionMatrix(self.num_classes, self.loss, self.predict)


class Binary(Classification):
    """One sigmoid unit for two classes.

    Raises:
        Refusal: the data have more than two.
    """

    def __init__(
        self, card: Card, *, monitor: Monitor, goal: Literal["maximize", "minimize"], tolerance: NonNegative
    ) -> None:
        super().__init__(card, monitor=monitor, goal=goal, tolerance=tolerance)
        if self.num_classes != 2:
            raise Refusal(
                "task=binary", f"the data have {self.num_classes} classes", allowed="two", example="task=classification"
            )
        self.num_outputs = 1

    def loss(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, 1)."""
        return binary_cross_entropy(outputs, label)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return 1 (B,) where the probability is above one half."""
        return (outputs[:, 0] > 0).long()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of both classes (B, 2)."""
        positive = outputs[:, 0].float().sigmoid()
        return torch.stack([1 - positive, positive], dim=1)
