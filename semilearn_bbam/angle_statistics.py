"""Mean and variance of the label angles of each label, and the map that gives both sides one variance.

Source: slides, chapter 03. `semilearn_bbam.angles` has `AngleStatistics` too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from semilearn_bbam.selection import ALONE, Shards
from semilearn_bbam.tensors import full_precision, require_same_shape

# Below this (a standard deviation of 1e-5 rad) a float32 variance is rounding noise and counts as zero.
MIN_VARIANCE = 1e-10

_FIELDS = ("mean_pos", "var_pos", "mean_neg", "var_neg")


def _moments(angles: Tensor, weights: Tensor, center: Tensor | None, shards: Shards) -> tuple[Tensor, Tensor]:
    """Weighted mean and unbiased variance per label; the variance of a side that cannot be used is 0."""
    weights = weights.to(angles.dtype)
    total, weighted = shards.all_reduce(torch.stack([weights.sum(dim=0), (weights * angles).sum(dim=0)]))
    mean = weighted / total.clamp(min=torch.finfo(total.dtype).tiny)
    around = mean if center is None else center.to(mean)
    squares = shards.all_reduce((weights * (angles - around).square()).sum(dim=0))
    variance = squares / (total - 1).clamp(min=1)
    usable = (total >= 2) & torch.isfinite(mean) & _nonzero(variance)
    zero = torch.zeros_like(mean)
    return torch.where(torch.isfinite(mean), mean, zero), torch.where(usable, variance, zero)


def _nonzero(variance: Tensor) -> Tensor:
    return torch.isfinite(variance) & (variance > MIN_VARIANCE)


@dataclass(frozen=True, eq=False)
class AngleStatistics:
    """Mean and variance of the label angles of positives and of negatives, per label.

    The four tensors are the whole state. A side (positive or negative) that cannot be used has variance 0, and a
    label with such a side is not `usable`: it has psi = theta.

    Args:
        mean_pos: mean angle of the positives, [K], radians.
        var_pos: their variance, [K], radians squared.
        mean_neg: mean angle of the negatives, [K], radians.
        var_neg: their variance, [K], radians squared.

    Example:
        >>> angles, targets = torch.tensor([[0.4], [0.8], [1.1], [1.9]]), torch.tensor([[1], [1], [0], [0]])
        >>> statistics = AngleStatistics.estimate(angles, targets)
        >>> statistics.var_pos, statistics.var_neg
        (tensor([0.0800]), tensor([0.3200]))
        >>> psi = statistics.balance(angles, targets)
        >>> psi[:2].var(), psi[2:].var()
        (tensor(0.2000), tensor(0.2000))
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
        """Estimate both sides from the angles of a pool (slides, 'BBAM loss'); no gradient is kept.

            mu = sum(w phi) / sum(w),  sigma^2 = sum(w (phi - mu)^2) / (sum(w) - 1)

        with w = y for positives and w = beta (1 - y) for negatives.

        Args:
            angles: phi, [N,K], radians.
            targets: y, [N,K] of 0 and 1; values between count as weights.
            negative_weights: beta, [N,K], >= 0; None is 1 everywhere.
            valid: [N,K] bool; entries where it is False are left out.
            center: (mean_pos, mean_neg), each [K]: the variances are taken around these, as the released code does;
                the means in the result stay the sample's.

        Returns:
            Statistics of K labels. A side with fewer than two samples (weights that sum to less than 2), a variance
            of zero (up to rounding) or a value that is not finite gets variance 0; without samples also mean 0.

        Raises:
            ValueError: shapes that differ.
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
            return cls.of_sides(angles, positive, negative, center=center)

    @classmethod
    def of_sides(
        cls,
        angles: Tensor,
        positive: Tensor,
        negative: Tensor,
        *,
        center: tuple[Tensor, Tensor] | None = None,
        shards: Shards = ALONE,
    ) -> AngleStatistics:
        """`estimate` from the weights of both sides, of rows that may be divided among processes.

        Args:
            angles: phi, [N,K], radians, float32 or float64.
            positive: weights of the positives, [N,K], bool or >= 0.
            negative: weights of the negatives, [N,K], bool or >= 0.
            center: as in `estimate`.
            shards: the processes, each with N of the rows.

        Returns:
            Statistics of K labels, of all processes; sides that cannot be used as in `estimate`.
        """
        center_pos, center_neg = center or (None, None)
        with torch.no_grad():
            return cls(*_moments(angles, positive, center_pos, shards), *_moments(angles, negative, center_neg, shards))

    @classmethod
    def zeros(cls, num_labels: int, device: torch.device | str = "cpu") -> AngleStatistics:
        """The state before the first estimate: `num_labels` labels on `device`, none of them usable."""
        return cls(*(torch.zeros(num_labels, device=device) for _ in _FIELDS))

    @cached_property
    def usable(self) -> Tensor:
        """Labels that the map changes, bool [K]: finite means and two variances that are not zero."""
        means = torch.isfinite(self.mean_pos) & torch.isfinite(self.mean_neg)
        return means & _nonzero(self.var_pos) & _nonzero(self.var_neg)

    def blend(self, previous: AngleStatistics, momentum: float) -> AngleStatistics:
        """Moving average of all four tensors: (1 - momentum) * self + momentum * previous.

        Args:
            previous: statistics of the same K labels. Their zeros count as numbers, as at the released code's start
                from zeros; values that are not finite are replaced by those of self.
            momentum: weight of `previous`, in [0, 1].

        Returns:
            Statistics of K labels. A side that cannot be used now keeps its variance 0, whatever it was before.

        Raises:
            ValueError: a momentum outside [0, 1].

        Example:
            >>> now, before = (AngleStatistics(*torch.full((4, 1), value)) for value in (1.0, 2.0))
            >>> now.blend(before, momentum=0.9).var_pos
            tensor([1.9000])
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
        """Map angles so that both sides of a label get the same variance (slides, 'BBAM loss').

            psi = t psi_p + (1 - t) psi_n,  each side's psi = a theta + (1 - a) mu,  a = sigma_hat / sigma,
            sigma_hat^2 = (sigma_p^2 + sigma_n^2) / 2

        Args:
            theta: [B,K], radians.
            targets: t, [B,K] in [0, 1], hard or soft.

        Returns:
            psi [B,K], radians, float32 or better; it may leave [0, pi] where a > 1, and cos(psi) turns back there.
            A label that is not `usable` (fewer than two positives or negatives, zero variance) keeps theta exactly.

        Raises:
            ValueError: shapes that do not fit.
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
        ones = torch.ones_like(pooled)

        def slope_and_shift(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
            # Unusable labels get a = 1, b = 0 before dividing: a NaN behind torch.where would spoil the gradient.
            slope = torch.where(usable, pooled, ones).div(torch.where(usable, variance, ones)).sqrt()
            return slope, (1 - slope) * torch.where(usable, mean, torch.zeros_like(mean))

        return slope_and_shift(self.mean_pos, self.var_pos), slope_and_shift(self.mean_neg, self.var_neg)

    def mixing_maps(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The map of `balance` as psi = (a_n + t da) theta + b_n + t db, for losses that compute it in few passes.

        Args:
            dtype: of the result, a floating-point type.

        Returns:
            a_n, da = a_p - a_n, b_n, db = b_p - b_n, each [K]; the number 1, []; 1 where a label is usable and else 0,
            [K]. They are kept, as every step of an epoch needs them.
        """
        maps = self._mixing_maps.get(dtype)
        if maps is None:
            (slope_pos, shift_pos), (slope_neg, shift_neg) = (
                (slope.to(dtype), shift.to(dtype)) for slope, shift in self._maps
            )
            one = torch.ones((), dtype=dtype, device=slope_neg.device)
            usable = self.usable.to(dtype)
            maps = (slope_neg, slope_pos - slope_neg, shift_neg, shift_pos - shift_neg, one, usable)
            self._mixing_maps[dtype] = maps
        return maps

    @cached_property
    def _mixing_maps(self) -> dict[torch.dtype, tuple[Tensor, ...]]:
        return {}

    def difference(self) -> Tensor:
        """Variance difference (the slides' VDFD) var_pos - var_neg, [K], radians squared; NaN where not usable."""
        difference = self.var_pos - self.var_neg
        return torch.where(self.usable, difference, torch.full_like(difference, float("nan")))

    def of_labels(self, start: int, stop: int) -> AngleStatistics:
        """Those of the labels `start` to `stop`."""
        return AngleStatistics(*(getattr(self, name)[start:stop] for name in _FIELDS))

    @classmethod
    def joined(cls, parts: Sequence[AngleStatistics]) -> AngleStatistics:
        """Those of the labels of all `parts`, in their order."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))

    def to(self, device: torch.device | str) -> AngleStatistics:
        """The same statistics on `device`."""
        return AngleStatistics(*(getattr(self, name).to(device) for name in _FIELDS))

    def state_dict(self) -> dict[str, Tensor]:
        """The four tensors under their names, for a checkpoint."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> AngleStatistics:
        """Rebuild statistics from the `state` that `state_dict` gave; ValueError for other keys or unequal lengths."""
        if set(state) != set(_FIELDS):
            raise ValueError(f"angle statistics need exactly the keys {list(_FIELDS)}, got {sorted(state)}")
        shapes = {tuple(state[name].shape) for name in _FIELDS}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise ValueError("the four angle statistics must be vectors of one length, one entry per label")
        return cls(*(state[name] for name in _FIELDS))
