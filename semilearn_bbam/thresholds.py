"""Thresholds per label that make the decisions on labelled data as good as a metric says.

Source: MAT, metric-adaptive thresholding (Xiao et al., ECCV 2024, arXiv 2407.18624).
"""

from __future__ import annotations

import torch
from torch import Tensor

from semilearn_bbam.angles import full_precision, require_same_shape

# The source's grid, 0 to 0.99 in steps of 0.01.
GRID_SIZE = 100
FORMS = ("standard", "released")
TIES = ("lowest", "middle", "highest")
# Relative difference below which two values of F are the same: several orders above rounding.
SAME = 1e-12
# Rows that are counted at once: what is held beside the table of scores is a few times this many rows.
CHUNK = 16_384


def f_beta_thresholds(
    scores: Tensor,
    targets: Tensor,
    *,
    beta: float = 0.5,
    form: str = "standard",
    ties: str = "lowest",
    grid_size: int = GRID_SIZE,
) -> tuple[Tensor, Tensor]:
    """Threshold t of 0, 1/G, ..., (G-1)/G per label whose decisions `score >= t` have the highest F_beta.

        standard:  F = (1 + beta^2) P R / (beta^2 P + R) = (1 + beta^2) TP / (beta^2 (TP + FN) + TP + FP)
        released:  F = (1 + beta^2) P R / (beta P + R)   the released code's, whose thresholds are those of the
                                                         standard form with sqrt(beta) in place of beta

    P is precision, R recall, G `grid_size`. scores [N,K] in [0, 1], targets [N,K] of 0 and 1, beta > 0 -> thresholds
    [K] in the precision of the scores (float32 or better), and F [K] in float64, at most 1 in the standard form. Of
    several best thresholds `ties` takes the lowest, as the source does, the highest, or the middle one (of an even
    number the lower): where rows are separated, these lie next above the highest negative, next below the lowest
    positive, and between. A label without positives gets inf, which no score reaches, and an F of 0; one with a single
    positive is treated as any other. Scores are counted in bins between grid points, exactly, in chunks of rows:
    memory is O(G K) beside the inputs, time O(N K log G). ValueError for shapes that differ, scores that are NaN or
    outside [0, 1], beta that is not positive and finite, another form or rule for ties, or a grid below 1.
    """
    require_same_shape(scores=scores, targets=targets)
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if ties not in TIES:
        raise ValueError(f"ties must be one of {', '.join(TIES)}, got {ties!r}")
    if not 0 < beta < float("inf") or grid_size < 1:
        raise ValueError(f"beta must be positive and finite and grid_size at least 1, got {beta} and {grid_size}")
    scores = full_precision(scores.detach())
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("scores must lie in [0, 1]; NaN or larger ones point to a diverged model")

    grid = (torch.arange(grid_size, dtype=torch.float64, device=scores.device) / grid_size).to(scores.dtype)
    predicted = torch.zeros(grid_size, scores.shape[1], dtype=torch.int64, device=scores.device)
    true_positive = torch.zeros_like(predicted)
    for start in range(0, len(scores), CHUNK):
        rows, known = scores[start : start + CHUNK], targets[start : start + CHUNK] > 0
        predicted += _per_bin(rows, grid, torch.ones_like(known))
        true_positive += _per_bin(rows, grid, known)
    # A score reaches the grid points of its own bin and of all lower ones.
    predicted, true_positive = (counts.flip(0).cumsum(0).flip(0).double() for counts in (predicted, true_positive))

    positive = true_positive[0]  # every score reaches 0
    weight = beta**2 if form == "standard" else beta
    f = (1 + beta**2) * true_positive / (weight * positive + predicted)
    f = torch.where(positive > 0, f, 0.0)
    value = f.amax(dim=0)
    equal = f >= value * (1 - SAME)
    number = equal.sum(dim=0)
    wanted = {"lowest": torch.ones_like(number), "middle": (number + 1) // 2, "highest": number}[ties]
    best = (equal.cumsum(dim=0) >= wanted).int().argmax(dim=0)  # the first of equals
    thresholds = torch.where(positive > 0, grid[best], float("inf"))
    return thresholds, value


def _per_bin(scores: Tensor, grid: Tensor, counted: Tensor) -> Tensor:
    """How many of the counted scores of each label have this grid point as their highest one: [G,K]."""
    num_labels = scores.shape[1]
    bins = torch.searchsorted(grid, scores.contiguous(), right=True) - 1
    places = bins * num_labels + torch.arange(num_labels, device=scores.device)
    return torch.bincount(places[counted], minlength=len(grid) * num_labels).view(len(grid), num_labels)
