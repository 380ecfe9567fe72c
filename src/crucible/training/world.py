"""The processes that train together, started by torchrun; one alone where nobody started several. The only `import torch.distributed`.

What all of them must do alike they compute alike; what depends on time or on files rank 0 decides, and says.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count, pairwise
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

Node = tuple[int, int]  # the shards from the first to before the last
WAIT = timedelta(days=7)  # for each other: rank 0 may prepare data for hours; of a process that dies torchrun tells
_GROUPS = count()


class World:
    """A process by itself: the neutral element of those that are several."""

    rank, size = 0, 1

    def total(self, nodes: dict[Node, Tensor], shards: int) -> Tensor:
        """Return the sum (P,) over all shards of vectors, added in one binary tree whoever has which.

        Args:
            nodes: what this process has: of each whole subtree of its shards the sum (P,).
        """
        return added((0, shards), nodes)

    def shared(self, value: Any) -> Any:
        """Return rank 0's value, which can be pickled."""
        return value

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all, rank by rank."""
        return [value]

    def close(self) -> None:
        """Leave."""


class Several(World):
    """Processes that exchange over torch.distributed: NCCL between GPUs, gloo between processors."""

    def __init__(self, device: torch.device) -> None:
        import torch.distributed as dist

        self._dist: Any = dist
        store, self.rank, self.size = next(self._dist.rendezvous("env://"))
        # torchrun keeps one store for all its attempts: without a prefix a process may read where another one was before a restart
        # and a process may train more than once
        attempt = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} of {self.size}/{next(_GROUPS)}"
        own = self._dist.PrefixStore(attempt, store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        self._dist.init_process_group(backend, store=own, rank=self.rank, world_size=self.size, timeout=WAIT)
        self._device = device

    def total(self, nodes: dict[Node, Tensor], shards: int) -> Tensor:
        """Exchange by parts: each process adds its part of the vectors of all, and gives it to the others."""
        held = [subtrees(own, shards) for own in shares(shards, self.size)]
        length = next(iter(nodes.values())).numel()
        part = -(-length // self.size)
        mine = torch.stack(
            [torch.nn.functional.pad(nodes[each], (0, part * self.size - length)) for each in held[self.rank]]
        )
        parts = mine.view(len(mine), self.size, part).transpose(0, 1).contiguous()
        theirs = [parts.new_empty(len(each), part) for each in held]
        theirs[self.rank] = parts[self.rank]
        asked = [
            self._dist.P2POp(self._dist.isend, parts[rank], rank) for rank in range(self.size) if rank != self.rank
        ]
        asked += [
            self._dist.P2POp(self._dist.irecv, theirs[rank], rank) for rank in range(self.size) if rank != self.rank
        ]
        for each in self._dist.batch_isend_irecv(asked):
            each.wait()
        known = {node: row for own, rows in zip(held, theirs, strict=True) for node, row in zip(own, rows, strict=True)}
        whole = [parts.new_empty(part) for _ in range(self.size)]
        self._dist.all_gather(whole, added((0, shards), known).contiguous())
        return torch.cat(whole)[:length]

    def shared(self, value: Any) -> Any:
        """Return rank 0's value."""
        box: list[Any] = [value]
        self._dist.broadcast_object_list(box, src=0, device=self._device)
        return box[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all, rank by rank; each can be pickled."""
        found: list[Any] = [None] * self.size
        self._dist.all_gather_object(found, value)
        return found

    def close(self) -> None:
        """Leave the group."""
        self._dist.destroy_process_group()


def launch() -> str | None:
    """Return what all attempts of one torchrun have in common, and no other has; None where it has not started this process.

    The name that a person gives a launch may have been used before; the store is that of one.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://"))
    return str(store.compare_set("crucible/launch", "", uuid4().hex).decode())


def shares(shards: int, size: int) -> list[range]:
    """Return which shards each process has: in a row, as evenly as it goes."""
    cuts = [shards * rank // size for rank in range(size + 1)]
    return [range(start, end) for start, end in pairwise(cuts)]


def subtrees(own: range, shards: int) -> list[Node]:
    """Return the largest subtrees of the binary tree over all shards that lie whole in a range."""

    def whole(start: int, end: int) -> list[Node]:
        if end <= own.start or own.stop <= start:
            return []
        if own.start <= start and end <= own.stop:
            return [(start, end)]
        middle = (start + end) // 2
        return whole(start, middle) + whole(middle, end)

    return whole(0, shards)


def added(node: Node, known: dict[Node, Tensor]) -> Tensor:
    """Return the sum of a subtree: known, or that of its two halves."""
    if node in known:
        return known[node]
    start, end = node
    middle = (start + end) // 2
    return added((start, middle), known) + added((middle, end), known)


def summed(node: Node, leaf: Callable[[int], Sequence[Tensor]]) -> list[Tensor]:
    """Return the sums of what the shards of a subtree give, tensor by tensor; no more of them are held than the tree is deep."""
    start, end = node
    if end - start == 1:
        return list(leaf(start))
    middle = (start + end) // 2
    left = summed((start, middle), leaf)
    torch._foreach_add_(left, summed((middle, end), leaf))
    return left
