"""What is in somebody's data: splits, classes, sizes, columns, what is odd about them, and a few examples to look at."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crucible.data.duplicates import hashes
from crucible.data.readers.image_folder import DEEP, MODES, SUFFIXES, decode, opened
from crucible.data.readers.source import Array, Pool, Source
from crucible.data.readers.yolo import upright_size
from crucible.errors import Refusal, few, printable
from crucible.integrity import sha256_of

MOST_FILES = 20_000  # pictures whose size is read
MOST_HASHED = 200_000  # examples among which copies are looked for
SAMPLES, LINES = 24, 400  # examples on the contact sheet; letters of one of text
FEW, UNEVEN = 10, 10  # examples of a class; how many times as many the largest class has
NAMED = 3
Line = tuple[str, str]


@dataclass(frozen=True)
class Pictures:
    """How large pictures are.

    Attributes:
        sizes: (height, width), how many of each. channels: 1 or 3, how many of each. unreadable: files.
    """

    sizes: Counter[tuple[int, int]]
    channels: Counter[int]
    unreadable: Sequence[Path] = ()

    @property
    def smallest(self) -> int:
        """The shortest side of any."""
        return min(min(size) for size in self.sizes)

    @property
    def one_shape(self) -> bool:
        """Whether all are about as wide for their height."""
        shares = [w / h for h, w in self.sizes]
        return max(shares) < 1.1 * min(shares)

    @property
    def median(self) -> tuple[int, int]:
        """Height and width of the one in the middle."""
        both = np.array([size for size, count in self.sizes.items() for _ in range(count)])
        h, w = np.median(both, axis=0)
        return int(h), int(w)


@dataclass(frozen=True)
class Sample:
    """An example to look at: pixels (C, H, W) with boxes, or text; and what it is called."""

    title: str
    pixels: Array | None = None
    boxes: Sequence[Sequence[float]] = ()
    text: str = ""


@dataclass
class Findings:
    """What was found.

    Attributes:
        lines: labelled, for the screen. odd: what a person should know. pictures: None where examples are none. shape: of an example
            that is an array. classes: with their examples; none where labels are numbers. box_shapes: different ones. small_box: the side of a box in the
            middle, as a share of its picture. size: examples. copies_across: whether one stands in two splits.
    """

    lines: list[Line] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    pictures: Pictures | None = None
    shape: tuple[int, ...] = ()
    classes: dict[str, int] = field(default_factory=dict)
    small_box: float | None = None
    box_shapes: int = 0
    size: int = 0
    copies_across: bool = False


def findings(source: Source, *, classes: bool) -> Findings:
    """Return what is in the pools of a source.

    Args:
        classes: whether each label is one of a few.
    """
    found = Findings(size=sum(len(pool.labels) for pool in source.pools.values()))
    found.lines.append(("splits", _splits(source)))
    _labels(source, found, classes=classes)
    files = [
        Path(name)
        for pool in source.pools.values()
        for name in pool.names or []
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if files:
        found.pictures = pictures = _sizes(files)
        found.lines.append(("sizes", _sizes_in_words(pictures)))
        found.odd += _other_sizes(files, pictures)
        _same_files(source, found)
    else:
        _arrays(source, found)
    found.odd += [printable(note) for note in source.notes]
    return found


def _splits(source: Source) -> str:
    if set(source.pools) == {"all"}:
        return f"none brought along; train, dev and test are drawn of {len(source.pools['all'].labels):,} examples"
    return ", ".join(f"{split} {len(pool.labels):,}" for split, pool in source.pools.items())


def _labels(source: Source, found: Findings, *, classes: bool) -> None:
    """Tell the classes, or the boxes, or the range of numbers."""
    labels = [pool.labels for pool in source.pools.values()]
    if any(pool.boxes is not None for pool in source.pools.values()):
        counts = Counter(int(k) for own in labels for k in own[own >= 0].tolist())
        found.classes = {source.classes[k] if source.classes else str(k): counts[k] for k in sorted(counts)}
        empty = sum(int((own < 0).all(axis=1).sum()) for own in labels)
        found.lines.append(("boxes", f"{_counted(found.classes)}; {empty:,} pictures without any"))
        sides = [_sides(Path(name), boxes[own >= 0]) for pool in source.pools.values() if pool.boxes is not None and pool.names is not None
                 for name, own, boxes in islice(zip(pool.names, pool.labels, pool.boxes, strict=True), 500)]  # fmt: skip
        found.small_box = float(np.median(np.concatenate(sides))) if sum(map(len, sides)) else None
        shapes = [np.round((own[:, 2:] - own[:, :2]), 1) for pool in source.pools.values() if pool.boxes is not None
                  for own in (pool.boxes[pool.labels >= 0],)]  # fmt: skip
        found.box_shapes = len(np.unique(np.concatenate(shapes), axis=0))
    elif classes and all(own.ndim == 1 or own.shape[1] == 1 for own in labels):
        texts = Counter(_named(each, source.classes) for own in labels for each in own.reshape(-1).tolist())
        found.classes = dict(sorted(texts.items(), key=lambda pair: _natural(pair[0])))
        found.lines.append(("classes", _counted(found.classes)))
    else:
        return
    if found.classes and (rare := [name for name, count in found.classes.items() if count < FEW]):
        found.odd.append(f"{few(rare, NAMED)}: fewer than {FEW} examples")
    boxes = found.small_box is not None
    if (
        not boxes
        and len(found.classes) > 1
        and (ratio := max(found.classes.values()) / min(found.classes.values())) > UNEVEN
    ):
        found.odd.append(
            f"the largest class has {ratio:.0f} times the examples of the smallest: data.sampling=balanced, or task.class_weights=balanced"
        )


def _named(label: Any, classes: Sequence[str] | None) -> str:
    if isinstance(label, bytes):
        return label.decode(errors="replace")
    return (
        classes[int(label)]
        if classes is not None and isinstance(label, int | float) and 0 <= label < len(classes)
        else str(label)
    )


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.lstrip("-").isdecimal() else (1, 0, name)


def _counted(counts: Mapping[str, int]) -> str:
    shown = [f"{printable(name)} ({count:,})" for name, count in list(counts.items())[:12]]
    more = f", and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
    return f"{len(counts)}: {', '.join(shown)}{more}"


def _sides(file: Path, boxes: Array) -> Array:
    """Return the side of each box as a share of the picture's."""
    w, h = upright_size(file)
    shares: Array = np.sqrt(np.prod((boxes[:, 2:] - boxes[:, :2]) / (w, h), axis=1).clip(0))
    return shares


