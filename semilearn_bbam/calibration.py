"""Decisions from scores: calibrated probabilities, and thresholds for F_beta.

Scores are mapped through their logits, label by label and monotonically: every decision `probability >= t` is also one
`score >= threshold`. Arguments are NumPy arrays; cells whose target is -1 are unknown and count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
EDGE = 1e-7  # scores are kept this far from 0 and 1
STEPS = 50
SAME = 1e-12  # relative difference below which two values of F are the same
FIXED = 1e12  # strength with which a slope stays where it is
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # of `fit_calibration`, of which the best is taken
SHRINKAGE = 20.0  # positives of a label for which its own threshold counts as much as the prior one


def logits_of(scores: ArrayLike) -> Floats:
    """Logits of scores in [0, 1], which are kept `EDGE` away from both ends, so that the logits are finite.

    Example:
        >>> logits_of([0.5, 1.0]).round(2).tolist()
        [0.0, 16.12]
    """
    clipped = np.clip(np.asarray(scores, np.float64), EDGE, 1 - EDGE)
    logits: Floats = np.log(clipped) - np.log1p(-clipped)
    return logits


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities of labels from scores: sigmoid(slope_k logit(score) + intercept_k), slope_k > 0.

    Args:
        slope: [K], above 0.
        intercept: [K].

    Example:
        >>> Calibration(np.array([2.0]), np.array([0.0])).probabilities(np.array([[0.5], [0.8]])).round(3).tolist()
        [[0.5], [0.941]]
    """

    slope: Floats
    intercept: Floats

    def probabilities(self, scores: ArrayLike) -> Floats:
        """Probabilities [N,K] in (0, 1) of scores [N,K] in [0, 1]."""
        probabilities: Floats = expit(self.slope * logits_of(scores) + self.intercept)
        return probabilities

    def score_thresholds(self, probabilities: ArrayLike) -> Floats:
        """The scores [K] that have these probabilities, one number or [K]; 1 or more becomes inf, that of 0 -inf."""
        wanted = np.broadcast_to(np.asarray(probabilities, np.float64), self.slope.shape)
        inner = np.clip(wanted, 1e-300, 1 - 1e-16)
        logits = (np.log(inner) - np.log1p(-inner) - self.intercept) / self.slope
        below = (wanted <= 0) | (logits <= logits_of(0.0) + 1e-9)  # scores up to EDGE have one probability
        return np.where(wanted >= 1, np.inf, np.where(below, -np.inf, expit(logits)))


def fit_calibration(
    scores: ArrayLike, targets: ArrayLike, *, strength: float, weights: ArrayLike | None = None
) -> Calibration:
    """The calibration with the highest likelihood of targets, each label's drawn towards that of all labels together.

        min over (a_k, b_k)  sum_i w_i BCE(a_k z_ik + b_k, y_ik) + strength/2 ((a_k - a)^2 + (b_k - b)^2)

    z are the logits of the scores; (a, b) is the same without the second term, one pair for all labels.

    Args:
        scores: [N,K] in [0, 1], of rows that the model was not trained on.
        targets: [N,K] of 0, 1, and -1 for unknown.
        strength: weight of the second term, above 0: as many rows must speak against the common pair to leave it.
        weights: [N], how many rows each represents; None: one.

    Returns:
        The calibration. A label with 0 positives or none known is near the common pair, as far as its negatives allow;
        one with 1 positive nearly so. A slope is at least a tenth of the common one, so that the order stays.

    Raises:
        ValueError: shapes that differ, or a strength that is not above 0.
    """
    z, y, weight = _cells(scores, targets, weights)
    if not strength > 0:
        raise ValueError(f"strength must be above 0, got {strength}")
    start = np.array([[1.0], [0.0]])
    common = _newton(z.reshape(-1, 1), y.reshape(-1, 1), weight.reshape(-1, 1), start, 1e-3)
    common[0] = max(float(common[0, 0]), 1e-2)
    centre = np.repeat(common, z.shape[1], axis=1)
    pairs = _newton(z, y, weight, centre, strength)
    slope = np.maximum(pairs[0], common[0] / 10)
    if (slope > pairs[0]).any():  # their intercepts belong to other slopes
        again = _newton(z, y, weight, np.stack([slope, centre[1]]), np.array([[FIXED], [strength]]))
        pairs[1] = np.where(slope > pairs[0], again[1], pairs[1])
    return Calibration(slope, pairs[1])


