"""How fast a training goes and what it takes of the machine: MLflow's page of system metrics."""

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from crucible.tracking.journal import MEASURED

EVERY_SECONDS = 10.0  # as MLflow's own
MEMORY = Path("/proc/self/statm")  # its second number: pages that are in memory


@dataclass(frozen=True)
class Moment:
    """Seconds by the clock and of the processor, and examples trained on, up to a moment."""

    clock: float = field(default_factory=lambda: time.monotonic())
    busy: float = field(default_factory=lambda: time.process_time())
    examples: int = 0


class Usage:
    """Counts the examples of this process; nothing here is a number of the training itself, and no curve holds it."""

    def __init__(self) -> None:
        self._start = self._last = self._now = Moment()

    def add(self, examples: int) -> dict[str, float]:
        """Take in an epoch's examples; return the numbers since the last time if that is ten seconds ago, else nothing."""
        self._now = Moment(examples=self._now.examples + examples)
        if self._now.clock - self._last.clock < EVERY_SECONDS:
            return {}
        since, self._last = self._last, self._now
        return self._between(since, self._now)

    def leave_out(self, examples: int) -> None:
        """Do not count so many examples of the epoch that comes: another process has trained on them."""
        self._now = replace(self._now, examples=self._now.examples - examples)

    def total(self) -> dict[str, float]:
        """Return the numbers from the beginning to the last epoch."""
        return self._between(self._start, self._now)

    def _between(self, one: Moment, other: Moment) -> dict[str, float]:
        """Return examples a second, the processor's share (200: two cores), and what is in memory now, in MiB; nothing without examples."""
        if other.examples == one.examples:
            return {}
        seconds = other.clock - one.clock
        found = {
            f"{MEASURED}examples_per_second": (other.examples - one.examples) / seconds,
            f"{MEASURED}cpu_percent": 100 * (other.busy - one.busy) / seconds,
        }
        if MEMORY.exists():
            found[f"{MEASURED}memory_mib"] = int(MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        if torch.cuda.is_initialized():
            found[f"{MEASURED}gpu_memory_mib"] = torch.cuda.max_memory_reserved() / 2**20
        return found
