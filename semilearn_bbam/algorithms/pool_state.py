"""The state of BBAM between two refreshes, and how a refresh estimates it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.bits import LabelBits
from semilearn_bbam.nets.ensemble import for_branches
from semilearn_bbam.pool_blocks import Features, PoolEstimate, PoolOptions, estimate_pool
from semilearn_bbam.selection import ALONE, Shards

_BITS = ("pseudo", "beta_lb", "beta_ulb")


@dataclass(frozen=True)
class PoolState:
    """Pseudo-labels [N_u,K] and masks beta of labelled [N_l,H K] and unlabelled rows [N_u,H K], as bits; statistics.

    H is the number of branches of the net, and the statistics are those of H K columns; positive_rate is the share of
    pseudo-positives. Optional weights: `weights` [N_u,K] of pseudo-labels, `weights_lb` [N_l,K] of labelled rows; None
    for 1. `targets_lb` [N_l,K] are the targets of labelled rows with pseudo-labels in their unknown cells, None where
    there are none.
    """

    pseudo: LabelBits
    beta_lb: LabelBits
    beta_ulb: LabelBits
    statistics: AngleStatistics
    positive_rate: float
    weights: Tensor | None = None
    weights_lb: Tensor | None = None
    targets_lb: Tensor | None = None

    def labeled_weights(self, rows: Tensor) -> Tensor:
        """beta of these labelled rows times their weights, [B,H K]."""
        beta = self.beta_lb.rows(rows)
        return beta if self.weights_lb is None else beta * for_branches(self.weights_lb[rows], beta)

    def pool_weights(self, rows: Tensor) -> Tensor:
        """beta of these rows of the pool times their weights, [B,H K]."""
        beta = self.beta_ulb.rows(rows)
        return beta if self.weights is None else beta * for_branches(self.weights[rows], beta)

    def state_dict(self) -> dict[str, Any]:
        optional = {"weights": self.weights, "weights_lb": self.weights_lb, "targets_lb": self.targets_lb}
        return {
            **{name: getattr(self, name).packed for name in _BITS},
            "num_labels": self.pseudo.num_labels,
            "positive_rate": self.positive_rate,
            "statistics": self.statistics.state_dict(),
            **{name: value for name, value in optional.items() if value is not None},
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> PoolState:
        optional = ("weights", "weights_lb", "targets_lb")
        return cls(
            *(LabelBits(state[name].to(device), state["num_labels"]) for name in _BITS),
            AngleStatistics.from_state_dict(state["statistics"]).to(device),
            state["positive_rate"],
            **{name: state[name].to(device) if name in state else None for name in optional},
        )

    def summary(self) -> dict[str, float]:
        """The row of a refresh."""
        return {
            **angle_summary(self.statistics),
            "pseudo_positive_rate": self.positive_rate,
            **({} if self.weights is None else {"weight_mean": float(self.weights.mean())}),
        }


def angle_summary(statistics: AngleStatistics) -> dict[str, float]:
    """Means over usable labels of angle variances, in squared radians, and of their difference (VDFD)."""
    usable = statistics.usable
    return {
        "vdfd_mean": float(statistics.difference()[usable].mean()),
        "var_pos_mean": float(statistics.var_pos[usable].mean()),
        "var_neg_mean": float(statistics.var_neg[usable].mean()),
    }


def columns_of(scores: Tensor) -> Callable[[int, int], Tensor]:
    """Scores [N,K] in memory as `estimate_pool` takes them."""
    return lambda start, stop: scores[:, start:stop].float().T.contiguous()


def refreshed(
    scores: Callable[[int, int], Tensor],
    labeled: Features,
    pool: Features,
    targets_lb: Tensor,
    positive_rate: Tensor,
    args: argparse.Namespace,
    generator: torch.Generator,
    previous: PoolState | None,
    *,
    num_pool: int,
    valid_lb: Tensor | None = None,
    known_lb: Tensor | None = None,
    shards: Shards = ALONE,
) -> PoolState:
    """The state after `pool_blocks.estimate_pool`, whose arguments these are, with the bits of all processes.

    targets_lb [n_l,K], valid_lb and known_lb are those of this process; known_lb: the cells of labelled rows whose
    label is known, where some are unknown.
    """
    options = PoolOptions(
        eta=args.eta,
        candidate_ratio=args.candidate_ratio,
        positive_share=args.positive_share,
        negative_share=args.negative_share,
        sampled=args.negatives == "sampled",
        balanced_over_sampled=args.statistics_negatives == "sampled",
        momentum=args.statistics_momentum,
        num_branches=args.num_branches,
    )
    estimate = estimate_pool(
        scores, labeled, pool, targets_lb, positive_rate, options, generator, num_pool=num_pool, valid_lb=valid_lb,
        previous=None if previous is None else previous.statistics, shards=shards,
    )  # fmt: skip
    state = joined(estimate, targets_lb.shape[1], num_pool, shards)
    if args.labeled_negatives == "refresh":
        return state
    known = None if known_lb is None else shards.all_gather_rows(known_lb)
    valid = None if valid_lb is None else shards.all_gather_rows(valid_lb)
    beta_lb = state.beta_lb.whole
    if args.labeled_negatives == "all":
        beta_lb = torch.ones_like(beta_lb) if known is None or valid is None else for_branches(valid, beta_lb)
    elif previous is not None:  # frozen
        before = previous.beta_lb.whole
        # Pseudo-labels are not frozen.
        beta_lb = before if known is None else torch.where(for_branches(known, before), before, beta_lb)
    return replace(state, beta_lb=LabelBits.of(beta_lb, args.num_branches))


def joined(estimate: PoolEstimate, num_labels: int, num_pool: int, shards: Shards) -> PoolState:
    """The estimates of all processes as one state, which each of them has."""
    packed = (estimate.pseudo.unsqueeze(1), estimate.beta_lb, estimate.beta_ulb)
    bits = (LabelBits(shards.all_gather_rows(part), num_labels) for part in packed)
    rate = estimate.num_positive / max(num_pool * num_labels, 1)
    return PoolState(*bits, estimate.statistics, rate)
