"""Looking inside a trained network: what excites a unit, and what it looks at (notes 000, part 12, section 2)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crucible.data.batches import Batch
from crucible.errors import Refusal
from crucible.models.profile import ReceptiveField, Row, layers, measure
from crucible.schema import nearest
from crucible.transfer import head

MOST = 5000  # examples that principal components are found on


@dataclass(frozen=True)
class Patch:
    """A part of an image that excites a unit.

    Attributes:
        row: of the image in its split. value: of the unit there. box: top, left, bottom, right in pixels, cut at the edge.
    """

    row: int
    value: float
    box: tuple[int, int, int, int]


def conv_layers(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions over images by name, in order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and name.split(".")[0] != "heads"}


def filters(model: nn.Module, feature_shape: list[int]) -> Tensor:
    """Return the first layer's filters (K, C, h, w); for a linear layer on whole images each unit's weights, as an image."""
    weighted = (m for m in model.modules() if any(p.dim() > 1 for p in m.parameters(recurse=False)))
    layer = next(weighted, None)
    if isinstance(layer, nn.Linear) and len(feature_shape) == 3 and layer.in_features == prod(feature_shape):
        return layer.weight.detach().cpu().float().view(-1, *feature_shape)
    return layer.weight.detach().cpu().float() if isinstance(layer, nn.Conv2d) else torch.zeros(0, 1, 1, 1)


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Return a layer by name: one that an example passes when the network is asked.

    Raises:
        Refusal: there is none of that name.
    """
    known = {each: m for each, m in layers(model) if each.split(".")[0] != "heads"}
    if name not in known:
        raise Refusal(f"layer={name}", "there is no such layer", allowed=", ".join(known), nearest=nearest(name, known))
    return known[name]


