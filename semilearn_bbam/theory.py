"""Class-wise error of the best linear classifier against the variance ratio M, by formula and by simulation.

Setting: one label, d dimensions, positives N(+theta, s_p^2 I) and negatives N(-theta, s_n^2 I), every coordinate of
theta equal to eta, M = s_n / s_p. Sources: S2ML2-BBAM slides, "How Variance Bias Affects the Performance"; clean and
balanced case: Xu et al., "To be Robust or to be Fair", ICML 2021. `docs/theory.md` has the derivation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from semilearn_bbam.gaussians import FIXED as FIXED
from semilearn_bbam.gaussians import LOG_RATIOS as LOG_RATIOS
from semilearn_bbam.gaussians import ClassErrors as ClassErrors
from semilearn_bbam.gaussians import Setting as Setting

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def errors_at(setting: Setting, ratio: float, threshold: float) -> ClassErrors:
    """Errors of a threshold along theta.

        R(+1) = Phi((t - mu) / s_p),  R(-1) = Phi(-(t + mu) / s_n)

    Args:
        setting: the Gaussians.
        ratio: M = s_n / s_p, positive and finite.
        threshold: t.

    Returns:
        Both errors and t.

    Raises:
        ValueError: M that is not positive and finite.

    Example:
        >>> errors_at(Setting(d=1, eta=1.0), ratio=1.0, threshold=1.0).positive
        0.5
    """
    s_p, s_n = setting.deviations(ratio)
    return ClassErrors(_phi((threshold - setting.mu) / s_p), _phi(-(threshold + setting.mu) / s_n), threshold)


def weighted_error(setting: Setting, errors: ClassErrors) -> float:
    """Error on the noisy labels, less what no classifier can change.

        w_p R(+1) + w_n R(-1)

    Args:
        setting: gives the weights.
        errors: of a classifier.

    Returns:
        A number in [0, 1].

    Example:
        >>> weighted_error(Setting(alpha=0.25), ClassErrors(positive=1.0, negative=0.0, threshold=0.0))
        0.25
    """
    positive, negative = setting.weights
    return positive * errors.positive + negative * errors.negative


def crossing_errors(setting: Setting, ratio: float, log_ratio: str = "derived") -> ClassErrors:
    """Errors at the threshold where w_p f_p falls below w_n f_n, as the slides have them.

        R(+1) = Phi(A - M sqrt(A^2 + q)),  R(-1) = Phi(-M A + sqrt(A^2 + q)) for M > 1, the roots' other sign for M < 1,
        c = 2 mu / s_p,  A = c / (M^2 - 1),  q = 2 (log M + L) / (M^2 - 1)

    Computed in a form that covers both and M = 1.

    Args:
        setting: the Gaussians and the noise.
        ratio: M = s_n / s_p, positive and finite.
        log_ratio: form of L, see `Setting.log_ratio`.

    Returns:
        Both errors and the threshold; NaN where A^2 + q < 0, for which there is no such threshold.

    Raises:
        ValueError: M that is not positive and finite, or another form.

    Example:
        >>> crossing_errors(Setting(), ratio=1.0).threshold  # equal variances: the middle between the means
        0.0
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
    Calling positive what is below a threshold is never better.

    Args:
        setting: the Gaussians and the noise.
        ratio: M = s_n / s_p, positive and finite.
        log_ratio: form of L, see `Setting.log_ratio`; with "slides", what is best under that L.

    Returns:
        Both errors and the threshold, which may be infinite.

    Raises:
        ValueError: M that is not positive and finite, or another form.

    Example:
        >>> errors = best_errors(Setting(), ratio=4.0)
        >>> errors.negative > errors.positive  # the class of larger variance has the larger error
        True
    """
    crossing = crossing_errors(setting, ratio, log_ratio)
    ends = (ClassErrors(1.0, 0.0, math.inf), ClassErrors(0.0, 1.0, -math.inf))
    # Only the ratio of the weights matters: exp(L) R(+1) + R(-1).
    odds = math.exp(setting.log_ratio(log_ratio))
    candidates = [errors for errors in (crossing, *ends) if not math.isnan(errors.threshold)]
    return min(candidates, key=lambda errors: odds * errors.positive + errors.negative)


def simulate(setting: Setting, ratio: float, *, seed: int, samples: int = 20_000) -> dict[str, ClassErrors]:
    """Errors of classifiers fitted to noisy labels, on as many fresh clean samples of each class.

    Their threshold has the fewest errors on the noisy labels of all thresholds along a direction.

    Args:
        setting: the Gaussians and the noise.
        ratio: M = s_n / s_p, positive and finite.
        seed: of NumPy's generator.
        samples: noisy labels, at least d + 3.

    Returns:
        Errors along "theta", and along "lda", which linear discriminant analysis gives for the noisy labels.

    Raises:
        ValueError: too few samples, all labels drawn of one class, or M that is not positive and finite.

    Example:
        >>> errors = simulate(Setting(), ratio=1.0, seed=0)["theta"]
        >>> abs(errors.positive - crossing_errors(Setting(), ratio=1.0).positive) < 0.02
        True
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
    errors_along = {}
    for name, axis in (("theta", np.full(setting.d, setting.d**-0.5)), ("lda", _discriminant(x, noisy))):
        threshold = best_threshold(x @ axis, noisy)
        shares = float((positives @ axis <= threshold).mean()), float((negatives @ axis > threshold).mean())
        errors_along[name] = ClassErrors(*shares, threshold)
    return errors_along


def best_threshold(z: Floats, labels: Bools) -> float:
    """The t with the fewest errors of `z > t`.

    Args:
        z: [N].
        labels: [N], bool.

    Returns:
        A number between two values of z; -inf, inf where one call for all is best.

    Example:
        >>> best_threshold(np.array([1.0, 2.0, 4.0]), np.array([False, False, True]))
        3.0
    """
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
