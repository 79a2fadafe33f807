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


def check_margin(scale: float, margin_on: str) -> None:
    """Check two settings of `angular_logits`.

    Args:
        scale: s.
        margin_on: where the margin is.

    Raises:
        ValueError: another margin_on, or a scale that is not positive.

    Example:
        >>> check_margin(0.0, "both")
        Traceback (most recent call last):
        ValueError: scale must be positive, got 0.0
    """
    if margin_on not in MARGIN_CHOICES:
        raise ValueError(f"margin_on must be one of {', '.join(MARGIN_CHOICES)}, got {margin_on!r}")
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")


def angular_logits(cosine: Tensor, targets: Tensor, *, scale: float, margin: float, margin_on: str = "both") -> Tensor:
    """Turn cosines into logits.

        margin_on   x                the margin
        both        s (c - m)        shifts the boundary to cosine m (slides)
        positive    s (c - m y)      only makes positives harder (released code)

    Args:
        cosine: c, [B,K], in [-1, 1].
        targets: y, [B,K] in [0, 1].
        scale: s > 0, the sharpness of the sigmoid.
        margin: m, a cosine.
        margin_on: "both" or "positive".

    Returns:
        x, [B,K], float32 or better.

    Raises:
        ValueError: shapes that differ, another margin_on, or a scale that is not positive.

    Example:
        >>> cosine, targets = torch.tensor([[0.5, 0.5]]), torch.tensor([[1, 0]])
        >>> angular_logits(cosine, targets, scale=10, margin=0.25, margin_on="positive")
        tensor([[2.5000, 5.0000]])
    """
    require_same_shape(cosine=cosine, targets=targets)
    check_margin(scale, margin_on)
    cosine = full_precision(cosine)
    if margin_on == "both":
        return scale * (cosine - margin)
    return scale * (cosine - margin * targets.to(cosine.dtype))


def bam_loss(cosine: Tensor, targets: Tensor, *, scale: float, margin: float, margin_on: str = "both") -> Tensor:
    """Binary angular margin loss (slides, 'BAM loss').

        y softplus(-x) + (1 - y) softplus(x),  x = angular_logits(c, y)

    Args:
        cosine: c, [B,K], in [-1, 1].
        targets: y, [B,K] in [0, 1].
        scale: s > 0.
        margin: m, a cosine.
        margin_on: "both" or "positive", see `angular_logits`.

    Returns:
        Element losses [B,K], >= 0, float32 or better.

    Raises:
        ValueError: as in `angular_logits`.

    Example:
        >>> bam_loss(torch.tensor([[0.5, 0.1]]), torch.tensor([[1, 0]]), scale=10, margin=0.1)
        tensor([[0.0181, 0.6931]])
    """
    with without_autocast(cosine):
        logits = angular_logits(cosine, targets, scale=scale, margin=margin, margin_on=margin_on)
        return _binary_log_loss(logits, targets.to(logits.dtype))


def balanced_cosine(cosine: Tensor, targets: Tensor, statistics: AngleStatistics) -> Tensor:
    """Cosine after the balancing map of `AngleStatistics.balance`.

        cos(psi(arccos c))

    Args:
        cosine: c, [B,K], in [-1, 1].
        targets: y, [B,K] in [0, 1]; 0.5 everywhere gives the average of both maps, which needs no labels.
        statistics: those of the K labels.

    Returns:
        [B,K] in [-1, 1], float32 or better. A label that is not usable (fewer than two positives or negatives, zero
        variance) keeps its cosine bit for bit, which a detour over arccos would not.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> mean_pos, var_pos, mean_neg, var_neg = torch.tensor([[0.5], [0.01], [1.5], [0.07]])
        >>> statistics = AngleStatistics(mean_pos, var_pos, mean_neg, var_neg)  # positives: psi = 2 theta - 0.5
        >>> balanced_cosine(torch.tensor([[0.7]]).cos(), torch.tensor([[1]]), statistics).arccos()
        tensor([[0.9000]])
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
    """Balanced binary angular margin loss (slides, 'BBAM loss').

        bam_loss(cos(psi), y),  psi the balanced angle of `AngleStatistics.balance`

    Args:
        cosine: cosines of features and classifier weights, [B,K], in [-1, 1].
        targets: y, [B,K] in [0, 1].
        statistics: those of the K labels.
        scale: s > 0.
        margin: m, a cosine.
        margin_on: "both" or "positive", see `angular_logits`.

    Returns:
        Element losses [B,K], >= 0, float32 or better. A label that is not usable (fewer than two positives or
        negatives, zero variance) has exactly its `bam_loss`.

    Raises:
        ValueError: as in `angular_logits`, and statistics of another number of labels.

    Example:
        >>> cosine, targets = torch.tensor([[0.5, 0.1]]), torch.tensor([[1, 0]])
        >>> bbam_loss(cosine, targets, AngleStatistics.zeros(2), scale=10, margin=0.1)  # not usable: the BAM loss
        tensor([[0.0181, 0.6931]])
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

        y = 1:  -(1 - p)^gamma_positive log p         p = sigmoid(logit)
        y = 0:  -q^gamma_negative log(1 - q)          q = max(p - clip, 0)

    Args:
        logits: [B,K].
        targets: y, [B,K] in [0, 1]; soft targets mix the two.
        gamma_negative: focal exponent of negatives, >= 0.
        gamma_positive: focal exponent of positives, >= 0.
        clip: probability in [0, 1) up to which a negative costs nothing.

    Returns:
        Element losses [B,K], >= 0, float32 or better.

    Raises:
        ValueError: shapes that differ, a negative gamma, or a clip outside [0, 1).

    Example:
        >>> asymmetric_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        tensor([[0.6931, 0.0245]])
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
    """Reduce element losses (slides, 'L(W)').

        mean  sum(mask * loss) / (B K)      of all entries, not of those that the mask keeps
        sum   sum(mask * loss)

    Args:
        loss: [B,K]; entries that the mask drops may be inf or NaN.
        mask: [B,K], bool or weights (beta_ik); None keeps all.
        reduction: "mean" or "sum".

    Returns:
        A scalar, float32 or better; 0 for an empty batch.

    Raises:
        ValueError: shapes that differ, or another reduction.

    Example:
        >>> reduce_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[True, False]]))
        tensor(0.5000)
    """
    require_same_shape(loss=loss, mask=mask)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    loss = full_precision(loss)
    if mask is not None:
        weights = mask.to(loss.dtype)
        # The selection comes first: 0 * inf would be NaN.
        loss = torch.where(weights != 0, loss, torch.zeros_like(loss)) * weights
    return loss.sum() if reduction == "sum" else loss.sum() / max(loss.numel(), 1)
