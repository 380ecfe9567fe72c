"""Changes to the train images that keep their meaning: whole batches at once, on the device, before normalisation.

A batch is `x` (B, C, H, W) in its stored type, and where a task has them `points` (B, P, 2) as x, y and `boxes` (B, M, 4)
as x0, y0, x1, y1: in pixels, the pixel in column j covering x from j to j + 1. They move with the pixels.
"""

from math import pi
from typing import Annotated, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crucible.constants import constant
from crucible.schema import NonNegative, Probability, Share

Batch = dict[str, Tensor]
SEEN = 0.2  # the share of a box that must be left for it to count


@runtime_checkable
class Augment(Protocol):
    """A change to a batch; `needs_images`: only images can be changed so; `mirrors`: what is left may become right."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch changed."""


class Identity:
    """No augmentation."""

    needs_images = mirrors = False

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch as it is."""
        return batch


def identity(flip_keeps_label: bool) -> Identity:
    """Return the neutral augmentation."""
    return Identity()


class Light:
    """Random shifts, and horizontal flips of half the images where a mirrored image keeps its label.

    Args:
        flip_keeps_label: whether a mirrored image keeps its label (the data know: a mirrored 2 is no 2).
        shift: the largest shift as a share of height and width; the edge is repeated.
    """

    needs_images = True

    def __init__(self, flip_keeps_label: bool, *, shift: NonNegative) -> None:
        self.flip = self.mirrors = flip_keeps_label
        self.shift = shift

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch, each image moved by whole pixels, every other one mirrored if allowed."""
        images = batch["x"]
        down, right = (self._moves(images, axis, generator) for axis in (2, 3))
        sign = _signs(len(images), self.flip, generator, images.device)
        h, w = images.shape[2:]
        rows = (torch.arange(h, device=images.device) + down).clamp(0, h - 1)
        columns = (torch.arange(w, device=images.device) + right).clamp(0, w - 1)
        columns = torch.where(sign[:, None] < 0, columns.flip(1), columns)
        forward = torch.zeros(len(images), 2, 3, device=images.device)
        forward[:, 0, 0], forward[:, 1, 1], forward[:, 1, 2] = sign, 1.0, -down[:, 0].float()
        forward[:, 0, 2] = torch.where(sign < 0, w + right[:, 0], -right[:, 0]).float()
        return {**batch, "x": _pick(images, rows, columns), **_moved(batch, forward, (h, w))}

    def _moves(self, images: Tensor, axis: int, generator: torch.Generator) -> Tensor:
        """Return how far each image (B, 1) is moved along the axis: the pixel at i comes from i + move."""
        reach = round(self.shift * images.shape[axis])
        return torch.randint(-reach, reach + 1, (len(images), 1), generator=generator, device=images.device)


