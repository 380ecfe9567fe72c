"""Crucible: one YAML choice per idea, one command per question, an answer you can trust.

The map, in the order the data travels; a module imports only from those above it:

    errors, files, resources, schema, instantiate   refusals, file names, memory and disk, the typed configuration,
                                what `_target_` may name
    data/            1 READ     raw files -> splits without leaks -> prepared arrays -> batches on the device
    models/          2 MODEL    one file per architecture
    initializers     3 START    rules applied to a whole model
    losses           4 LOSS     what torch lacks
    metrics/         5 MEASURE  accumulators: update, compute
    tasks/           6 MEANING  what a batch means: losses, predict, metrics
    regularizers     7 PENALTY  each wraps a task and adds one named term
    optim/           8 STEP     optimizers and schedules, each with its formula and source
    tracking/        9 RECORD   the journal (source of truth) and its mirror
    training/       10 LOOP     fit, step, checkpoint, seeds
    diagnosis/      11 WHY      bias and variance against human level, and what to turn next
    report/         12 TELL     figures, tables, one page
    app/            13 COMMAND  what a command line means: the only place that knows the configuration
"""

from importlib import import_module
from typing import Any

__all__ = ["Refusal", "Run", "load", "look", "runs", "train"]


def __getattr__(name: str) -> Any:
    """Import what a notebook asks for when it asks: the commands need none of it."""
    if name in __all__:
        return getattr(import_module("crucible.app.api"), name)
    raise AttributeError(f"module 'crucible' has no attribute {name!r}")
