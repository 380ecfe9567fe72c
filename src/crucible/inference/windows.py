"""What a classifier says of every window of a picture, of one size or several (notes 000, part 11, section 3)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from crucible.boxes import suppress
from crucible.data.images import resized
from crucible.data.normalize import shift_and_scale
from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.inference.saved_run import Saved
from crucible.inference.sliding import FullyConvolutional, convolutional, window_by_window


class Windows:
    """Looks at windows of the network's own size; for windows of another size the picture is made smaller or larger.

    Args:
        saved: a classifier of images. sizes: heights of the windows in pixels of the picture, the widths in proportion; none: the
            network's own. step: pixels of the network's window from one to the next; None: as fine as the layers are.
        background: the class of what is no object; None: there is none.

    Attributes:
        step: see above. at_once: whether all windows of a size are computed in one pass.

    Raises:
        Refusal: layers that cannot look at all windows at once, without a step; a background that is no class.
    """

    def __init__(
        self, saved: Saved, *, sizes: Sequence[int] = (), step: int | None = None, background: str | None = None
    ) -> None:
        self._saved, (self._height, self._width) = saved, saved.card.feature_shape[1:]
        self._sizes = sizes or (self._height,)
        net = _at_once(saved, step)
        self.at_once = net is not None and (step is None or step % net.stride == 0)
        self._net, self.step = net, step or (net.stride if net else 1)
        if background is not None and background not in saved.card.classes:
            raise Refusal(
                f"background={background}", "it is no class of this run", allowed=", ".join(saved.card.classes)
            )
        self._background = saved.card.classes.index(background) if background is not None else -1

    @torch.inference_mode()
    def found(self, image: Array, *, score: float, overlap: float) -> tuple[list[dict[str, Any]], int]:
        """Return the windows of (C, H, W) whose class is sure enough, suppressed class by class, and how many were looked at."""
        boxes, shares = (torch.cat(parts) for parts in zip(*self._looked_at(image), strict=True))
        best, kind = shares.max(dim=1)
        sure = torch.where((best >= score) & (kind != self._background), best, 0.0)
        kept = suppress(boxes, sure, kind, bound=overlap).nonzero()[:, 0]
        order = kept[sure[kept].argsort(descending=True, stable=True)]
        names = self._saved.card.classes
        return [
            {"box": boxes[i].tolist(), "score": round(float(sure[i]), 6), "class": names[int(kind[i])]} for i in order
        ], len(boxes)

    def _looked_at(self, image: Array) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the corners (n, 4) of the windows of each size in pixels of the picture, and what they hold (n, K)."""
        shift, scale = (part.float() for part in shift_and_scale(self._saved.card))
        for size in self.fitting(image):
            sides = self._sides(image, size)
            picture = torch.from_numpy(resized(image, sides)).float()[None]
            outputs = self._outputs(torch.addcmul(shift, picture, scale))[0]  # (K, rows, columns)
            y, x = torch.meshgrid(*(torch.arange(n) * self.step for n in outputs.shape[1:]), indexing="ij")
            corners = torch.stack([x, y, x + self._width, y + self._height], dim=-1).view(-1, 4)
            back = torch.tensor([image.shape[2] / sides[1], image.shape[1] / sides[0]] * 2)
            yield corners * back, self._saved.task.postprocess(outputs.flatten(1).T)

    def _outputs(self, picture: Tensor) -> Tensor:
        """Return the outputs (1, K, rows, columns) of every window of (1, C, H, W)."""
        if self._net is None or not self.at_once:
            return window_by_window(self._saved.model.eval(), picture, (self._height, self._width), self.step)
        every = self.step // self._net.stride
        outputs: Tensor = self._net.eval()(picture)[..., ::every, ::every]
        return outputs

    def require_room(self, image: Array, name: str) -> None:
        """Refuse a picture (C, H, W) that is smaller than every window."""
        if not self.fitting(image):
            raise Refusal(f"input={name}", f"it is {list(image.shape[1:])}, a window is {min(self._sizes)} pixels high",
                          allowed="a larger picture, or smaller windows", example="sizes=16")  # fmt: skip

    def fitting(self, image: Array) -> list[int]:
        """Return the sizes of the windows that a picture (C, H, W) has room for."""
        return [size for size in self._sizes if self._fits(image, size)]

    def _sides(self, image: Array, size: int) -> list[int]:
        """Return height and width of a picture in which windows of this size have the network's."""
        return [max(1, round(side * self._height / size)) for side in image.shape[1:]]

    def _fits(self, image: Array, size: int) -> bool:
        return all(side >= own for side, own in zip(self._sides(image, size), (self._height, self._width), strict=True))


def _at_once(saved: Saved, step: int | None) -> FullyConvolutional | None:
    """Return the network as convolutions; None where its layers cannot be, and a step says how to go window by window."""
    try:
        return convolutional(saved.model)
    except Refusal as refusal:
        if step is not None:
            return None
        raise Refusal(
            refusal.lines["where"], refusal.lines["what"], allowed=f"{refusal.lines.get('allowed', '')}; or a step: window by window, which is slower",
            example="step=4",
        ) from None  # fmt: skip
