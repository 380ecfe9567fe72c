"""Raw files to a prepared folder: read in chunks, gate the leaks, split, measure train, write; equal in, equal out."""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from crucible.data.card import Card, read_card, require_prepared
from crucible.data.columns import category_sizes, columns_of, is_numeric, plain_features
from crucible.data.duplicates import compared_rows, deduplicate, hashes, near, signatures
from crucible.data.images import Fit, OtherShape
from crucible.data.kind import Encoded, LabelKind
from crucible.data.likeness import compared
from crucible.data.moments import Measured, Moments, measured
from crucible.data.names import names_of, source_name, write_names
from crucible.data.objects import Objects, Resize
from crucible.data.ordered import Ordered, here
from crucible.data.ragged import OFFSETS, Examples, Lengths
from crucible.data.readers.source import Array, Part, Pool, Source
from crucible.data.seen import packed
from crucible.data.splits import DROPPED, SPLITS, assign, connected_groups, fold_of, kept, kept_of_each, shares
from crucible.errors import Refusal
from crucible.integrity import sha256_of

Called = Callable[
    [int, int], str
]  # what an example of a part is called: the row with which its chunk begins, and its place in that


@dataclass(frozen=True)
class PrepareConfig:
    """Everything besides the raw bytes that changes the prepared bytes; `reader` is the reader's own settings."""

    reader: Mapping[str, Any]
    label: str | None
    split: Mapping[str, Any]
    stratify: bool
    group_by: str | None
    normalize: str
    duplicates: str
    image_size: Sequence[int] | None
    channels: int | None
    resize: Resize = "stretch"
    targets: str = "classes"  # the name of the kind of label
    judge: Sequence[str] | None = None  # the classes of the run that judges these data, all of them as `test`
    columns: Sequence[str] | None = None  # the feature names that run was trained on, where it knows them


def content_key(source: Source, recipe: PrepareConfig) -> tuple[str, dict[str, str]]:
    """Return the data key and each raw file's sha256 by role; the path's own name does not count."""
    files = {role: sha256_of(path) for role, path in source.files.items()}
    settings = json.dumps(vars(recipe), sort_keys=True, default=list)
    return sha256(json.dumps([settings, sorted(files.items())]).encode()).hexdigest(), files


def prepare(
    source: Source,
    kind: LabelKind,
    recipe: PrepareConfig,
    name: str,
    folder: Callable[[str], Path],
    accept: Callable[[Card], None],
    *,
    mapped: Ordered = here,
) -> Path:
    """Return the prepared folder, made if it is not there yet; a refusal leaves nothing behind.

    Args:
        kind: of the labels, the one that the recipe names.
        folder: gives the folder for a data key.
        accept: raises if the rest of the configuration does not fit these data.
        mapped: does pieces of work in this process or in others, which reach the raw files and this folder; their results come in order, and
            the bytes are the same.

    Raises:
        Refusal: from the reader, the leak gate, the splits or `accept`.
    """
    key, files = content_key(source, recipe)
    target = folder(key)
    if (kept := _kept(target)) is not None and kept.key == key and _is_whole(kept, source):
        accept(kept)
        return target
    parent = next(p for p in target.absolute().parents if p.exists())
    with ExitStack() as stack:
        draft = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent, prefix=".preparing-")))
        (draft / "new").mkdir()
        card = _write(source, kind, recipe, name, key, files, draft / "new", mapped)
        accept(card)
        card.write(draft / "new" / "card.json")
        target.parent.mkdir(parents=True, exist_ok=True)
        if already(target, key) != card:  # another process may have prepared the same just now
            _replace(target, draft)
    return target


def _kept(target: Path) -> Card | None:
    """Return the card of what is prepared there; None for nothing, or for something damaged, which is prepared again.

    Raises:
        Refusal: there are files, and they are not ours to replace.
    """
    if target.exists() and not target.is_dir():
        raise Refusal(f"prepared={target}", "it is no folder", allowed="a new, empty or prepared folder")
    if target.is_dir() and any(target.iterdir()) and not (target / "card.json").exists():
        raise Refusal(f"prepared={target}", "this folder holds other files", allowed="a new, empty or prepared folder")
    if not (target / "card.json").exists():
        return None
    try:
        card = read_card(target)
        require_prepared(target, card)
    except Refusal as refusal:
        print(f"prepared again, from the source:\n{refusal}", file=sys.stderr)
        return None
    return card if card.arrays else None  # of before there were checksums


