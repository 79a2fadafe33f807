"""Mixup of rows that carry multi-label targets and the weights of their terms."""

from __future__ import annotations

import torch
from torch import Tensor


def mix_rows(rows: Tensor, values: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix every row, and its values alike, with another row of the batch (mixup; Zhang et al., ICLR 2018).

        lam x_i + (1 - lam) x_j,  lam ~ max(l, 1 - l), l ~ Beta(alpha, alpha), for every row

    j is a permutation of the batch; lam is at least 1/2, so that a row stays nearer to itself (MixMatch, Berthelot et
    al., NeurIPS 2019).

    Args:
        rows: [B,...].
        values: [B,V], such as targets and weights; NaN in one of two rows is NaN in their mixture, so that NaN for a
            cell whose label is unknown leaves it known where both are.
        alpha: > 0; the smaller, the less is mixed.

    Returns:
        Both, mixed, in their shapes; drawn from torch's global generator on the device of `rows`.

    Raises:
        ValueError: an alpha that is not positive, or rows and values of different numbers.

    Example:
        >>> mixed, targets = mix_rows(torch.eye(3), torch.eye(3), alpha=1.0)
        >>> bool((mixed == targets).all()), mixed.diagonal() >= 0.5
        (True, tensor([True, True, True]))
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if len(rows) != len(values):
        raise ValueError(f"{len(rows)} rows cannot carry {len(values)} rows of values")
    concentration = torch.full((), alpha, device=rows.device)  # sampled on the device, so that no copy is waited for
    share = torch.distributions.Beta(concentration, concentration, validate_args=False).sample((len(rows),))
    share = torch.maximum(share, 1 - share)
    partner = torch.randperm(len(rows), device=rows.device)

    def mixed(x: Tensor) -> Tensor:
        weight = share.to(x.dtype).view(-1, *(1 for _ in x.shape[1:]))
        return weight * x + (1 - weight) * x[partner]

    return mixed(rows), mixed(values)
