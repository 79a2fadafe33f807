"""Class-wise error of the best linear classifier against the variance ratio M, by formula and by simulation.

Setting: one label, d dimensions, positives N(+theta, s_p^2 I) and negatives N(-theta, s_n^2 I), every coordinate of
theta equal to eta, M = s_n / s_p. Sources: S2ML2-BBAM slides, "How Variance Bias Affects the Performance"; clean and
balanced case: Xu et al., "To be Robust or to be Fair", ICML 2021. `docs/theory.md` has the derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FIXED = ("smaller", "positive", "negative", "mean")
LOG_RATIOS = ("derived", "slides")

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """Two Gaussians and the noise of their training labels.

    d >= 1 and eta > 0: theta = (eta, .., eta); s > 0: the deviation that stays when M changes, which one says `fixed`:
    the smaller, that of the positives or the negatives, or the root of the mean variance (what BBAM's map gives to
    both). alpha in (0, 1): share of positives. A part `pseudo_share` in [0, 1] of the data is pseudo-labelled; there
    eps_pos of the positives count as negative, eps_neg of the negatives as positive, both in [0, 0.5). The slides' data
    are half and half. ValueError for values outside.
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
        """(s_p, s_n) for M = s_n / s_p; ValueError unless M is positive and finite."""
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

        Of the positives a share f = pseudo_share eps_pos carries the wrong label, which an error on them gets right:
        w_p = alpha (1 - 2 f); likewise w_n = (1 - alpha)(1 - 2 pseudo_share eps_neg).
        """
        positive = self.alpha * (1 - 2 * self.pseudo_share * self.eps_pos)
        return positive, (1 - self.alpha) * (1 - 2 * self.pseudo_share * self.eps_neg)

    def log_ratio(self, form: str = "derived") -> float:
        """L = log(w_p / w_n), or the slides' log[alpha (2 - e_n - 2 e_p) / ((1 - alpha)(2 - 2 e_n - e_p))].

        e_p, e_n are eps_pos, eps_neg. The slides' does not depend on pseudo_share. The two are equal where e_p = e_n or
        pseudo_share = 1 / (4 - 2 (e_p + e_n)), and nowhere else. ValueError for another form.
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
    """R(+1) and R(-1) of the classifier that calls positive what lies above `threshold` along its direction.

    A threshold of +inf calls everything negative, -inf everything positive, NaN: there is no such classifier.
    """

    positive: float
    negative: float
    threshold: float

    @property
    def vca(self) -> float:
        """Population variance of the two class-wise accuracies, ((R(+1) - R(-1)) / 2)^2, in [0, 1/4]."""
        return ((self.positive - self.negative) / 2) ** 2


def errors_at(setting: Setting, ratio: float, threshold: float) -> ClassErrors:
    """Errors of a threshold t along theta: R(+1) = Phi((t - mu) / s_p), R(-1) = Phi(-(t + mu) / s_n)."""
    s_p, s_n = setting.deviations(ratio)
    return ClassErrors(_phi((threshold - setting.mu) / s_p), _phi(-(threshold + setting.mu) / s_n), threshold)


def weighted_error(setting: Setting, errors: ClassErrors) -> float:
    """w_p R(+1) + w_n R(-1): the error on the noisy labels less what no classifier can change."""
    positive, negative = setting.weights
    return positive * errors.positive + negative * errors.negative


def crossing_errors(setting: Setting, ratio: float, log_ratio: str = "derived") -> ClassErrors:
    """Errors at the threshold where w_p f_p falls below w_n f_n, as the slides have them.

    With c = 2 mu / s_p, A = c / (M^2 - 1), q = 2 (log M + L) / (M^2 - 1): R(+1) = Phi(A - M sqrt(A^2 + q)),
    R(-1) = Phi(-M A + sqrt(A^2 + q)) for M > 1, and the other sign of both roots for M < 1. Computed in a form that
    covers both and M = 1. log_ratio: see `Setting.log_ratio`. NaN where A^2 + q < 0: there is no such threshold.
    """
    s_p, _ = setting.deviations(ratio)
    c, k = 2 * setting.mu / s_p, ratio**2 - 1
    shift = setting.log_ratio(log_ratio) + math.log(ratio)
    square = c**2 + 2 * k * shift  # (M^2 - 1)^2 (A^2 + q)
    if square < 0:
        return ClassErrors(math.nan, math.nan, math.nan)
    root = math.sqrt(square)
    # The root's product with its conjugate is a multiple of M^2 - 1, which cancels: nothing is left that blows up at 1.
    positive = -(c**2 + 2 * ratio**2 * shift) / (c + ratio * root)
    negative = (2 * ratio * shift - c * root) / (c + ratio * root)
    return ClassErrors(_phi(positive), _phi(negative), setting.mu + s_p * positive)