def _is_whole(card: Card, source: Source) -> bool:
    """Whether a card tells the Bayes error where it can be computed: one of before there was such a number does not."""
    return source.bayes_error is None or card.bayes_error is not None


def already(target: Path, key: str) -> Card | None:
    """Return the card of what is prepared there with that key, and whole; None where it is not."""
    with suppress(Refusal):
        require_prepared(target, card := read_card(target))
        return card if card.arrays and card.key == key else None
    return None


def _replace(target: Path, draft: Path) -> None:
    """Put the new folder in the place of an old one; another process may have made the same just now."""
    with suppress(OSError):
        target.rename(draft / "old")
    with suppress(OSError):
        (draft / "new").rename(target)


def _write(
    source: Source,
    kind: LabelKind,
    recipe: PrepareConfig,
    name: str,
    key: str,
    files: dict[str, str],
    folder: Path,
    mapped: Ordered,
) -> Card:
    """Write the arrays of every split, and return their card."""
    fit, names = _fit(source, recipe), names_of(source)
    scans = _scans(source, names, fit, mapped)
    _require_columns(source, recipe)
    encoded = kind.encode(source, recipe.judge)
    split_of, groups = _split(source, recipe, scans, encoded.strata)
    sizes = {pool: scans[pool].sizes for pool in split_of}
    placed = kind.place(source, encoded.labels, sizes, fit.shape, recipe.resize)
    labels = encoded.labels | {pool: each.labels for pool, each in placed.items()}
    leaks = deduplicate(split_of, {pool: scan.digests for pool, scan in scans.items()}, recipe.duplicates, names)
    unused = _keep(source, kind, recipe, split_of, encoded, groups)
    if recipe.judge is None:
        kind.require_learnable(split_of, labels, encoded.classes, _expected(recipe, list(source.pools)))
    source = source.learned(split_of, recipe.columns)
    moments = _write_examples(source, fit, split_of, scans, folder, mapped)
    _write_arrays(split_of, {pool: _known(pool, labels, placed) for pool in split_of}, folder)
    write_names(names, split_of, folder)
    split, y = _joined(split_of, split_of.__getitem__), _joined(split_of, labels.__getitem__)
    return Card(
        name=name,
        key=key,
        source=files,
        splits=_sizes(split, y, len(encoded.classes), kind),
        classes=encoded.classes,
        feature_shape=_feature_shape(fit, source),
        dtype=str(fit.dtype),
        normalize=_normalize(recipe.normalize, moments, fit),
        duplicates={"policy": recipe.duplicates, "found": leaks, **_near(names, split_of, scans, folder, fit)},
        recipe=vars(recipe),
        columns=list(source.columns) if source.columns is not None else None,
        arrays={file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.glob("*/*"))},
        examples=_hashes_of(split, _joined(split_of, lambda pool: scans[pool].sources)),
        lengths=_lengths(split_of, scans) | dict(source.facts) if isinstance(fit, Lengths) else None,
        table=source.facts.get("table"),
        notes=[*source.notes, *_taken(split_of), *unused],
        bayes_error=source.bayes_error() if source.bayes_error is not None else None,
        **kind.facts(placed, split == SPLITS.index("train"), y, fit.shape),
    )


def _known(pool: str, labels: Mapping[str, Array], placed: Mapping[str, Objects]) -> dict[str, Array]:
    """Return what is known of the examples of a pool, besides themselves."""
    return {"y": labels[pool], **(placed[pool].arrays if placed else {})}


def _joined(pools: Iterable[str], of: Callable[[str], Array]) -> Array:
    """Return the arrays of all pools, one after the other; that of one pool as it is."""
    arrays = [of(pool) for pool in pools]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _require_columns(source: Source, recipe: PrepareConfig) -> None:
    """Refuse a table whose columns are not those of the run that judges it."""
    if recipe.columns is not None and source.columns is not None and list(source.columns) != list(recipe.columns):
        raise Refusal("the data", f"the columns are {source.columns}", allowed=f"those of the run: {recipe.columns}")


def _fit(source: Source, recipe: PrepareConfig) -> Fit | Lengths:
    if not any(pool.ragged for pool in source.pools.values()):
        return Fit(recipe.image_size, recipe.channels, recipe.resize)
    if recipe.image_size is not None or recipe.channels is not None:
        raise Refusal("data.image_size, data.channels", "these examples have different lengths: they are no images")
    return Lengths()


