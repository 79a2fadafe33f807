"""Label angles, label prototypes, and the map that balances the two angle variances of a label.

Everything here is tensors in, tensors out: no configuration, no framework. Angles are radians in [0, pi].
Source: slides, chapter 03.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Cosines are kept this far inside [-1, 1]: the smallest angle is 1.4e-3 rad, the steepest arccos slope 707.
COSINE_MARGIN = 1e-6
# Below this (a standard deviation of 1e-5 rad) a float32 variance is rounding noise and counts as zero.
MIN_VARIANCE = 1e-10

_FIELDS = ("mean_pos", "var_pos", "mean_neg", "var_neg")


def full_precision(tensor: Tensor) -> Tensor:
    """Return `tensor` in float32, or unchanged where it is float64 already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def without_autocast(tensor: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off on the device of `tensor`, so that matrix products inside keep full precision."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def require_same_shape(**tensors: Tensor | None) -> None:
    """Raise a ValueError unless all given tensors are [rows, K] of one shape; None is skipped."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"expected one two-dimensional shape for all of them, got {listed}")


def _require_same_width(features: Tensor, other: Tensor, name: str, dim: int) -> None:
    if features.ndim != 2 or other.ndim != 2 or features.shape[dim] != other.shape[dim]:
        raise ValueError(
            f"features {list(features.shape)} and {name} {list(other.shape)} must be matrices "
            f"of the same size in dimension {dim}"
        )


def safe_arccos(cosine: Tensor) -> Tensor:
    """Angle arccos(c) in radians, with a finite value and gradient at c = +-1 and slightly past it.

    c is moved to [-(1 - 1e-6), 1 - 1e-6] first, so the result lies in [0.0014, pi - 0.0014]. The move is
    invisible to the gradient: an entry at the bound has the slope -1/sqrt(1 - c^2) = -707 of the bound, not
    the 0 of a plain clamp, so a negative sample at cosine 1 is still pushed away, and d cos(arccos c)/dc
    stays 1 there. Any shape; float16 and bfloat16 come back as float32. Values far outside [-1, 1] are not
    cosines and not supported.
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
    """Cosine p_ik = z_i . w_k / (|z_i| |w_k|) of every feature with every vector (slides, 'BAM loss').

    features [N,D], vectors [K,D] -> [N,K] in float32 (float64 if an input is), also under autocast. A zero
    row gives 0. A value can pass +-1 by rounding; `safe_arccos` takes that. ValueError when the shapes do not
    fit.
    """
    _require_same_width(features, vectors, "vectors", dim=1)
    with without_autocast(features):
        features, vectors = full_precision(features), full_precision(vectors)
        dtype = torch.promote_types(features.dtype, vectors.dtype)
        return _unit_rows(features).to(dtype) @ _unit_rows(vectors).to(dtype).T


def label_prototypes(features: Tensor, targets: Tensor) -> Tensor:
    """Prototype c_k = sum_i y_ik z_i / sum_i y_ik: the mean feature of the positives of each label.

    features [N,D], targets [N,K] (0/1; values between count as weights, so `targets * valid` leaves entries
    out) -> [K,D]. A label without positives gives a zero row. ValueError when the shapes do not fit.
    """
    _require_same_width(features, targets, "targets", dim=0)
    with without_autocast(features):
        features = full_precision(features)
        weights = targets.to(features.dtype)
        count = weights.sum(dim=0).unsqueeze(1)
        return (weights.T @ features) / torch.where(count > 0, count, torch.ones_like(count))


def label_angles(features: Tensor, prototypes: Tensor) -> Tensor:
    """Label angle phi_ik = arccos(z_i . c_k / (|z_i| |c_k|)) in radians (slides, 'label angles').

    features [N,D], prototypes [K,D] -> [N,K] in [0.0014, pi - 0.0014]; value and gradient are finite
    everywhere. A zero prototype (label without positives) or a zero feature gives pi/2.
    """
    return safe_arccos(cosine_similarity_matrix(features, prototypes))


def _moments(angles: Tensor, weights: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weighted mean and unbiased variance per label; the variance of a side that cannot be used is 0."""
    total = weights.sum(dim=0)
    mean = (weights * angles).sum(dim=0) / total.clamp(min=torch.finfo(total.dtype).tiny)
    around = mean if center is None else center.to(mean)
    variance = (weights * (angles - around).square()).sum(dim=0) / (total - 1).clamp(min=1)
    usable = (total >= 2) & torch.isfinite(mean) & _nonzero(variance)
    zero = torch.zeros_like(mean)
    return torch.where(torch.isfinite(mean), mean, zero), torch.where(usable, variance, zero)


def _nonzero(variance: Tensor) -> Tensor:
    return torch.isfinite(variance) & (variance > MIN_VARIANCE)


@dataclass(frozen=True, eq=False)
class AngleStatistics:
    """Mean and variance of the label angles of positives and of negatives, per label.

    mean_pos, var_pos, mean_neg, var_neg: each [K], radians and radians squared. These four tensors are the
    whole state: a side (positive or negative) that cannot be used has variance 0, and a label with such a
    side has psi = theta.
    """

    mean_pos: Tensor
    var_pos: Tensor
    mean_neg: Tensor
    var_neg: Tensor

    @classmethod
    def estimate(
        cls,
        angles: Tensor,
        targets: Tensor,
        negative_weights: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        center: tuple[Tensor, Tensor] | None = None,
    ) -> AngleStatistics:
        """Estimate mu = sum(w phi) / sum(w) and sigma^2 = sum(w (phi - mu)^2) / (sum(w) - 1) of both sides.

        Source: slides, 'BBAM loss'. angles [N,K]; targets [N,K] (0/1; values between count as weights); w = y
        for positives, w = beta (1 - y) for negatives, where beta is `negative_weights` [N,K] (ones if not
        given). valid [N,K] bool leaves out the entries where it is False. center = (mean_pos, mean_neg), each
        [K], takes the variances around these means instead of the sample's own, as the released code does;
        the means in the result are the sample's own either way. No gradient is kept. A side with fewer than
        two samples (weights that sum to less than 2), a variance of zero (up to rounding) or a value that is
        not finite gets variance 0; a side without samples also gets mean 0. ValueError for shapes that
        differ.
        """
        require_same_shape(angles=angles, targets=targets, negative_weights=negative_weights, valid=valid)
        with torch.no_grad():
            angles = full_precision(angles)
            positive = targets.to(angles.dtype)
            negative = 1 - positive
            if negative_weights is not None:
                negative = negative * negative_weights.to(angles.dtype)
            if valid is not None:
                zero = torch.zeros_like(angles)
                keep = valid.bool()
                angles = torch.where(keep, angles, zero)
                positive, negative = torch.where(keep, positive, zero), torch.where(keep, negative, zero)
            center_pos, center_neg = center or (None, None)
            return cls(*_moments(angles, positive, center_pos), *_moments(angles, negative, center_neg))

    @classmethod
    def zeros(cls, num_labels: int, device: torch.device | str = "cpu") -> AngleStatistics:
        """Statistics of which no label is usable (psi = theta): the state before the first estimate."""
        return cls(*(torch.zeros(num_labels, device=device) for _ in _FIELDS))

    @cached_property
    def usable(self) -> Tensor:
        """Bool [K]: the labels that the map changes: finite means, and two variances that are not zero."""
        means = torch.isfinite(self.mean_pos) & torch.isfinite(self.mean_neg)
        return means & _nonzero(self.var_pos) & _nonzero(self.var_neg)

    def blend(self, previous: AngleStatistics, momentum: float) -> AngleStatistics:
        """Return (1 - momentum) * self + momentum * previous, for all four tensors.

        A side that cannot be used now keeps its variance 0, whatever it was before, so it never gets a small
        fraction of an old variance. Zeros in `previous` count as numbers, as at the released code's start
        from zeros; values that are not finite are replaced by those of self. ValueError for a momentum
        outside [0, 1].
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")

        def mix(now: Tensor, before: Tensor) -> Tensor:
            now = torch.where(torch.isfinite(now), now, torch.zeros_like(now))
            before = before.to(now)
            before = torch.where(torch.isfinite(before), before, now)
            return (1 - momentum) * now + momentum * before

        def mix_variance(now: Tensor, before: Tensor) -> Tensor:
            return torch.where(_nonzero(now), mix(now, before), torch.zeros_like(now))

        return AngleStatistics(
            mix(self.mean_pos, previous.mean_pos),
            mix_variance(self.var_pos, previous.var_pos),
            mix(self.mean_neg, previous.mean_neg),
            mix_variance(self.var_neg, previous.var_neg),
        )

    def balance(self, theta: Tensor, targets: Tensor) -> Tensor:
        """Map angles so that both sides of a label get the same variance: psi = a theta + b (slides, 'BBAM').

        a = sigma_hat / sigma, b = (1 - a) mu with (mu, sigma) of the side, sigma_hat^2 = (sigma_p^2 +
        sigma_n^2) / 2; psi = t psi_p + (1 - t) psi_n for targets t in [0, 1], hard or soft. theta [B,K] in
        radians, targets [B,K] -> psi [B,K], float32 or better; psi may leave [0, pi] where a > 1, and
        cos(psi) turns back there. A label that is not `usable` (fewer than two positives or negatives, zero
        variance) gets psi = theta exactly. ValueError for shapes that do not fit.
        """
        require_same_shape(theta=theta, targets=targets)
        if theta.shape[1:] != self.mean_pos.shape:
            labels = len(self.mean_pos)
            raise ValueError(f"theta {list(theta.shape)} must have {labels} columns, one per label")
        theta = full_precision(theta)
        targets = targets.to(theta.dtype)
        psi_pos, psi_neg = (slope.to(theta.dtype) * theta + shift.to(theta.dtype) for slope, shift in self._maps)
        return torch.where(self.usable, targets * psi_pos + (1 - targets) * psi_neg, theta)

    @cached_property  # every step of an epoch needs the same ones
    def _maps(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(a, b) of the positive and of the negative side, each [K]."""
        usable, pooled = self.usable, (self.var_pos + self.var_neg) / 2
        one = torch.ones_like(pooled)

        def of(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
            # Unusable labels get a = 1, b = 0 before dividing: a NaN behind torch.where would spoil the gradient.
            slope = torch.where(usable, pooled, one).div(torch.where(usable, variance, one)).sqrt()
            return slope, (1 - slope) * torch.where(usable, mean, torch.zeros_like(mean))

        return of(self.mean_pos, self.var_pos), of(self.mean_neg, self.var_neg)

    def difference(self) -> Tensor:
        """Return the variance difference (the slides' VDFD), var_pos - var_neg [K]; NaN where not usable."""
        difference = self.var_pos - self.var_neg
        return torch.where(self.usable, difference, torch.full_like(difference, float("nan")))

    def to(self, device: torch.device | str) -> AngleStatistics:
        """Return the same statistics on `device`."""
        return AngleStatistics(*(getattr(self, name).to(device) for name in _FIELDS))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the four tensors under their names, for a checkpoint."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> AngleStatistics:
        """Rebuild statistics from `state_dict()`; ValueError for other keys or for unequal lengths."""
        if set(state) != set(_FIELDS):
            raise ValueError(f"angle statistics need exactly the keys {list(_FIELDS)}, got {sorted(state)}")
        shapes = {tuple(state[name].shape) for name in _FIELDS}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise ValueError("the four angle statistics must be vectors of one length, one entry per label")
        return cls(*(state[name] for name in _FIELDS))
