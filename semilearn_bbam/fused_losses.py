"""The angular losses reduced to a number, with their gradient computed along with the value in few passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from semilearn_bbam.angle_statistics import AngleStatistics
from semilearn_bbam.angles import COSINE_MARGIN
from semilearn_bbam.losses import REDUCTIONS, check_margin
from semilearn_bbam.tensors import full_precision, require_same_shape

Terms = Callable[..., tuple[Tensor, Tensor]]  # `masked_terms`, or a compiled form of it


def reduced_angular_loss(
    cosine: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    statistics: AngleStatistics | None = None,
    *,
    scale: float,
    margin: float,
    margin_on: str = "both",
    reduction: str = "mean",
    terms: Terms | None = None,
) -> Tensor:
    """`reduce_loss` of the `bbam_loss`, or without statistics of the `bam_loss`, several times as fast.

        sum_ik beta_ik (softplus(x) - y x) / (B K),  x = s (cos psi - m)
        d/dc = beta s (sigmoid(x) - y) a sin(psi) / sin(theta) / (B K),  theta = arccos c,  psi = a theta + b

    with `margin_on: both`; a and b mix those of both sides of a label by y, as `AngleStatistics.balance` does.

    Args:
        cosine: c, [B,K], in [-1, 1]; the only argument that gets a gradient, the slope of the bound at the bound.
        targets: y, [B,K] in [0, 1].
        mask: beta, [B,K], bool or weights; None keeps all. Dropped entries must be finite as well.
        statistics: those of the K labels; None: psi = theta.
        scale: s > 0.
        margin: m, a cosine.
        margin_on: "both" or "positive", see `losses.angular_logits`.
        reduction: "mean" or "sum".
        terms: a compiled form of `masked_terms`.

    Returns:
        A scalar, float32 or better; 0 for an empty batch. A label that is not usable (fewer than two positives or
        negatives, zero variance) has exactly the cosines of its BAM loss. The gradient itself has none.

    Raises:
        ValueError: shapes that differ, another margin_on or reduction, a scale that is not positive.

    Example:
        >>> cosine, targets = torch.tensor([[0.5, 0.1]]), torch.tensor([[1, 0]])
        >>> reduced_angular_loss(cosine, targets, scale=10, margin=0.1)
        tensor(0.3556)
    """
    options = {"scale": scale, "margin": margin, "margin_on": margin_on, "reduction": reduction, "terms": terms}
    return reduced_angular_losses([(cosine, targets, mask)], statistics, **options)[0]  # type: ignore[arg-type]


def reduced_angular_losses(
    parts: Sequence[tuple[Tensor, Tensor, Tensor | None]],
    statistics: AngleStatistics | None = None,
    *,
    scale: float,
    margin: float,
    margin_on: str = "both",
    reduction: str = "mean",
    terms: Terms | None = None,
) -> tuple[Tensor, ...]:
    """`reduced_angular_loss` of several parts of a batch, such as its labelled and its unlabelled rows, at once.

    Args:
        parts: cosine, targets and mask of each, [B_p,K].
        statistics: as there, like all that follow.
        scale: s.
        margin: m.
        margin_on: "both" or "positive".
        reduction: "mean", over the entries of a part, or "sum".
        terms: a compiled form of `masked_terms`.

    Returns:
        A scalar for each part, the same as from separate calls.

    Raises:
        ValueError: as there.

    Example:
        >>> cosine, targets = torch.tensor([[0.5, 0.1]]), torch.tensor([[1, 0]])
        >>> reduced_angular_losses([(cosine, targets, None), (cosine, 1 - targets, None)], scale=10, margin=0.1)
        (tensor(0.3556), tensor(2.3556))
    """
    for cosine, targets, mask in parts:
        require_same_shape(cosine=cosine, targets=targets, mask=mask)
    check_margin(scale, margin_on)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    cosine = full_precision(_joined([cosine for cosine, _, _ in parts]))
    dtype = cosine.dtype
    targets = _joined([targets.to(dtype) for _, targets, _ in parts])
    weights = _joined([_weights(part, mask, dtype, reduction) for part, _, mask in parts])
    maps = None
    if statistics is not None:
        maps = statistics.mixing_maps(dtype)
        if maps[0].shape != cosine.shape[1:]:
            raise ValueError(f"cosine {list(cosine.shape)} must have {len(maps[0])} columns, one per label")
    options, sizes = (scale, margin, margin_on == "both"), [len(part) for part, _, _ in parts]
    result: tuple[Tensor, ...] = _ReducedLosses.apply(
        cosine, targets, weights, maps, options, terms or masked_terms, sizes
    )
    return result


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _weights(part: Tensor, mask: Tensor | None, dtype: torch.dtype, reduction: str) -> Tensor:
    """The mask of a part [B,K], by whose sum it is reduced."""
    share = 1 / max(part.numel(), 1) if reduction == "mean" else 1.0
    return torch.full_like(part, share, dtype=dtype) if mask is None else mask.to(dtype) * share


class _ReducedLosses(torch.autograd.Function):
    """Losses whose gradient is computed along with their values."""

    @staticmethod
    def forward(
        ctx: Any,
        cosine: Tensor,
        targets: Tensor,
        weights: Tensor,
        maps: tuple[Tensor, ...] | None,
        options: tuple[float, float, bool],
        terms: Terms,
        sizes: list[int],
    ) -> tuple[Tensor, ...]:
        losses, gradient = terms(cosine.detach(), targets, weights, maps, *options)
        ctx.gradients = gradient.split(sizes)
        return tuple(part.sum() for part in losses.split(sizes))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradient = _joined([part * factor for part, factor in zip(ctx.gradients, outer, strict=True)])
        return gradient, None, None, None, None, None, None


def masked_terms(
    cosine: Tensor,
    targets: Tensor,
    weights: Tensor,
    maps: tuple[Tensor, ...] | None,
    scale: float,
    margin: float,
    margin_on_both: bool,
) -> tuple[Tensor, Tensor]:
    """Element losses [B,K] of `reduced_angular_loss` and their gradients, buffers being reused for what comes next.

    Args:
        cosine: c, [B,K], without a gradient.
        targets: y, [B,K].
        weights: beta, [B,K].
        maps: of `AngleStatistics.mixing_maps`, or None for psi = theta.
        scale: s.
        margin: m.
        margin_on_both: whether negatives have the margin too.

    Returns:
        Losses and gradients with respect to c, both times beta; new tensors.

    Example:
        >>> masked_terms(torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1), None, 2.0, 0.0, True)
        (tensor([[0.6931]]), tensor([[-1.]]))
    """
    if maps is None:
        logits, slope, spare = torch.mul(cosine, scale), None, None
    else:
        logits, slope, spare = _balanced(cosine, targets, *maps)
        logits.mul_(scale)
    if margin_on_both:
        logits.sub_(scale * margin)
    else:
        logits.sub_(targets, alpha=scale * margin)
    gradient = torch.sigmoid(logits, out=spare).sub_(targets)
    if slope is not None:
        gradient.mul_(slope)
    gradient.mul_(weights).mul_(scale)
    # softplus(x) - y x = max(x, 0) - y x - logsigmoid(|x|), in which nothing is lost for easy samples.
    losses = torch.clamp(logits, min=0, out=slope).addcmul_(targets, logits, value=-1)
    losses.sub_(torch.nn.functional.logsigmoid(logits.abs_())).mul_(weights)
    return losses, gradient


def _balanced(
    cosine: Tensor,
    targets: Tensor,
    slope_neg: Tensor,
    slope_gap: Tensor,
    shift_neg: Tensor,
    shift_gap: Tensor,
    one: Tensor,
    usable: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """cos(psi), its slope a sin(psi) / sin(theta) with respect to c, exactly c and 1 where not usable; and a buffer."""
    bound = 1.0 - COSINE_MARGIN
    inside = cosine.clamp(-bound, bound)
    stretch = torch.addcmul(slope_neg, targets, slope_gap)
    mapped = torch.arccos(inside)
    psi = torch.addcmul(shift_neg, targets, shift_gap).addcmul_(stretch, mapped)
    torch.cos(psi, out=mapped)
    # 1 / sin(theta) as torch's arccos has it in its gradient.
    torch.addcmul(one, inside, inside, value=-1, out=inside).rsqrt_()
    slope = psi.sin_().mul_(stretch).mul_(inside)
    torch.lerp(cosine, mapped, usable, out=mapped)
    torch.lerp(one, slope, usable, out=slope)
    return mapped, slope, stretch