def _taken(split_of: Mapping[str, Array]) -> list[str]:
    """Say which splits were taken out of train, where the source brings others."""
    if "train" not in split_of:
        return []
    counts = {
        split: int((split_of["train"] == SPLITS.index(split)).sum())
        for split in ("dev", "test")
        if split not in split_of
    }
    return [
        f"the data bring {' and '.join(split_of)}: {split} is {count:,} examples of train"
        for split, count in counts.items()
        if count
    ]


def _hashes_of(split: Array, digests: Array) -> dict[str, str]:
    return {SPLITS[number]: packed(digests[split == number]) for number in np.unique(split[split >= 0]).tolist()}


@dataclass(frozen=True)
class _Scan:
    """What is known of examples before they are written."""

    digests: Array  # (N,) of examples as they are stored
    sources: Array  # (N, 16) of examples as they came, before they were resized
    signs: Array
    sizes: Array  # (N, 2), height and width of images as they came
    steps: Array  # (N,), rows of x.npy that an example takes


def _scans(source: Source, names: Mapping[str, Sequence[str]], fit: Fit | Lengths, mapped: Ordered) -> dict[str, _Scan]:
    try:
        return {pool: _scan(pool, examples, fit, mapped) for pool, examples in source.pools.items()}
    except OtherShape:
        assert isinstance(fit, Fit)
        everything = (image for pool in source.pools.values() for chunk in pool.chunks() for image in chunk)
        sizes = {pool: len(each.labels) for pool, each in source.pools.items()}
        raise fit.other_shapes((source_name(names, sizes, i), image) for i, image in enumerate(everything)) from None


def _scan(name: str, pool: Pool, fit: Fit | Lengths, mapped: Ordered) -> _Scan:
    """Read a pool once: shapes and finite values are checked, every example is hashed."""
    works = [
        partial(_scanned, read, fit, name, _rows_called(pool, part), sound=_sound(pool.has_gaps))
        for part, read in pool.parts
    ]
    found = works[0]() if works else []  # the first chunk fixes shape and type of all
    for each in mapped(works[1:]):
        found += each
    if not found:
        raise Refusal(f"the data, {name}", "there are no examples", allowed="at least one example of each class")
    columns = {field.name: [getattr(each, field.name) for each in found] for field in fields(_Scan)}
    found.clear()
    scan = _Scan(**{name: np.concatenate(columns.pop(name)) for name in list(columns)})  # one at a time is there twice
    if isinstance(fit, Lengths):
        fit.shape[0] = max(fit.shape[0], int(scan.steps.max()))  # other processes have seen the longest, perhaps
    return scan


def _scanned(
    read: Callable[[], Iterator[Any]], fit: Fit | Lengths, name: str, called: Called, *, sound: Callable[[Array], bool]
) -> list[_Scan]:
    """Return what is known of each chunk of a part."""
    found: list[_Scan] = []
    for start, raw, chunk in _fitted(read, fit, called):
        _require_finite(chunk, sound, lambda row, start=start: f"{name}, {called(start, row)}")  # type: ignore[misc]
        digests = hashes(chunk)
        pictures = chunk if isinstance(chunk, np.ndarray) and chunk.ndim == 4 else None
        found.append(
            _Scan(
                digests=digests,
                sources=_source_hashes(raw, chunk, digests),
                signs=signatures(pictures) if pictures is not None else np.zeros((len(chunk), 0), np.float16),
                sizes=np.array(
                    [each.shape[-2:] for each in raw] if pictures is not None else np.zeros((0, 2)), np.int64
                ),
                steps=chunk.lengths if isinstance(chunk, Examples) else np.ones(len(chunk), int),
            )
        )
    return found


def _rows_called(pool: Pool, part: Part) -> Called:
    """Return what the rows of a part are called, as `Pool.name` says, without the names of all others."""
    if pool.names is None:
        return partial(_row, part.start)
    return partial(_named, pool.names[part.start : part.stop])


def _row(first: int, start: int, offset: int) -> str:
    return f"row {first + start + offset}"


def _named(names: Sequence[str], start: int, offset: int) -> str:
    return names[start + offset]


def _source_hashes(raw: Any, chunk: Array | Examples, digests: Array) -> Array:
    """Return the hashes (n, 16) of examples as they came; those of the stored ones where nothing was changed."""
    same = all(each.shape == own.shape and each.dtype == own.dtype for each, own in zip(raw, chunk, strict=True))
    of_raw = digests if same else np.concatenate([hashes(np.asarray(each)[None]) for each in raw])
    return of_raw.view(np.uint8).reshape(-1, 16)