def cross_fitted(
    scores: ArrayLike, targets: ArrayLike, fold: ArrayLike, *, strength: float, weights: ArrayLike | None = None
) -> Floats:
    """Probabilities [N,K] of rows, those of each fold by the calibration that the other folds give.

    Arguments as in `fit_calibration`; fold: [N], the number of each row's fold.
    """
    score, target, number = np.asarray(scores), np.asarray(targets), np.asarray(fold)
    probabilities = np.empty(score.shape)
    for held_out in np.unique(number):
        rest, rows = number != held_out, number == held_out
        weight = None if weights is None else np.asarray(weights)[rest]
        calibration = fit_calibration(score[rest], target[rest], strength=strength, weights=weight)
        probabilities[rows] = calibration.probabilities(score[rows])
    return probabilities


def best_strength(scores: ArrayLike, targets: ArrayLike, fold: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The one of `STRENGTHS` whose cross-fitted probabilities have the lowest log loss; arguments as `cross_fitted`."""
    losses = [
        log_loss(cross_fitted(scores, targets, fold, strength=strength, weights=weights), targets)
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def log_loss(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean of -log of the probability of what is true, over known cells.

    Example:
        >>> round(log_loss([[0.5, 0.9]], [[1, -1]]), 3)
        0.693
    """
    p, y = _known(probabilities, targets)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(y, np.log(p), np.log1p(-p))))


