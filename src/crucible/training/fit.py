"""The loop: one for every task, model, optimizer and schedule."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from crucible.data.batches import Batch, Batches
from crucible.optim.guard import GuardedOptimizer
from crucible.tasks.task import Task, total_of
from crucible.training.evaluation import outputs_of
from crucible.training.run import Run

Step = Callable[[nn.Module, Task, Batch, GuardedOptimizer], dict[str, Tensor]]
Outputs = Callable[[nn.Module, Iterable[Batch]], Iterable[tuple[Any, Batch]]]


def train_step(model: nn.Module, task: Task, batch: Batch, optimizer: GuardedOptimizer) -> dict[str, Tensor]:
    """Take one optimizer step; return each loss term, on the device."""
    losses = task.losses(model, batch)
    optimizer.zero_grad()
    total = total_of(losses)
    total.backward()
    optimizer.step(total)
    return losses


def fit(
    model: nn.Module,
    task: Task,
    batches: Batches,
    optimizer: GuardedOptimizer,
    schedule: LRScheduler,
    run: Run,
    step: Step = train_step,
    outputs: Outputs = outputs_of,
    *,
    total_epochs: int,
) -> None:
    """Train epoch by epoch, evaluate each on dev, and let the run keep what is worth keeping.

    Args:
        step: takes one for a batch; train_step does in one piece. outputs: gives what the model says to each batch of dev.

    Raises:
        NonFinite: a loss or a gradient was not finite; the weights are those before that step.
    """
    for epoch in run.epochs(total_epochs):
        model.train()
        for batch in batches.train(epoch):
            run.add(step(model, task, batch, optimizer), len(batch["x"]))
        schedule.step()
        run.record(evaluate(model, task, batches.evaluation("dev"), outputs))


def evaluate(model: nn.Module, task: Task, batches: Iterable[Batch], outputs: Outputs = outputs_of) -> dict[str, float]:
    """Return the numbers of a split; nothing without batches."""
    metrics = task.metrics()
    for said, batch in outputs(model, batches):
        metrics.update(said, batch)
    return metrics.compute()
