"""Correctness rates of pseudo-labels, two thresholds per label, and a contrastive loss for the zone between them.

Source: DiCaP (Han et al., AAAI 2026, arXiv 2511.20225). Its text was read second-hand; where the notes leave a choice,
the docstring of the function names it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semilearn_bbam.angles import full_precision, require_same_shape, without_autocast

KNOTS = ("edge", "center")


def _checked_scores(scores: Tensor) -> Tensor:
    """Scores in float32 or better; ValueError for NaN or a value outside [0, 1]."""
    scores = full_precision(scores.detach())
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("scores must lie in [0, 1]; NaN or larger ones point to a diverged model")
    return scores


def correctness_rates(scores: Tensor, targets: Tensor, bins: int = 20) -> Tensor:
    """Share r_b of true positives among the scores in [b/bins, (b+1)/bins), pooled over labels.

    scores [N,K] in [0, 1] (1 belongs to the last bin), targets [N,K] of 0 and 1, N >= 1 -> [bins] in [0, 1]. A bin
    without scores takes the straight line between its nearest filled neighbours, or its only neighbour's rate. The
    labels are pooled, so one with 0 or 1 positives counts as the others do. ValueError for shapes that differ, an
    empty table, bins below 1, or scores outside [0, 1].
    """
    require_same_shape(scores=scores, targets=targets)
    if bins < 1 or scores.numel() == 0:
        raise ValueError(f"needs at least one bin and one score, got {bins} and {scores.numel()}")
    scores = _checked_scores(scores)
    index = (scores * bins).long().clamp(max=bins - 1)
    total = torch.bincount(index.flatten(), minlength=bins)
    positive = torch.bincount(index[targets > 0], minlength=bins)
    rates = positive / total.clamp(min=1)

    # The nearest filled bin on each side; -1 and `bins` where there is none.
    position = torch.arange(bins, device=rates.device)
    filled = total > 0
    left = torch.where(filled, position, -1).cummax(0).values
    right = torch.where(filled, position, bins).flip(0).cummin(0).values.flip(0)
    left, right = torch.where(left < 0, right, left), torch.where(right == bins, left, right)
    share = (position - left) / (right - left).clamp(min=1)
    return torch.lerp(rates[left], rates[right], share)


def correctness_weights(scores: Tensor, pseudo_targets: Tensor, rates: Tensor, knots: str = "edge") -> Tensor:
    """Weight of each pseudo-label: the interpolated rate r(p) of a positive one, 1 - r(p) of a negative one.

    knots="edge" is the formula of the notes, the rate of bin b standing at p = b/bins (with the factor `bins` that
    its two coefficients need to sum to 1); "center" puts it at the middle of its bin. Beyond the outermost knots the
    rate is constant. scores [N,K] in [0, 1], pseudo_targets [N,K] of 0 and 1, rates [bins] -> [N,K] in [0, 1],
    float32 or better. ValueError for shapes that differ, scores outside [0, 1] or other knots.
    """
    require_same_shape(scores=scores, pseudo_targets=pseudo_targets)
    if knots not in KNOTS or rates.ndim != 1 or len(rates) == 0:
        raise ValueError(f"needs rates [bins] and knots of {', '.join(KNOTS)}, got {list(rates.shape)} and {knots!r}")
    scores = _checked_scores(scores)
    last = len(rates) - 1
    place = (scores * len(rates) - (0.5 if knots == "center" else 0.0)).clamp(0, last)
    lower = place.long()
    rate = torch.lerp(rates[lower].to(scores), rates[(lower + 1).clamp(max=last)].to(scores), place - lower)
    return torch.where(pseudo_targets > 0, rate, 1 - rate)


def midrange_thresholds(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Per label tau_pos and tau_neg: half of highest plus lowest score of its positives, and of its negatives.

    scores [N,K] in [0, 1], targets [N,K] of 0 and 1 -> two [K], float32 or better. A label with one positive has
    that one's score as tau_pos; one without positives has tau_pos = inf, one without negatives tau_neg = -inf, which
    no score reaches. ValueError for shapes that differ or scores outside [0, 1].
    """
    require_same_shape(scores=scores, targets=targets)
    scores = _checked_scores(scores)
    infinity = scores.new_full((1, scores.shape[1]), float("inf"))
    middle = []
    for chosen in (targets > 0, targets <= 0):
        # A row of infinities lets a label, or a table, without members through.
        highest = torch.cat([torch.where(chosen, scores, -infinity), -infinity]).amax(0)
        lowest = torch.cat([torch.where(chosen, scores, infinity), infinity]).amin(0)
        middle.append(torch.where(chosen.any(0), (highest + lowest) / 2, infinity[0]))
    tau_pos, tau_neg = middle
    return tau_pos, torch.where(tau_neg.isinf(), -tau_neg, tau_neg)


