"""Class-aware pseudo-labels (CAP): every label gets as many positives as its labelled frequency says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semilearn_bbam.angles import full_precision

# A rate kept in float32 can make rate * N fall just short of a whole number; this much is forgiven.
COUNT_SLACK = 1e-3


def _counts(rate: Tensor, share: float, num_samples: int) -> Tensor:
    return torch.floor(share * rate * num_samples + COUNT_SLACK).to(torch.int64)


def _checked_rate(scores: Tensor, positive_rate: Tensor) -> Tensor:
    """Check scores [N,K] and rates [K]; return the rates in float64 on the CPU."""
    if scores.ndim != 2 or positive_rate.shape != scores.shape[1:]:
        raise ValueError(
            f"scores must be [N, K] and positive_rate [K], got {list(scores.shape)} and {list(positive_rate.shape)}"
        )
    if bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN, so they cannot be ranked; look for a diverged model")
    rate = positive_rate.detach().cpu().to(torch.float64)
    if not bool(((rate >= 0) & (rate <= 1)).all()):
        raise ValueError(f"positive_rate must lie in [0, 1] for each label, got {rate.tolist()}")
    return rate


def class_aware_pseudo_labels(
    scores: Tensor,
    positive_rate: Tensor,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Give each label its floor(rate_k N + 1e-3) highest scores as positives, the others as negatives.

    Source: slides, 'CAP' (Xie et al., NeurIPS 2023). scores [N,K], any finite or infinite values;
    positive_rate [K] in [0, 1]; shares in [0, 1] -> targets [N,K] float32 of 0 and 1, and mask [N,K] bool.
    The count is exact: ties are broken by row order (the earlier row is the higher one), and a label whose
    count is 0 gets no positive. The mask keeps the top floor(positive_share rate_k N + 1e-3) and the bottom
    floor(negative_share (1 - rate_k) N + 1e-3) rows of each label; with both shares 1 it keeps everything.
    Memory: one stable sort of the columns, about three [N,K] arrays of 8 bytes (150 MB for 80,000 x 80).
    ValueError for NaN scores, shapes that do not fit, rates or shares outside [0, 1].
    """
    if not (0 <= positive_share <= 1 and 0 <= negative_share <= 1):
        raise ValueError(f"shares must lie in [0, 1], got {positive_share} and {negative_share}")
    rate = _checked_rate(scores, positive_rate)
    num_samples = scores.shape[0]

    # torch.topk leaves the order of ties open, a stable sort does not.
    order = torch.sort(scores.detach(), dim=0, descending=True, stable=True).indices
    rows = torch.arange(num_samples, device=scores.device).unsqueeze(1).expand_as(order)
    rank = torch.empty_like(order).scatter_(0, order, rows)

    targets = (rank < _counts(rate, 1.0, num_samples).to(scores.device)).float()
    if positive_share == 1 and negative_share == 1:
        return targets, torch.ones_like(rank, dtype=torch.bool)
    top = _counts(rate, positive_share, num_samples).to(scores.device)
    bottom = _counts(1 - rate, negative_share, num_samples).to(scores.device)
    return targets, (rank < top) | (rank >= num_samples - bottom)


