"""Mixup of rows that carry multi-label targets and the weights of their terms."""

from __future__ import annotations

import torch
from torch import Tensor


def mix_rows(rows: Tensor, values: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix every row with another one of the batch, and what belongs to it alike: lam x_i + (1 - lam) x_j.

    Source: Zhang et al., mixup, ICLR 2018, with a lam ~ Beta(alpha, alpha) for every row; as in MixMatch (Berthelot et
    al., NeurIPS 2019) lam is at least 1/2, so that a row stays nearer to itself than to its partner j, a permutation of
    the batch. rows [B,...], values [B,V] -> both of the same shape. ValueError for an alpha that is not positive, or
    rows and values of different numbers.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if len(rows) != len(values):
        raise ValueError(f"{len(rows)} rows cannot carry {len(values)} rows of values")
    both = torch.full((), alpha, device=rows.device)  # sampled where it is needed, so that nobody waits for a copy
    share = torch.distributions.Beta(both, both, validate_args=False).sample((len(rows),))
    share = torch.maximum(share, 1 - share)
    partner = torch.randperm(len(rows), device=rows.device)

    def mixed(x: Tensor) -> Tensor:
        own = share.to(x.dtype).view(-1, *(1 for _ in x.shape[1:]))
        return own * x + (1 - own) * x[partner]

    return mixed(rows), mixed(values)
