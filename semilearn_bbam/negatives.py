"""Prototype-based negative sampling: a few hard negatives per label instead of all of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semilearn_bbam.angles import require_same_shape


def sample_negatives(
    similarity: Tensor,
    targets: Tensor,
    *,
    eta: float,
    candidate_ratio: float,
    generator: torch.Generator | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Draw a few negatives per label, uniformly from those nearest to its prototype (slides, 'negative sampling').

        candidates  the ceil(candidate_ratio * negatives) most similar valid negatives, never fewer than are drawn
        drawn       min(floor(eta N_k), negatives) of them without replacement, N_k the number of valid positives

    Args:
        similarity: [N,K], finite, higher is nearer; ties go by row order.
        targets: [N,K] of 0 and 1.
        eta: negatives per positive, finite, >= 0.
        candidate_ratio: in [0, 1]; 0 takes the nearest ones, 1 draws from all negatives.
        generator: a CPU generator, so that a seed gives the same draw on every device; None is torch's global one.
        valid: [N,K] bool; entries where it is False count on neither side.

    Returns:
        Bool [N,K] on the device of `similarity`, False for positives and invalid entries. A label without positives
        draws floor(eta), as one with a single positive does, never all.

    Raises:
        ValueError: shapes that differ, values that are not finite or outside the ranges, a generator on another device.

    Example:
        >>> similarity = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
        >>> sample_negatives(similarity, torch.tensor([[1], [0], [0], [0]]), eta=2, candidate_ratio=0).T
        tensor([[False,  True,  True, False]])
    """
    require_same_shape(similarity=similarity, targets=targets, valid=valid)
    if not (eta >= 0 and math.isfinite(eta)):
        raise ValueError(f"eta must be a finite number >= 0, got {eta}")
    if not 0 <= candidate_ratio <= 1:
        raise ValueError(f"candidate_ratio must lie in [0, 1], got {candidate_ratio}")
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"the generator must be a CPU generator, got one on {generator.device}")

    # One row per label: whole rows are contiguous, columns are not.
    nearness = similarity.detach().cpu().T.contiguous()
    if not bool(torch.isfinite(nearness).all()):
        raise ValueError("similarity holds NaN or infinite values; look for diverged features")
    positive = (targets.detach().cpu() > 0.5).T.contiguous()
    allowed = torch.ones_like(positive) if valid is None else valid.detach().cpu().bool().T.contiguous()

    sampled = torch.zeros_like(positive)
    for k in range(positive.shape[0]):
        negatives = torch.nonzero(allowed[k] & ~positive[k]).squeeze(1)
        num_positives = int((allowed[k] & positive[k]).sum())
        num_drawn = min(math.floor(eta * max(num_positives, 1) + 1e-9), len(negatives))
        # The 1e-9 here and above keeps a product that is whole but for rounding from gaining or losing one.
        num_candidates = max(math.ceil(candidate_ratio * len(negatives) - 1e-9), num_drawn)
        nearest = torch.sort(nearness[k, negatives], descending=True, stable=True).indices[:num_candidates]
        draws = torch.randperm(len(nearest), generator=generator)[:num_drawn]
        sampled[k, negatives[nearest[draws]]] = True
    return sampled.T.contiguous().to(similarity.device)
