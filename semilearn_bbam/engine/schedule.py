"""The length of each stage in epochs and steps; the optimiser and the schedule of its learning rate."""

from __future__ import annotations

import argparse
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semilearn.core.utils import get_cosine_schedule_with_warmup, get_optimizer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from semilearn_bbam.config import ARRAYS, stage_conflicts
from semilearn_bbam.errors import UserError


@dataclass(frozen=True)
class StagePlan:
    """`warmup_epochs` epochs of `warmup_steps` optimiser steps, then epochs of `steps` steps, `epochs` in all.

    since: the first epoch of the current cycle of the learning rate's schedule.
    """

    epochs: int
    warmup_epochs: int
    warmup_steps: int
    steps: int
    since: int = 0

    def in_warmup(self, epoch: int) -> bool:
        return epoch < self.warmup_epochs

    def first_step(self, epoch: int) -> int:
        """Steps done before this epoch begins."""
        warm = min(epoch, self.warmup_epochs)
        return warm * self.warmup_steps + (epoch - warm) * self.steps

    def epochs_done(self, it: int) -> float:
        """Epochs done after `it` steps, with the fraction of the current one."""
        warm = self.first_step(self.warmup_epochs)
        return it / self.warmup_steps if it < warm else self.warmup_epochs + (it - warm) / self.steps

    def whole_epochs(self, it: int) -> int:
        """Epochs that are complete after `it` steps."""
        return bisect_right(range(self.epochs + 1), it, key=self.first_step) - 1

    @property
    def total(self) -> int:
        return self.first_step(self.epochs)

    @property
    def cycle_steps(self) -> int:
        """Steps of the current cycle."""
        return self.total - self.first_step(self.since)


def unlabeled_batch_size(values: Mapping[str, Any]) -> int:
    """`ulb_batch_size`, or USB's `batch_size * uratio` where that is 0. values: all options."""
    return int(values["ulb_batch_size"] or values["batch_size"] * values["uratio"])


def plan_stages(args: argparse.Namespace, num_labeled: int, num_unlabeled: int) -> StagePlan:
    """Steps from the pools and the batch sizes: one pass over the labelled part in a warm-up epoch, one pass over the
    unlabelled pool in a semi-supervised one (over the labelled part where the pool is empty).

    `num_train_iter` spreads that many steps evenly over all epochs instead, as in USB; `warmup_iter_per_epoch`
    fixes the length of a warm-up epoch. With `encoder`, and on arrays, no semi-supervised epoch is shorter than that: a
    small pool would otherwise be passed over in a few steps, at the end of the learning rate's schedule. The plan is
    the same for every algorithm, so a supervised-only run takes exactly as many steps. UserError for settings that
    conflict.
    """
    for _, sentence in stage_conflicts(vars(args)):
        raise UserError(sentence)
    if args.num_train_iter:
        steps_per_epoch = args.num_train_iter // args.epoch
        return StagePlan(args.epoch, args.warmup_epochs, args.warmup_iter_per_epoch or steps_per_epoch, steps_per_epoch)
    labeled_pass = math.ceil(num_labeled / args.warmup_batch_size)
    steps = math.ceil(num_unlabeled / unlabeled_batch_size(vars(args))) if num_unlabeled else labeled_pass
    if args.encoder or args.dataset == ARRAYS:
        steps = max(steps, args.warmup_iter_per_epoch)
    return StagePlan(args.epoch, args.warmup_epochs, args.warmup_iter_per_epoch or labeled_pass, steps)


def build_optimizer(model: nn.Module, args: argparse.Namespace) -> Optimizer:
    """USB's optimiser of a model's weights. SGD without momentum is plain SGD; with momentum it is Nesterov's."""
    optimizer: Optimizer = get_optimizer(
        model,
        args.optim,
        args.lr,
        args.momentum,
        args.weight_decay,
        args.layer_decay,
        nesterov=args.momentum > 0,
    )
    return optimizer


def build_scheduler(optimizer: Optimizer, args: argparse.Namespace, total: int) -> LRScheduler:
    """The schedule that `scheduler` names, over `total` steps from 1 on; `lr` is its peak."""
    if args.scheduler == "onecycle":
        return one_cycle(optimizer, total, args.pct_start)
    scheduler: LRScheduler = get_cosine_schedule_with_warmup(optimizer, total, num_warmup_steps=args.num_warmup_iter)
    return scheduler


def one_cycle(optimizer: Optimizer, total: int, pct_start: float) -> OneCycleLR:
    """torch's OneCycleLR for every total from 1 on and every pct_start in [0, 1].

    The rate rises until step `pct_start * total - 1`, counted from 0, and falls until the last one; torch divides by
    the length of both parts. A rise that ends at step 0 leaves that step at the peak. A fall after the last step
    ends one step later, with a rate that no step takes. SGD without momentum keeps none, as torch's momentum would
    rise and fall against the rate.
    """
    if pct_start == 1:
        total, pct_start = total + 1, total / (total + 1)
    if pct_start * total == 1:
        pct_start = (1 - 1e-9) / total
    peaks: list[Any] = [group["lr"] for group in optimizer.param_groups]
    keeps_momentum = optimizer.defaults.get("momentum") != 0  # AdamW has betas instead
    return OneCycleLR(optimizer, peaks, total_steps=total, pct_start=pct_start, cycle_momentum=keeps_momentum)