def brier_score(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean of (probability - target)^2 over known cells, in [0, 1].

    Example:
        >>> brier_score([[0.5, 0.9]], [[1, -1]])
        0.25
    """
    p, y = _known(probabilities, targets)
    return float(np.mean((p - y) ** 2))


def calibration_error(probabilities: ArrayLike, targets: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error (ECE) of all known cells together, in [0, 1].

        sum over bins b of equal width  |b| / n  |mean probability of b - share of true cells of b|

    Example:
        >>> calibration_error([[0.9], [0.9]], [[1], [0]])
        0.4
    """
    p, y = _known(probabilities, targets)
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = np.bincount(place, p, bins) - np.bincount(place, y, bins)
    return float(np.abs(gaps).sum() / len(p))


def tuned_thresholds(
    scores: ArrayLike,
    targets: ArrayLike,
    fold: ArrayLike,
    prior: ArrayLike,
    *,
    beta: float = 1.0,
    shrinkage: float = SHRINKAGE,
) -> Floats:
    """Thresholds of labels for F_beta, drawn towards their prior ones where positives are few.

        logit t_k = w_k mean over folds j of logit t_k(-j) + (1 - w_k) logit prior_k,  w_k = n_k / (n_k + shrinkage)

    t_k(-j) has the highest F_beta on all folds but j, on all rows if there is one fold, and is half-way between two
    logits; of equally good ones it is the middle one. n_k is the number of positives.

    Args:
        scores: [N,K] in [0, 1], of rows that the model was not trained on.
        targets: [N,K] of 0, 1, and -1 for unknown.
        fold: [N], the number of each row's fold.
        prior: [K], thresholds that give each label its labelled frequency.
        beta: weight of recall against precision.
        shrinkage: 0 takes no prior threshold into account.

    Returns:
        Thresholds [K] on the scale of the scores. A label without positives keeps its prior one, which is inf.
    """
    z, target = logits_of(scores), np.asarray(targets)
    number, before = np.asarray(fold), np.asarray(prior, np.float64)
    positives = (target > 0).sum(0)
    base, own = logits_of(np.where(np.isfinite(before), before, 1)), []
    folds = np.unique(number)
    for held_out in folds:
        rest = (number != held_out) | (len(folds) == 1)
        found = np.array([_best_cut(z[rest, k], target[rest, k], beta) for k in range(z.shape[1])])
        own.append(np.where(np.isnan(found), base, found))
    weight = positives / np.maximum(positives + shrinkage, 1e-9)
    logits = weight * np.mean(own, axis=0) + (1 - weight) * base
    return np.where(positives > 0, expit(logits), before)


def _best_cut(z: Floats, y: NDArray[Any], beta: float) -> float:
    """The logit from which on predictions have the highest F_beta of one label; NaN for one without positives."""
    known = y >= 0
    order = np.argsort(-z[known], kind="stable")
    values, true = z[known][order], y[known][order] > 0
    if not true.any():
        return float("nan")
    predicted, both = np.arange(1, len(values) + 1), np.cumsum(true)
    f = (1 + beta**2) * both / (beta**2 * true.sum() + predicted)
    lower = np.append(values[1:], values[-1])
    f[:-1][values[:-1] == values[1:]] = -1  # equal scores are not parted
    best = np.flatnonzero(f >= f.max() * (1 - SAME))
    cut = best[(len(best) - 1) // 2]
    return float((values[cut] + lower[cut]) / 2)


def _known(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """The known cells of both, flat."""
    y = np.asarray(targets)
    return np.asarray(probabilities, np.float64)[y >= 0], y[y >= 0] > 0


def _newton(z: Floats, y: Floats, weight: Floats, centre: Floats, strengths: Floats | float) -> Floats:
    """Slopes and intercepts [2,K] of the penalised logistic regressions of y [N,K] on z [N,K]."""
    pairs, strength = centre.copy(), np.broadcast_to(strengths, (2, 1))
    loss = _penalised(z, y, weight, pairs, centre, strength)
    for _ in range(STEPS):
        p = expit(pairs[0] * z + pairs[1])
        error, curvature = weight * (p - y), weight * p * (1 - p)
        first = np.stack([(error * z).sum(0), error.sum(0)]) + strength * (pairs - centre)
        aa, ab, bb = (curvature * z * z).sum(0) + strength[0], (curvature * z).sum(0), curvature.sum(0) + strength[1]
        determinant = aa * bb - ab * ab
        step = np.stack([bb * first[0] - ab * first[1], aa * first[1] - ab * first[0]]) / determinant
        rate = np.ones(z.shape[1])
        for _ in range(30):  # a full Newton step may overshoot
            tried = pairs - rate * step
            new = _penalised(z, y, weight, tried, centre, strength)
            worse = new > loss + 1e-12
            if not worse.any():
                break
            rate = np.where(worse, rate / 2, rate)
        pairs = np.where(worse, pairs, tried)
        change, loss = loss - np.where(worse, loss, new), np.where(worse, loss, new)
        if (change <= 1e-9 * (1 + np.abs(loss))).all():
            break
    return pairs


def _penalised(z: Floats, y: Floats, weight: Floats, pairs: Floats, centre: Floats, strength: Floats) -> Floats:
    logits = pairs[0] * z + pairs[1]
    losses = np.logaddexp(0, logits) - y * logits
    total: Floats = (weight * losses).sum(0) + (strength / 2 * (pairs - centre) ** 2).sum(0)
    return total


def _cells(scores: ArrayLike, targets: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Logits, targets and weights [N,K]; unknown cells have weight 0."""
    z, y = logits_of(scores), np.asarray(targets, np.float64)
    if z.ndim != 2 or y.shape != z.shape:
        raise ValueError(f"scores and targets must be [N,K] alike, got {list(z.shape)} and {list(y.shape)}")
    rows = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    if rows.shape != (len(z),) or not (rows > 0).all():
        raise ValueError(f"weights must be {len(z)} numbers above 0")
    return z, np.maximum(y, 0), np.where(y >= 0, rows[:, None], 0.0)
