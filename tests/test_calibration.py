"""Probabilities, thresholds and label sets against derivations in plain loops and the promises that they make."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from semilearn_bbam.calibration import (
    Calibration,
    best_strength,
    brier_score,
    calibration_error,
    cross_fitted,
    fit_calibration,
    log_loss,
    logits_of,
    tuned_thresholds,
)
from semilearn_bbam.label_sets import miss_rate, set_threshold


def drawn(rows: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that overstate what is known, targets drawn from the true probabilities, and these."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 1.5, (rows, labels))
    truth = expit(logits)
    return expit(2.5 * logits + 1), (rng.random((rows, labels)) < truth).astype(np.float32), truth


def test_the_fit_is_the_minimum_of_its_objective() -> None:
    scores, targets, _ = drawn(60, 3)
    targets[::7, 1] = -1
    weights = np.linspace(0.5, 2, 60)
    fitted = fit_calibration(scores, targets, strength=2.0, weights=weights)
    z = logits_of(scores)

    def loss(pair: np.ndarray, columns: list[int], centre: np.ndarray, strength: float) -> float:
        total = strength / 2 * float(((pair - centre) ** 2).sum())
        for i in range(60):
            for k in columns:
                if targets[i, k] >= 0:
                    p = 1 / (1 + math.exp(-(pair[0] * z[i, k] + pair[1])))
                    total -= weights[i] * math.log(p if targets[i, k] > 0 else 1 - p)
        return total

    common = minimize(loss, [1.0, 0.0], args=([0, 1, 2], np.array([1.0, 0.0]), 1e-3), method="Nelder-Mead", tol=1e-10).x
    for k in range(3):
        best = minimize(loss, common, args=([k], common, 2.0), method="Nelder-Mead", tol=1e-10).x
        assert [fitted.slope[k], fitted.intercept[k]] == pytest.approx(best, abs=2e-3)


def test_calibration_recovers_the_probabilities() -> None:
    scores, targets, truth = drawn(4000, 3)
    fitted = fit_calibration(scores, targets, strength=1.0)
    np.testing.assert_allclose(fitted.slope, 1 / 2.5, rtol=0.15)
    probabilities = fitted.probabilities(scores)
    assert np.abs(probabilities - truth).max() < 0.08
    assert calibration_error(probabilities, targets) < 0.02 < calibration_error(scores, targets)
    assert brier_score(probabilities, targets) < brier_score(scores, targets)
    assert log_loss(probabilities, targets) < log_loss(scores, targets)


@pytest.mark.parametrize("positives", [0, 1, 30])
def test_a_label_with_few_positives_is_near_the_others(positives: int) -> None:
    scores, targets, _ = drawn(30, 4)
    targets[:, 0] = 0
    targets[:positives, 0] = 1
    for strength in (1e-1, 1e6):
        fitted = fit_calibration(scores, targets, strength=strength)
        probabilities = fitted.probabilities(scores)
        assert np.isfinite(probabilities).all()
        assert (fitted.slope > 0).all()
    np.testing.assert_allclose(fitted.slope, fitted.slope[0], rtol=1e-2)  # so strong that all are one
    np.testing.assert_allclose(fitted.intercept, fitted.intercept[0], atol=1e-2)


@pytest.mark.parametrize("strength", [0.0, -1.0, math.nan])
def test_arguments_outside_their_range(strength: float) -> None:
    scores, targets, _ = drawn(9, 2)
    with pytest.raises(ValueError, match="strength"):
        fit_calibration(scores, targets, strength=strength)
    with pytest.raises(ValueError, match="alike"):
        fit_calibration(scores, targets[:, :1], strength=1)
    with pytest.raises(ValueError, match="weights"):
        fit_calibration(scores, targets, strength=1, weights=np.zeros(9))
    for alpha in (0, 1, 2):
        with pytest.raises(ValueError, match="alpha"):
            set_threshold(scores, targets, alpha)


def test_unknown_cells_count_nowhere() -> None:
    scores, targets, _ = drawn(50, 3)
    known = np.random.default_rng(1).random(targets.shape) < 0.6
    partly = np.where(known, targets, -1)
    other = np.where(known, scores, 1 - scores)
    fold = np.arange(50) % 5
    for first, second in ((fit_calibration(scores, partly, strength=1), fit_calibration(other, partly, strength=1)),):
        np.testing.assert_allclose(first.slope, second.slope)
        np.testing.assert_allclose(first.intercept, second.intercept)
    for measure in (calibration_error, brier_score, log_loss):
        assert measure(scores, partly) == measure(other, partly)
    prior = np.full(3, 0.5)
    np.testing.assert_allclose(
        tuned_thresholds(scores, partly, fold, prior), tuned_thresholds(other, partly, fold, prior)
    )
    assert best_strength(scores, partly, fold) == best_strength(other, partly, fold)


def test_thresholds_of_scores_and_of_probabilities_decide_the_same() -> None:
    scores, targets, _ = drawn(200, 3)
    fitted = fit_calibration(scores, targets, strength=1.0)
    probabilities = fitted.probabilities(scores)
    for wanted in (0.02, 0.3, np.array([0.1, 0.5, 0.9])):
        np.testing.assert_array_equal(scores >= fitted.score_thresholds(wanted), probabilities >= wanted)
    assert np.isinf(fitted.score_thresholds(1.0)).all()
    assert (fitted.score_thresholds(0.0) == -np.inf).all()
    extreme = Calibration(np.array([1.0]), np.array([0.0])).probabilities(np.array([[0.0], [1.0]]))
    assert np.isfinite(extreme).all()


def test_scores_of_nearly_0_are_decided_by_their_probabilities() -> None:
    fitted = Calibration(np.array([0.7, 2.0]), np.array([-0.4, 0.3]))
    scores = np.array([[0.0, 0.0], [1e-9, 1e-9], [1e-6, 1e-6], [0.5, 0.5]], np.float32)
    probabilities = fitted.probabilities(scores)
    for wanted in (*probabilities, *(probabilities * 1.001)):
        thresholds = fitted.score_thresholds(wanted).astype(np.float32)
        np.testing.assert_array_equal(scores >= thresholds, probabilities >= wanted)


def test_a_label_that_is_scored_the_wrong_way_round_has_its_own_frequency() -> None:
    """The slope cannot go below a tenth of the common one; the intercept is then the best for that slope."""
    scores, targets, _ = drawn(400, 6)
    targets[:, 0] = (scores[:, 0] < 0.5) * (np.arange(400) % 2)
    fitted = fit_calibration(scores, targets, strength=1e-3)
    assert fitted.slope[0] == fitted.slope.min() > 0
    assert fitted.probabilities(scores)[:, 0].mean() == pytest.approx(targets[:, 0].mean(), abs=1e-3)


def test_rows_are_cross_fitted_without_their_own_fold() -> None:
    scores, targets, _ = drawn(40, 2)
    fold = np.arange(40) % 4
    before = cross_fitted(scores, targets, fold, strength=1.0)
    changed = targets.copy()
    changed[fold == 2] = 1 - changed[fold == 2]
    after = cross_fitted(scores, changed, fold, strength=1.0)
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert not np.allclose(before[fold == 1], after[fold == 1])


def plain_best(scores: np.ndarray, targets: np.ndarray, beta: float) -> float:
    """Half-way, in logits, between the scores of one label that the best decisions part; of several the middle one."""
    values = sorted({float(logits_of(score)) for score in scores}, reverse=True)
    found = {}
    for place, value in enumerate(values):
        chosen = logits_of(scores) >= value
        both = float((chosen & (targets > 0)).sum())
        f = (1 + beta**2) * both / (beta**2 * (targets > 0).sum() + chosen.sum())
        found[(value + values[min(place + 1, len(values) - 1)]) / 2] = f
    best = [cut for cut, f in found.items() if f >= max(found.values()) - 1e-12]
    return float(expit(best[(len(best) - 1) // 2]))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_tuned_thresholds_in_plain_loops(beta: float) -> None:
    scores, targets, _ = drawn(80, 4)
    targets[:, 2] = 0
    targets[5, 2] = 1
    targets[:, 3] = 0
    fold, prior = np.arange(80) % 4, np.array([0.4, 0.5, 0.6, np.inf])
    tuned = tuned_thresholds(scores, targets, fold, prior, beta=beta, shrinkage=10)
    assert tuned[3] == np.inf
    for k in range(3):
        logits = []
        for held_out in range(4):
            rest = fold != held_out
            has_positives = (targets[rest, k] > 0).any()
            own = plain_best(scores[rest, k], targets[rest, k], beta) if has_positives else prior[k]
            logits.append(float(logits_of(own)))
        count = (targets[:, k] > 0).sum()
        weight = count / (count + 10)
        expected = expit(weight * sum(logits) / 4 + (1 - weight) * float(logits_of(prior[k])))
        assert tuned[k] == pytest.approx(expected, abs=1e-9)


def test_thresholds_of_low_scores_are_as_fine_as_those_of_others() -> None:
    """A model whose scores are all near 0 decides the same as one whose scores are spread."""
    scores, targets, _ = drawn(80, 3)
    low = expit(logits_of(scores) - 9)
    fold = np.arange(80) % 4
    decided = [
        values >= tuned_thresholds(values, targets, fold, np.full(3, 0.5), shrinkage=0) for values in (scores, low)
    ]
    np.testing.assert_array_equal(*decided)


def test_thresholds_of_a_single_fold_are_tuned_on_it() -> None:
    scores, targets, _ = drawn(80, 1)
    tuned = tuned_thresholds(scores, targets, np.full(80, 3), [0.5], shrinkage=0)
    assert tuned[0] == pytest.approx(plain_best(scores[:, 0], targets[:, 0], 1.0))


def plain_sets(probabilities: np.ndarray, targets: np.ndarray, alpha: float) -> float:
    """The highest of the probabilities, or 0, that keeps the promise."""
    best = 0.0
    for t in sorted({0.0, *probabilities[targets > 0].tolist()}):
        missed = 0.0
        for row, true in zip(probabilities, targets > 0, strict=True):
            missed += (row[true] < t).mean() if true.any() else 0.0
        if (missed + 1) / (len(targets) + 1) <= alpha:
            best = t
    return best


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("ties", [False, True])
def test_label_sets_in_plain_loops(alpha: float, ties: bool) -> None:
    scores, targets, _ = drawn(60, 4)
    targets[::6] = 0
    targets[1, 2] = -1
    values = scores.round(1) if ties else scores
    assert set_threshold(values, targets, alpha) == plain_sets(values, targets, alpha)


def test_label_sets_keep_their_promise_on_further_rows() -> None:
    alpha, missed = 0.1, []
    for seed in range(300):
        scores, targets, _ = drawn(60, 4, seed)
        t = set_threshold(scores[:40], targets[:40], alpha)
        missed.append(miss_rate(scores[40:] >= t, targets[40:]))
    error = np.std(missed) / math.sqrt(len(missed))
    assert np.mean(missed) <= alpha + 2 * error
    assert np.mean(missed) >= alpha - 2 / 41 - 2 * error  # and they are no larger than that needs


def test_no_target_of_a_label_set() -> None:
    assert set_threshold(np.full((50, 2), 0.5), np.zeros((50, 2)), 0.1) == 1.0
    assert miss_rate(np.zeros((2, 2)), np.zeros((2, 2))) == 0.0
