"""A picture painted anew: the content of one picture in the style of another (notes 000, part 12; Gatys et al., 2016)."""

from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.card import Card
from crucible.errors import Refusal
from crucible.labels.pictures import Pictures
from crucible.losses import content_cost, gram, precise, style_cost, total_variation
from crucible.metrics.style import Costs, StyleMetrics
from crucible.models.canvas import resized
from crucible.models.contracts import Painter
from crucible.models.features import features_of
from crucible.models.profile import measure
from crucible.schema import NonNegative
from crucible.tasks.task import MonitoredTask, Monitoring

Score = Literal["loss", "error", "content", "style", "variation"]


class Style(MonitoredTask):
    """J = alpha J_content + beta J_style + variation V of a painted picture G; the model's parameters are the picture.

    J_content = 1/2 ||a_C - a_G||^2 of one layer; J_style = sum_l lambda_l J_style,l of the style matrices of several; V is the total
    variation. What does not change with G is computed once.

    Args:
        card: of examples (6, H, W), content and style, from 0 to 1.
        features: whose layers the pictures are compared by: `random`, a run folder, or a .safetensors file of VGG weights.
        content_layer: null: the network's middle one. style_layers: null: its usual ones.
        style_weights: lambda of each style layer; null: 1 / their number.
        alpha, beta, variation: what the three costs are multiplied with. settings: see Monitoring.

    Raises:
        Refusal: examples that are no two pictures, a network or a layer that is not there, a goal against the number.
    """

    kind = Pictures()
    metrics_class = StyleMetrics
    num_outputs = 3
    usual = "loss task.goal=minimize"
    confusion_labels = ("picture",)

    def __init__(
        self,
        card: Card,
        *,
        features: str,
        content_layer: str | None,
        style_layers: list[str] | None,
        style_weights: list[NonNegative] | None,
        alpha: NonNegative,
        beta: NonNegative,
        variation: NonNegative,
        **settings: Unpack[Monitoring[Score]],
    ) -> None:
        super().__init__(card, **settings)
        _require_pictures(card)
        self._features = features_of(features)
        self._content_layer = content_layer or self._features.middle
        self._style_layers = style_layers if style_layers is not None else self._features.usual
        self._features.require("task.content_layer", [self._content_layer])
        self._features.require("task.style_layers", self._style_layers)
        count = len(self._style_layers)
        if not count:
            raise Refusal("task.style_layers", "there is no layer to compare the style by", allowed=", ".join(self._features.names),
                          example="task.beta=0 paints without a style")  # fmt: skip
        if style_weights is not None and len(style_weights) != count:
            raise Refusal("task.style_weights", f"{len(style_weights)} weights of {count} layers", allowed="one for each of task.style_layers",
                          example=f"task.style_weights=[{', '.join(['1'] * count)}]")  # fmt: skip
        self._features = self._features.until([self._content_layer, *self._style_layers])
        self._weights = style_weights or [1 / count] * count
        self._alpha, self._beta, self._variation = alpha, beta, variation
        self._known: dict[tuple[object, ...], tuple[Tensor, dict[str, Tensor]]] = {}

    def attach(self, model: nn.Module) -> nn.Module:
        """Return a network as it is, if it paints."""
        if not isinstance(model, Painter):
            raise Refusal(
                "model", f"task=style optimises a picture; {type(model).__name__} gives none", example="model=canvas"
            )
        self._features.require_room(model.smallest)
        return model

    def multiplications(self, feature_shape: Sequence[int]) -> int:
        """Return those of a pass of the painted picture through the features."""
        return sum(row.multiplications for row in measure(self._features, (3, *feature_shape[1:])))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss () of a batch, `x` (B, 6, H, W), and its parts."""
        costs = self.costs(model(batch["x"]), batch["x"])
        return {name if name == "loss" else f"loss/{name}": each.mean() for name, each in costs.items()}

    def costs(self, painted: Tensor, x: Tensor) -> Costs:
        """Return loss, content, style, and variation (B,), each but the first without its factor.

        Args:
            painted: (B, 3, h, w). x: (B, 6, H, W), content and style, which are compared in the size of what is painted.
        """
        painted = precise(painted)
        targets, found = self._targets(x, painted.shape[2:]), self._maps(painted)
        content = content_cost(found[self._content_layer], targets["content"])
        style = self._weighted([style_cost(found[name], targets[name]) for name in self._style_layers])
        variation = total_variation(painted)
        loss = self._alpha * content + self._beta * style + self._variation * variation
        return {"loss": loss, "content": content, "style": style, "variation": variation}

    def untouched(self, x: Tensor) -> Tensor:
        """Return the loss (B,) of the content of (B, 6, H, W) as it is."""
        return self._targets(x, x.shape[2:])["untouched"]

    def _targets(self, x: Tensor, size: Sequence[int]) -> dict[str, Tensor]:
        """Return the maps of the content, the style matrices by layer, and the loss of the content, in one size; computed once."""
        where = (*size, x.dtype, x.device)
        known = self._known.get(where)
        if known is None or not torch.equal(known[0], x):
            with torch.no_grad():
                targets = self._compared(resized(x[:, :3], size), resized(x[:, 3:], size))
            self._known[where] = known = (x, targets)
        return known[1]

    def _compared(self, content: Tensor, style: Tensor) -> dict[str, Tensor]:
        """Return what `_targets` keeps of content and style (B, 3, h, w)."""
        shown, wanted = self._maps(content), {name: gram(maps) for name, maps in self._maps(style).items()}
        costs = self._weighted([style_cost(shown[name], wanted[name]) for name in self._style_layers])
        untouched = self._beta * costs + self._variation * total_variation(content)
        return {**wanted, "content": shown[self._content_layer], "untouched": untouched}

    def _maps(self, pictures: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self._features.to(pictures)(pictures, [self._content_layer, *self._style_layers])
        return maps

    def _weighted(self, costs: Sequence[Tensor]) -> Tensor:
        return torch.stack([weight * cost for weight, cost in zip(self._weights, costs, strict=True)]).sum(dim=0)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the pictures (B, 3, H, W) in [0, 1]."""
        return outputs.float()

    postprocess = predict

    @torch.no_grad()
    def sketch(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the picture as it is."""
        model.eval()
        return self.postprocess(model(batch["x"]))[0]

    def metrics(self) -> StyleMetrics:
        """Return an empty accumulator."""
        return StyleMetrics(self.costs, self.untouched)


def _require_pictures(card: Card) -> None:
    """Refuse examples that are no content and style."""
    if len(card.feature_shape) != 3 or card.feature_shape[0] != 6:
        raise Refusal("task=style", f"it paints from content and style (6, height, width), an example has shape {card.feature_shape}",
                      allowed="data of two pictures", example="data=style_pair")  # fmt: skip
    if card.normalize["kind"] != "scale":
        raise Refusal(f"data.normalize={card.normalize['kind']}", "a painting has values from 0 to 1", allowed="scale",
                      example="data.normalize=scale")  # fmt: skip
