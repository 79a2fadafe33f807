"""Faults of the released code on which its results may depend, to measure them; off by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.config import Conflict, Option
from semilearn_bbam.engine.pools import labeled_pool, read_split
from semilearn_bbam.engine.taught import TaughtAlgorithm
from semilearn_bbam.errors import UserError
from semilearn_bbam.losses import balanced_cosine

# The released scripts draw the warm-up's labelled rows with seed 1000 and the main stage's with seed 1.
SEED_SHIFT = 999


class ReleasedFaults(TaughtAlgorithm):
    """Base class that reproduces two faults of the released code on purpose.

    `reproduce_released_leak`: from the second semi-supervised epoch on the map psi of the *true* label is applied to
    the scores that become pseudo-labels, so that the labels of unlabelled rows reach training.
    `reproduce_released_splits`: the warm-up reads the labelled rows of another split, so that nearly twice as many
    labels are used (none of a validation part). `results.json` reports this under `hidden_labels`, and tables mark such
    a run with a dagger.
    """

    true_targets: Tensor | None = None

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if values["reproduce_released_leak"] and (not values["balance"] or values["num_branches"] > 1):
            yield (
                ("reproduce_released_leak", "balance", "num_branches"),
                "reproduce_released_leak: needs the map of one branch; set balance: true and num_branches: 1",
            )
        if values["reproduce_released_splits"] and values["split_file"]:
            yield (
                ("reproduce_released_splits", "split_file"),
                "reproduce_released_splits: a split_file holds one split; set label_ratio and seed instead",
            )

    def set_dataset(self) -> dict[str, Any]:
        args, source = self.args, self.source
        pools = super().set_dataset()
        if args.reproduce_released_leak:
            rows = pools["train_ulb"].rows
            if (rows >= len(source.targets)).any() or (source.targets[rows] < 0).any():
                raise UserError("reproduce_released_leak: some unlabelled items have no true labels; leave it out")
            self.true_targets = torch.from_numpy(source.targets[rows]).to(self.device, torch.float32)
            self.hidden_labels = "leak"
            self.print_fn("WARNING reproduce_released_leak: pseudo-labels read the TRUE labels of unlabelled rows")
        if args.reproduce_released_splits:
            warmup_split = read_split(args.having(seed=args.seed + SEED_SHIFT), source)
            trained = ~np.isin(warmup_split.labeled, self.split.validation)
            warmup_split = replace(warmup_split, labeled=warmup_split.labeled[trained], weights=None)
            pools["warmup_lb"] = labeled_pool(source, warmup_split, self.views, self.labeled_views)
            self.hidden_labels = "leak"
            self.print_fn("WARNING reproduce_released_splits: the warm-up reads the labels of another labelled split")
        return pools

    def leaked(self, cosine: Tensor, statistics: AngleStatistics | None) -> Tensor:
        """Pool cosines [N_u,K] unchanged, or after the map of their true labels if the leak is reproduced."""
        if self.true_targets is None or statistics is None:
            return cosine
        return balanced_cosine(cosine, self.true_targets, statistics)


RELEASED_OPTIONS = (
    Option(
        "reproduce_released_leak",
        bool,
        False,
        "true: a FAULT of the released code, pseudo-labels that read the true labels of unlabelled rows",
    ),
    Option(
        "reproduce_released_splits",
        bool,
        False,
        "true: a FAULT of the released scripts, a warm-up on the labels of another split",
    ),
)
