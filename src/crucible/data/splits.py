"""Who goes to train, dev and test: seeded, stratified, with what belongs together kept together."""

from collections.abc import Mapping, Sequence

import numpy as np

from crucible.data.readers.source import Array
from crucible.errors import Refusal

SPLITS = ("train", "dev", "test", "train_dev")
DROPPED = -1


def shares(
    train: float, dev: float, test: float, official: Sequence[str], train_dev: float = 0.0
) -> dict[str, list[float]]:
    """Return, per pool, the shares of it that go to train, dev, test and train_dev; they sum to one.

    Ratios mean what they say: 6:2:2, .6/.2/.2, 98:1:1. With an official test split only `dev` is read, as the share
    of train (as a ratio of the sum if it is 1 or more); with official dev and test nothing is.
    What is not official is taken out of train.

    Args:
        official: the pools' names: `all`, or `train` with `dev`, `test` or both.
        train_dev: the share of train that is set apart to be judged: what train alone would have given.
    """
    total = train + dev + test
    held, tested = (
        0.0 if name in official else share if share < 1 else share / total
        for name, share in (("dev", dev), ("test", test))
    )
    fixed = {
        "all": [train / total, dev / total, test / total],
        "train": [1 - held - tested, held, tested],
        "dev": [0.0, 1.0, 0.0],
        "test": [0.0, 0.0, 1.0],
    }
    return {
        pool: [own * (1 - train_dev), *rest, own * train_dev]
        for pool, (own, *rest) in fixed.items()
        if pool in official
    }


def connected_groups(*partitions: Array) -> Array:
    """Return the finest groups (N,) such that examples equal in any of the partitions share a group, named by its first.

    Args:
        partitions: arrays (N,) of keys; equal keys belong together.
    """
    count, links = len(partitions[0]), []
    for keys in partitions:
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        links.append(first[inverse])  # each example is linked to the first with its key
    if len(links) == 1:
        return links[0]
    from scipy.sparse import coo_array  # a fifth of a second that only data with groups need
    from scipy.sparse.csgraph import connected_components

    examples = np.tile(np.arange(count), len(links))
    graph = coo_array((np.ones(len(examples), bool), (examples, np.concatenate(links))), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return first[inverse]


def assign(labels: Array, groups: Array, ratios: Sequence[float], *, stratify: bool, seed: int) -> Array:
    """Return the split (its place in SPLITS) of each example (N,); a group is never torn.

    Whole groups are dealt in random order, class by class when stratified, each to the split that is furthest below
    its share of the examples dealt so far: each split's size is then within one group of its share.

    Args:
        labels: (N,) class numbers; a group counts as the class of its first member.
        groups: (N,) keys; equal keys stay together.
        ratios: shares of train, dev, test, train_dev.
    """
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(first))
    if stratify:
        order = order[np.argsort(labels[first][order], kind="stable")]
    split = _deal(sizes, order, ratios)
    if stratify and _misses_a_class(split, labels[first], ratios):
        split = _deal_each_class(sizes, order, ratios, labels[first])
    return split[inverse]


def fold_of(labels: Array, groups: Array, folds: int, *, stratify: bool, seed: int) -> Array:
    """Return which of so many folds (N,), from 0, each example is in: as `assign`, with equal shares.

    Raises:
        Refusal: there are fewer groups than folds.
    """
    if (count := len(np.unique(groups))) < folds:
        raise Refusal(
            "data.split.fold",
            f"{count} examples, or groups of them, are no {folds} folds",
            example="data.split.fold=1/5",
        )
    return assign(labels, groups, [1 / folds] * folds, stratify=stratify, seed=seed)


def kept(labels: Array, groups: Array, share: float, *, stratify: bool, seed: int) -> Array:
    """Return which examples (N,) are kept: whole groups in random order, of each class when stratified, until it is the share.

    A larger share keeps what a smaller one does, and more. Of each class at least one group is kept; a group counts as the
    class of its first member.
    """
    labels = _of_first(labels, groups)
    parts = [labels == k for k in np.unique(labels)] if stratify else [np.ones(len(labels), bool)]
    found = np.zeros(len(labels), bool)
    for part in parts:
        rows = np.flatnonzero(part)
        found[rows[_first_groups(groups[rows], share * len(rows), seed)]] = True
    return found


