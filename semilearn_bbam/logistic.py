"""Logistic regression of every label, its strength of regularisation chosen by approximate leave-one-out scores.

Source of the approximation: Rad and Maleki, JRSS B 2020; one Newton step from the fit to all rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from semilearn_bbam.kernels import LinearScores
from semilearn_bbam.model_selection import best_by_leave_one_out
from semilearn_bbam.tensors import full_precision

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # C of scikit-learn, for rows of unit length
MOST_STEPS = 500
# Log-odds of a label of which all known rows have the same value, and of one that is known nowhere.
CERTAIN = 10.0

Matrix = NDArray[np.float64]


def logistic_regression(
    x: Tensor, targets: Tensor, *, known: Tensor | None = None, strengths: Iterable[float] = STRENGTHS
) -> tuple[LinearScores, Tensor, float, float]:
    """One scikit-learn `LogisticRegression` per label, with the C that has the highest leave-one-out mAP.

        minimise  |w|^2 / 2 + C sum_i log(1 + exp(-(2 y_i - 1) eta_i)),  eta_i = x_i . w + b
        leave-one-out  eta_i - h_i (y_i - p_i) / (1 - p_i (1 - p_i) h_i),  h_i = x_i' H^-1 x_i,  H the Hessian

    The bias stays that of all rows: without a positive it is lower, so that scores of left-out positives and negatives
    would come from different scales, and the weakest C lose for that reason alone.

    Args:
        x: [N,D], rows of about unit length.
        targets: [N,K] of 0 and 1, of any value where unknown.
        known: [N,K] bool; None: all are known.
        strengths: values of C to choose from, one for all labels.

    Returns:
        Log-odds as a function of rows; their leave-one-out values [N,K], of rows whose label is unknown those of the
        function; C; its leave-one-out mAP. A label of which all known rows have the same value gets log-odds of 10 or
        -10, one without known rows -10.

    Raises:
        ValueError: no row or no value of C.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> scores, leave_one_out, *choice = logistic_regression(x, torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
        >>> (leave_one_out > 0).T
        tensor([[ True,  True, False, False]])
    """
    if not len(x):
        raise ValueError("x must have a row")
    rows = np.asarray(full_precision(x).cpu().numpy(), dtype=np.float64)
    # In the coordinates of the rows' span the penalty is the same and the Hessian small.
    _, _, basis = np.linalg.svd(rows, full_matrices=False) if rows.shape[0] < rows.shape[1] else (0, 0, None)
    reduced = rows if basis is None else rows @ basis.T
    truth = targets.cpu().numpy() > 0
    cells = np.ones_like(truth) if known is None else known.cpu().numpy()
    fits: dict[float, tuple[Matrix, Matrix, Matrix]] = {}

    def leave_one_out(strength: float) -> Tensor:
        labels = [_one_label(reduced, truth[:, k], cells[:, k], strength) for k in range(truth.shape[1])]
        weight, bias, held_out = (np.stack(values, axis=-1) for values in zip(*labels, strict=True))
        fits[strength] = weight, bias, held_out
        return torch.from_numpy(held_out)

    strength, precision = best_by_leave_one_out(strengths, leave_one_out, targets, known)
    weight, bias, held_out = fits[strength]
    like = full_precision(x)
    full = weight if basis is None else basis.T @ weight
    scores = LinearScores(torch.from_numpy(full).to(like), torch.from_numpy(bias).to(like))
    return scores, torch.from_numpy(held_out).to(like), strength, precision


def _one_label(x: Matrix, truth: NDArray[np.bool_], known: NDArray[np.bool_], strength: float) -> tuple[Matrix, ...]:
    """Weight [D], bias [] and leave-one-out log-odds [N] of a label."""
    targets = truth[known]
    if targets.all() or not targets.any():  # also of a label that is known nowhere
        value = CERTAIN if len(targets) and targets.all() else -CERTAIN
        return np.zeros(x.shape[1]), np.array(value), np.full(len(x), value)
    model = LogisticRegression(C=strength, max_iter=MOST_STEPS).fit(x[known], targets)
    logits: Matrix = model.decision_function(x)
    probability = 1 / (1 + np.exp(-logits[known]))
    curvature = probability * (1 - probability)
    rows = x[known]
    hessian = (rows * curvature[:, None]).T @ rows + np.eye(x.shape[1]) / strength
    influence = np.einsum("nd,nd->n", rows, np.linalg.solve(hessian, rows.T).T)
    remaining = np.maximum(1 - curvature * influence, 1e-6)
    logits[known] -= influence * (targets - probability) / remaining
    return model.coef_[0], model.intercept_[0], logits