def pseudo_labels_against(
    scores: Tensor,
    reference: Tensor,
    positive_rate: Tensor,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Class-aware pseudo-labels of a batch by its place among other scores, such as a queue of the last ones.

    scores [B,K]; reference [Q,K]; positive_rate [K] and the shares as in `class_aware_pseudo_labels` -> targets [B,K]
    float32 and mask [B,K] bool. A score is positive where fewer than floor(rate_k Q + 1e-3) of the reference are
    higher, so ties are all positive, and a label whose count is 0 gets none; the mask keeps it where fewer than
    floor(positive_share rate_k Q + 1e-3) are higher, or fewer than floor(negative_share (1 - rate_k) Q + 1e-3) lower.
    No host synchronisation but the check of the rates. ValueError for shapes that do not fit or rates outside [0, 1].
    """
    rate = _checked_rate(reference, positive_rate)
    size = reference.shape[0]
    ordered = reference.detach().T.sort(dim=1).values.contiguous()
    wanted = scores.detach().T.contiguous()
    lower = torch.searchsorted(ordered, wanted).T
    higher = size - torch.searchsorted(ordered, wanted, right=True).T
    count, top, bottom = (
        _counts(part, part_share, size).to(scores.device)
        for part, part_share in ((rate, 1.0), (rate, positive_share), (1 - rate, negative_share))
    )
    return (higher < count).float(), (higher < top) | (lower < bottom)


def class_thresholds(scores: Tensor, positive_rate: Tensor) -> Tensor:
    """Score of the last positive of each label: the floor(rate_k N + 1e-3)-th highest, inf where that is 0.

    scores [N,K], positive_rate [K] in [0, 1] -> [K], float32 or better. `scores >= threshold` gives each
    label its rate on this pool, and a few more positives only where scores tie. ValueError as in
    `class_aware_pseudo_labels`.
    """
    rate = _checked_rate(scores, positive_rate)
    counts = _counts(rate, 1.0, scores.shape[0]).to(scores.device)
    scores = full_precision(scores.detach())
    infinity = scores.new_full((1, scores.shape[1]), float("inf"))
    # Row 0 is the threshold that nothing reaches, row n the n-th highest score.
    ladder = torch.cat([infinity, torch.sort(scores, dim=0, descending=True).values])
    return ladder.gather(0, counts.unsqueeze(0)).squeeze(0)


def confidence_weights(scores: Tensor, positive_rate: Tensor) -> Tensor:
    """Weight w_ik = min(1, |s_ik - t_k| / sd_k): how far a score lies from the threshold that decided it.

    scores [N,K], positive_rate [K] in [0, 1]; t_k is the midpoint between the last positive and the first negative
    score of label k's class-aware pseudo-labels, sd_k the standard deviation of its scores -> [N,K] float32 in
    [0, 1]. A label without pseudo-positives, or of which all are positive, has its one extreme score as threshold; a
    label whose scores are all equal gets weights of 1. ValueError as in `class_aware_pseudo_labels`.
    """
    rate = _checked_rate(scores, positive_rate)
    scores = full_precision(scores.detach())
    size = scores.shape[0]
    counts = _counts(rate, 1.0, size).to(scores.device)
    ladder = torch.sort(scores, dim=0, descending=True).values
    last = ladder.gather(0, (counts - 1).clamp(min=0).unsqueeze(0))
    first = ladder.gather(0, counts.clamp(max=size - 1).unsqueeze(0))
    spread = scores.std(dim=0, keepdim=True)
    distance = (scores - (last + first) / 2).abs()
    return torch.where(spread > 0, (distance / spread.clamp(min=torch.finfo(spread.dtype).tiny)).clamp(max=1), 1.0)


def smoothed_scores(scores: Tensor, features: Tensor, num_neighbours: int, chunk: int = 4096) -> Tensor:
    """Mean of each row's scores with those of its nearest rows by cosine of their features.

    scores [N,K], features [N,D] -> [N,K] float32: the mean over the row itself and its `num_neighbours` nearest others
    (all others where there are fewer). Memory: chunk x N similarities at a time. ValueError for other shapes.
    """
    if scores.ndim != 2 or features.ndim != 2 or len(scores) != len(features):
        raise ValueError(f"scores {list(scores.shape)} and features {list(features.shape)} must have the same rows")
    scores, unit = full_precision(scores.detach()), F.normalize(full_precision(features.detach()), dim=1)
    wanted = min(num_neighbours + 1, len(scores))  # a row is its own nearest
    parts = [scores[(rows @ unit.T).topk(wanted, dim=1).indices].mean(1) for rows in torch.split(unit, chunk)]
    return torch.cat(parts)
