"""One size and one number of channels for all images."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from crucible.data.objects import inner_size
from crucible.data.readers.source import Array
from crucible.errors import Refusal

NAMED = 5  # examples of another shape that a refusal names
GREY = 114  # around a letterboxed picture of bytes, as in Ultralytics' YOLO
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


class OtherShape(Refusal):
    """An example whose shape is not that of the others."""


class Fit:
    """Bring chunks to one shape and type; the first chunk fixes both for all that follow.

    Args:
        image_size: (H, W), or None for images that have one size already.
        channels: 1 (luma of BT.601), 3 (grey repeated), or None for as they are.
        resize: `stretch`, or `letterbox`: as large as fits, in the middle, grey around it.
    """

    def __init__(
        self,
        image_size: Sequence[int] | None,
        channels: int | None,
        resize: Literal["stretch", "letterbox"] = "stretch",
    ) -> None:
        self.image_size, self.resize = image_size, resize
        self.channels = channels
        self.shape: list[int] = []
        self.dtype = np.dtype(np.uint8)

    def __call__(self, chunk: Any, name: Callable[[int], str]) -> Array:
        """Return (n, C, H, W) or (n, F).

        Args:
            chunk: an array (n, ...) or a list of images (C, H, W).
            name: what to call the i-th example of the chunk.

        Raises:
            Refusal: an image of another size or number of channels, vectors where images are asked for.
        """
        if isinstance(chunk, list):
            chunk = self._stack([self._one(image) for image in chunk], name)
        elif self.image_size is not None or self.channels is not None:
            chunk = np.stack([self._one(image) for image in chunk]) if len(chunk) else chunk
        chunk = native(chunk, name)
        if not self.shape:
            self.shape, self.dtype = list(chunk.shape[1:]), chunk.dtype
        if chunk.dtype != self.dtype:
            raise Refusal(
                name(0), f"its values are {chunk.dtype}, the others' {self.dtype}", allowed="one type in all splits"
            )
        if list(chunk.shape[1:]) != self.shape:
            raise self._other_shape(list(chunk.shape[1:]), name(0))
        return chunk

    def _stack(self, images: list[Array], name: Callable[[int], str]) -> Array:
        wanted = self.shape or list(images[0].shape)
        for i, image in enumerate(images):
            if list(image.shape) != wanted:
                raise self._other_shape(list(image.shape), name(i), wanted)
        return np.stack(images)

    def other_shapes(self, chunks: Iterable[tuple[str, Any]]) -> Refusal:
        """Return the refusal that tells how many of all examples have not the shape of most, and names the first."""
        count, first = Counter[tuple[int, ...]](), dict[tuple[int, ...], list[str]]()
        for name, image in chunks:
            shape = self._shape_of(image.shape)
            count[shape] += 1
            if len(named := first.setdefault(shape, [])) < NAMED:
                named.append(name)
        most = max(count, key=count.__getitem__)
        odd = [(name, list(shape)) for shape, names in first.items() if shape != most for name in names][:NAMED]
        others = count.total() - count[most]
        listed = "; ".join(f"{name} {shape}" for name, shape in odd[1:])
        more = f"; {others} of {count.total()} differ from most, among them {listed}" if others > 1 else ""
        return self._other_shape(odd[0][1], odd[0][0], list(most), more + (", ..." if others > NAMED else ""))

    def _shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return what an image's shape becomes by the size and the channels that are asked for."""
        channels = self.channels if self.channels is not None and shape[0] in (1, 3) else shape[0]
        return (channels, *(self.image_size or shape[1:]))

    def _other_shape(self, shape: list[int], name: str, wanted: list[int] | None = None, more: str = "") -> Refusal:
        c, *size = wanted or self.shape
        keys = [f"data.image_size=[{','.join(map(str, size))}]"] if shape[1:] != size else []
        keys += [f"data.channels={min(3, max(c, shape[0]))}"] if shape[0] != c else []
        return OtherShape(
            name,
            f"its shape is {shape}, the others' is {[c, *size]} (channels, height, width){more}",
            allowed="images of one size and one number of channels, or one size and number to bring them to",
            example=" ".join(keys),
        )

    def _one(self, image: Array) -> Array:
        if image.ndim != 3:
            raise Refusal("data.image_size, data.channels", f"examples of shape {image.shape} are no images")
        if self.channels == 1 and image.shape[0] == 3:
            image = _as(np.tensordot(LUMA, image, axes=1)[None], image.dtype)
        if self.channels == 3 and image.shape[0] == 1:
            image = np.repeat(image, 3, axis=0)
        if self.image_size is not None and list(image.shape[1:]) != list(self.image_size):
            image = self._resized(image, self.image_size)
        return image

    def _resized(self, image: Array, size: Sequence[int]) -> Array:
        if self.resize == "stretch":
            return resized(image, size)
        h, w = inner_size(image.shape[1:], size)
        top, left = (size[0] - h) // 2, (size[1] - w) // 2
        framed = np.full((len(image), *size), GREY if image.dtype == np.uint8 else 0, image.dtype)
        framed[:, top : top + h, left : left + w] = np.stack([_resize(plane, (h, w)) for plane in image])
        return framed


def native(chunk: Array, name: Callable[[int], str]) -> Array:
    """Return values of a type that every later part takes: bool as bytes, 16 bits unsigned as 32, this machine's order."""
    if chunk.dtype.kind not in "buif" or chunk.dtype.itemsize > 8 or 0 in chunk.shape[1:]:
        raise Refusal(name(0), f"examples {chunk.shape[1:]} of {chunk.dtype} hold no numbers to learn from")
    kind = {"b1": "u1", "u2": "i4", "u4": "i8", "f2": "f4"}.get(chunk.dtype.str[1:], chunk.dtype.str[1:])
    return chunk.astype(np.dtype(f"={kind}" if kind != "u1" else "u1"), copy=False)


def resized(image: Array, size: Sequence[int]) -> Array:
    """Return an image (C, H, W) in another size (H, W), bilinear with anti-aliasing; as it is where it has that size."""
    return image if list(image.shape[1:]) == list(size) else np.stack([_resize(plane, size) for plane in image])


def _resize(plane: Array, size: Sequence[int]) -> Array:
    """Resize one channel (H, W), bilinear with anti-aliasing."""
    picture = Image.fromarray(plane if plane.dtype == np.uint8 else plane.astype(np.float32))
    resized = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return _as(resized, plane.dtype)


def _as(values: Array, dtype: np.dtype) -> Array:
    return np.rint(values).astype(dtype) if dtype.kind in "ui" else values.astype(dtype)
