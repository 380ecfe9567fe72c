"""One class for each sequence: sentiment, a name's language (notes 000, part 13: many to one)."""

from typing import Literal, Unpack

from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.tasks.classification import Classification, Costs, Loss, Score, Smoothing, Weights
from crucible.tasks.steps import padding, reading
from crucible.tasks.task import Monitoring


class Sequence(Classification):
    """Softmax over the classes, from the last activation, or from all of them.

    Args:
        card: tells the classes. pool: what is read out of the activations: the `last` one, their `mean`, or of each unit the largest
            (`max`; Collobert et al., 2011, JMLR 12:2493). loss, label_smoothing, class_weights, mistake_costs: as in Classification.
        settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric, or another number of weights than classes.
    """

    def __init__(
        self,
        card: Card,
        *,
        pool: Literal["last", "mean", "max"],
        loss: Loss = "cross_entropy",
        label_smoothing: Smoothing = 0.0,
        class_weights: Weights = "none",
        mistake_costs: Costs = None,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(
            card,
            loss=loss,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            mistake_costs=mistake_costs,
            **settings,
        )
        self._pool: Literal["last", "mean", "max"] = pool

    def attach(self, model: nn.Module) -> nn.Module:
        """Return the network, told what is read out of it."""
        return reading(model, self._pool, "sequence")

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, and of sequences of different lengths the share of padding in it."""
        found = super().losses(model, batch)
        return found | ({"padding/share": padding(batch)} if "mask" in batch else {})
