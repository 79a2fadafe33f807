"""Sets of labels that rarely miss a true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def miss_rate(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Mean over rows of the share of their known true labels that are not predicted.

    Args:
        predictions: [N,K] of 0 and 1.
        targets: [N,K] of 0, 1, and -1 for unknown.

    Returns:
        A number in [0, 1]; a row without a known true label counts 0.

    Example:
        >>> miss_rate([[1, 0], [0, 0]], [[1, 1], [0, 0]])
        0.25
    """
    predicted, true = np.asarray(predictions, bool), np.asarray(targets) > 0
    missed = (true & ~predicted).sum(1) / np.maximum(true.sum(1), 1)
    return float(missed.mean())


def set_threshold(probabilities: ArrayLike, targets: ArrayLike, alpha: float) -> float:
    """The highest t for which the label sets {k: probability_k >= t} miss at most a share alpha of the true labels.

        (sum over rows i of miss_i(t) + 1) / (N + 1) <= alpha

    miss_i is as in `miss_rate`. Of a further row, exchangeable with these, the expected miss rate is then at most alpha
    (conformal risk control, Angelopoulos et al., ICLR 2024, arXiv 2208.02814).

    Args:
        probabilities: [N,K], of rows that neither the model nor its calibration was trained on.
        targets: [N,K] of 0, 1, and -1 for unknown.
        alpha: in (0, 1).

    Returns:
        t; 0, with which every label is in every set, where N + 1 < 1 / alpha.

    Raises:
        ValueError: alpha outside its range.

    Example:
        >>> p = np.linspace(0.1, 1, 10)[:, None]
        >>> set_threshold(p, np.ones((10, 1)), 0.2)
        0.2
        >>> set_threshold(p, np.ones((10, 1)), 0.05)
        0.0
    """
    p, true = np.asarray(probabilities, np.float64), np.asarray(targets) > 0
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    budget = alpha * (len(p) + 1) - 1
    if budget < 0:
        return 0.0
    rows, _ = np.nonzero(true)
    values, shares = p[true], 1 / true.sum(1)[rows]
    order = np.argsort(values, kind="stable")
    values, missed = values[order], np.cumsum(shares[order])
    # Missed below values[j]: all cells that are strictly smaller.
    first = np.searchsorted(values, values, side="left")
    below = np.where(first > 0, missed[np.maximum(first - 1, 0)], 0.0)
    allowed = np.flatnonzero(below <= budget + 1e-12)
    return float(values[allowed[-1]]) if len(allowed) else 1.0
