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
    """Draw eta N_k negatives per label, uniformly from those nearest to its prototype.

    Source: slides, 'negative sampling'. Candidates of label k are its ceil(candidate_ratio * negatives) most
    similar valid negatives (ties by row order), never fewer than are drawn; min(floor(eta N_k), negatives) of
    them are drawn without replacement. candidate_ratio = 0 takes the nearest ones, 1 draws from all
    negatives. N_k is the number of valid positives; a label with N_k = 0 draws floor(eta) at most, never all.
    similarity [N,K] (any finite values, higher is nearer), targets [N,K] (0/1), valid [N,K] bool leaves
    entries out of both sides -> bool [N,K] on the device of similarity; positives and invalid entries are
    never in it. The work is done on the CPU with a CPU generator, so a seed gives the same draw on every
    device; given None, torch's global generator is used. ValueError for shapes that differ, values that are
    not finite, eta < 0, candidate_ratio outside [0, 1], or a generator on another device.
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
        drawn = torch.randperm(len(nearest), generator=generator)[:num_drawn]
        sampled[k, negatives[nearest[drawn]]] = True
    return sampled.T.contiguous().to(similarity.device)
