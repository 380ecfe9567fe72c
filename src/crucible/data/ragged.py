"""Examples of different lengths: words, series, recordings. All values lie one after the other, offsets say where each begins.

A batch of them is padded to its longest. Padding is NaN where examples are numbers and -1 where they are symbols (whole numbers
from 0), so a network that takes padding for an example gives NaN, or no embedding, and never a silent wrong answer; `mask` of
the batch is true where an example is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.readers.source import Array
from crucible.errors import Refusal

OFFSETS = "offsets.npy"
SYMBOL_PADDING = -1
POOLED = 50  # batches whose examples are sorted by length together


@dataclass(frozen=True)
class Examples:
    """Examples (L_i,) or (L_i, F) on their way into a prepared folder.

    Attributes:
        values: (sum of L_i, ...). lengths: (N,).
    """

    values: Array
    lengths: Array
    ndim = 0  # it is no array of examples of one shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Any:
        return iter(np.split(self.values, np.cumsum(self.lengths)[:-1]))

    def __getitem__(self, rows: Array) -> "Examples":
        """Return the examples that a mask (N,) names."""
        return Examples(self.values[np.repeat(rows, self.lengths)], self.lengths[rows])


class Lengths:
    """Bring chunks of examples of different lengths to one type; the first chunk fixes it for all that follow.

    Attributes:
        shape: [length of the longest so far] or [length, F].
    """

    def __init__(self) -> None:
        self.shape: list[int] = []
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def __call__(self, chunk: Sequence[Array], name: Callable[[int], str]) -> Examples:
        """Return the examples (L_i,) or (L_i, F) of a chunk.

        Raises:
            Refusal: one is empty, has another number of features or type, or is a symbol below 0.
        """
        for i, each in enumerate(chunk):
            self._require_like(each, name(i))
            self.shape = [max(len(each), *self.shape[:1]), *each.shape[1:]]
        return Examples(np.concatenate(chunk).astype(self.dtype), np.array([len(each) for each in chunk]))

    def _require_like(self, example: Array, name: str) -> None:
        """Refuse what is no example, or has another number of features or another type than the first."""
        if example.ndim not in (1, 2) or example.dtype.kind not in "iuf" or not example.size:
            raise Refusal(name, f"an example of shape {list(example.shape)} of {example.dtype}",
                          allowed="(L) or (L, F) numbers, L at least 1")  # fmt: skip
        dtype: np.dtype[Any] = np.dtype(np.int64 if example.dtype.kind in "iu" else np.float32)
        if not self.shape:
            self.shape, self.dtype = [0, *example.shape[1:]], dtype
        if dtype != self.dtype or list(example.shape[1:]) != self.shape[1:]:
            raise Refusal(name, f"its steps are {list(example.shape[1:])} of {dtype}, those of the others {self.shape[1:]} of {self.dtype}",
                          allowed="one number of features and one type")  # fmt: skip
        if dtype.kind == "i" and example.min() < 0:
            raise Refusal(
                name, f"the symbol {example.min()}", allowed="symbols from 0; real numbers where they are measured"
            )


class Padded:
    """The examples of a split in memory; gathered rows come padded to the longest of them.

    Lengths and rows are on the host, so that nobody waits for the device to say how long the longest is.

    Args:
        values: (sum of L_i, ...). offsets: (N + 1,), where each example begins, and the end; on the host.
    """

    def __init__(self, values: Tensor, offsets: Tensor) -> None:
        self.values, self.offsets = values, offsets
        self.lengths = offsets.diff()
        self._first = offsets.to(values.device)
        self._padding = float("nan") if values.is_floating_point() else SYMBOL_PADDING

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return self.values.nbytes

    def to(self, device: torch.device) -> "Padded":
        """Return the same on another device."""
        return Padded(self.values.to(device), self.offsets)

    def in_passages(self, longest: int) -> tuple["Padded", Tensor]:
        """Return examples that follow each other as passages of at most `longest` steps, and the row (M,) with which each begins."""
        together = max(1, longest // int(self.lengths.max()))
        first = torch.arange(0, len(self), together)
        return Padded(self.values, torch.cat([self.offsets[first], self.offsets[-1:]])), first

    def __getitem__(self, rows: slice) -> Tensor:
        return self.index_select(0, torch.arange(len(self))[rows])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Return the examples in rows (B,) as (B, longest of them, ...)."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()), device=self.device)
        there = places < lengths.to(self.device, non_blocking=True)[:, None]
        first = self._first[rows.to(self.device, non_blocking=True)]
        gathered = self.values[torch.where(there, first[:, None] + places, 0)]
        return gathered.masked_fill(~there.view(*there.shape, *(1 for _ in gathered.shape[2:])), self._padding)


def mask_of(x: Tensor) -> Tensor:
    """Return where examples (B, L) of a padded batch (B, L) or (B, L, F) are; the rest is padding."""
    first = x if x.dim() == 2 else x[..., 0]
    return ~first.isnan() if x.is_floating_point() else first != SYMBOL_PADDING


def concatenated(parts: Sequence[Tensor]) -> Tensor:
    """Return what batches (B, ...) say one after the other; of steps (B, L, ...) padded to the longest."""
    longest = max(part.shape[1] if part.dim() > 1 else 0 for part in parts)
    if all(part.dim() == 1 or part.shape[1] == longest for part in parts):
        return torch.cat(list(parts))
    padding = float("nan") if parts[0].is_floating_point() else SYMBOL_PADDING
    wide = [part.new_full((len(part), longest, *part.shape[2:]), padding) for part in parts]
    for row, part in zip(wide, parts, strict=True):
        row[:, : part.shape[1]] = part
    return torch.cat(wide)


def in_buckets(order: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the same rows (N,) so that a batch holds examples of like length: less is padded.

    The random order is cut into pieces of POOLED batches, each is sorted by length, and the batches come in random order; the
    last, which may be smaller, stays last.
    """
    pieces = [piece[lengths[piece].argsort(stable=True)] for piece in order.split(POOLED * batch_size)]
    batches = torch.cat(pieces).split(batch_size)
    full = len(batches) - (len(batches[-1]) < batch_size)
    drawn = torch.randperm(full, generator=generator).tolist()
    return torch.cat([*(batches[i] for i in drawn), *batches[full:]])


def described(examples: Sequence[Array]) -> Array:
    """Return of each example its length, and the mean and the deviation of its features: (N, 1 + 2 F). Symbols have neither: (N, 1)."""
    if examples and examples[0].dtype.kind == "i":
        return np.array([[float(len(each))] for each in examples])
    rows = [(len(each), each.reshape(len(each), -1).astype(np.float64)) for each in examples]
    return np.array([[length, *values.mean(axis=0), *values.std(axis=0)] for length, values in rows])
