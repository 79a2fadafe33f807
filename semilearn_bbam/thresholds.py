"""Thresholds per label whose decisions on labelled data are best by a metric.

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
# Rows that are counted at once: the memory in addition to the table of scores is a few times this many rows.
CHUNK = 16_384


def f_beta_thresholds(
    scores: Tensor,
    targets: Tensor,
    *,
    beta: float = 0.5,
    form: str = "standard",
    ties: str = "lowest",
    grid_size: int = GRID_SIZE,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Threshold of each label whose decisions `score >= t` have the highest F_beta, on the grid 0, 1/G, .., (G-1)/G.

        standard  F = (1 + beta^2) P R / (beta^2 P + R) = (1 + beta^2) TP / (beta^2 (TP + FN) + TP + FP)
        released  F = (1 + beta^2) P R / (beta P + R), the released code's; thresholds as in the first with sqrt(beta)

    P is precision, R recall. Scores are counted in bins between grid points, exactly, in chunks of rows: memory is
    O(G K) in addition to the inputs, time O(N K log G).

    Args:
        scores: [N,K] in [0, 1].
        targets: [N,K] of 0 and 1.
        beta: weight of recall against precision, positive and finite.
        form: "standard" or "released".
        ties: which of several best thresholds: the "lowest", as in the source, the "highest", or the "middle" (of an
            even number the lower). Where rows are separated, these are next above the highest negative, next below the
            lowest positive, and between.
        grid_size: G >= 1.
        known: [N,K] bool; cells where it is False count nowhere. None: all are known.

    Returns:
        Thresholds [K], float32 or better, and F [K], float64, in [0, 1] in the standard form. A label without positives
        gets inf, which no score reaches, and F = 0; one with a single positive is treated as any other.

    Raises:
        ValueError: shapes that differ, scores that are NaN or outside [0, 1], or another argument outside its range.

    Example:
        >>> scores = torch.tensor([[0.9, 0.5], [0.6, 0.5], [0.2, 0.5]])
        >>> f_beta_thresholds(scores, torch.tensor([[1, 0], [1, 0], [0, 0]]), ties="highest")
        (tensor([0.6000,    inf]), tensor([1., 0.], dtype=torch.float64))
        >>> known = torch.tensor([[True, True], [False, True], [True, True]])
        >>> f_beta_thresholds(scores, torch.tensor([[1, 0], [0, 0], [0, 0]]), known=known, ties="highest")[0]
        tensor([0.9000,    inf])
    """
    require_same_shape(scores=scores, targets=targets, known=known)
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
        rows, positives = scores[start : start + CHUNK], targets[start : start + CHUNK] > 0
        counted = torch.ones_like(positives) if known is None else known[start : start + CHUNK].bool()
        predicted += _per_bin(rows, grid, counted)
        true_positive += _per_bin(rows, grid, positives & counted)
    # A score reaches the grid points of its bin and of all lower ones.
    predicted, true_positive = (counts.flip(0).cumsum(0).flip(0).double() for counts in (predicted, true_positive))

    positive = true_positive[0]  # every score reaches 0
    weight = beta**2 if form == "standard" else beta
    f = (1 + beta**2) * true_positive / (weight * positive + predicted)
    f = torch.where(positive > 0, f, 0.0)
    value = f.amax(dim=0)
    equal = f >= value * (1 - SAME)
    num_equal = equal.sum(dim=0)
    rank = {"lowest": torch.ones_like(num_equal), "middle": (num_equal + 1) // 2, "highest": num_equal}[ties]
    best = (equal.cumsum(dim=0) >= rank).int().argmax(dim=0)  # the first of equals
    thresholds = torch.where(positive > 0, grid[best], float("inf"))
    return thresholds, value


def _per_bin(scores: Tensor, grid: Tensor, counted: Tensor) -> Tensor:
    """How many of the counted scores of each label have this grid point as their highest one: [G,K]."""
    num_labels = scores.shape[1]
    bins = torch.searchsorted(grid, scores.contiguous(), right=True) - 1
    places = bins * num_labels + torch.arange(num_labels, device=scores.device)
    return torch.bincount(places[counted], minlength=len(grid) * num_labels).view(len(grid), num_labels)
