"""Memory and disk: how much memory there is, and the screen for what the machine could not give."""

import errno
import resource
from pathlib import Path

import torch

from crucible.errors import Refusal, Stopped

FULL = (errno.ENOSPC, errno.EDQUOT)
ALLOCATION = ("can't allocate memory", "not enough memory", "out of memory", "size calculation overflowed")


def available_memory(device: torch.device) -> int:
    """Return the bytes that this process may still take: of the machine, of its control group and of its own limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_machine(), _control_group(), _own_limit())


def _machine() -> int:
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    return sum(int(facts[name].split()[0]) for name in ("MemAvailable", "SwapFree")) * 1024


def _control_group(home: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container leaves us; what its files are cached in counts as free."""
    most, used, facts = (home / f"memory.{name}" for name in ("max", "current", "stat"))
    if not most.exists() or most.read_text().strip() == "max":
        return _machine()
    cached = next(int(line.split()[1]) for line in facts.read_text().splitlines() if line.startswith("file "))
    return int(most.read_text()) - int(used.read_text()) + cached


def _own_limit() -> int:
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return _machine()
    return most - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def is_allocation(error: BaseException) -> bool:
    """Whether memory was asked for that is not there; torch says so in words."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATION)
    )


def exhausted(error: Exception) -> Refusal | None:
    """Return the screen for what the machine could not give: memory, room, a file; None: the error is another one."""
    if is_allocation(error):
        why = str(error).splitlines()[0].rpartition("DefaultCPUAllocator: ")[2] if str(error) else "no memory is left"
        return Stopped(
            "memory", f"out of memory: {why}", allowed="a smaller model or trainer.batch_size, or a larger machine",
            example="trainer.batch_size=16",
        )  # fmt: skip
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    where, why = str(error.filename or "the machine"), error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        return Refusal(where, f"the name has {len(where)} letters: {why}", allowed="a shorter name")
    if error.errno in FULL:
        return Stopped("the disk", f"it is full ({where}): {why}", allowed="make room, then the same command goes on")
    return Stopped(where, why, allowed="a file that is there and can be used; the same command goes on")
