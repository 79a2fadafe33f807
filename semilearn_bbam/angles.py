"""Cosines, label prototypes, label angles and (from `angle_statistics`) the map that balances their variances.

Everything here is tensors in, tensors out: no configuration, no framework. Angles are radians in [0, pi].
Source: slides, chapter 03.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semilearn_bbam.angle_statistics import AngleStatistics as AngleStatistics
from semilearn_bbam.tensors import full_precision as full_precision
from semilearn_bbam.tensors import require_same_shape as require_same_shape
from semilearn_bbam.tensors import without_autocast as without_autocast

# Cosines are kept this far inside [-1, 1]: the smallest angle is 1.4e-3 rad, the steepest arccos slope 707.
COSINE_MARGIN = 1e-6


def _require_same_width(features: Tensor, other: Tensor, name: str, dim: int) -> None:
    if features.ndim != 2 or other.ndim != 2 or features.shape[dim] != other.shape[dim]:
        raise ValueError(
            f"features {list(features.shape)} and {name} {list(other.shape)} must be matrices "
            f"of the same size in dimension {dim}"
        )


def safe_arccos(cosine: Tensor) -> Tensor:
    """Angle arccos(c), with a finite value and gradient at c = +-1 and slightly past it.

    c is moved into [-(1 - 1e-6), 1 - 1e-6] first. The move is invisible to the gradient: an entry at the bound has
    the slope -1/sqrt(1 - c^2) = -707 of the bound, not the 0 of a plain clamp, so a negative sample at cosine 1 is
    still pushed away, and d cos(arccos c)/dc stays 1 there.

    Args:
        cosine: any shape, in [-1, 1] up to rounding; values far outside are not supported.

    Returns:
        Radians in [0.0014, pi - 0.0014] of the same shape, float32 or better.

    Example:
        >>> safe_arccos(torch.tensor([0.0, 0.5]))
        tensor([1.5708, 1.0472])
    """
    with without_autocast(cosine):
        cosine = full_precision(cosine)
        bound = 1.0 - COSINE_MARGIN
        shift = (cosine.clamp(-bound, bound) - cosine).detach()
        return torch.arccos(cosine + shift)


def _unit_rows(matrix: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    # Dividing a zero row by 1, not by a small number, keeps its gradient small as well.
    return matrix / torch.where(norm > 0, norm, torch.ones_like(norm))


def cosine_similarity_matrix(features: Tensor, vectors: Tensor) -> Tensor:
    """Cosine of every feature with every vector (slides, 'BAM loss').

        p_ik = z_i . w_k / (|z_i| |w_k|)

    Args:
        features: z, [N,D].
        vectors: w, [K,D].

    Returns:
        [N,K], float32 or better also under autocast, in [-1, 1] up to rounding; 0 for a zero row.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> cosine_similarity_matrix(torch.tensor([[3.0, 4.0]]), torch.eye(2))
        tensor([[0.6000, 0.8000]])
    """
    _require_same_width(features, vectors, "vectors", dim=1)
    with without_autocast(features):
        features, vectors = full_precision(features), full_precision(vectors)
        dtype = torch.promote_types(features.dtype, vectors.dtype)
        return _unit_rows(features).to(dtype) @ _unit_rows(vectors).to(dtype).T


def label_prototypes(features: Tensor, targets: Tensor) -> Tensor:
    """Mean feature of the positives of each label.

        c_k = sum_i y_ik z_i / sum_i y_ik

    Args:
        features: z, [N,D].
        targets: y, [N,K] of 0 and 1; values between count as weights, so `targets * valid` leaves entries out.

    Returns:
        [K,D]; a label without positives gets a zero row, one with a single positive that row.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
        >>> label_prototypes(features, torch.tensor([[1, 0], [1, 0], [0, 0]]))
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]])
    """
    _require_same_width(features, targets, "targets", dim=0)
    with without_autocast(features):
        features = full_precision(features)
        weights = targets.to(features.dtype)
        count = weights.sum(dim=0).unsqueeze(1)
        return (weights.T @ features) / torch.where(count > 0, count, torch.ones_like(count))


def label_angles(features: Tensor, prototypes: Tensor) -> Tensor:
    """Angle of every feature to the prototype of every label (slides, 'label angles').

        phi_ik = arccos(z_i . c_k / (|z_i| |c_k|))

    Args:
        features: z, [N,D].
        prototypes: c, [K,D], as from `label_prototypes`.

    Returns:
        Radians [N,K] in [0.0014, pi - 0.0014], value and gradient finite everywhere. A zero prototype (a label
        without positives) or a zero feature gives pi/2.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> label_angles(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        tensor([[0.7854, 1.5708]])
    """
    return safe_arccos(cosine_similarity_matrix(features, prototypes))
