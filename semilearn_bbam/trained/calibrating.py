"""Decisions of a run from its labelled rows: probabilities, tuned thresholds, label sets, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.calibration import (
    SHRINKAGE,
    best_strength,
    cross_fitted,
    fit_calibration,
    tuned_thresholds,
)
from semilearn_bbam.label_sets import miss_rate, set_threshold
from semilearn_bbam.metrics import prediction_metrics, prior_predictions
from semilearn_bbam.runs.decisions import results_digest
from semilearn_bbam.trained.evaluation import reliability_of
from semilearn_bbam.trained.out_of_fold import OutOfFold
from semilearn_bbam.trained.run_data import RunData

ALPHAS = (0.05, 0.1, 0.2)


def make_decisions(
    data: RunData,
    prior: NDArray[np.float32],
    outside: OutOfFold,
    *,
    beta: float = 1.0,
    alphas: Sequence[float] = ALPHAS,
) -> dict[str, Any]:
    """What `decisions.json` holds.

    Args:
        data: of the run.
        prior: thresholds [K] that give each label its labelled frequency on the pool.
        outside: out-of-fold scores of the labelled rows.
        beta: weight of recall against precision in F_beta.
        alphas: shares of true labels that the label sets may miss.

    Returns:
        `thresholds` on the scale of the scores (`tuned`, and `miss_<alpha>` of each set), `calibration` with slope and
        intercept of each label, and `labeled_rows`: error of scores and probabilities, F1 of each protocol, miss rate
        and size of each set, of labelled rows by what was fitted to the other folds. No test row is read.
    """
    scores, targets, fold, weights = outside.scores, data.targets, outside.fold, data.split.weights
    strength = best_strength(scores, targets, fold, weights)
    calibration = fit_calibration(scores, targets, strength=strength, weights=weights)
    probabilities = cross_fitted(scores, targets, fold, strength=strength, weights=weights)
    thresholds = {"tuned": tuned_thresholds(scores, targets, fold, prior, beta=beta)}
    sets = {f"{alpha:g}": set_threshold(probabilities, targets, alpha) for alpha in alphas}
    for alpha, probability in sets.items():
        thresholds[f"miss_{alpha}"] = np.maximum(calibration.score_thresholds(probability), 0)
    positives = (targets > 0).sum(0)
    return {
        "run": results_digest(data.record),
        "label_names": list(data.source.label_names),
        "folds": int(fold.max()) + 1,
        "rows": len(targets),
        "chosen_rows": weights is not None or bool(data.settings.added),
        "beta": beta,
        "positives": positives.tolist(),
        "share_of_prior": (SHRINKAGE / (positives + SHRINKAGE)).tolist(),
        "thresholds": {name: _plain(values) for name, values in thresholds.items()},
        "calibration": {
            "slope": calibration.slope.tolist(),
            "intercept": calibration.intercept.tolist(),
            "strength": strength,
        },
        "labeled_rows": {
            "scores": reliability_of(scores, targets),
            "probabilities": reliability_of(probabilities, targets),
            "decisions": _decisions(outside, targets, prior, beta),
            "sets": {
                alpha: _sets(probabilities, targets, fold, float(alpha), probability)
                for alpha, probability in sets.items()
            },
        },
    }


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    """As JSON has them: null where no score is enough."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _decisions(
    outside: OutOfFold, targets: NDArray[np.float32], prior: NDArray[np.float32], beta: float
) -> dict[str, dict[str, float]]:
    """F1 and Hamming loss of the labelled rows under each protocol; thresholds are tuned without the fold of a row."""
    tuned = np.zeros(targets.shape, bool)
    for number in np.unique(outside.fold):
        rows = outside.fold == number
        thresholds = tuned_thresholds(outside.scores[~rows], targets[~rows], outside.fold[~rows], prior, beta=beta)
        tuned[rows] = outside.scores[rows] >= thresholds
    predictions = {
        "0.5": outside.scores >= 0.5,
        "prior": prior_predictions(outside.scores, prior),
        "tuned": tuned,
    }
    known = targets >= 0
    return {name: prediction_metrics(made, targets > 0, known) for name, made in predictions.items()}


def _sets(
    probabilities: NDArray[np.float64],
    targets: NDArray[np.float32],
    fold: NDArray[np.int64],
    alpha: float,
    probability: float,
) -> dict[str, float]:
    """The probability from which on labels are in the sets, and what sets without the fold of a row miss and hold."""
    sets = np.zeros(targets.shape, bool)
    for number in np.unique(fold):
        rows = fold == number
        sets[rows] = probabilities[rows] >= set_threshold(probabilities[~rows], targets[~rows], alpha)
    return {
        "probability": probability,
        "miss_rate": miss_rate(sets, targets),
        "labels_per_item": float(sets.sum(1).mean()),
    }