def _fitted(
    read: Callable[[], Iterator[Any]], fit: Fit | Lengths, called: Called
) -> Iterator[tuple[int, Any, Array | Examples]]:
    """Give of each chunk of a part the row in it with which it begins, how it came, and how it is stored."""
    start = 0
    for raw in read():
        yield start, raw, fit(raw, partial(called, start))
        start += len(raw)


def _require_finite(chunk: Array | Examples, sound: Callable[[Array], bool], called: Callable[[int], str]) -> None:
    values = chunk.values if isinstance(chunk, Examples) else chunk
    if chunk.dtype.kind == "f" and not sound(values):
        bad = next(i for i, each in enumerate(chunk) if not sound(each))
        raise Refusal(called(bad), "a value is NaN or infinite", allowed="finite numbers; fix or remove the example")


def _sound(has_gaps: bool) -> Callable[[Array], bool]:
    """Return what says whether all values are numbers, or are not there where that may be."""
    return lambda values: bool((~np.isinf(values) if has_gaps else np.isfinite(values)).all())


def _split(
    source: Source, recipe: PrepareConfig, scans: Mapping[str, _Scan], labels: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the split of each example, and what it belongs to, by pool."""
    if recipe.judge is not None:
        judged = next((name for name in ("test", "all") if name in source.pools), None)
        if judged is None:
            raise Refusal("data.path", f"these data bring {' and '.join(source.pools)}, and no test to be judged on",
                          allowed="data with a test split, or without splits: then all of them are judged")  # fmt: skip
        return {judged: np.full(len(labels[judged]), SPLITS.index("test"))}, {}
    ratios = _shares(recipe, list(source.pools))
    split_of, groups = {}, {}
    drawn = {"stratify": recipe.stratify, "seed": recipe.split["seed"]}
    for name, pool in source.pools.items():
        same = [scans[name].digests, *([pool.groups] if pool.groups is not None else [])]
        groups[name] = connected_groups(*same)
        split_of[name] = assign(labels[name], groups[name], ratios[name], **drawn)
        if recipe.split.get("fold") is not None:
            _put_fold(split_of[name], labels[name], groups[name], recipe)
    _require_groups_apart(source, split_of)
    return split_of, groups


def _put_fold(split: Array, labels: Array, groups: Array, recipe: PrepareConfig) -> None:
    """Deal what is in train and dev anew, in place: dev is the fold that is declared."""
    i, k = map(int, recipe.split["fold"].split("/"))
    rows = np.flatnonzero(np.isin(split, [SPLITS.index("train"), SPLITS.index("dev")]))
    if len(rows) == 0:
        return
    fold = fold_of(labels[rows], groups[rows], k, stratify=recipe.stratify, seed=recipe.split["seed"])
    split[rows] = np.where(fold == i - 1, SPLITS.index("dev"), SPLITS.index("train"))


def _keep(
    source: Source,
    kind: LabelKind,
    recipe: PrepareConfig,
    split_of: dict[str, Array],
    encoded: Encoded,
    groups: Mapping[str, Array],
) -> list[str]:
    """Take out of train, in place, what is not to be used; return what a person should know of it."""
    share = recipe.split.get("keep", 1.0)
    if recipe.judge is not None or share == 1.0:
        return []
    if isinstance(share, Mapping) and not kind.drawable:
        raise Refusal(
            "data.split.keep",
            f"labels that are {kind.name} are no classes",
            allowed="a share",
            example="data.split.keep=0.1",
        )
    before = after = 0
    for pool, own in split_of.items():
        rows = np.flatnonzero(own == SPLITS.index("train"))
        if len(rows) == 0:
            continue
        labels, together, seed = encoded.strata[pool][rows], groups[pool][rows], recipe.split["seed"]
        if source.facts.get("of_one_text"):  # what is kept goes on from what is before it
            used = np.arange(len(rows)) < share * len(rows)
        elif isinstance(share, Mapping):
            own_labels = encoded.labels[pool][rows]
            used = kept_of_each(own_labels, together, share["per_class"], encoded.classes, seed=seed)
        else:
            used = kept(labels, together, share, stratify=recipe.stratify, seed=seed)
        own[rows[~used]] = DROPPED
        before, after = before + len(rows), after + int(used.sum())
    return [f"train is {after:,} of {before:,} examples (data.split.keep)"]


def _expected(recipe: PrepareConfig, official: list[str]) -> list[int]:
    """Return the splits that the shares promise."""
    given = np.sum(list(_shares(recipe, official).values()), axis=0) > 0
    given[SPLITS.index("dev")] |= recipe.split.get("fold") is not None
    return np.flatnonzero(given).tolist()


def _shares(recipe: PrepareConfig, official: list[str]) -> dict[str, list[float]]:
    train, dev, test, train_dev = (recipe.split[split] for split in SPLITS)
    if (fold := recipe.split.get("fold")) is not None:
        _require_fold(fold, official)
    return shares(train, dev, test, official, train_dev)


def _require_fold(fold: str, official: list[str]) -> None:
    """Refuse a fold that is none, and data that bring a dev split of their own."""
    i, k = map(int, fold.split("/"))
    if not (k >= 2 and i <= k):
        raise Refusal(
            "data.split.fold",
            f"there is no fold {fold}",
            allowed="1/k, ..., k/k of k folds, 2 or more",
            example="data.split.fold=1/5",
        )
    if "dev" in official:
        raise Refusal(
            "data.split.fold",
            f"these data bring {' and '.join(official)}: dev is given",
            allowed="null",
            example="data.split.fold=null",
        )


def _require_groups_apart(source: Source, split_of: Mapping[str, Array]) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for name, pool in source.pools.items():
        for row, group in enumerate(pool.groups if pool.groups is not None else []):
            other = seen.setdefault(str(group), (name, int(split_of[name][row])))
            if other[1] != split_of[name][row]:
                raise Refusal(
                    "data.group_by",
                    f"group '{group}' stands in {other[0]} and in {name}, which the source itself split",
                    allowed="groups that do not cross the official splits; or merge the splits and let us draw them",
                )


def _write_examples(
    source: Source,
    fit: Fit | Lengths,
    split_of: Mapping[str, Array],
    scans: Mapping[str, _Scan],
    folder: Path,
    mapped: Ordered,
) -> Moments:
    """Write x.npy of every split in source order; return the moments of train.

    Of examples of different lengths it holds one after the other, and offsets.npy (N + 1) where each begins.
    """
    split, steps = _joined(split_of, split_of.__getitem__), _joined(split_of, lambda pool: scans[pool].steps)
    shape = fit.shape[1:] if isinstance(fit, Lengths) else fit.shape
    places: dict[int, tuple[Path, int]] = {}  # of each split its file, and where in it the next row goes
    for number in np.unique(split[split >= 0]).tolist():
        (folder / SPLITS[number]).mkdir()
        with (folder / SPLITS[number] / "x.npy").open("wb") as file:
            header = {
                "descr": fit.dtype.str,
                "fortran_order": False,
                "shape": (int(steps[split == number].sum()), *shape),
            }
            np.lib.format.write_array_header_1_0(file, header)
            places[number] = (folder / SPLITS[number] / "x.npy").absolute(), file.tell()
        if isinstance(fit, Lengths):
            np.save(folder / SPLITS[number] / OFFSETS, np.cumsum([0, *steps[split == number]]))
    works, passed_over, row_bytes = [], _no_numbers(source), fit.dtype.itemsize * math.prod(shape)
    for pool, own in split_of.items():
        for part, read in source.pools[pool].parts:
            of_part = own[part.start : part.stop]
            called = _rows_called(source.pools[pool], part)
            works.append(partial(_written, read, fit, called, of_part, dict(places), passed_over))
            rows = scans[pool].steps[part.start : part.stop]
            places = {number: (file, place + row_bytes * int(rows[of_part == number].sum()))
                      for number, (file, place) in places.items()}  # fmt: skip
    moments = Moments()
    for each in mapped(works):
        for of_chunk, examples in each:
            moments.take(of_chunk, examples)
    return moments


def _written(
    read: Callable[[], Iterator[Any]],
    fit: Fit | Lengths,
    called: Called,
    own: Array,
    places: Mapping[int, tuple[Path, int]],
    passed_over: Sequence[int],
) -> list[tuple[Measured, int]]:
    """Write the examples of a part to their places in the files; return what was measured on train, and its examples, by chunk."""
    found = []
    with ExitStack() as stack:
        files = {number: stack.enter_context(file.open("r+b")) for number, (file, _) in places.items()}
        for number, file in files.items():
            file.seek(places[number][1])
        for start, _, chunk in _fitted(read, fit, called):
            split = own[start : start + len(chunk)]
            for number, file in files.items():
                file.write(_rows(chunk, split == number).data)
            train = split == SPLITS.index("train")
            if train.any():
                found.append((measured(_rows(chunk, train), passed_over), int(train.sum())))
    return found


def _no_numbers(source: Source) -> list[int]:
    """Return the columns of a table that hold places in a list."""
    columns = columns_of(source.facts.get("table"))
    return [i for i, each in enumerate(columns) if not is_numeric(each)]


def _rows(chunk: Array | Examples, mask: Array) -> Array:
    """Take the values of the masked rows, contiguous; without a copy where all are taken."""
    if isinstance(chunk, Examples):
        return chunk[mask].values
    return np.ascontiguousarray(chunk if mask.all() else chunk[mask])


def _write_arrays(split_of: Mapping[str, Array], arrays: Mapping[str, Mapping[str, Array]], folder: Path) -> None:
    """Write NAME.npy of every split in source order: labels, and all else that is known of the examples."""
    joined = _joined(split_of, split_of.__getitem__)
    for name in next(iter(arrays.values()), {}):
        values = np.concatenate([arrays[pool][name] for pool in split_of])
        for number in np.unique(joined[joined >= 0]).tolist():
            np.save(folder / SPLITS[number] / f"{name}.npy", values[joined == number])


def _normalize(kind: str, moments: Moments, fit: Fit | Lengths) -> dict[str, Any]:
    if kind == "scale" and fit.dtype != np.uint8:
        raise Refusal(
            "data.normalize=scale",
            f"x / 255 is for 8-bit data, these are {fit.dtype}",
            allowed="standard, none",
            example="data.normalize=standard",
        )
    if kind != "none" and isinstance(fit, Lengths) and fit.dtype.kind == "i":
        raise Refusal(f"data.normalize={kind}", "symbols have no mean", allowed="none", example="data.normalize=none")
    fixed = {"scale": (0.0, 255.0), "none": (0.0, 1.0)}
    mean, std = ([each] for each in fixed[kind]) if kind in fixed else moments.mean_std()
    return {"kind": kind, "mean": mean, "std": std, "fitted_on": "train", "fitted_size": moments.count}


def _feature_shape(fit: Fit | Lengths, source: Source) -> list[int]:
    """Return the shape of an example; a step of a text has a feature for each symbol, a row of a table for each category."""
    if isinstance(fit, Lengths) and fit.dtype.kind == "i" and source.columns is not None:
        return [fit.shape[0], len(source.columns)]
    if "table" in source.facts:
        columns = columns_of(source.facts["table"])
        return [plain_features(columns) + sum(category_sizes(columns))]
    return fit.shape


def _lengths(split_of: Mapping[str, Array], scans: Mapping[str, _Scan]) -> dict[str, Any]:
    steps = _joined(split_of, lambda pool: scans[pool].steps)[_joined(split_of, split_of.__getitem__) >= 0]
    return {"shortest": int(steps.min()), "mean": float(steps.mean()), "longest": int(steps.max())}


def _sizes(split: Array, labels: Array, num_classes: int, kind: LabelKind) -> dict[str, dict[str, Any]]:
    return {
        SPLITS[number]: {"size": int((split == number).sum()), **kind.counts(labels[split == number], num_classes)}
        for number in np.unique(split[split >= 0]).tolist()
    }


def _near(
    names: Mapping[str, Sequence[str]],
    split_of: Mapping[str, Array],
    scans: Mapping[str, _Scan],
    folder: Path,
    fit: Fit | Lengths,
) -> dict[str, Any]:
    """Return the near copies of images that stand in different splits, and among how many of each split if they were not all compared."""
    if isinstance(fit, Lengths) or len(fit.shape) != 3:
        return {"near": []}
    signs, digests = (
        _joined(split_of, lambda pool: scans[pool].signs),
        _joined(split_of, lambda pool: scans[pool].digests),
    )
    split = _joined(split_of, split_of.__getitem__)
    called = partial(source_name, names, {pool: len(own) for pool, own in split_of.items()})
    found = {"near": near(split, signs, digests, compared(folder, split), called)}
    if len(rows := compared_rows(split)) == (split != DROPPED).sum() or len(np.unique(split[rows])) < 2:
        return found
    return found | {
        "near_among": {SPLITS[number]: int((split[rows] == number).sum()) for number in np.unique(split[rows]).tolist()}
    }
