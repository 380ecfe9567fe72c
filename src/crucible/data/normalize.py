"""From stored values to what a network takes, as the data card says: the same in training, evaluation, prediction and export."""

from collections.abc import Sequence
from math import tau

import torch
from torch import Tensor, nn

from crucible.data.card import Card
from crucible.data.columns import Column, category_sizes, columns_of, is_numeric, periods

WIDE = ("float64", "int32", "int64")  # a large offset would eat their differences in float32


class Normalizer(nn.Module):
    """(x - mean) / std as float32; a feature that never changed in train becomes 0.

    Args:
        shift, scale: -mean / std and 1 / std, which broadcast over a batch.
    """

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.shift, self.scale = nn.Buffer(shift), nn.Buffer(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map stored values (B, ...) to (B, ...)."""
        return torch.addcmul(self.shift, x.to(self.shift.dtype), self.scale).float()


class Symbols(nn.Module):
    """Symbols of a text as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L) to (B, L) int64."""
        return x.long()


class TableFeatures(nn.Module):
    """The columns of a table as features: numbers normalised, empty cells filled and said, dates turned, categories one-hot.

    An empty cell gets the mean of train, and a feature of its own says that it was empty if train had such cells in that column. A date is
    a number, and besides a place on the circles of week and year. A category that train never saw has no 1 anywhere.

    Args:
        columns: of the table. normalizer: of its columns, in their order; those of categories are not used.
    """

    def __init__(self, columns: Sequence[Column], normalizer: Normalizer) -> None:
        super().__init__()
        numeric = [i for i, each in enumerate(columns) if is_numeric(each)]
        categories = [i for i, each in enumerate(columns) if not is_numeric(each)]
        dates = [(i, period) for i, each in enumerate(columns) for period in periods(each)]
        sizes = category_sizes(columns)
        exact = normalizer.shift.dtype
        self.total = sum(sizes)
        self.numeric, self.gaps, self.categories, self.dates = (
            nn.Buffer(torch.tensor(places, dtype=torch.int64))
            for places in (
                numeric,
                [i for i, each in enumerate(columns) if each.missing],
                categories,
                [i for i, _ in dates],
            )
        )
        self.offsets = nn.Buffer(torch.tensor([sum(sizes[:i]) for i in range(len(sizes))], dtype=torch.int64))
        self.turn = nn.Buffer(torch.tensor([tau / period for _, period in dates], dtype=exact))
        self.fill = nn.Buffer(torch.tensor([columns[i].fill for i in numeric], dtype=exact))
        self.normalizer = Normalizer(
            *(part.expand(len(columns))[numeric] for part in (normalizer.shift, normalizer.scale))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map stored values (B, C) to features (B, F)."""
        x = x.to(self.fill.dtype)
        numbers = x.index_select(1, self.numeric)
        numbers = torch.where(numbers.isnan(), self.fill, numbers)
        angles = x.index_select(1, self.dates) * self.turn
        turned = torch.cat([angles.sin(), angles.cos()], dim=1).nan_to_num(0.0)
        gaps = x.index_select(1, self.gaps).isnan()
        return torch.cat([self.normalizer(numbers), gaps.float(), turned.float(), self._one_hot(x)], dim=1)

    def _one_hot(self, x: Tensor) -> Tensor:
        """Return (B, K) of all categories; one place more takes what is in none, and is cut off."""
        if not self.total:
            return x.new_zeros(x.shape[0], 0, dtype=torch.float32)
        places = x.index_select(1, self.categories).nan_to_num(-1.0).long()
        places = torch.where(places < 0, self.total, places + self.offsets)
        return x.new_zeros(x.shape[0], self.total + 1, dtype=torch.float32).scatter(1, places, 1.0)[:, : self.total]


def normalizer(card: Card) -> nn.Module:
    """Return what makes of stored values of these data, or of others for a run on these, what the network takes."""
    if card.holds_symbols:
        return Symbols()
    exact = torch.float64 if card.dtype in WIDE else torch.float32
    plain = Normalizer(*(part.to(exact) for part in shift_and_scale(card)))
    return TableFeatures(columns_of(card.table), plain) if card.table is not None else plain


def shift_and_scale(card: Card) -> tuple[Tensor, Tensor]:
    """Return -mean/std and 1/std, shaped to broadcast over a batch; both 0 for a deviation of 0."""
    shape = (-1,) if card.is_ragged else (-1, *(1 for _ in card.feature_shape[1:]))
    mean, std = (torch.tensor(card.normalize[key], dtype=torch.float64).view(shape) for key in ("mean", "std"))
    scale = torch.where(std > 0, 1 / std, torch.zeros_like(std))
    return -mean * scale, scale
