"""Several "processes" as threads of one, which exchange tensors as `util.distributed.World` does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

SECONDS = 60.0


class Thread:
    """One of `size` shards."""

    def __init__(self, rank: int, size: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.world_size, self.slots, self.barrier = rank, size, slots, barrier

    def exchange(self, value: Tensor) -> list[Tensor]:
        self.slots[self.rank] = value
        self.barrier.wait(SECONDS)
        values = list(self.slots)
        self.barrier.wait(SECONDS)
        return values

    def all_reduce(self, values: Tensor) -> Tensor:
        return torch.stack(self.exchange(values)).sum(0)

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        return torch.cat(self.exchange(rows))


def in_shards(work: Callable[[Any], Any], size: int) -> list[Any]:
    """The results of `work(shard)` of all shards, in the order of ranks."""
    slots, barrier = [None] * size, threading.Barrier(size)
    with ThreadPoolExecutor(size) as threads:
        futures = [threads.submit(work, Thread(rank, size, slots, barrier)) for rank in range(size)]
        return [future.result(SECONDS) for future in futures]


def part(rows: Tensor, shard: Any, dim: int = 0) -> Tensor:
    """The consecutive rows of this shard."""
    start, stop = (rows.shape[dim] * (shard.rank + i) // shard.world_size for i in (0, 1))
    return rows.narrow(dim, start, stop - start)
