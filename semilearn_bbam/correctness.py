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


def correctness_rates(scores: Tensor, targets: Tensor, bins: int = 20, known: Tensor | None = None) -> Tensor:
    """Share of true positives among the scores of each bin, pooled over labels.

        r_b = positives / all, of the scores in [b/bins, (b+1)/bins); a score of 1 belongs to the last bin

    Args:
        scores: [N,K] in [0, 1], not empty.
        targets: [N,K] of 0 and 1.
        bins: number of bins, at least 1.
        known: [N,K] bool; cells where it is False count nowhere. None: all are known.

    Returns:
        r, [bins] in [0, 1]. A bin without scores takes the straight line between its nearest filled neighbours, or
        its only neighbour's rate. A label with 0 or 1 positives counts as the others do.

    Raises:
        ValueError: shapes that differ, an empty table, bins below 1, or scores outside [0, 1].

    Example:
        >>> correctness_rates(torch.tensor([[0.1, 0.2], [0.9, 0.8]]), torch.tensor([[0, 0], [1, 0]]), bins=4)
        tensor([0.0000, 0.1667, 0.3333, 0.5000])
    """
    require_same_shape(scores=scores, targets=targets, known=known)
    if known is not None:
        scores, targets = scores[known], targets[known]
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

        knots    rate of bin b is at
        edge     p = b / bins            the notes' formula, with the factor `bins` for its coefficients to sum to 1
        center   p = (b + 1/2) / bins

    Args:
        scores: p, [N,K] in [0, 1].
        pseudo_targets: [N,K] of 0 and 1.
        rates: r, [bins] in [0, 1], as from `correctness_rates`.
        knots: "edge" or "center".

    Returns:
        [N,K] in [0, 1], float32 or better. Beyond the outermost knots the rate is constant.

    Raises:
        ValueError: shapes that differ, scores outside [0, 1], or other knots.

    Example:
        >>> correctness_weights(torch.tensor([[0.25, 0.25]]), torch.tensor([[1, 0]]), torch.tensor([0.0, 0.5]))
        tensor([[0.2500, 0.7500]])
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