def dual_threshold_labels(scores: Tensor, tau_pos: Tensor, tau_neg: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-labels by two thresholds: 1 where p > tau_pos, else 0 where p < tau_neg, else ambiguous.

    scores [N,K], tau_pos and tau_neg [K] -> targets [N,K] float32 of 0 and 1 (0 where ambiguous) and ambiguous
    [N,K] bool. Where tau_neg > tau_pos the first case goes first, as the notes list them, and nothing is ambiguous.
    ValueError for shapes that do not fit.
    """
    if scores.ndim != 2 or tau_pos.shape != scores.shape[1:] or tau_neg.shape != scores.shape[1:]:
        shapes = [list(t.shape) for t in (scores, tau_pos, tau_neg)]
        raise ValueError(f"scores must be [N, K] and both thresholds [K], got {shapes}")
    positive = scores > tau_pos
    return positive.float(), ~positive & ~(scores < tau_neg)


@dataclass(frozen=True, eq=False)
class WeightedLabels:
    """Pseudo-labels of a pool, [N,K] of 0 and 1; their weights in [0, 1], 0 where ambiguous; the ambiguous entries."""

    pseudo_targets: Tensor
    weights: Tensor
    ambiguous: Tensor

    @classmethod
    def estimate(
        cls, scores: Tensor, *, labeled: tuple[Tensor, Tensor], estimation: tuple[Tensor, Tensor], bins: int, knots: str
    ) -> WeightedLabels:
        """Label a pool by its scores [N,K]: thresholds from `labeled`, correctness rates from `estimation`.

        Both are pairs of scores [n,K] in [0, 1] and targets [n,K]; rows that training reads belong to the first only,
        since a rate that is measured on them is too high. Errors and labels with few positives as in the functions
        used: `midrange_thresholds`, `dual_threshold_labels`, `correctness_rates`, `correctness_weights`.
        """
        pseudo, ambiguous = dual_threshold_labels(scores, *midrange_thresholds(*labeled))
        weights = correctness_weights(scores, pseudo, correctness_rates(*estimation, bins), knots)
        return cls(pseudo, weights.masked_fill(ambiguous, 0.0), ambiguous)

    def summary(self) -> dict[str, float]:
        """Shares of positive and of ambiguous entries, and the mean weight of positives and of negatives."""
        positive = self.pseudo_targets > 0
        return {
            "pseudo_positive_rate": float(self.pseudo_targets.mean()),
            "ambiguous_rate": float(self.ambiguous.float().mean()),
            "weight_pos_mean": float(self.weights[positive].mean()),
            "weight_neg_mean": float(self.weights[~positive & ~self.ambiguous].mean()),
        }


def class_embeddings(features: Tensor, class_weights: Tensor) -> Tensor:
    """One vector per sample and label, z_i * W_k: the terms whose sum is the logit of a linear head, less its bias.

    features [B,D], class_weights [K,D] -> [B,K,D], float32 or better; no gradient reaches the weights. It stands in
    for the label-wise outputs of the decoder that the source has. ValueError for widths that differ.
    """
    if features.ndim != 2 or class_weights.ndim != 2 or features.shape[1] != class_weights.shape[1]:
        shapes = list(features.shape), list(class_weights.shape)
        raise ValueError(f"features and class_weights must be [B, D] and [K, D], got {shapes[0]} and {shapes[1]}")
    return full_precision(features).unsqueeze(1) * full_precision(class_weights.detach()).unsqueeze(0)


def class_contrastive_loss(first: Tensor, second: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """InfoNCE within each label between two views: -log exp(u.u+ / T) / sum_{v != u} exp(u.v / T), the views' mean.

    u and v are normalised embeddings of one label whose entry the mask keeps, both views of it; u+ is the other view
    of u's own entry. The notes sum over 2B embeddings without naming the label: contrasting within one is our reading.
    first and second [B,K,D], mask [B,K] bool -> [B,K], >= 0, float32 or better also under autocast, 0 where the mask
    is False and where it keeps a label's only entry. A zero embedding has similarity 0 to all. Memory: K (2B)^2
    similarities. ValueError for shapes that do not fit or a temperature that is not positive.
    """
    if first.ndim != 3 or first.shape != second.shape or mask.shape != first.shape[:2]:
        shapes = [list(t.shape) for t in (first, second, mask)]
        raise ValueError(f"both views must be [B, K, D] and mask [B, K], got {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    batch = first.shape[0]
    with without_autocast(first):
        both = full_precision(torch.cat([first, second])).transpose(0, 1)  # [K, 2B, D]
        norm = torch.linalg.vector_norm(both, dim=2, keepdim=True)
        unit = both / torch.where(norm > 0, norm, torch.ones_like(norm))
        similarity = unit @ unit.transpose(1, 2) / temperature
        kept = mask.repeat(2, 1).T  # [K, 2B]
        itself = torch.eye(2 * batch, dtype=torch.bool, device=mask.device)
        others = kept.unsqueeze(1) & ~itself
        partner = similarity.diagonal(batch, 1, 2).repeat(1, 2)
        # An entry outside the mask competes with its own partner only, which gives it the finite value 0.
        alone = itself.roll(batch, 1) & ~kept.unsqueeze(2)
        competing = similarity.masked_fill(~((others & kept.unsqueeze(2)) | alone), float("-inf"))
        loss = competing.logsumexp(2) - partner
        return torch.where(kept, loss, torch.zeros_like(loss)).view(len(both), 2, batch).mean(1).T
