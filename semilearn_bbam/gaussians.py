"""Setting of `theory`: two Gaussians, the noise of their training labels, and the errors of a classifier on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIXED = ("smaller", "positive", "negative", "mean")
LOG_RATIOS = ("derived", "slides")


@dataclass(frozen=True)
class Setting:
    """Two Gaussians and the noise of their training labels; the slides' data are half and half.

    Args:
        d: dimensions, at least 1; theta = (eta, .., eta).
        eta: coordinate of theta, > 0.
        s: the standard deviation that stays when M changes, > 0.
        alpha: share of positives, in (0, 1).
        eps_pos: share of the pseudo-labelled positives that count as negative, in [0, 0.5).
        eps_neg: share of the pseudo-labelled negatives that count as positive, in [0, 0.5).
        pseudo_share: part of the data that is pseudo-labelled, in [0, 1].
        fixed: which deviation s is: the "smaller", that of the "positive" or the "negative", or "mean", the root of the
            mean variance (what BBAM's map gives to both).

    Raises:
        ValueError: values outside.

    Example:
        >>> Setting(d=9, eta=0.5).mu
        1.5
        >>> Setting(fixed="positive").deviations(2.0)
        (1.0, 2.0)
    """

    d: int = 10
    eta: float = 0.4
    s: float = 1.0
    alpha: float = 0.5
    eps_pos: float = 0.0
    eps_neg: float = 0.0
    pseudo_share: float = 0.5
    fixed: str = "smaller"

    def __post_init__(self) -> None:
        if self.d < 1:
            raise ValueError(f"d must be at least 1, got {self.d}")
        for name in ("eta", "s"):
            _require(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "be positive and finite")
        _require("alpha", self.alpha, 0 < self.alpha < 1, "lie between 0 and 1")
        for name in ("eps_pos", "eps_neg"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) < 0.5, "lie in [0, 0.5)")
        _require("pseudo_share", self.pseudo_share, 0 <= self.pseudo_share <= 1, "lie in [0, 1]")
        if self.fixed not in FIXED:
            raise ValueError(f"fixed must be one of {', '.join(FIXED)}, got '{self.fixed}'")

    @property
    def mu(self) -> float:
        """Distance of a mean from the origin, sqrt(d) eta."""
        return math.sqrt(self.d) * self.eta

    def deviations(self, ratio: float) -> tuple[float, float]:
        """(s_p, s_n) of the variance `ratio` M = s_n / s_p; ValueError unless M is positive and finite."""
        _require("the variance ratio M", ratio, 0 < ratio < math.inf, "be positive and finite")
        if self.fixed == "mean":
            positive = self.s * math.sqrt(2 / (1 + ratio**2))
        else:
            positive = (
                self.s if self.fixed == "positive" or (self.fixed == "smaller" and ratio >= 1) else self.s / ratio
            )
        return positive, positive * ratio

    @property
    def weights(self) -> tuple[float, float]:
        """(w_p, w_n): what an error on a true positive and on a true negative adds to the error on noisy labels.

            w_p = alpha (1 - 2 pseudo_share eps_pos),  w_n = (1 - alpha) (1 - 2 pseudo_share eps_neg)

        The share pseudo_share eps_pos of the positives carries the wrong label, which an error on them gets right.
        """
        positive = self.alpha * (1 - 2 * self.pseudo_share * self.eps_pos)
        return positive, (1 - self.alpha) * (1 - 2 * self.pseudo_share * self.eps_neg)

    def log_ratio(self, form: str = "derived") -> float:
        """Logarithm of the ratio of the weights.

            derived   L = log(w_p / w_n)
            slides    L = log[alpha (2 - e_n - 2 e_p) / ((1 - alpha) (2 - 2 e_n - e_p))],  e_p, e_n = eps_pos, eps_neg

        The slides' does not depend on pseudo_share. The two are equal where e_p = e_n or
        pseudo_share = 1 / (4 - 2 (e_p + e_n)), and nowhere else.

        Args:
            form: "derived" or "slides".

        Returns:
            L.

        Raises:
            ValueError: another form.
        """
        if form not in LOG_RATIOS:
            raise ValueError(f"log_ratio must be one of {', '.join(LOG_RATIOS)}, got '{form}'")
        if form == "derived":
            positive, negative = self.weights
            return math.log(positive / negative)
        e_p, e_n = self.eps_pos, self.eps_neg
        return math.log(self.alpha * (2 - e_n - 2 * e_p)) - math.log((1 - self.alpha) * (2 - 2 * e_n - e_p))


@dataclass(frozen=True)
class ClassErrors:
    """Errors of the classifier that calls positive what is above a threshold along its direction.

    Args:
        positive: R(+1), share of the positives that are called negative, in [0, 1].
        negative: R(-1), share of the negatives that are called positive, in [0, 1].
        threshold: +inf calls everything negative, -inf everything positive, NaN: there is no such classifier.

    Example:
        >>> ClassErrors(positive=0.5, negative=0.25, threshold=0.0).vca
        0.015625
    """

    positive: float
    negative: float
    threshold: float

    @property
    def vca(self) -> float:
        """Population variance of the two class-wise accuracies, ((R(+1) - R(-1)) / 2)^2, in [0, 1/4]."""
        return ((self.positive - self.negative) / 2) ** 2


def _require(name: str, value: float, condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(f"{name} must {rule}, got {value}")
