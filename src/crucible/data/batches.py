"""Prepared arrays as normalised batches on the device: one gather and one fused normalisation a batch, no workers."""

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card, read_card, require_prepared
from crucible.data.names import read_names
from crucible.data.normalize import Normalizer, normalizer
from crucible.data.ragged import OFFSETS, Padded, described, in_buckets, mask_of
from crucible.data.seen import Seen, digests_of, seen_in
from crucible.resources import available_memory
from crucible.seeds import generator

Batch = dict[str, Tensor]
Order = Callable[[Tensor, torch.Generator], Tensor]
EVALUATION_BYTES = 64 << 20
OWN = ("x.npy", "y.npy", OFFSETS)  # what else a split holds is further
BLOCK, WINDOW = 256, 64 * 256  # examples that lie together, and that are mixed with each other, in a windowed order


@dataclass
class Place:
    """How far an epoch has come: the batches that were given, and where the draws of augmentation are."""

    epoch: int
    given: int
    moves: torch.Generator
    steps: int = 0  # of the epoch
    loaded: bool = False


class Batches:
    """The splits of a prepared folder.

    Args:
        folder: a prepared folder.
        card: its card; or the card of the run that judges these data, whose statistics then hold.
        device: where the batches are made.
        batch_size: examples a step; None for all of train (batch gradient descent).
        augment: what train batches go through, before they are normalised.
        seed: draws order and augmentation, each epoch anew.
        channels_last: whether images are given channels last, as the filters are stored: else both would be turned at every step.
        sampling: `shuffle`: each train example once an epoch; `balanced`: each class as often as the others;
            {per_class: k}: batches of k examples of each of their classes; `streams`: each row of a batch goes on where that row
            of the batch before it ended, and `follows` (B,) says whether it does.
        order: of `shuffle`: `shuffled`, all of train anew; `windowed`, for train splits that do not fit into memory: see `windowed`.
        left_out: rows of a split that are not judged.

    Raises:
        Refusal: an array is missing or damaged.
    """

    def __init__(
        self,
        folder: Path,
        card: Card,
        device: torch.device,
        *,
        batch_size: int | None,
        augment: Callable[[Batch, torch.Generator], Batch],
        seed: int,
        channels_last: bool = False,
        sampling: str | Mapping[str, int] = "shuffle",
        order: Literal["shuffled", "windowed"] = "shuffled",
        left_out: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.card, self.device, self.augment, self.seed = card, device, augment, seed
        self._sampling, self._form = sampling, torch.channels_last if channels_last else torch.contiguous_format
        self.batch_size = batch_size or card.size("train")
        orders: dict[str, Order] = {
            "shuffle": windowed if order == "windowed" else shuffled,
            "balanced": balanced,
            "streams": partial(streams, count=self.batch_size),
        }
        self._order = orders[sampling] if isinstance(sampling, str) else partial(per_class, count=sampling["per_class"])
        self._window_of_batches = max(1, WINDOW // self.batch_size) * self.batch_size if order == "windowed" else 0
        self.folder, self.own = folder, read_card(folder)
        require_prepared(folder, self.own)
        self._left_out = {split: rows for split, rows in (left_out or {}).items() if len(rows)}
        self.splits, self.identity = self.own.splits, (self.own.key, str(folder.absolute()))
        self._arrays: dict[str, tuple[Tensor | Padded, Tensor]] = {}
        self._labels: dict[str, Tensor] = {}
        self._on_disk: set[str] = set()
        self._further: dict[str, Batch] = {}
        self._normalizer = normalizer(card).to(device)
        self._place = Place(-1, 0, generator(seed, "augment", 0, device))

    def state_dict(self) -> dict[str, Any]:
        """Return how far the last epoch of train has come: its number, the batches that were given, and the draws of augmentation."""
        return {"epoch": self._place.epoch, "given": self._place.given, "moves": self._place.moves.get_state()}

    @property
    def is_within_an_epoch(self) -> bool:
        """Whether the last epoch of train has batches left."""
        return self._place.given < self._place.steps

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next `train` of that epoch go on there."""
        moves = torch.Generator(self.device)
        moves.set_state(state["moves"])
        self._place = Place(state["epoch"], state["given"], moves, loaded=True)

    def train(self, epoch: int) -> Iterator[Batch]:
        """Give the train split once, in the order of this seed and epoch; a remainder of one joins the last batch.

        The first time after `load_state_dict` it gives what is left of that epoch.
        """
        x, y = self.arrays("train")
        draw = generator(self.seed, "order", epoch, torch.device("cpu"))
        order = self._order(self.labels("train"), draw)
        if isinstance(x, Padded) and self._sampling != "streams":
            windows = order.split(self._window_of_batches or len(order))
            order = torch.cat([in_buckets(window, x.lengths, self.batch_size, draw) for window in windows])
        own, steps = order.to(self.device), bounds(len(order), self.batch_size)
        known = {"label": y, **self.further("train")}
        moving = {"follows": following(order, self.batch_size).to(self.device)} if self._sampling == "streams" else {}
        place = self._place = self._place_in(epoch)
        place.steps = len(steps)
        steps = steps[place.given :]
        on_device = isinstance(x, Tensor) and x.device == self.device
        examples = self._examples_of("train", [(own if on_device else order)[start:end] for start, end in steps])
        for (start, end), stored in zip(steps, examples, strict=True):
            rest = {name: values.index_select(0, own[start:end]) for name, values in known.items()}
            rest |= {name: values[start:end] for name, values in moving.items()}
            batch = self._ready(self.augment({"x": stored, **rest}, place.moves))
            place.given += 1
            yield batch

    def _place_in(self, epoch: int) -> "Place":
        """Return where an epoch begins: at its beginning, or where it was left, if that was loaded."""
        if self._place.loaded and self._place.epoch == epoch:
            return replace(self._place, loaded=False)
        return Place(epoch, 0, generator(self.seed, "augment", epoch, self.device))

    def _examples_of(self, split: str, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give the stored examples of each part of rows, on the device; those that lie on disk are read one part ahead."""
        x, _ = self.arrays(split)
        if split not in self._on_disk:
            yield from (x.index_select(0, rows).to(self.device) for rows in parts)
            return
        for stored in ahead(partial(_read, x, pinned=self.device.type == "cuda"), parts):
            yield stored.to(self.device, non_blocking=True)

    def evaluation(self, split: str, *, size: int | None = None, rows: Tensor | None = None) -> Iterator[Batch]:
        """Give a split in its stored order, normalised, without augmentation; nothing where there is no such split.

        Windows of one text that follow each other come as the passages that they are parts of, as long as those of dev.

        Args:
            size: examples at a time; None: as many as take 64 MB. rows: only these (n,), not of windows of one text.
        """
        if split not in self.splits:
            return
        x, y = self.arrays(split)
        further = self.further(split)
        if isinstance(x, Padded) and (self.own.lengths or {}).get("of_one_text"):
            x, kept = x.in_passages(self.own.feature_shape[0])
            y, further = y[kept], {name: values[kept.to(values.device)] for name, values in further.items()}
        size = size or max(
            1, EVALUATION_BYTES // (4 * max(1, prod(x.shape[1:] if isinstance(x, Tensor) else self.own.feature_shape)))
        )
        for start in range(0, len(y) if rows is None else len(rows), size):
            part = slice(start, start + size) if rows is None else rows[start : start + size]
            own = {name: _taken(values, part) for name, values in further.items()}
            stored = _taken(x, part).to(self.device, non_blocking=True)
            yield self._ready({"x": stored, "label": _taken(y, part), **own})

    def head(self, split: str, size: int = 64) -> Batch:
        """Return the first examples of a split as they are stored, with all else that is known of them, on the device."""
        x, y = self.arrays(split)
        further = {name: values[:size] for name, values in self.further(split).items()}
        return {"x": _taken(x, slice(0, size)).to(self.device), "label": y[:size], **further}

    def _ready(self, batch: Batch) -> Batch:
        """Return a batch normalised; of examples of different lengths with a mask (B, L) of where they are."""
        ready = {**batch, "x": self.normalize(batch["x"])}
        if ready["x"].dim() == 4:
            ready["x"] = ready["x"].contiguous(memory_format=self._form)
        return {**ready, "mask": mask_of(ready["x"])} if self.card.is_ragged else ready

    def normalize(self, x: Tensor) -> Tensor:
        """Return (x - mean) / std as float32; a feature that never changed in train becomes 0. Symbols stay as they are."""
        normalized: Tensor = self._normalizer.forward(x)  # not called: hooks cost more than a small batch
        return normalized

    def replaced(self, features: Mapping[str, Tensor]) -> "Batches":
        """Return these batches, in the same order, with features (N, F) of each split in place of its examples."""
        twin = copy.copy(self)
        twin._on_disk = set()
        twin._arrays = {split: (x, self.arrays(split)[1]) for split, x in features.items()}
        twin._normalizer = Normalizer(*(torch.full((), value, device=self.device) for value in (0.0, 1.0)))
        return twin

    def drawn_counts(self) -> list[int]:
        """Return how often each class is drawn, up to a factor."""
        counts = self.splits["train"]["class_counts"]
        return [int(count > 0) for count in counts] if self._sampling == "balanced" else counts

    def stored(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return x (N, ...) and y (N,) as they lie on disk, memory-mapped; a copy where rows are left out.

        Of examples of different lengths x is what describes them: see crucible.data.ragged.
        """
        if self.card.is_ragged:
            x, offsets, y = (np.load(self.folder / split / name) for name in ("x.npy", OFFSETS, "y.npy"))
            return self._kept(split, described(np.split(x, offsets[1:-1]))), self._kept(split, y)
        x, y = (self._kept(split, np.load(self.folder / split / f"{name}.npy", mmap_mode="r")) for name in ("x", "y"))
        return x, y

    def rows(self, split: str) -> np.ndarray:
        """Return the place (N,) of each example in the prepared arrays."""
        size = len(np.load(self.folder / split / "y.npy", mmap_mode="r"))
        return self._kept(split, np.arange(size))

    def names(self, split: str) -> list[str] | None:
        """Return what the examples of a split are called, by their files; None where only their rows are known."""
        names = read_names(self.folder / split, int(self.splits[split]["size"]))
        return names if names is None else [names[row] for row in self.rows(split).tolist()]

    def called(self, split: str, rows: Iterable[int]) -> list[str]:
        """Return what some examples of a split are called: files, or rows."""
        names, places = self.names(split), self.rows(split)
        return [f"row {places[row]} of {split}" if names is None else names[row] for row in rows]

    def arrays(self, split: str) -> tuple[Tensor | Padded, Tensor]:
        """Return x (N, ...) in its stored type and y (N,), on the device if they fit.

        On a processor they are mapped into memory, one copy for all processes; what does not fit stays on the disk, and is read ahead.
        """
        if split not in self._arrays:
            x = self._examples(split)
            if x.nbytes < available_memory(self.device) // 4:
                x = x.to(self.device)
            else:
                self._on_disk.add(split)
            self._arrays[split] = x, self.labels(split).to(self.device)
        return self._arrays[split]

    def labels(self, split: str) -> Tensor:
        """Return y (N,) on the host."""
        if split not in self._labels:
            self._labels[split] = torch.from_numpy(self._kept(split, np.load(self.folder / split / "y.npy")))
        return self._labels[split]

    def _examples(self, split: str) -> Tensor | Padded:
        values = np.load(
            self.folder / split / "x.npy", mmap_mode="r"
        )  # a writable map of more than the memory is refused
        if not self.card.is_ragged:
            return _tensor(self._kept(split, values))
        offsets = np.load(self.folder / split / OFFSETS)
        if left_out := set(self._left_out.get(split, ())):
            kept = [each for i, each in enumerate(np.split(values, offsets[1:-1])) if i not in left_out]
            values, offsets = np.concatenate(kept), np.cumsum([0, *map(len, kept)])
        return Padded(_tensor(values), torch.from_numpy(offsets))

    def further(self, split: str) -> Batch:
        """Return what else is known of each example, on the device: `boxes`, `points`, `size`; see crucible.data.objects."""
        if split not in self._further:
            files = [file for file in sorted((self.folder / split).glob("*.npy")) if file.name not in OWN]
            values = {file.stem: torch.from_numpy(self._kept(split, np.load(file))) for file in files}
            self._further[split] = {name: value.to(self.device) for name, value in values.items()}
        return self._further[split]

    def examples(self, split: str) -> np.ndarray:
        """Return the hash (N, 8) of each example."""
        return self._kept(split, digests_of(self.own, split))

    def seen(self, before: Seen) -> Seen:
        """Return what a training on these batches has seen, that of the runs before included."""
        return seen_in(self.own, before, self._left_out)

    def _kept(self, split: str, values: np.ndarray) -> np.ndarray:
        return np.delete(values, self._left_out[split], axis=0) if split in self._left_out else values


def shuffled(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random order (N,): every example once."""
    return torch.randperm(len(labels), generator=generator)


def windowed(labels: Tensor, generator: torch.Generator, block: int = BLOCK, window: int = WINDOW) -> Tensor:
    """Return every row once: blocks of rows that lie together, in random order, and the rows of a window of blocks shuffled.

    A disk reads rows that lie together many times faster than single ones, and a window fits into memory. Each row still comes once
    an epoch, in one order for all processes.
    """
    size = len(labels)
    blocks = torch.arange(size).split(block)
    drawn = torch.randperm(len(blocks), generator=generator).tolist()
    rows = torch.cat([blocks[i] for i in drawn]) if drawn else torch.arange(0)
    return torch.cat([each[torch.randperm(len(each), generator=generator)] for each in rows.split(window)])


def balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return N rows (N,) in random order, each class as often as the others to within one.

    A class's examples are used up before one comes again; a class without examples has no share.
    """
    present, size = labels.unique(), len(labels)
    shares = [size // len(present) + (i < size % len(present)) for i in range(len(present))]
    rows = [_cycled((labels == k).nonzero()[:, 0], share, generator) for k, share in zip(present, shares, strict=True)]
    return torch.cat(rows)[torch.randperm(size, generator=generator)]


def per_class(labels: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Return rows in random order, `count` of one class after the other: P classes of K in a batch of P K.

    Every example comes once, and of a class whose number `count` does not divide some twice; a class follows itself only where
    no other is left.
    """
    present = labels.unique()
    rows = [(labels == k).nonzero()[:, 0] for k in present]
    groups = [_cycled(own, -(-len(own) // count) * count, generator).split(count) for own in rows]
    most, order = max(map(len, groups)), []
    for turn in range(most):
        drawn = torch.randperm(len(groups), generator=generator).tolist()
        order += [groups[i][turn] for i in drawn if turn < len(groups[i])]
    return torch.cat(order)


def streams(labels: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Return every row once: `count` streams, each of rows that follow each other, a row of each in turn; the rest at the end.

    The first stream begins at a random row: the windows of an epoch are cut into streams elsewhere than those of the last.
    """
    size = len(labels)
    rows = (torch.arange(size) + int(torch.randint(size, (), generator=generator))) % size
    steps = size // count
    return torch.cat([rows[: count * steps].view(count, steps).t().flatten(), rows[count * steps :]])


def following(order: Tensor, batch_size: int) -> Tensor:
    """Return for each place of an order (N,) whether its row follows the one at that place of the batch before; on the CPU."""
    before = torch.cat([torch.full((min(batch_size, len(order)),), -2), order[:-batch_size]])
    return order == before + 1


def _cycled(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    rounds = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-count // len(rows)))]
    return torch.cat([*rounds, rows[:0]])[:count]


def ahead(read: Callable[[Tensor], Tensor], parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Give what `read` makes of each part; a thread reads the next one meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        coming: deque[Future[Tensor]] = deque()
        for part in parts:
            coming.append(reader.submit(read, part))
            if len(coming) > 1:
                yield coming.popleft().result()
        yield from (each.result() for each in coming)


def _tensor(values: np.ndarray) -> Tensor:
    """Return an array as a tensor without a copy; torch remarks that nobody may write to what is mapped, and nobody does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(values)


def _read(x: Tensor | Padded, rows: Tensor, *, pinned: bool) -> Tensor:
    """Return some examples; in pinned memory, from which a device takes them while others go on."""
    found = x.index_select(0, rows)
    return found.pin_memory() if pinned else found


def _taken(values: Tensor | Padded, part: slice | Tensor) -> Tensor:
    """Return some rows, in a row or by their numbers, of a tensor or of examples of different lengths."""
    if isinstance(part, slice):
        return values[part]
    return values.index_select(0, part if isinstance(values, Padded) else part.to(values.device))


def bounds(size: int, batch_size: int) -> list[tuple[int, int]]:
    """Return (start, end) of each batch: a remainder of one example joins the batch before it.

    Batch norm has no deviation over one example; a batch size of 1 is itself and is left alone.
    """
    starts = list(range(0, size, batch_size))
    if len(starts) > 1 and batch_size > 1 and size - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], size], strict=True))
