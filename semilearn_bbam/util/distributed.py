"""A run in several processes, as torchrun starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import DistError
from torch.distributed.nn.functional import all_reduce

from semilearn_bbam.errors import RunError, UserError, first_line

TIMEOUT = timedelta(minutes=10)  # of operations between processes


@dataclass(frozen=True)
class World:
    """The processes of a run: the rank of this one, their number, and operations between them.

    With one process no operation does anything.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def init(cls, device_type: str, timeout: timedelta = TIMEOUT) -> World:
        """Join the process group that torchrun's variables describe; a single process without them."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=timeout)
        return cls(dist.get_rank(), size)

    @staticmethod
    def destroy() -> None:
        """Leave the process group that `init` joined."""
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()

    @contextlib.contextmanager
    def connected(self, cure: str) -> Iterator[None]:
        """RunError within where another process has ended; cure: what to do, after "and"."""
        try:
            yield
        except (RuntimeError, DistError) as error:
            if self.world_size > 1 and (isinstance(error, DistError) or "gloo" in str(error)):
                raise RunError(
                    f"rank {self.rank} lost the connection to another rank of this run ({first_line(error)}); see the "
                    f"message of that one, and {cure}"
                ) from error
            raise

    @contextlib.contextmanager
    def failing_together(self) -> Iterator[None]:
        """An error within that a user can fix is raised in all processes, which wait for each other at the end.

        Nothing within may wait for another process.
        """
        if self.world_size == 1:
            yield
            return
        error: UserError | None = None
        try:
            yield
        except UserError as caught:
            error = caught
        sentences = self.all_gather_objects(None if error is None else str(error))
        sentence = next((one for one in sentences if one is not None), None)
        if sentence is not None:
            raise error or UserError(sentence)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and the log."""
        return self.rank == 0

    def shard(self, count: int) -> range:
        """This process's part of the numbers 0 .. count-1: consecutive ones, each number in one part only."""
        return range(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The rows [n,..] of all processes, in the order of ranks; n may differ between them."""
        if self.world_size == 1:
            return rows
        counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(self.world_size)]
        dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
        longest = max(int(count) for count in counts)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])

    def all_gather_objects(self, value: Any) -> list[Any]:
        """A value of each process, in the order of ranks."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def any_rank(self, flag: bool | Tensor, device: torch.device) -> bool:
        """Whether the flag is true in any process."""
        if self.world_size == 1:
            return bool(flag)
        count = torch.as_tensor(flag, device=device).to(torch.int32)
        dist.all_reduce(count, dist.ReduceOp.MAX)
        return bool(count)

    def mean_values(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self.world_size == 1:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        dist.all_reduce(numbers)
        return dict(zip(values, (numbers / self.world_size).tolist(), strict=True))

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum of a tensor over the processes; gradients flow back to all of them."""
        return values if self.world_size == 1 else all_reduce(values)  # type: ignore[no-untyped-call]

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes; gradients flow back to all of them."""
        return values if self.world_size == 1 else self.all_reduce(values) / self.world_size

    def gather_batch(self, rows: Tensor) -> Tensor:
        """The whole batch from the parts [n,..] of the processes, n equal, in the order of one process; differentiable.

        Unlike `all_gather_rows` it does not wait for the device.
        """
        if self.world_size == 1:
            return rows
        # A sum with zeros: torch's all_gather mixes up gradients that are transposed (gloo, torch 2.11).
        kind = torch.uint8 if rows.dtype == torch.bool else rows.dtype
        parts = torch.zeros(len(rows), self.world_size, *rows.shape[1:], dtype=kind, device=rows.device)
        parts[:, self.rank] = rows
        return self.all_reduce(parts).flatten(0, 1).to(rows.dtype)

    def barrier(self) -> None:
        """Wait until all processes reach this point."""
        if self.world_size > 1:
            dist.barrier()