def excitation(model: nn.Module, layer: str, batches: Iterable[Batch], *, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the values (K, top) that most excite each unit of a layer, the images (K, top) and places (K, top).

    One pass over the images: every unit's best place in an image counts, each image once.

    Args:
        layer: its name; its outputs are (B, K, h, w) or (B, K). top: images a unit.
    """
    best, start = list[Tensor](), 0
    with looking(model, find_layer(model, layer)) as seen, torch.inference_mode():
        for batch in batches:
            model(batch["x"])
            values, places = (
                seen[-1].flatten(2).max(dim=2) if seen[-1].dim() > 2 else (seen[-1], torch.zeros_like(seen[-1]).long())
            )
            rows = torch.arange(start, start + len(values), device=values.device)[:, None].expand_as(values)
            best = (
                [torch.cat([*pair]) for pair in zip(best, (values, rows, places), strict=True)]
                if best
                else [values, rows, places]
            )
            kept = best[0].topk(min(top, len(best[0])), dim=0).indices
            best = [each.gather(0, kept) for each in best]
            start += len(values)
    values, rows, places = (each.T.cpu() for each in best)
    return values, rows, places


def patches(
    model: nn.Module, layer: str, unit: int, batches: Iterable[Batch], feature_shape: list[int], *, top: int
) -> list[Patch]:
    """Return the image parts that most excite one unit of one layer (the notes' AlexNet experiment), the best first.

    Raises:
        Refusal: there is no such layer or unit.
    """
    row = row_of(model, layer, unit, feature_shape)
    return patches_of(excitation(model, layer, batches, top=top), unit, row, feature_shape)


def row_of(model: nn.Module, layer: str, unit: int, feature_shape: list[int]) -> Row:
    """Return what is measured of a layer that has this unit.

    Raises:
        Refusal: there is no such layer or unit.
    """
    find_layer(model, layer)
    row = next(each for each in measure(model, feature_shape) if each.name == layer)
    if not 0 <= unit < row.shape[0]:
        raise Refusal(f"unit={unit}", f"layer {layer} has {row.shape[0]} units", allowed=f"0 to {row.shape[0] - 1}")
    return row


def patches_of(found: tuple[Tensor, Tensor, Tensor], unit: int, row: Row, feature_shape: list[int]) -> list[Patch]:
    """Return one unit's patches from what `excitation` found; `row` is the layer's."""
    values, rows, places = (each[unit].tolist() for each in found)
    pairs = zip(rows, values, places, strict=True)
    return [Patch(i, value, _box(row, place, feature_shape)) for i, value, place in pairs]


def _box(row: Row, place: int, feature_shape: list[int]) -> tuple[int, int, int, int]:
    """Return the pixels that the value at a place sees."""
    sides = feature_shape[1:]
    if row.receptive_field is None or len(row.shape) != 3:
        return (0, 0, sides[0], sides[1])
    (top, bottom), (left, right) = (
        _span(sight, at, side) for sight, at, side in zip(row.sight, divmod(place, row.shape[2]), sides, strict=True)
    )
    return (top, left, bottom, right)


def _span(sight: ReceptiveField, at: int, side: int) -> tuple[int, int]:
    middle = sight.start + at * sight.jump
    return max(0, floor(middle - sight.size / 2)), min(side, ceil(middle + sight.size / 2))


def activation_maps(model: nn.Module, x: Tensor, classes: Tensor, layer: str | None = None) -> Tensor:
    """Return where in each image (B, H, W) the network finds its class, each map from 0 to 1.

    HiResCAM (Draelos and Carin, 2020, arXiv:2011.08891): the maps of a layer times the class's gradient there, summed
    over channels. Behind a global average pool and a linear layer that is the class activation map (Zhou et al., 2016,
    arXiv:1512.04150) up to a factor. What all places say alike tells no place: the mean is taken off, and what is above
    it is shown.

    Args:
        x: (B, C, H, W), normalised. classes: (B,) output units. layer: whose maps; None: the last larger than 1x1.

    Raises:
        Refusal: the network has no maps.
    """
    chosen = find_layer(model, layer or last_maps(model, list(x.shape[1:])))
    model.eval()
    with looking(model, chosen) as seen, torch.enable_grad():
        outputs = model(x.clone().requires_grad_())
        maps = seen[-1]
        picked = (
            outputs.gather(1, classes[:, None])[:, 0] if outputs.shape[1] > 1 else outputs[:, 0] * (2 * classes - 1)
        )
        (gradient,) = torch.autograd.grad(picked.sum(), maps)
    found = (gradient.float() * maps.float()).sum(dim=1, keepdim=True).detach()
    found = (found - found.mean(dim=(2, 3), keepdim=True)).clamp(min=0)
    large = F.interpolate(found, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def has_maps(model: nn.Module, feature_shape: list[int]) -> bool:
    """Whether some layer leaves maps larger than 1x1."""
    return bool(_maps(model, feature_shape))


def last_maps(model: nn.Module, feature_shape: list[int]) -> str:
    """Return the name of the last layer that leaves maps larger than 1x1.

    Raises:
        Refusal: there is none.
    """
    if not (names := _maps(model, feature_shape)):
        raise Refusal("class activation maps", "this network has no maps", allowed="a convolutional network")
    return names[-1]


def _maps(model: nn.Module, feature_shape: list[int]) -> list[str]:
    return [row.name for row in measure(model, feature_shape) if len(row.shape) == 3 and min(row.shape[1:]) > 1]


def embedding(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return what the last layer takes of each example, as two coordinates (N, 2), and the share of variance (2,).

    Principal components of the features, found on the first 5000; the sign of each makes its largest entry positive.
    """
    features: list[Tensor] = []
    hook = head(model)[1].register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0].detach()))
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            model(batch["x"])
    hook.remove()
    everything = torch.cat(features).double().cpu()
    centred = everything - everything.mean(dim=0)
    some = centred[:MOST]
    if centred.shape[1] <= len(some):  # the smaller of the two squares has the same components
        values, directions = torch.linalg.eigh(some.T @ some)
        first = directions.flip(1).T[:2]
    else:
        values, weights = torch.linalg.eigh(some @ some.T)
        first = torch.nn.functional.normalize(weights.flip(1).T[:2] @ some, dim=1)
    first = first * first.gather(1, first.abs().argmax(dim=1, keepdim=True)).sign()
    shares = values.flip(0).clamp(min=0) / values.clamp(min=0).sum().clamp(min=1e-12)
    points, explained = torch.zeros(len(centred), 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    points[:, : len(first)], explained[: len(first)] = centred @ first.T, shares[:2]
    return points, explained


@contextmanager
def looking(model: nn.Module, layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a layer's outputs while the context lasts; only the last is kept."""
    seen: list[Tensor] = []

    def look(layer: nn.Module, inputs: Any, output: Any) -> None:
        seen[:] = [output[0] if isinstance(output, tuple) else output]

    model.eval()
    handle = layer.register_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()
