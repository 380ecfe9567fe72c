"""Prepare a data set: python src/prepare.py data=signs data.path=~/signs."""

from typing import Any

from crucible.app.compose import Job
from crucible.app.overrides import train_command
from crucible.app.prepared import make
from crucible.report.leaks import near_copies

MOST = 10


def main(job: Job) -> None:
    """Read, gate, split, measure and write; print where, and what is worth knowing."""
    folder, card = make(job, lambda card: None)
    sizes = ", ".join(f"{split} {card.size(split):,}" for split in card.splits)
    found, near, about = card.duplicates["found"], card.duplicates["near"], near_copies(card.duplicates)
    print(f"  result  {card.name}: {sizes}; {len(card.classes)} classes, shape {card.feature_shape}, {card.dtype}")
    for each in _left_out(card.objects or {}):
        print(f"    left  {each}")
    print(f"   leaks  {len(found)} exact copies across splits ({card.duplicates['policy']}), {len(near)} near ones")
    print(f"    near  {about}\n" if about else "", end="")
    print(f"   files  {folder}\n    next  {train_command(job.cfg)}")


def _left_out(objects: dict[str, Any]) -> list[str]:
    """Return what of the boxes was left out or cut, a line each, ten at most."""
    dropped, clipped = objects.get("dropped", []), objects.get("clipped", 0)
    lines = [f"out: {each}" for each in dropped[:MOST]]
    lines += [f"out: {len(dropped) - MOST} more, in card.json"] if len(dropped) > MOST else []
    return [*lines, *([f"{clipped} boxes cut at the edge of their picture"] if clipped else [])]
