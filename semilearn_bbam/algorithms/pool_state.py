"""The state of BBAM between two refreshes, and how a refresh estimates it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics, label_angles, label_prototypes
from semilearn_bbam.negatives import sample_negatives
from semilearn_bbam.nets.ensemble import for_branches
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels


@dataclass(frozen=True)
class PoolState:
    """Pseudo-labels [N_u,K], masks beta of labelled and unlabelled rows, the angle statistics, and optional weights.

    beta_lb [N_l,H K], beta_ulb [N_u,H K] and the statistics [H K] are those of a net with H branches; `weights`
    [N_u,K] are those of the terms of pseudo-labels, None for 1. `targets_lb` [N_l,K] are the targets of labelled rows
    with pseudo-labels in their unknown cells, None where there are none.
    """

    pseudo_targets: Tensor
    beta_lb: Tensor
    beta_ulb: Tensor
    statistics: AngleStatistics
    weights: Tensor | None = None
    targets_lb: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "pseudo_targets": self.pseudo_targets.to(torch.uint8),
            "beta_lb": self.beta_lb,
            "beta_ulb": self.beta_ulb,
            "statistics": self.statistics.state_dict(),
            **({} if self.weights is None else {"weights": self.weights}),
            **({} if self.targets_lb is None else {"targets_lb": self.targets_lb.to(torch.uint8)}),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> PoolState:
        return cls(
            state["pseudo_targets"].to(device, torch.float32),
            state["beta_lb"].to(device),
            state["beta_ulb"].to(device),
            AngleStatistics.from_state_dict(state["statistics"]).to(device),
            state["weights"].to(device) if "weights" in state else None,
            state["targets_lb"].to(device, torch.float32) if "targets_lb" in state else None,
        )

    def summary(self) -> dict[str, float]:
        """The row of a refresh: angle variances in squared radians and their mean difference (VDFD)."""
        statistics = self.statistics
        usable = statistics.usable
        return {
            "vdfd_mean": float(statistics.difference()[usable].mean()),
            "var_pos_mean": float(statistics.var_pos[usable].mean()),
            "var_neg_mean": float(statistics.var_neg[usable].mean()),
            "pseudo_positive_rate": float(self.pseudo_targets.mean()),
            **({} if self.weights is None else {"weight_mean": float(self.weights.mean())}),
        }


def pseudo_label(cosine: Tensor, positive_rate: Tensor, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Class-aware pseudo-labels of the pool from raw cosines [N_u,K]: targets and the mask of those that count."""
    return class_aware_pseudo_labels(
        cosine, positive_rate, positive_share=args.positive_share, negative_share=args.negative_share
    )


def estimate_statistics(
    features: Tensor,
    targets_lb: Tensor,
    pseudo_targets: Tensor,
    mask: Tensor,
    args: argparse.Namespace,
    generator: torch.Generator,
    previous: PoolState | None,
    weights: Tensor | None = None,
    valid_lb: Tensor | None = None,
    known_lb: Tensor | None = None,
) -> PoolState:
    """Prototypes, label angles, negative samples and statistics from the features of all rows.

    features [N_l + N_u, D], labelled rows first; targets_lb [N_l,K]; pseudo_targets and mask [N_u,K]. Entries
    outside the mask are neither positive nor negative anywhere; nor are those of labelled rows outside valid_lb
    [N_l,K]. known_lb [N_l,K]: the cells of labelled rows whose label is known, where some are unknown.
    """
    num_lb = len(targets_lb)
    targets = torch.cat([targets_lb, pseudo_targets])
    if valid_lb is None:
        valid_lb = torch.ones_like(targets_lb, dtype=torch.bool)
    valid = torch.cat([valid_lb, mask])
    branches = features.chunk(args.num_branches, dim=1)
    angles = torch.cat([label_angles(z, label_prototypes(z, targets * valid)) for z in branches], dim=1)
    targets, valid, targets_lb = (for_branches(values, angles) for values in (targets, valid, targets_lb))
    if args.negatives == "sampled":
        negatives = sample_negatives(
            angles.cos(), targets, eta=args.eta, candidate_ratio=args.candidate_ratio, generator=generator, valid=valid
        )
    else:
        negatives = valid & (targets == 0)
    beta = negatives | ((targets > 0) & valid)
    beta_lb = beta[:num_lb]
    if args.labeled_negatives == "all":
        beta_lb = valid[:num_lb] if known_lb is not None else torch.ones_like(beta_lb)
    elif args.labeled_negatives == "frozen" and previous is not None:
        beta_lb = previous.beta_lb
        if known_lb is not None:  # pseudo-labels are not frozen
            beta_lb = torch.where(for_branches(known_lb, beta_lb), beta_lb, beta[:num_lb])
    negative_weights = negatives.float() if args.statistics_negatives == "sampled" else None
    previous_statistics = previous.statistics if previous is not None else None
    statistics = update_statistics(
        angles, targets, valid, negative_weights, args.statistics_momentum, previous_statistics
    )
    return PoolState(pseudo_targets, beta_lb, beta[num_lb:], statistics, weights)


def update_statistics(
    angles: Tensor,
    targets: Tensor,
    valid: Tensor,
    negative_weights: Tensor | None,
    momentum: float,
    previous: AngleStatistics | None,
) -> AngleStatistics:
    """Plain estimates (momentum 0, the slides) or the released code's blend with the last epoch's.

    In the latter the first epoch is blended with zeros, and variances are taken around the blended means.
    """
    estimates = AngleStatistics.estimate(angles, targets, negative_weights, valid=valid)
    if momentum == 0:
        return estimates
    if previous is None:
        previous = AngleStatistics(*(torch.zeros_like(estimates.mean_pos) for _ in range(4)))
    means = estimates.blend(previous, momentum)
    center = (means.mean_pos, means.mean_neg)
    recentered = AngleStatistics.estimate(angles, targets, negative_weights, valid=valid, center=center)
    return recentered.blend(previous, momentum)