class Strong:
    """Flip, shift, crop, rotation, colour and noise, each drawn anew for every image (notes 000, part 4, section 4).

    Geometry is one affine map an image, sampled bilinearly, the edge repeated. Colour and noise are in units of the
    image's own deviation, so that they mean the same for 8-bit pictures and for floats.

    Args:
        flip_keeps_label: whether a mirrored image keeps its label.
        shift: the largest shift as a share of height and width.
        crop: the largest part of height and width that is cut away: what is left is enlarged.
        rotation_degrees: the largest turn, to either side.
        colour: the largest change of each channel's contrast (as a share) and brightness (in deviations).
        noise: deviation of the noise on every value, in deviations of the image.
        upside_down: whether half the images are mirrored top to bottom, too: for what has no up, such as cells.
        shear_degrees: the largest slant, to either side.
        elastic: deviation of the way that a pixel is moved by itself, as a share of height and width, alike for neighbours within
            `elastic_width`, a share of them, too (Simard et al., 2003, ICDAR): handwriting.
    """

    needs_images = True

    def __init__(
        self,
        flip_keeps_label: bool,
        *,
        shift: NonNegative,
        crop: Share,
        rotation_degrees: NonNegative,
        colour: NonNegative,
        noise: NonNegative,
        upside_down: bool = False,
        shear_degrees: Annotated[float, Field(ge=0, le=60)] = 0.0,
        elastic: Share = 0.0,
        elastic_width: Probability = 0.15,
    ) -> None:
        self.shear, self.elastic, self.width = shear_degrees * pi / 180, elastic, elastic_width
        self.upside_down, self.mirrors = upside_down, flip_keeps_label or upside_down
        self.flip, self.shift, self.crop = flip_keeps_label, shift, crop
        self.rotation, self.colour, self.noise = rotation_degrees * pi / 180, colour, noise

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch changed; `x` becomes float32."""
        images = batch["x"].float()
        size = (images.shape[2], images.shape[3])
        forward = self._maps(len(images), size, generator, images.device)
        moved = _sampled(images, forward)
        if self.elastic:
            moved = _bent(moved, self._fields(len(images), size, generator, images.device))
        changed = self._recoloured(moved, generator)
        return {**batch, "x": changed, **_moved(batch, forward, size)}

    def _maps(self, count: int, size: tuple[int, int], generator: torch.Generator, device: torch.device) -> Tensor:
        """Return affine maps (B, 2, 3) of points x, y in pixels: enlarge, turn and mirror about the middle, then shift."""

        def draw(reach: float) -> Tensor:
            return (2 * torch.rand(count, generator=generator, device=device) - 1) * reach

        h, w = size
        grow = 1 / (1 - self.crop * torch.rand(count, generator=generator, device=device)).clamp(min=0.05)
        turn, sign = draw(self.rotation), _signs(count, self.flip, generator, device)
        linear = torch.stack(
            [grow * sign * turn.cos(), -grow * sign * turn.sin(), grow * turn.sin(), grow * turn.cos()], 1
        )
        linear = linear.view(count, 2, 2)
        linear[:, 1] *= _signs(count, self.upside_down, generator, device)[:, None]
        if self.shear:
            slant = torch.eye(2, device=device).repeat(count, 1, 1)
            slant[:, 0, 1] = draw(self.shear).tan()
            linear = linear @ slant
        middle = constant([w / 2, h / 2], linear)
        offset = middle + torch.stack([draw(self.shift) * w, draw(self.shift) * h], 1) - linear @ middle
        return torch.cat([linear, offset[:, :, None]], dim=2)

    def _fields(self, count: int, size: tuple[int, int], generator: torch.Generator, device: torch.device) -> Tensor:
        """Return how far each pixel comes from (B, H, W, 2), x and y as shares of width and height."""
        noise = torch.randn(count, 2, *size, generator=generator, device=device)
        smooth = _blurred(noise, [max(0.5, self.width * side) for side in size])
        deviation = smooth.flatten(1).std(dim=1, correction=0).clamp(min=1e-6)
        return (self.elastic * smooth / deviation[:, None, None, None]).permute(0, 2, 3, 1)

    def _recoloured(self, images: Tensor, generator: torch.Generator) -> Tensor:
        def draw(reach: float) -> Tensor:
            shape = (*images.shape[:2], 1, 1)
            return (2 * torch.rand(shape, generator=generator, device=images.device) - 1) * reach

        mean, deviation = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(1, 2, 3), keepdim=True, correction=0)
        changed = mean + (images - mean) * (1 + draw(self.colour)) + deviation * draw(self.colour)
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return changed + self.noise * deviation * noise


def _signs(count: int, allowed: bool, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return -1 (B,) for the images to mirror, half of them if allowed, else 1."""
    if not allowed:
        return torch.ones(count, device=device)
    return torch.where(torch.rand(count, generator=generator, device=device) < 0.5, -1.0, 1.0)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images[b, c, rows[b, h], columns[b, w]]."""
    b, c, h, w = images.shape
    flat = (rows[:, :, None] * w + columns[:, None, :]).view(b, 1, h * w).expand(b, c, h * w)
    return images.view(b, c, h * w).gather(2, flat).view(b, c, h, w)


def _sampled(images: Tensor, forward: Tensor) -> Tensor:
    """Return images (B, C, H, W) moved by maps (B, 2, 3) of pixels: each target pixel is looked up where it came from."""
    h, w = images.shape[2:]
    back = _inverse(forward[:, :, :2])
    scale = constant([2 / w, 2 / h], images)  # pixels to grid_sample's -1 .. 1
    linear = back * scale[:, None] / scale
    middle = (1 / scale - forward[:, :, 2])[:, :, None]
    offset = (back @ middle)[:, :, 0] * scale - 1
    grid = F.affine_grid(torch.cat([linear, offset[:, :, None]], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _inverse(maps: Tensor) -> Tensor:
    """Return the inverses of matrices (B, 2, 2), written out: a solver waits for the device to say whether there is one."""
    a, b, c, d = maps.flatten(1).unbind(1)
    return torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]


def _bent(images: Tensor, fields: Tensor) -> Tensor:
    """Return images (B, C, H, W) whose pixels come from elsewhere by fields (B, H, W, 2), shares of width and height."""
    same = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(same, list(images.shape), align_corners=False) + 2 * fields
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _blurred(values: Tensor, widths: list[float]) -> Tensor:
    """Return values (B, C, H, W) averaged with normal weights of these deviations, in pixels, along height and width."""
    for axis, width in zip((2, 3), widths, strict=True):
        reach = min(int(3 * width) + 1, values.shape[axis] - 1)
        weights = torch.exp(-((torch.arange(-reach, reach + 1, device=values.device) / width) ** 2) / 2)
        shape = [1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1]
        kernel = (weights / weights.sum()).view(shape)
        padding = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
        flat = F.pad(values.flatten(0, 1)[:, None], padding, mode="reflect")
        values = F.conv2d(flat, kernel).view(values.shape)
    return values


def _moved(batch: Batch, forward: Tensor, size: tuple[int, int]) -> Batch:
    """Return the batch's points and boxes where the maps (B, 2, 3) take them; boxes are cut at the image's edge; one that is mostly cut away is empty."""
    moved = {}
    if "points" in batch:
        moved["points"] = _mapped(batch["points"], forward)
    if "boxes" in batch:
        x0, y0, x1, y1 = batch["boxes"].unbind(dim=2)
        corners = torch.stack([x0, y0, x1, y0, x0, y1, x1, y1], dim=2).view(len(x0), -1, 2)
        corners = _mapped(corners, forward).view(*x0.shape, 4, 2)
        limit = constant([size[1], size[0]], corners)
        low, high = (each.clamp(min=0).minimum(limit) for each in (corners.amin(dim=2), corners.amax(dim=2)))
        whole = (corners.amax(dim=2) - corners.amin(dim=2)).prod(dim=2)
        left = (high - low).clamp(min=0).prod(dim=2) >= SEEN * whole
        moved["boxes"] = torch.cat([low, high], dim=2) * left[..., None]
    return moved


def _mapped(points: Tensor, forward: Tensor) -> Tensor:
    return points.float() @ forward[:, :, :2].transpose(1, 2) + forward[:, None, :, 2]