def kept_of_each(labels: Array, groups: Array, count: int, classes: Sequence[str], *, seed: int) -> Array:
    """Return which examples (N,) are kept: of each class at least so many, in whole groups that count as `kept` says.

    Raises:
        Refusal: a class has fewer.
    """
    found, labels = np.zeros(len(labels), bool), _of_first(labels, groups)
    for k, size in zip(*np.unique(labels, return_counts=True), strict=True):
        if size < count:
            fewest = np.unique(labels, return_counts=True)[1].min()
            raise Refusal("data.split.keep.per_class", f"train has {size} examples of class {classes[k]!r}, not {count}",
                          allowed=f"2 to {fewest}", example="data.split.keep=1.0")  # fmt: skip
        rows = np.flatnonzero(labels == k)
        found[rows[_first_groups(groups[rows], count, seed)]] = True
    return found


def _of_first(labels: Array, groups: Array) -> Array:
    """Return for each example (N,) the class of the first member of its group."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    own: Array = labels[first][inverse]
    return own


def _first_groups(groups: Array, wanted: float, seed: int) -> Array:
    """Return which examples (n,) are in the first groups, in random order, that together are at least `wanted`."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = order[before < wanted - 1e-9]
    return np.isin(inverse, chosen)


def _misses_a_class(split: Array, label: Array, ratios: Sequence[float]) -> bool:
    present = {(k, s) for k, s in zip(label.tolist(), split.tolist(), strict=True)}
    return any((k, s) not in present for k in np.unique(label).tolist() for s, ratio in enumerate(ratios) if ratio > 0)


def _deal_each_class(sizes: Array, order: Array, ratios: Sequence[float], label: Array) -> Array:
    """Deal small classes so that each has a group in every split where it has enough of them, the largest share first."""
    split = np.empty(len(sizes), dtype=np.int64)
    live = sorted((s for s, ratio in enumerate(ratios) if ratio > 0), key=lambda s: -ratios[s])
    for k in np.unique(label):
        own = order[label[order] == k]
        split[own[: len(live)]] = live[: len(own)]
        rest = own[len(live) :]
        split[rest] = _deal(
            sizes, rest, ratios, owed=[-float((split[own[: len(live)]] == s).sum()) for s in range(len(ratios))]
        )[rest]
    return split


def _deal(sizes: Array, order: Array, ratios: Sequence[float], owed: Sequence[float] | None = None) -> Array:
    """Deal groups of `sizes` in `order`; return each group's split. `owed` is what each split starts with: nothing."""
    split, weights = np.empty(len(sizes), dtype=np.int64), sizes.tolist()
    need = {number: owed[number] if owed else 0.0 for number, ratio in enumerate(ratios) if ratio > 0}
    for group in order.tolist():
        weight = weights[group]
        for number in need:
            need[number] += ratios[number] * weight
        split[group] = neediest = max(need, key=need.__getitem__)
        need[neediest] -= weight
    return split


def require_classes(
    split_of: Mapping[str, Array], labels: Mapping[str, Array], classes: Sequence[str], expected: Sequence[int]
) -> None:
    """Refuse splits in which a class has no example; `expected` are the splits that must be there.

    Raises:
        Refusal: naming class, split and remedy.
    """
    split, label = np.concatenate(list(split_of.values())), np.concatenate([labels[pool] for pool in split_of])
    for number in expected:
        present = np.bincount(label[split == number], minlength=len(classes))
        if missing := [name for name, count in zip(classes, present, strict=True) if count == 0]:
            raise Refusal(
                f"the {SPLITS[number]} split",
                f"class {missing[0]!r} has no example in it ({len(missing)} of {len(classes)} classes are missing)",
                allowed="every class in every split: more examples of it, a larger share for this split, "
                "data.stratify=true, or labels numbered 0, 1, ... without a gap",
                example="data.split.train=6 data.split.dev=2 data.split.test=2",
            )
