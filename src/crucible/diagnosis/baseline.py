"""What an answer that never looks at the example would reach: the least that a network must beat."""

from crucible.data.batches import Batches
from crucible.data.card import Card
from crucible.tasks.task import MonitoredTask


def trivial_error(task: MonitoredTask, card: Card, batches: Batches, split: str) -> float:
    """Return the error of always giving the same answer on a split: the one that suits train best."""
    row, _ = task.constant(card)
    if row is None:
        return task.kind.trivial_error(batches.own, split)
    y, metrics = batches.arrays(split)[1], task.metrics()
    metrics.update(row.to(y.device).expand(len(y), -1), {"label": y, **batches.further(split)})
    return metrics.compute()["error"]


def trivial_name(task: MonitoredTask, card: Card) -> str:
    """Return what that answer is called."""
    return task.constant(card)[1]
