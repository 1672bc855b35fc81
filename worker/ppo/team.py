"""The processes that share one training: who does which part, and how their results come together.

Knows no policy and no rewards. Invariant: after every method all processes hold the same values, so
whatever is computed from them is the same everywhere. One process alone is a team of one and never
communicates. `accelerate launch` and `torchrun` set the environment that this reads.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

# While the first process prepares data or judges, the others wait in the middle of an exchange.
PATIENCE = timedelta(days=7)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Team:
    """Process `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "Team":
        """The team that a launcher made, joined; else this process alone."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return ALONE
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=PATIENCE)
        return cls(dist.get_rank(), size)

    @property
    def leads(self) -> bool:
        """Whether this is the process that decides, writes and tells; the others follow it."""
        return self.rank == 0

    def own(self, index: int) -> bool:
        """Whether piece `index` of the work is this process's."""
        return index % self.size == self.rank

    def map(self, work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """work(items), each process doing its share of `items`; in order of `items`, on all.

        `work` gives one result for each item, whatever other items it gets; results are pickled.
        """
        if self.size == 1:
            return list(work(items))
        shares: list[list[R]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shares, list(work(items[self.rank :: self.size])))
        return [shares[i % self.size][i // self.size] for i in range(len(items))]

    def first(self, work: Callable[[], T]) -> T:
        """What the first process's `work` gives, on all; it is pickled. The others' is not
        called."""
        if self.size == 1:
            return work()
        told: list[T | None] = [work() if self.leads else None]
        dist.broadcast_object_list(told, src=0)
        return cast(T, told[0])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over the processes, in place."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten().cpu() for tensor in tensors])
        dist.all_reduce(flat)
        totals = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, totals, strict=True):
            tensor.copy_(total.view_as(tensor))


ALONE = Team()
