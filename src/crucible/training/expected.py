"""How long a training will take, before it begins: looked at, and put back as it was."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from crucible.data.batches import Batch, Batches
from crucible.models.profile import measure
from crucible.tasks.task import Task, total_of

RATE, STEP_SECONDS = 5e9, 1e-3  # multiplications a second of one slow core; what a step costs beside them
SHORT_SECONDS = 20.0  # by these; what seems to take less is not looked at
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def expected_seconds(model: nn.Module, task: Task, batches: Batches, epochs: int, *, further: int = 0) -> float | None:
    """Return about how long so many epochs take, from two steps without an update; None: some seconds, not looked at.

    A step has as many examples as a slow core takes a second for. Weights, statistics of batch norm, gradients and the
    state of the random numbers are afterwards what they were.

    Args:
        model, task, batches: as `fit` takes them. further: multiplications an example of what the loss itself computes.
    """
    batch = next(batches.train(0))
    size, counts = len(batch["x"]), {split: facts["size"] for split, facts in batches.splits.items()}
    card = batches.card
    shape = [batch["x"].shape[1], *card.example_shape] if card.holds_symbols else batch["x"].shape[1:]
    work = 3 * (further + sum(row.multiplications for row in measure(model, shape)))  # backward is twice
    if epochs * (counts["train"] * work / RATE + counts["train"] / size * STEP_SECONDS) < SHORT_SECONDS:
        return None
    few = {name: values[: max(2, min(size, int(RATE / max(1, work))))] for name, values in batch.items()}
    with put_back(model, batches.device):
        model.train(not further)  # a picture that is painted has its full size in evaluation alone
        seconds = [_step(model, task, few) for _ in range(2)][-1]  # the first one also prepares
    return float(epochs * seconds / len(few["x"]) * (counts["train"] + counts.get("dev", 0) / 3))


def in_words(seconds: float | None) -> str:
    """Return a time as a person says it: about 12 minutes."""
    if seconds is None:
        return "less than a minute"
    unit, name = next((each for each in UNITS if seconds >= 1.5 * each[0]), (1, "seconds"))
    count = seconds / unit
    return f"about {count:.1f} {name}" if count < 10 and unit > 1 else f"about {count:.0f} {name}"


def _step(model: nn.Module, task: Task, batch: Batch) -> float:
    """Return the seconds of a forward and a backward pass."""
    start = time.perf_counter()
    total_of(task.losses(model, batch)).backward()
    if batch["x"].is_cuda:
        torch.cuda.synchronize(batch["x"].device)
    return time.perf_counter() - start


@contextmanager
def put_back(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let passes in training mode leave no trace in a model that has no gradients yet."""
    buffers, training = [each.clone() for each in model.buffers()], model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.train()
        yield
    model.train(training)
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for own, before in zip(model.buffers(), buffers, strict=True):
            own.copy_(before)
