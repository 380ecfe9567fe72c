"""What a person should know of the data before numbers are believed: classes, copies across splits; names in little room."""

from collections.abc import Mapping, Sequence
from typing import Any

from crucible.data.card import Card
from crucible.errors import few, printable

SHOWN, MOST, WIDTH = 3, 12, 28
KINDS = {"number": "numbers", "boolean": "yes or no", "date": "dates", "category": "categories"}


def shortened(name: str) -> str:
    """Return a name's end, where the file is, if all of it is too long for a picture's title."""
    return name if len(name) <= WIDTH else f"...{name[-WIDTH:]}"


def near_copies(duplicates: Mapping[str, Any]) -> str:
    """Return a sentence about a card's near copies across splits, by name, with what to do; empty where all were compared and none found."""
    found, among = duplicates.get("near", []), duplicates.get("near_among", {})
    if among:
        some = ", ".join(f"{split} {count:,}" for split, count in among.items())
        compared = f"of so many examples only some were compared to find near copies ({some}): there may be others"
        return "; ".join(each for each in (near_copies({"near": found}), compared) if each)
    if not found:
        return ""
    more = f"; {len(found) - SHOWN} more in card.json" if len(found) > SHOWN else ""
    return (
        f"{f'{len(found)} near copies stand' if len(found) > 1 else 'a near copy stands'} in two splits: {'; '.join(map(_pair, found[:SHOWN]))}{more}; "
        "what is tested was nearly learned: data.group_by keeps what belongs together in one split"
    )


def _pair(pair: Mapping[str, Any]) -> str:
    places = (pair["a"], pair["b"])
    called = [f"{name} ({place.partition('/')[0]})" for name, place in zip(pair.get("names", ()), places, strict=False)]
    return f"{' ~ '.join(called or places)} {pair['correlation']:.4f}"


def about(card: Card) -> list[str]:
    """Return what stands on the screen before a training: classes with their examples, and near copies."""
    counts = card.splits["train"].get("class_counts", [])
    lines = [_classes(card.classes, counts) if card.classes else "", near_copies(card.duplicates)]
    return [line for line in (*lines, *columns(card.table or {}), *card.notes) if line]


def columns(table: Mapping[str, Any]) -> list[str]:
    """Return which columns of a table are used as what, which are left out and why, and what train has not seen."""
    by_kind: dict[str, list[str]] = {}
    for each in table.get("columns", []):
        values = f" ({len(each.get('categories', []))} values)" if each["kind"] == "category" else ""
        by_kind.setdefault(each["kind"], []).append(
            f"{each['name']}{values}{', some empty' if each.get('missing') else ''}"
        )
    used = [f"{KINDS.get(kind, kind)}: {few(names, MOST)}" for kind, names in by_kind.items()]
    out = [f"{name} ({why})" for name, why in table.get("left_out", {}).items()]
    unseen = [f"{column} of {split} {count:,} cells" for split, found in table.get("unseen", {}).items() if split != "train"
              for column, count in found.items()]  # fmt: skip
    return [
        *used,
        f"left out: {few(out, MOST)}" if out else "",
        f"categories that train lacks, or has too seldom: {few(unseen, MOST)}" if unseen else "",
    ]


def _classes(names: Sequence[str], counts: Sequence[int]) -> str:
    """Return how many classes train holds, and how many examples of each; of many classes the first, and the smallest."""
    shown = [f"{printable(name)} ({count:,})" for name, count in zip(names, counts, strict=True) if count]
    counts = [count for count in counts if count]
    if len(shown) <= MOST:
        return f"{len(shown)} classes in train: {', '.join(shown)}"
    smallest = min(range(len(counts)), key=counts.__getitem__)
    more = f"... and {len(shown) - MOST} more, the smallest {shown[smallest]}"
    return f"{len(shown)} classes in train: {', '.join(shown[:MOST])}, {more}"
