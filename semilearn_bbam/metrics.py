"""Multi-label metrics, each under a named protocol.

Ranking metrics need only scores. F1, Hamming loss and VCA need hard predictions, and three protocols make
them: `score >= 0.5`, per-label thresholds (`prior_predictions`), and the oracle, which is told how many
labels each sample has. Their numbers are not comparable, so the oracle's carry a prefix. Arguments may be
numpy arrays or torch tensors, on any device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped,unused-ignore]

Array = NDArray[Any] | torch.Tensor
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def _numpy(values: Array) -> Floats:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().to(torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)


def _checked_scores(scores: Array) -> Floats:
    array = _numpy(scores)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"scores must be a matrix [N, K] with an entry, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("scores hold NaN or infinite values; look for a diverged model")
    return array


def _checked_binary(name: str, values: Array, shape: tuple[int, ...]) -> Bools:
    array = _numpy(values)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {list(shape)} of scores, got {list(array.shape)}")
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"{name} must hold only 0 and 1")
    return array.astype(bool)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else 0.0


def _ranking_metrics(score: Floats, target: Bools) -> dict[str, float]:
    """scikit-learn's ranking metrics, whose own functions take a Python step per sample, from two tables of ranks.

    rank_ij: labels of sample i that score at least what j does; among_ij: those of them that are relevant.
    """
    rank = rankdata(-score, "max", axis=1)
    among = rankdata(np.where(target, -score, np.inf), "max", axis=1)
    relevant = target.sum(axis=1)
    irrelevant = target.shape[1] - relevant
    shares = _ratio(np.where(target, among / rank, 0.0).sum(axis=1), relevant)
    wrong_pairs = np.where(target, rank - among, 0.0).sum(axis=1)
    return {
        "ranking_loss": _mean(_ratio(wrong_pairs, relevant * irrelevant)),
        "coverage_error": _mean(np.where(target, rank, 0.0).max(axis=1)),
        "lrap": _mean(np.where(relevant * irrelevant == 0, 1.0, shares)),
    }


def _f1_and_hamming(prediction: Bools, target: Bools) -> dict[str, float]:
    both = (prediction & target).sum(axis=0).astype(np.float64)
    either = prediction.sum(axis=0).astype(np.float64) + target.sum(axis=0)
    return {
        "micro_f1": float(_ratio(2 * both.sum(keepdims=True), either.sum(keepdims=True))[0]),
        "macro_f1": _mean(_ratio(2 * both, either)),
        "hamming_loss": float((prediction != target).mean()),
    }


def _accuracy_variance(prediction: Bools, target: Bools) -> float:
    present = target.any(axis=0) & ~target.all(axis=0)
    prediction, target = prediction[:, present], target[:, present]
    on_positives = (prediction & target).sum(axis=0) / target.sum(axis=0)
    on_negatives = (~prediction & ~target).sum(axis=0) / (~target).sum(axis=0)
    return _mean(np.stack([on_positives, on_negatives]).var(axis=0))


def oracle_predictions(scores: Array, targets: Array) -> Bools:
    """Predict the n_i highest-scored labels of each sample, n_i being its true number of labels.

    scores and targets [N,K] -> bool [N,K]; of two labels with the same score the earlier one comes first.
    This gives ground truth away; it is the protocol of the paper's tables.
    """
    score = _checked_scores(scores)
    target = _checked_binary("targets", targets, score.shape)
    rank = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1, kind="stable")
    predicted: Bools = rank < target.sum(axis=1, keepdims=True)
    return predicted


def prior_predictions(scores: Array, thresholds: Array) -> Bools:
    """Predict `score >= threshold` with one threshold per label, such as those of `class_thresholds`.

    scores [N,K], thresholds [K] (inf predicts none) -> bool [N,K]. ValueError for NaN or shapes that do not
    fit.
    """
    score, threshold = _checked_scores(scores), _numpy(thresholds)
    if threshold.shape != score.shape[1:] or np.isnan(threshold).any():
        raise ValueError(f"thresholds must be {score.shape[1]} numbers, one per label, none of them NaN")
    predicted: Bools = score >= threshold
    return predicted


def average_precision_per_label(scores: Array, targets: Array) -> Floats:
    """Average precision of every label, scikit-learn's: sum over thresholds of (R_n - R_{n-1}) P_n.

    scores [N,K], targets [N,K] (0/1) -> [K] in [0, 1]; NaN for a label without positives, where it is not
    defined.
    """
    score = _checked_scores(scores)
    target = _checked_binary("targets", targets, score.shape)
    precision = np.full(score.shape[1], np.nan)
    for k in np.flatnonzero(target.any(axis=0)):
        precision[k] = average_precision_score(target[:, k], score[:, k])
    return precision


def prediction_metrics(predictions: Array, targets: Array) -> dict[str, float]:
    """Those of `multilabel_metrics` that depend on hard predictions: micro_f1, macro_f1, hamming_loss, vca.

    predictions and targets [N,K] (0/1). ValueError for shapes that differ or values that are not binary.
    """
    target = _checked_binary("targets", targets, _numpy(targets).shape)
    predicted = _checked_binary("predictions", predictions, target.shape)
    return {**_f1_and_hamming(predicted, target), "vca": _accuracy_variance(predicted, target)}


def multilabel_metrics(scores: Array, targets: Array, *, predictions: Array | None = None) -> dict[str, float]:
    """Score a multi-label ranking and its hard predictions.

    scores [N,K] finite, targets [N,K] (0/1), predictions [N,K] (0/1; default scores >= 0.5) -> a dictionary
    of floats:

    - mAP: mean average precision over labels, a label without positives counts 0; mAP_present leaves such
      labels out
    - micro_f1, macro_f1, hamming_loss: of `predictions`; an F1 without positives and predictions is 0
    - vca: variance of class-wise accuracy. The two classes of a label are its positives and its negatives;
      the value is the population variance of {accuracy on positives, accuracy on negatives}, averaged over
      the labels that have both
    - one_error: share of samples whose highest-scored label is not relevant; a sample without labels is an
      error
    - ranking_loss, coverage_error, lrap: scikit-learn's, where a sample without labels counts 0, 0 and 1
    - oracle_micro_f1, oracle_macro_f1, oracle_hamming_loss: the same three for `oracle_predictions`

    A mean over no label at all is 0. ValueError for shapes that differ, values that are not finite or not
    binary.
    """
    score = _checked_scores(scores)
    target = _checked_binary("targets", targets, score.shape)
    if predictions is None:
        predicted: Bools = score >= 0.5
    else:
        predicted = _checked_binary("predictions", predictions, score.shape)

    precision = average_precision_per_label(score, target)
    oracle = _f1_and_hamming(oracle_predictions(score, target), target)
    first = score.argmax(axis=1)
    return {
        "mAP": _mean(np.nan_to_num(precision)),
        "mAP_present": _mean(precision[~np.isnan(precision)]),
        **prediction_metrics(predicted, target),
        "one_error": float(1 - target[np.arange(len(target)), first].mean()),
        **_ranking_metrics(score, target),
        **{f"oracle_{name}": value for name, value in oracle.items()},
    }
