"""One object in a picture, or none: what it is and where (notes 000, part 11, section 1)."""

from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.boxes import area, to_centre, to_corners, to_fractions, to_pixels
from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.boxes import Boxes
from crucible.labels.located import cut
from crucible.losses import precise
from crucible.metrics.localization import LocalizationMetrics
from crucible.schema import Positive
from crucible.tasks.task import MonitoredTask, Monitoring, loss_terms

Score = Literal["loss", "error", "accuracy", "mean_iou"]


class Localization(MonitoredTask):
    """y = [p_c, b_x, b_y, b_h, b_w, c_1 ... c_K]; the box's middle and size are shares of the picture.

    Args:
        card: tells the classes and the images' size.
        loss: `mean_squared_error`, the notes' form: of all numbers where there is an object, of p_c alone where there is
            none; `log_loss`: log loss of p_c and of the class, squared error of the box.
        box_weight: of the box's squared error, 1 in the notes; shares of a picture have small squares.
        settings: see Monitoring.

    Raises:
        Refusal: a goal against the metric, or pictures with several objects.
    """

    kind = Boxes()
    metrics_class = LocalizationMetrics
    usual = "mean_iou task.goal=maximize"
    single = True  # a picture holds one object at most

    def __init__(
        self,
        card: Card,
        *,
        loss: Literal["mean_squared_error", "log_loss"],
        box_weight: Positive,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        if (most := (card.objects or {}).get("most", 1)) > 1:
            raise Refusal(
                "task=localization",
                f"a picture holds up to {most} objects",
                allowed="one at most",
                example="task=detection",
            )
        self._card = card
        self.names, self.confusion_labels = card.classes, [*card.classes, "background"]
        self.size = (card.feature_shape[1], card.feature_shape[2])
        self.num_outputs = 5 + len(self.names)
        self._kind, self._box_weight = loss, box_weight

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch: `x` (B, C, H, W), `boxes` (B, 1, 4) in pixels, `label` (B, 1), below 0 for none."""
        return loss_terms(model, batch["x"], lambda outputs: self.loss(outputs, batch))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss () of outputs (B, 5 + K)."""
        label, corners = batch["label"][:, 0], batch["boxes"][:, 0]
        there = (label >= 0) & (area(corners) > 0)  # augmentation may have moved it out of the picture
        z = precise(outputs)
        box = ((z[:, 1:5] - self.encoded(corners).to(z)) ** 2).sum(dim=1)
        if self._kind == "mean_squared_error":
            wanted = F.one_hot(label.clamp(min=0), len(self.names)).to(z.dtype)
            known, kind = (z[:, 0] - there.to(z.dtype)) ** 2, ((z[:, 5:] - wanted) ** 2).sum(dim=1)
        else:
            known = F.binary_cross_entropy_with_logits(z[:, 0], there.to(z.dtype), reduction="none")
            kind = F.cross_entropy(z[:, 5:], label.clamp(min=0), reduction="none")
        return (known + there * (self._box_weight * box + kind)).mean()

    def encoded(self, corners: Tensor) -> Tensor:
        """Return b_x, b_y, b_h, b_w (B, 4) of corners (B, 4) in pixels."""
        return to_centre(to_fractions(corners, self.size))[:, [0, 1, 3, 2]]

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the predicted box (B, 1, 6)."""
        return self.postprocess(outputs)

    def postprocess(self, outputs: Tensor) -> Tensor:
        """Return the predicted box (B, 1, 6): corners in stored pixels, p_c, class."""
        z = precise(outputs)
        score = z[:, 0].clamp(0, 1) if self._kind == "mean_squared_error" else z[:, 0].sigmoid()
        x, y, h, w = z[:, 1:5].unbind(dim=1)
        corners = to_pixels(to_corners(torch.stack([x, y, w.clamp(min=0), h.clamp(min=0)], dim=1)), self.size)
        kind = z[:, 5:].argmax(dim=1)
        return torch.cat([corners, score[:, None], kind[:, None].to(z.dtype)], dim=1)[:, None]

    def within(self, found: Tensor, batch: Batch) -> Tensor:
        """Return predicted boxes (B, 1, 6) cut at the edges of the batch's pictures, as they came."""
        return cut(found, batch["size"], self._card) if "size" in batch else found

    def metrics(self) -> LocalizationMetrics:
        """Return an empty accumulator."""
        return LocalizationMetrics(len(self.names), self.loss, self.postprocess, score=self.score, within=self.within)