def best_errors(setting: Setting, ratio: float, log_ratio: str = "derived") -> ClassErrors:
    """Errors of the linear classifier that minimises the expected error on the noisy labels.

    That of `crossing_errors`, unless there is none or calling everything negative (for M > 1) or positive (for M < 1)
    has a lower error. Its direction is theta: any other has a smaller mu, which lowers neither error at any threshold.
    Calling positive what lies below a threshold is never better. With log_ratio `slides`, what is best under that L.
    """
    crossing = crossing_errors(setting, ratio, log_ratio)
    ends = (ClassErrors(1.0, 0.0, math.inf), ClassErrors(0.0, 1.0, -math.inf))
    # Only the ratio of the weights matters: exp(L) R(+1) + R(-1).
    odds = math.exp(setting.log_ratio(log_ratio))
    found = [one for one in (crossing, *ends) if not math.isnan(one.threshold)]
    return min(found, key=lambda one: odds * one.positive + one.negative)


def simulate(setting: Setting, ratio: float, *, seed: int, samples: int = 20_000) -> dict[str, ClassErrors]:
    """Errors of classifiers fitted to `samples` noisy labels, on as many fresh clean samples of each class.

    Their threshold has the fewest errors on the noisy labels of all thresholds along a direction: `theta`, and `lda`,
    the one that linear discriminant analysis finds in the noisy labels. ValueError where `samples` are fewer than
    d + 3 or the labels drawn are all of one class.
    """
    if samples < setting.d + 3:
        raise ValueError(f"{samples} samples in {setting.d} dimensions are too few; take at least {setting.d + 3}")
    rng = np.random.default_rng(seed)
    truth = rng.random(samples) < setting.alpha
    flips = rng.random(samples) < np.where(truth, setting.eps_pos, setting.eps_neg)
    noisy = truth ^ (flips & (rng.random(samples) < setting.pseudo_share))
    if noisy.all() or not noisy.any():
        raise ValueError(f"all {samples} labels drawn are of one class; take more samples or another alpha")
    x = _draw(rng, setting, ratio, truth)
    positives, negatives = (_draw(rng, setting, ratio, np.full(samples, positive)) for positive in (True, False))
    found = {}
    for name, axis in (("theta", np.full(setting.d, setting.d**-0.5)), ("lda", _discriminant(x, noisy))):
        threshold = best_threshold(x @ axis, noisy)
        errors = float((positives @ axis <= threshold).mean()), float((negatives @ axis > threshold).mean())
        found[name] = ClassErrors(*errors, threshold)
    return found


def best_threshold(z: Floats, labels: Bools) -> float:
    """The t with the fewest errors of `z > t` on bool labels, both [N]; -inf, inf where one call for all is best."""
    order = np.argsort(z)
    errors = np.concatenate([[0], np.cumsum(np.where(labels[order], 1, -1))])
    # Between equal values there is no threshold.
    errors[1:-1][np.diff(z[order]) == 0] = len(z) + 1
    best = int(errors.argmin())
    if best in (0, len(z)):
        return math.inf if best else -math.inf
    return float(z[order[best - 1 : best + 1]].mean())


def _draw(rng: np.random.Generator, setting: Setting, ratio: float, positive: Bools) -> Floats:
    s_p, s_n = setting.deviations(ratio)
    noise = rng.standard_normal((len(positive), setting.d)) * np.where(positive, s_p, s_n)[:, None]
    return np.where(positive, setting.eta, -setting.eta)[:, None] + noise


def _discriminant(x: Floats, labels: Bools) -> Floats:
    means = [x[labels].mean(axis=0), x[~labels].mean(axis=0)]
    centred = x - np.where(labels[:, None], *means)
    axis: Floats = np.linalg.solve(centred.T @ centred / len(x), means[0] - means[1])
    return axis / np.linalg.norm(axis)


def _phi(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _require(name: str, value: float, condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(f"{name} must {rule}, got {value}")
