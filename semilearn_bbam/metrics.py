"""Multi-label metrics, each under a named protocol.

Ranking metrics need only scores. F1, Hamming loss and VCA need hard predictions, and three protocols make them:
`score >= 0.5`, per-label thresholds (`prior_predictions`), and the oracle, which is given the number of labels of each
sample. Their numbers are not comparable, so the oracle's carry a prefix. Arguments may be numpy arrays or torch
tensors, on any device; "binary" means that all values are 0 or 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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


def _checked_known(known: Array | None, shape: tuple[int, ...]) -> Bools:
    return np.ones(shape, dtype=bool) if known is None else _checked_binary("known", known, shape)


def _ranking_metrics(score: Floats, target: Bools, known: Bools) -> dict[str, float]:
    """scikit-learn's ranking metrics, whose functions take a Python step per sample, from two tables of ranks.

    rank_ij: known labels of sample i that score at least what j does; among_ij: those of them that are relevant.
    """
    from scipy.stats import rankdata  # seconds to import

    rank = rankdata(np.where(known, -score, np.inf), "max", axis=1)  # behind all known ones
    among = rankdata(np.where(target, -score, np.inf), "max", axis=1)
    relevant = target.sum(axis=1)
    irrelevant = known.sum(axis=1) - relevant
    shares = _ratio(np.where(target, among / rank, 0.0).sum(axis=1), relevant)
    wrong_pairs = np.where(target, rank - among, 0.0).sum(axis=1)
    return {
        "ranking_loss": _mean(_ratio(wrong_pairs, relevant * irrelevant)),
        "coverage_error": _mean(np.where(target, rank, 0.0).max(axis=1)),
        "lrap": _mean(np.where(relevant * irrelevant == 0, 1.0, shares)),
    }


def _f1_and_hamming(prediction: Bools, target: Bools, known: Bools) -> dict[str, float]:
    prediction, target = prediction & known, target & known
    both = (prediction & target).sum(axis=0).astype(np.float64)
    either = prediction.sum(axis=0).astype(np.float64) + target.sum(axis=0)
    return {
        "micro_f1": float(_ratio(2 * both.sum(keepdims=True), either.sum(keepdims=True))[0]),
        "macro_f1": _mean(_ratio(2 * both, either)),
        "hamming_loss": _mean((prediction != target)[known].astype(np.float64)),
    }


def _accuracy_variance(prediction: Bools, target: Bools, known: Bools) -> float:
    positive, negative = target & known, ~target & known
    present = positive.any(axis=0) & negative.any(axis=0)
    prediction, positive, negative = prediction[:, present], positive[:, present], negative[:, present]
    on_positives = (prediction & positive).sum(axis=0) / positive.sum(axis=0)
    on_negatives = (~prediction & negative).sum(axis=0) / negative.sum(axis=0)
    return _mean(np.stack([on_positives, on_negatives]).var(axis=0))


def oracle_predictions(scores: Array, targets: Array, known: Array | None = None) -> Bools:
    """Predict the n_i highest-scored known labels of each sample, n_i being its true number of labels among them.

    This gives ground truth away; it is the protocol of the paper's tables.

    Args:
        scores: [N,K], finite, not empty.
        targets: [N,K], binary.
        known: [N,K], binary, which labels are known; None: all.

    Returns:
        Bool [N,K]; of two labels with the same score the earlier one comes first.

    Raises:
        ValueError: shapes that differ, scores that are not finite, targets that are not binary.

    Example:
        >>> oracle_predictions(np.array([[0.9, 0.8, 0.1]]), np.array([[0, 1, 1]]))
        array([[ True,  True, False]])
    """
    score = _checked_scores(scores)
    target = _checked_binary("targets", targets, score.shape)
    cells = _checked_known(known, score.shape)
    order = np.argsort(np.where(cells, -score, np.inf), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    predicted: Bools = rank < (target & cells).sum(axis=1, keepdims=True)
    return predicted


def prior_predictions(scores: Array, thresholds: Array) -> Bools:
    """Predict `score >= threshold` with one threshold per label, such as those of `class_thresholds`.

    Args:
        scores: [N,K], finite, not empty.
        thresholds: [K], on the scale of the scores; inf predicts none.

    Returns:
        Bool [N,K].

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, thresholds that are NaN.

    Example:
        >>> prior_predictions(np.array([[0.4, 0.9]]), np.array([0.3, np.inf]))
        array([[ True, False]])
    """
    score, threshold = _checked_scores(scores), _numpy(thresholds)
    if threshold.shape != score.shape[1:] or np.isnan(threshold).any():
        raise ValueError(f"thresholds must be {score.shape[1]} numbers, one per label, none of them NaN")
    predicted: Bools = score >= threshold
    return predicted


def average_precision_per_label(scores: Array, targets: Array, known: Array | None = None) -> Floats:
    """Average precision of every label, scikit-learn's.

        sum over thresholds of (R_n - R_{n-1}) P_n

    Args:
        scores: [N,K], finite, not empty.
        targets: [N,K], binary.
        known: [N,K], binary, which labels are known: a label is judged by these rows only; None: all.

    Returns:
        [K] in [0, 1]; NaN for a label without positives, where it is not defined. With one positive it is 1 over the
        number of rows that score at least as high.

    Raises:
        ValueError: shapes that differ, scores that are not finite, targets that are not binary.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> average_precision_per_label(scores, np.array([[0, 0], [1, 0], [0, 0]]))
        array([0.5, nan])
        >>> known = np.array([[0, 1], [1, 1], [1, 1]])
        >>> average_precision_per_label(scores, np.array([[0, 0], [1, 0], [0, 0]]), known)
        array([ 1., nan])
    """
    from sklearn.metrics import average_precision_score  # type: ignore[import-untyped,unused-ignore]

    score = _checked_scores(scores)
    target = _checked_binary("targets", targets, score.shape)
    precision = np.full(score.shape[1], np.nan)
    cells = _checked_known(known, score.shape)
    for k in np.flatnonzero((target & cells).any(axis=0)):
        rows = cells[:, k]
        precision[k] = average_precision_score(target[rows, k], score[rows, k])
    return precision


def prediction_metrics(predictions: Array, targets: Array, known: Array | None = None) -> dict[str, float]:
    """Those of `multilabel_metrics` that depend on hard predictions.

    Args:
        predictions: [N,K], binary.
        targets: [N,K], binary.
        known: [N,K], binary, which labels are known, and alone count; None: all.

    Returns:
        micro_f1, macro_f1, hamming_loss and vca.

    Raises:
        ValueError: shapes that differ, or values that are not binary.

    Example:
        >>> prediction_metrics(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))["hamming_loss"]
        0.25
    """
    target = _checked_binary("targets", targets, _numpy(targets).shape)
    predicted = _checked_binary("predictions", predictions, target.shape)
    cells = _checked_known(known, target.shape)
    return {**_f1_and_hamming(predicted, target, cells), "vca": _accuracy_variance(predicted, target, cells)}


def multilabel_metrics(
    scores: Array, targets: Array, *, predictions: Array | None = None, known: Array | None = None
) -> dict[str, float]:
    """Score a multi-label ranking and its hard predictions.

        mAP, mAP_present   mean average precision over labels in [0, 1]; a label without positives counts 0, or is
                           left out
        micro_f1, macro_f1, hamming_loss
                           of `predictions`, in [0, 1]; an F1 without positives and predictions is 0
        vca                variance of class-wise accuracy in [0, 1/4]: the population variance of {accuracy on
                           positives, accuracy on negatives}, averaged over the labels that have both
        one_error          share of samples whose highest-scored label is not relevant; a sample without labels is an
                           error
        ranking_loss, coverage_error, lrap
                           scikit-learn's, in [0, 1], [0, K] and [0, 1]; a sample without labels counts 0, 0 and 1
        oracle_micro_f1, oracle_macro_f1, oracle_hamming_loss
                           the same three for `oracle_predictions`

    Args:
        scores: [N,K], finite, not empty.
        targets: [N,K], binary.
        predictions: [N,K], binary; None is scores >= 0.5.
        known: [N,K], binary, which labels are known; None: all. The other cells count nowhere: a label is judged by
            the rows that know it, a row by the labels that it knows, one without any not at all.

    Returns:
        The values by name. A mean over no label, row or cell at all is 0.

    Raises:
        ValueError: shapes that differ, scores that are not finite, targets or predictions that are not binary.

    Example:
        >>> metrics = multilabel_metrics(np.array([[0.9, 0.2], [0.3, 0.4]]), np.array([[1, 0], [0, 1]]))
        >>> metrics["mAP"], metrics["hamming_loss"]
        (1.0, 0.25)
        >>> known = np.array([[1, 1], [0, 1]])  # the one mistake is in a cell that is not known to be one
        >>> multilabel_metrics(np.array([[0.9, 0.2], [0.3, 0.6]]), np.array([[1, 0], [1, 1]]), known=known)["macro_f1"]
        1.0
    """
    score = _checked_scores(scores)
    target = _checked_binary("targets", targets, score.shape)
    if predictions is None:
        predicted: Bools = score >= 0.5
    else:
        predicted = _checked_binary("predictions", predictions, score.shape)

    cells = _checked_known(known, score.shape)
    target = target & cells
    precision = average_precision_per_label(score, target, cells)
    oracle = _f1_and_hamming(oracle_predictions(score, target, cells), target, cells)
    rows = cells.any(axis=1)
    first = np.where(cells, score, -np.inf).argmax(axis=1)
    return {
        "mAP": _mean(np.nan_to_num(precision)),
        "mAP_present": _mean(precision[~np.isnan(precision)]),
        **prediction_metrics(predicted, target, cells),
        "one_error": 1 - _mean(target[np.arange(len(target)), first][rows].astype(np.float64)),
        **_ranking_metrics(score[rows], target[rows], cells[rows]),
        **{f"oracle_{name}": value for name, value in oracle.items()},
    }
