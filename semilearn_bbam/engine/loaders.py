"""USB's data loaders and samplers over the pools of a run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from semilearn.datasets import DistributedSampler
from torch.utils.data import DataLoader

from semilearn_bbam.data.pool import Pool, collate
from semilearn_bbam.engine.usb_adapter import usb_loader
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.distributed import World

SINGLE_PROCESS = World()


class SeededSampler(DistributedSampler):
    """USB's sampler with an order that follows the run's seed.

    USB seeds its permutation with the epoch only, so that every run, and every loader of a run, has the same order.
    `shuffle=False` keeps the pool's order, as the released code does.
    """

    def __init__(
        self,
        pool: Pool,
        num_samples: int,
        *,
        seed: int,
        stream: int,
        shuffle: bool = True,
        world: World = SINGLE_PROCESS,
    ) -> None:
        super().__init__(pool, num_replicas=world.world_size, rank=world.rank, num_samples=num_samples)
        self.seed, self.stream, self.shuffle = seed, stream, shuffle
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by USB's DistSamplerSeedHook; `epoch` becomes the seed of the permutation."""
        key = torch.tensor([self.seed, self.stream, epoch], dtype=torch.int64)
        mixed = (key * torch.tensor([1_000_003, 7_919, 104_729])).sum() % (2**31 - 1)
        super().set_epoch(int(mixed))

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            return super().__iter__()
        rows = range(self.rank, self.total_size, self.num_replicas)
        return (row % len(self.dataset) for row in rows)


def training_loader(
    args: argparse.Namespace, pool: Pool, batch_size: int, steps: int, stream: int, world: World = SINGLE_PROCESS
) -> DataLoader:
    """A loader of exactly `steps` full batches; a smaller pool is read repeatedly.

    `batch_size` is that of all processes together, which share each batch, and pass their parts of it in those of
    `gradient_accumulation`. UserError if they cannot.
    """
    parts = world.world_size * args.gradient_accumulation
    if world.world_size > 1 and batch_size % parts:
        each = "" if parts == world.world_size else f" in {args.gradient_accumulation} parts each"
        raise UserError(
            f"a batch of {batch_size} cannot be shared by {world.world_size} processes{each}; make it a multiple of "
            f"{parts}"
        )
    sampler = SeededSampler(pool, steps * batch_size, seed=args.seed, stream=stream, shuffle=args.shuffle, world=world)
    return usb_loader(args, pool, batch_size // world.world_size, collate, data_sampler=sampler)


def reading_loader(args: argparse.Namespace, pool: Pool, world: World = SINGLE_PROCESS) -> DataLoader:
    """A loader that reads this process's part of the pool once, in order; no row is in two parts.

    UserError if one of several processes would get none.
    """
    if 0 < len(pool) < world.world_size:
        raise UserError(f"{len(pool)} row(s) cannot be read by {world.world_size} processes; start fewer")
    if world.world_size > 1:
        pool = pool.part(world.shard(len(pool)))
    return usb_loader(args, pool, args.eval_batch_size, collate, data_sampler=None, drop_last=False)
