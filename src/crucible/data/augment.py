"""Changes to the train images that keep their label: whole batches at once, on the device, before normalisation."""

import torch
from torch import Tensor

from crucible.schema import NonNegative


class Identity:
    """No augmentation."""

    needs_images = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch as it is."""
        return images


class Light:
    """Random shifts, and horizontal flips of half the images where a mirrored image keeps its label.

    Args:
        flip_keeps_label: whether a mirrored image keeps its label (the data know: a mirrored 2 is no 2).
        shift: the largest shift as a share of height and width; the edge is repeated.
    """

    needs_images = True

    def __init__(self, flip_keeps_label: bool, *, shift: NonNegative) -> None:
        self.flip = flip_keeps_label
        self.shift = shift

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W), each moved by whole pixels, every other one mirrored if allowed."""
        rows = self._shifted(images, 2, generator)
        columns = self._shifted(images, 3, generator)
        if self.flip:
            mirrored = torch.rand(len(images), 1, generator=generator, device=images.device) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        return _pick(images, rows, columns)

    def _shifted(self, images: Tensor, axis: int, generator: torch.Generator) -> Tensor:
        """Return for each image (B) the source index of each target index along `axis` (B, size)."""
        size = images.shape[axis]
        reach = round(self.shift * size)
        moves = torch.randint(-reach, reach + 1, (len(images), 1), generator=generator, device=images.device)
        return (torch.arange(size, device=images.device) + moves).clamp(0, size - 1)


def identity(flip_keeps_label: bool) -> Identity:
    """Return the neutral augmentation."""
    return Identity()


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images[b, c, rows[b, h], columns[b, w]]."""
    b, c, h, w = images.shape
    flat = (rows[:, :, None] * w + columns[:, None, :]).view(b, 1, h * w).expand(b, c, h * w)
    return images.view(b, c, h * w).gather(2, flat).view(b, c, h, w)
