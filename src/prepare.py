"""Prepare a data set: python src/prepare.py data=signs data.path=~/signs."""

import entry
import wiring
from overrides import train_command


def main(job: entry.Job) -> None:
    """Read, gate, split, measure and write; print where, and what is worth knowing."""
    folder, card = wiring.make(job, lambda card: None)
    sizes = ", ".join(f"{split} {card.size(split):,}" for split in card.splits)
    found, near = card.duplicates["found"], card.duplicates["near"]
    print(f"  result  {card.name}: {sizes}; {len(card.classes)} classes, shape {card.feature_shape}, {card.dtype}")
    print(f"   leaks  {len(found)} exact copies across splits ({card.duplicates['policy']}), {len(near)} near ones")
    print(f"   files  {folder}\n    next  {train_command(job.cfg)}")


if __name__ == "__main__":
    entry.run(main)
