"""Element losses of multi-label classification and their reduction.

Each loss returns one value per sample and label, [B,K]; masks and averages are applied outside, by
`reduce_loss`. All of them compute in float32 or better, also under autocast and for half-precision inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semilearn_bbam.angles import (
    AngleStatistics,
    full_precision,
    require_same_shape,
    safe_arccos,
    without_autocast,
)

MARGIN_CHOICES = ("both", "positive")
REDUCTIONS = ("mean", "sum")


def _binary_log_loss(logits: Tensor, targets: Tensor) -> Tensor:
    # softplus(-x) = -logsigmoid(x): no 1 - sigmoid(x), which is 0 in float32 from x = 17 on.
    return -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits))


def angular_logits(cosine: Tensor, targets: Tensor, *, scale: float, margin: float, margin_on: str = "both") -> Tensor:
    """Turn cosines into logits: s (c - m) with margin_on="both", s (c - m y) with "positive".

    "both" is the slides' form (a constant shift, boundary at cosine m); "positive" is the released code's
    (the margin only makes positives harder). cosine and targets [B,K], targets in [0, 1] -> [B,K], float32 or
    better. ValueError for shapes that differ, another margin_on, or a scale that is not positive.
    """
    require_same_shape(cosine=cosine, targets=targets)
    if margin_on not in MARGIN_CHOICES:
        raise ValueError(f"margin_on must be one of {', '.join(MARGIN_CHOICES)}, got {margin_on!r}")
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    cosine = full_precision(cosine)
    if margin_on == "both":
        return scale * (cosine - margin)
    return scale * (cosine - margin * targets.to(cosine.dtype))


def bam_loss(cosine: Tensor, targets: Tensor, *, scale: float, margin: float, margin_on: str = "both") -> Tensor:
    """Binary angular margin loss: softplus(-x) for y = 1, softplus(x) for y = 0, with x = `angular_logits`.

    Source: slides, 'BAM loss'. cosine [B,K], targets [B,K] in [0, 1] (soft targets mix the two) -> [B,K], >=
    0. Errors as in `angular_logits`.
    """
    with without_autocast(cosine):
        logits = angular_logits(cosine, targets, scale=scale, margin=margin, margin_on=margin_on)
        return _binary_log_loss(logits, targets.to(logits.dtype))


def balanced_cosine(cosine: Tensor, targets: Tensor, statistics: AngleStatistics) -> Tensor:
    """Return cos(psi(arccos c)), the cosine after the balancing map of `AngleStatistics.balance`.

    cosine and targets [B,K] -> [B,K] in [-1, 1]. Targets of 0.5 give the label-free average of both maps.
    A label that is not usable keeps its cosine bit for bit, which a detour over arccos would not.
    """
    with without_autocast(cosine):
        cosine = full_precision(cosine)
        psi = statistics.balance(safe_arccos(cosine), targets)
        return torch.where(statistics.usable, psi.cos(), cosine)


def bbam_loss(
    cosine: Tensor,
    targets: Tensor,
    statistics: AngleStatistics,
    *,
    scale: float,
    margin: float,
    margin_on: str = "both",
) -> Tensor:
    """Balanced binary angular margin loss: the BAM loss of cos(psi) in place of cos(theta).

    Source: slides, 'BBAM loss'. cosine [B,K] of features and classifier weights, targets [B,K] in [0, 1],
    statistics of K labels -> [B,K], >= 0. A label that is not usable (fewer than two positives or negatives,
    zero variance) has exactly its `bam_loss`. Errors as in `angular_logits`.
    """
    balanced = balanced_cosine(cosine, targets, statistics)
    return bam_loss(balanced, targets, scale=scale, margin=margin, margin_on=margin_on)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_negative: float = 4,
    gamma_positive: float = 0,
    clip: float = 0.05,
) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021), with focal weights that carry no gradient.

    y = 1: -(1 - p)^gamma_positive log p; y = 0: -q^gamma_negative log(1 - q), with p = sigmoid(logit) and the
    shifted probability q = max(p - clip, 0). Soft targets mix the two. logits [B,K], targets [B,K] in [0, 1]
    -> [B,K], >= 0. ValueError for shapes that differ, a negative gamma, or a clip outside [0, 1).
    """
    require_same_shape(logits=logits, targets=targets)
    if gamma_negative < 0 or gamma_positive < 0:
        raise ValueError(f"gammas must not be negative, got {gamma_negative} and {gamma_positive}")
    if not 0 <= clip < 1:
        raise ValueError(f"clip must lie in [0, 1), got {clip}")
    with without_autocast(logits):
        logits = full_precision(logits)
        targets = targets.to(logits.dtype)
        probability, complement = logits.sigmoid(), (-logits).sigmoid()
        if clip > 0:
            log_negative = (complement + clip).clamp(max=1).log()
        else:
            log_negative = F.logsigmoid(-logits)
        weight_positive = complement.detach() ** gamma_positive
        weight_negative = (probability.detach() - clip).clamp(min=0) ** gamma_negative
        positive = weight_positive * F.logsigmoid(logits)
        return -(targets * positive + (1 - targets) * weight_negative * log_negative)


def reduce_loss(loss: Tensor, mask: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Reduce element losses: "mean" is sum(mask * loss) / (B K), "sum" is sum(mask * loss) (slides, 'L(W)').

    The mean divides by all B K entries, not by those that the mask keeps, as the slides' objective does; an
    empty batch gives 0. loss [B,K]; mask [B,K], bool or weights (beta_ik), None keeps all. What the mask
    drops may be inf or NaN. ValueError for shapes that differ or another reduction.
    """
    require_same_shape(loss=loss, mask=mask)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    kept = full_precision(loss)
    if mask is not None:
        weights = mask.to(kept.dtype)
        # The selection comes first: 0 * inf would be NaN.
        kept = torch.where(weights != 0, kept, torch.zeros_like(kept)) * weights
    return kept.sum() if reduction == "sum" else kept.sum() / max(kept.numel(), 1)