def midrange_thresholds(scores: Tensor, targets: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two thresholds per label, the middle of its positives' scores and that of its negatives'.

        tau_pos = (max + min) / 2 of the scores of the positives, tau_neg likewise of the negatives

    Args:
        scores: [N,K] in [0, 1].
        targets: [N,K] of 0 and 1.
        known: [N,K] bool; cells where it is False count nowhere. None: all are known.

    Returns:
        tau_pos and tau_neg, each [K], float32 or better. A label with one positive has its score as tau_pos; one
        without positives has tau_pos = inf, one without negatives tau_neg = -inf, which no score passes.

    Raises:
        ValueError: shapes that differ, or scores outside [0, 1].

    Example:
        >>> scores = torch.tensor([[1.0, 0.5], [0.5, 0.5], [0.25, 0.0]])
        >>> midrange_thresholds(scores, torch.tensor([[1, 0], [1, 0], [0, 0]]))
        (tensor([0.7500,    inf]), tensor([0.2500, 0.2500]))
    """
    require_same_shape(scores=scores, targets=targets, known=known)
    scores = _checked_scores(scores)
    counted = torch.ones_like(scores, dtype=torch.bool) if known is None else known.bool()
    infinity = scores.new_full((1, scores.shape[1]), float("inf"))
    midranges = []
    for members in ((targets > 0) & counted, (targets <= 0) & counted):
        # A row of infinities lets a label, or a table, without members through.
        highest = torch.cat([torch.where(members, scores, -infinity), -infinity]).amax(0)
        lowest = torch.cat([torch.where(members, scores, infinity), infinity]).amin(0)
        midranges.append(torch.where(members.any(0), (highest + lowest) / 2, infinity[0]))
    tau_pos, tau_neg = midranges
    return tau_pos, torch.where(tau_neg.isinf(), -tau_neg, tau_neg)


def dual_threshold_labels(scores: Tensor, tau_pos: Tensor, tau_neg: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-labels by two thresholds.

        1 where p > tau_pos, else 0 where p < tau_neg, else ambiguous

    Args:
        scores: p, [N,K].
        tau_pos: [K].
        tau_neg: [K]; where it is above tau_pos the first case goes first and nothing is ambiguous.

    Returns:
        Targets [N,K], float32 of 0 and 1 (0 where ambiguous), and ambiguous [N,K], bool.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> scores = torch.tensor([[0.9], [0.5], [0.1]])
        >>> targets, ambiguous = dual_threshold_labels(scores, torch.tensor([0.7]), torch.tensor([0.3]))
        >>> targets.T, ambiguous.T
        (tensor([[1., 0., 0.]]), tensor([[False,  True, False]]))
    """
    if scores.ndim != 2 or tau_pos.shape != scores.shape[1:] or tau_neg.shape != scores.shape[1:]:
        shapes = [list(t.shape) for t in (scores, tau_pos, tau_neg)]
        raise ValueError(f"scores must be [N, K] and both thresholds [K], got {shapes}")
    positive = scores > tau_pos
    return positive.float(), ~positive & ~(scores < tau_neg)


@dataclass(frozen=True, eq=False)
class WeightedLabels:
    """Pseudo-labels of a pool with the weights of their terms.

    Args:
        pseudo_targets: [N,K] of 0 and 1.
        weights: [N,K] in [0, 1], 0 where ambiguous.
        ambiguous: [N,K], bool.

    Example:
        >>> known = torch.tensor([[0.9], [0.7], [0.4], [0.2]]), torch.tensor([[1], [1], [0], [0]])
        >>> scores = torch.tensor([[0.95], [0.5], [0.1]])
        >>> labels = WeightedLabels.estimate(scores, labeled=known, estimation=known, bins=2, knots="center")
        >>> labels.weights.T, labels.ambiguous.T
        (tensor([[1., 0., 1.]]), tensor([[False,  True, False]]))
    """

    pseudo_targets: Tensor
    weights: Tensor
    ambiguous: Tensor

    @classmethod
    def estimate(
        cls,
        scores: Tensor,
        *,
        labeled: tuple[Tensor, Tensor],
        estimation: tuple[Tensor, Tensor],
        bins: int,
        knots: str,
        labeled_known: Tensor | None = None,
        estimation_known: Tensor | None = None,
    ) -> WeightedLabels:
        """Label a pool by its scores: thresholds from `labeled`, correctness rates from `estimation`.

        Args:
            scores: those of the pool, [N,K] in [0, 1].
            labeled: scores [n,K] in [0, 1] and targets [n,K] of the rows that `midrange_thresholds` reads.
            estimation: the same of the rows that `correctness_rates` reads. Rows that training reads do not belong
                here: a rate that is measured on them is too high.
            bins: as in `correctness_rates`.
            knots: as in `correctness_weights`.
            labeled_known: [n,K] bool, which cells of `labeled` are known; None: all.
            estimation_known: the same of `estimation`.

        Returns:
            Labels of the pool. A label without positives in `labeled` gets none.

        Raises:
            ValueError: as in the functions used.
        """
        pseudo, ambiguous = dual_threshold_labels(scores, *midrange_thresholds(*labeled, labeled_known))
        rates = correctness_rates(*estimation, bins, estimation_known)
        weights = correctness_weights(scores, pseudo, rates, knots)
        return cls(pseudo, weights.masked_fill(ambiguous, 0.0), ambiguous)

    def within(self, unknown: Tensor, targets: Tensor) -> WeightedLabels:
        """These labels in the cells [N,K] that are unknown, and the targets [N,K], at weight 1, in the others."""
        return WeightedLabels(
            torch.where(unknown, self.pseudo_targets, targets),
            torch.where(unknown, self.weights, 1.0),
            self.ambiguous & unknown,
        )

    def summary(self) -> dict[str, float]:
        """Shares of positive and of ambiguous entries, and the mean weight of positives and of negatives, in [0, 1]."""
        positive = self.pseudo_targets > 0
        return {
            "pseudo_positive_rate": float(self.pseudo_targets.mean()),
            "ambiguous_rate": float(self.ambiguous.float().mean()),
            "weight_pos_mean": float(self.weights[positive].mean()),
            "weight_neg_mean": float(self.weights[~positive & ~self.ambiguous].mean()),
        }


def class_embeddings(features: Tensor, class_weights: Tensor) -> Tensor:
    """One vector per sample and label: the terms whose sum is the logit of a linear head, less its bias.

        z_i * W_k, elementwise; in place of the label-wise outputs of the source's decoder

    Args:
        features: z, [B,D].
        class_weights: W, [K,D]; no gradient reaches them.

    Returns:
        [B,K,D], float32 or better.

    Raises:
        ValueError: widths that differ.

    Example:
        >>> class_embeddings(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]]))
        tensor([[[3., 0.],
                 [1., 2.]]])
    """
    if features.ndim != 2 or class_weights.ndim != 2 or features.shape[1] != class_weights.shape[1]:
        shapes = list(features.shape), list(class_weights.shape)
        raise ValueError(f"features and class_weights must be [B, D] and [K, D], got {shapes[0]} and {shapes[1]}")
    return full_precision(features).unsqueeze(1) * full_precision(class_weights.detach()).unsqueeze(0)


def class_contrastive_loss(first: Tensor, second: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """InfoNCE within each label between two views, averaged over the views.

        -log exp(u . u+ / T) / sum_{v != u} exp(u . v / T)

    u and v are normalised embeddings of one label whose entry the mask keeps, both views of it; u+ is the other view
    of u's entry. The notes sum over 2B embeddings without naming the label: contrasting within one is our reading.

    Args:
        first: one view, [B,K,D].
        second: the other, [B,K,D].
        mask: [B,K], bool.
        temperature: T > 0.

    Returns:
        Element losses [B,K], >= 0, float32 or better also under autocast; 0 where the mask is False and where it keeps
        a label's only entry. A zero embedding has similarity 0 to all. Memory: K (2B)^2 similarities.

    Raises:
        ValueError: shapes that do not fit, or a temperature that is not positive.

    Example:
        >>> views = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]])
        >>> mask = torch.tensor([[True], [True], [False]])
        >>> class_contrastive_loss(views, views, mask, temperature=1.0).T
        tensor([[0.5514, 0.5514, 0.0000]])
    """
    if first.ndim != 3 or first.shape != second.shape or mask.shape != first.shape[:2]:
        shapes = [list(t.shape) for t in (first, second, mask)]
        raise ValueError(f"both views must be [B, K, D] and mask [B, K], got {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    batch = first.shape[0]
    with without_autocast(first):
        views = full_precision(torch.cat([first, second])).transpose(0, 1)  # [K, 2B, D]
        norm = torch.linalg.vector_norm(views, dim=2, keepdim=True)
        unit = views / torch.where(norm > 0, norm, torch.ones_like(norm))
        similarity = unit @ unit.transpose(1, 2) / temperature
        kept = mask.repeat(2, 1).T  # [K, 2B]
        diagonal = torch.eye(2 * batch, dtype=torch.bool, device=mask.device)
        others = kept.unsqueeze(1) & ~diagonal
        partner = similarity.diagonal(batch, 1, 2).repeat(1, 2)
        # An entry outside the mask competes with its own partner only, which gives it the finite value 0.
        partner_only = diagonal.roll(batch, 1) & ~kept.unsqueeze(2)
        competing = similarity.masked_fill(~((others & kept.unsqueeze(2)) | partner_only), float("-inf"))
        loss = competing.logsumexp(2) - partner
        return torch.where(kept, loss, torch.zeros_like(loss)).view(len(views), 2, batch).mean(1).T
