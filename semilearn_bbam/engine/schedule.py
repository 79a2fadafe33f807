"""How long each stage lasts: epochs and steps of the warm-up and of the semi-supervised stage."""

from __future__ import annotations

import argparse
import math
from bisect import bisect_right
from dataclasses import dataclass

from semilearn_bbam.config import stage_conflicts
from semilearn_bbam.errors import UserError


@dataclass(frozen=True)
class StagePlan:
    """`warmup_epochs` epochs of `warmup_steps` optimiser steps, then epochs of `steps` steps, `epochs` in all."""

    epochs: int
    warmup_epochs: int
    warmup_steps: int
    steps: int

    def in_warmup(self, epoch: int) -> bool:
        return epoch < self.warmup_epochs

    def first_step(self, epoch: int) -> int:
        """Steps done before this epoch begins."""
        warm = min(epoch, self.warmup_epochs)
        return warm * self.warmup_steps + (epoch - warm) * self.steps

    def epochs_done(self, it: int) -> float:
        """Epochs behind after `it` steps, with the fraction of the one under way."""
        warm = self.first_step(self.warmup_epochs)
        return it / self.warmup_steps if it < warm else self.warmup_epochs + (it - warm) / self.steps

    def whole_epochs(self, it: int) -> int:
        """Epochs that are complete after `it` steps."""
        return bisect_right(range(self.epochs + 1), it, key=self.first_step) - 1

    @property
    def total(self) -> int:
        return self.first_step(self.epochs)


def unlabeled_batch_size(args: argparse.Namespace) -> int:
    """`ulb_batch_size`, or USB's `batch_size * uratio` where that is 0."""
    return args.ulb_batch_size or args.batch_size * args.uratio


def plan_stages(args: argparse.Namespace, num_labeled: int, num_unlabeled: int) -> StagePlan:
    """Steps from the pools and the batch sizes: one pass over the labelled part in a warm-up epoch, one pass over the
    unlabelled pool in a semi-supervised one (over the labelled part where the pool is empty).

    `num_train_iter` spreads that many steps evenly over all epochs instead, as in USB; `warmup_iter_per_epoch`
    fixes the length of a warm-up epoch. The plan is the same for every algorithm, so a supervised-only run takes
    exactly as many steps. Raises UserError for impossible settings.
    """
    for _, sentence in stage_conflicts(vars(args)):
        raise UserError(sentence)
    if args.num_train_iter:
        each = args.num_train_iter // args.epoch
        return StagePlan(args.epoch, args.warmup_epochs, args.warmup_iter_per_epoch or each, each)
    labeled_pass = math.ceil(num_labeled / args.warmup_batch_size)
    steps = math.ceil(num_unlabeled / unlabeled_batch_size(args)) if num_unlabeled else labeled_pass
    return StagePlan(args.epoch, args.warmup_epochs, args.warmup_iter_per_epoch or labeled_pass, steps)