def _sizes(files: Sequence[Path]) -> Pictures:
    sizes, channels, unreadable = Counter[tuple[int, int]](), Counter[int](), []
    for file in files[:: -(-len(files) // MOST_FILES)]:
        try:
            w, h = upright_size(file)
            with opened(file) as picture:
                channels[1 if picture.mode in DEEP or MODES.get(picture.mode) == "L" else 3] += 1
            sizes[h, w] += 1
        except Refusal:
            unreadable.append(file)
    return Pictures(sizes, channels, unreadable)


def _sizes_in_words(found: Pictures) -> str:
    listed = [f"{h} x {w} ({count:,})" for (h, w), count in found.sizes.most_common(4)]
    more = f", and {len(found.sizes) - 4} more" if len(found.sizes) > 4 else ""
    kinds = " and ".join(f"{'grey' if c == 1 else 'colour'} ({count:,})" for c, count in found.channels.most_common())
    return f"{', '.join(listed)}{more} (height x width); {kinds}"


def _other_sizes(files: Sequence[Path], found: Pictures) -> Iterator[str]:
    """Give what is unlike the others: a few pictures of another size, files that are no pictures."""
    if found.unreadable:
        yield f"{len(found.unreadable):,} files are no pictures, or damaged: {few([each.name for each in found.unreadable], NAMED)}"
    most, count = found.sizes.most_common(1)[0] if found.sizes else ((0, 0), 0)
    others = found.sizes.total() - count
    if 0 < others <= max(NAMED, found.sizes.total() // 20) and len(files) <= MOST_FILES:
        odd = [file for file in files if file not in found.unreadable and upright_size(file)[::-1] != most]
        yield f"{others:,} of {found.sizes.total():,} pictures are not {most[0]} x {most[1]}: {few([each.name for each in odd], NAMED)}"


def _same_files(source: Source, found: Findings) -> None:
    """Tell files that are equal, and whether they stand in two splits."""
    split = {Path(name): pool_name for pool_name, pool in source.pools.items() for name in pool.names or []}
    by_size: dict[int, list[Path]] = {}
    for file in islice(split, MOST_HASHED):
        by_size.setdefault(file.stat().st_size, []).append(file)
    first: dict[str, Path] = {}
    pairs = []
    for file in (file for same in by_size.values() if len(same) > 1 for file in same):
        if (other := first.setdefault(sha256_of(file), file)) != file:
            pairs.append((file, other))
    if pairs:
        found.odd.append(
            f"{len(pairs):,} picture(s) are there twice: {few([f'{a.parent.name}/{a.name} is {b.parent.name}/{b.name}' for a, b in pairs], NAMED)}"
        )
    found.copies_across = any(split[a] != split[b] for a, b in pairs)


def _arrays(source: Source, found: Findings) -> None:
    """Tell the shape of examples, and copies among them."""
    first = next((chunk for pool in source.pools.values() for chunk in pool.chunks()), None)
    if first is None or isinstance(first, list):
        return
    found.shape = tuple(first.shape[1:])
    if len(found.shape) == 3:
        c, h, w = found.shape
        found.pictures = Pictures(Counter({(h, w): found.size}), Counter({c: found.size}))
    found.lines.append(("shape", f"{' x '.join(map(str, found.shape))}, {first.dtype}"))
    if found.size <= MOST_HASHED:
        pools = [
            np.unique(np.concatenate([hashes(chunk) for chunk in pool.chunks()])) for pool in source.pools.values()
        ]
        different = len(np.unique(np.concatenate(pools)))
        found.copies_across = different < sum(map(len, pools))
        if copies := found.size - different:
            found.odd.append(f"{copies:,} example(s) are there twice")


def samples(source: Source) -> list[Sample]:
    """Return a few examples to look at, as many of each class as there is room for."""
    pool = next(iter(source.pools.values()))
    rows = _spread(pool)
    titles = [_title(pool, row, source.classes) for row in rows]
    if pool.words is not None:
        return [Sample(title, text=" ".join(pool.words[row])[:LINES]) for row, title in zip(rows, titles, strict=True)]
    if pool.names is not None and all(Path(pool.names[row]).suffix.lower() in SUFFIXES for row in rows):
        return [_picture(pool, row, title) for row, title in zip(rows, titles, strict=True)]
    if pool.ragged or pool.has_gaps:
        return []
    values = _rows(pool, rows)
    return [Sample(title, pixels=x) for title, x in zip(titles, values, strict=True) if x.ndim == 3]


def _picture(pool: Pool, row: int, title: str) -> Sample:
    names = pool.names or []
    try:
        pixels = decode(Path(names[row]))
    except Refusal:
        return Sample(title, text="damaged")
    boxes = [] if pool.boxes is None else pool.boxes[row][pool.labels[row] >= 0].tolist()
    return Sample(title, pixels, boxes)


def _spread(pool: Pool) -> list[int]:
    """Return rows of a pool: a few of each class, or evenly where there are no classes."""
    size = len(pool.labels)
    evenly = [i * size // SAMPLES for i in range(SAMPLES)] if size > SAMPLES else list(range(size))
    if pool.labels.ndim > 1:
        return evenly
    kinds, place = np.unique(pool.labels, return_inverse=True)
    if len(kinds) > size // 2:
        return evenly
    rows = [
        row
        for k in range(min(len(kinds), SAMPLES))
        for row in np.flatnonzero(place == k)[: -(-SAMPLES // len(kinds))].tolist()
    ]
    return rows[:SAMPLES]


def _title(pool: Pool, row: int, classes: Sequence[str] | None) -> str:
    if pool.boxes is not None:
        return Path(pool.names[row]).name if pool.names is not None else f"row {row}"
    return _named(pool.labels[row].item(), classes) if pool.labels.ndim == 1 else pool.name(row, 0)


def _rows(pool: Pool, rows: Sequence[int]) -> list[Array]:
    """Return some rows, read in one pass that ends with the last of them."""
    found, start, wanted = dict[int, Array](), 0, set(rows)
    for chunk in pool.chunks():
        found |= {start + i: chunk[i] for i in range(len(chunk)) if start + i in wanted}
        start += len(chunk)
        if start > max(rows, default=0):
            break
    return [found[row] for row in rows if row in found]
