"""Kernel ridge regression on 0/1 targets with leave-one-out scores in closed form, exact or on landmarks.

Sources: Rifkin and Lippert, Notes on Regularized Least Squares (2007); Williams and Seeger, NIPS 2000 (Nystroem), as a
subset of regressors (Quinonero-Candela and Rasmussen, JMLR 2005).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack, solve_triangular
from torch import Tensor

from semilearn_bbam.tensors import full_precision

JITTER = 1e-6
ROUNDING = 1e-6  # of squared distances in float32, relative to squared lengths
CHUNK = 4096

Matrix = NDArray[np.float64]


def unit_rows(x: Tensor) -> Tensor:
    """Rows divided by their length.

    Args:
        x: [N,D].

    Returns:
        [N,D], float32 or better; a row of zeros stays one.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return torch.nn.functional.normalize(full_precision(x), dim=1)


def total_variance(x: Tensor) -> float:
    """Mean squared distance of rows from their mean, 1 where all rows are equal up to rounding.

    Args:
        x: [N,D].

    Returns:
        A positive number.

    Example:
        >>> total_variance(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        1.0
    """
    x = full_precision(x)
    variance = float((x - x.mean(0)).square().sum(1).mean())
    return variance if variance > ROUNDING * float(x.square().sum(1).mean()) else 1.0


def gaussian_kernel(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |x_i - y_j|^2).

    Args:
        x: [N,D].
        y: [M,D].
        gamma: > 0.

    Returns:
        [N,M], float32 or better.

    Example:
        >>> gaussian_kernel(torch.eye(2), torch.eye(2), 0.5)
        tensor([[1.0000, 0.3679],
                [0.3679, 1.0000]])
    """
    x, y = full_precision(x), full_precision(y)
    distances = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * (x @ y.T)
    return distances.clamp_(min=0).mul_(-gamma).exp_()


@dataclass(frozen=True, eq=False)
class KernelScores:
    """A function of rows, gaussian_kernel(x, support) @ coefficients: support [M,D], coefficients [M,K], gamma > 0.

    Example:
        >>> KernelScores(torch.eye(2), torch.eye(2), 0.5)(torch.eye(2))
        tensor([[1.0000, 0.3679],
                [0.3679, 1.0000]])
    """

    support: Tensor
    coefficients: Tensor
    gamma: float

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [N,K] of rows [N,D], float32 or better."""
        parts = [
            gaussian_kernel(rows, self.support, self.gamma) @ self.coefficients
            for rows in torch.split(full_precision(x), CHUNK)
        ]
        return torch.cat(parts) if parts else self.coefficients[:0]


@dataclass(frozen=True, eq=False)
class LinearScores:
    """A linear function of rows, x @ weight + bias: weight [D,K], bias [K].

    Example:
        >>> LinearScores(torch.eye(2), torch.ones(2))(torch.eye(2))
        tensor([[2., 1.],
                [1., 2.]])
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [N,K] of rows [N,D], float32 or better."""
        return full_precision(x) @ self.weight + self.bias


@dataclass(frozen=True, eq=False)
class KernelFit:
    """A fitted function, and the leave-one-out scores [N,K] of the rows that it was fitted to.

    A leave-one-out score is what the fit to all other rows gives a row.
    """

    scores: KernelScores
    leave_one_out: Tensor


def kernel_ridge(
    x: Tensor,
    targets: Tensor,
    *,
    gamma: float,
    ridge: float,
    weights: Tensor | None = None,
    known: Tensor | None = None,
    landmarks: Tensor | None = None,
) -> KernelFit:
    """Least squares in the space of the Gaussian kernel.

        minimise over f  sum_i w_i (y_ik - f_k(x_i))^2 + ridge |f_k|^2,  one factor for all labels
        leave-one-out    y - alpha_i / (G^-1)_ii,  G = K + ridge diag(1 / w),  alpha = G^-1 y

    Args:
        x: rows, [N,D].
        targets: [N,K], real numbers, of any value where unknown.
        gamma: of the kernel, > 0.
        ridge: > 0.
        weights: w, [N], positive; None: 1.
        known: [N,K] bool; a label is fitted to the rows where it is known. Labels that are known in the same rows share
            a factor. None: all are known.
        landmarks: row numbers [M]: f is a combination of the kernels of these rows, in memory O(M^2) and time
            O(N M^2); None: of all, O(N^2) and O(N^3). With all rows as landmarks both agree.

    Returns:
        Function and leave-one-out scores, float32; scores of rows whose label is unknown are those of the function. A
        label that is known nowhere, or has only zeros, gets 0 everywhere; one with a single positive is treated as any
        other.

    Raises:
        ValueError: ridge, gamma or weights that are not positive, shapes that differ.

    Example:
        >>> fit = kernel_ridge(torch.eye(3), torch.tensor([[1.0], [0.0], [0.0]]), gamma=1.0, ridge=0.1)
        >>> fit.leave_one_out.T
        tensor([[0.0000, 0.1114, 0.1114]])
    """
    values, weight = _checked(x, targets, ridge, weights)
    if gamma <= 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    x = full_precision(x)
    support = x if landmarks is None else x[landmarks]
    coefficients = np.zeros((len(support), targets.shape[1]))
    held_out = np.zeros(targets.shape)
    for labels, rows in _patterns(known, targets):
        cells, part = np.ix_(rows, labels), x[torch.from_numpy(rows)]
        if landmarks is None:
            coefficients[cells], held_out[cells] = _exact(part, values[cells], gamma, ridge / weight[rows])
            continue
        inner = _matrix(gaussian_kernel(support, support, gamma))
        inner[np.diag_indices(len(inner))] += JITTER

        def columns(chunk: slice, part: Tensor = part) -> Matrix:
            return _matrix(gaussian_kernel(part[chunk], support, gamma))

        solution = _from_columns(columns, inner, values[cells], ridge, weight[rows])
        coefficients[:, labels], held_out[cells] = solution
    scores = KernelScores(support, torch.from_numpy(coefficients).to(x), gamma)
    return KernelFit(scores, _with_unknown(held_out, scores(x), known))


def linear_ridge(
    x: Tensor, targets: Tensor, *, ridge: float, known: Tensor | None = None
) -> tuple[LinearScores, Tensor]:
    """Least squares with a linear function, minimise sum_i (y_ik - x_i . w_k - b_k)^2 + ridge (|w_k|^2 + b_k^2).

    Args:
        x: rows, [N,D].
        targets: [N,K], of any value where unknown.
        ridge: > 0.
        known: as in `kernel_ridge`.

    Returns:
        Function and leave-one-out scores [N,K], as in `kernel_ridge`, in memory O(D^2) and time O(N D^2).

    Raises:
        ValueError: a ridge that is not positive, shapes that differ.

    Example:
        >>> scores, leave_one_out = linear_ridge(torch.eye(2), torch.tensor([[1.0], [0.0]]), ridge=1.0)
        >>> scores.weight.T, scores.bias
        (tensor([[ 0.3750, -0.1250]]), tensor([0.2500]))
    """
    values, weight = _checked(x, targets, ridge, None)
    x = full_precision(x)
    extended = np.hstack([_matrix(x), np.ones((len(x), 1))])
    coefficients = np.zeros((extended.shape[1], targets.shape[1]))
    held_out = np.zeros(targets.shape)
    for labels, rows in _patterns(known, targets):
        cells, part = np.ix_(rows, labels), extended[rows]
        solution = _from_columns(part.__getitem__, np.eye(part.shape[1]), values[cells], ridge, weight[rows])
        coefficients[:, labels], held_out[cells] = solution
    table = torch.from_numpy(coefficients).to(x)
    scores = LinearScores(table[:-1], table[-1])
    return scores, _with_unknown(held_out, scores(x), known)


def _matrix(values: Tensor) -> Matrix:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)


def _checked(x: Tensor, targets: Tensor, ridge: float, weights: Tensor | None) -> tuple[Matrix, Matrix]:
    """Targets and weights in float64."""
    if ridge <= 0 or x.ndim != 2 or targets.ndim != 2 or len(x) != len(targets):
        raise ValueError(f"x {list(x.shape)} and targets {list(targets.shape)} need the same rows, ridge {ridge} > 0")
    if weights is not None and (weights.shape != (len(x),) or not bool((weights > 0).all())):
        raise ValueError(f"weights must be {len(x)} positive numbers")
    return _matrix(targets), np.ones(len(x)) if weights is None else _matrix(weights)


def _with_unknown(held_out: Matrix, fitted: Tensor, known: Tensor | None) -> Tensor:
    """Leave-one-out scores, and those of the function where the label is unknown."""
    scores = torch.from_numpy(held_out).to(fitted)
    return scores if known is None else torch.where(known, scores, fitted)


def _patterns(known: Tensor | None, targets: Tensor) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Labels that are known in the same rows, and these rows."""
    if known is None or bool(known.all()):
        return [(np.arange(targets.shape[1]), np.arange(len(targets)))] if len(targets) else []
    columns, group = np.unique(known.cpu().numpy(), axis=1, return_inverse=True)
    patterns = ((np.flatnonzero(group.ravel() == g), np.flatnonzero(columns[:, g])) for g in range(columns.shape[1]))
    return [(labels, rows) for labels, rows in patterns if len(rows)]


def _exact(x: Tensor, targets: Matrix, gamma: float, ridges: Matrix) -> tuple[Matrix, Matrix]:
    """Coefficients and leave-one-out scores from one Cholesky factor L, in place: one [N,N] matrix is held.

    (G^-1)_ii is the squared length of column i of L^-1, which takes half the time of G^-1.
    """
    gram = np.empty((len(x), len(x)), order="F")
    for start in range(0, len(x), CHUNK):  # symmetric: columns are rows
        gram[:, start : start + CHUNK] = _matrix(gaussian_kernel(x, x[start : start + CHUNK], gamma))
    gram[np.diag_indices(len(x))] += ridges
    factor, failed = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise LinAlgError(f"the kernel matrix of {len(x)} rows has no Cholesky factor; raise the ridge")
    solution: Matrix = lapack.dpotrs(factor, targets, lower=1)[0]
    inverse = lapack.dtrtri(factor, lower=1, overwrite_c=1)[0]  # of the factor, whose other half is 0
    return solution, targets - solution / np.einsum("ij,ij->j", inverse, inverse)[:, None]


def _from_columns(
    columns: Callable[[slice], Matrix], inner: Matrix, targets: Matrix, ridge: float, weights: Matrix
) -> tuple[Matrix, Matrix]:
    """Coefficients of the columns c_i, and leave-one-out scores; `columns` gives those of some rows.

    beta = A^-1 C' W y,  A = C' W C + ridge inner. The influence of a row is h = w c' A^-1 c; left out, its score is
    (f - h y) / (1 - h).
    """
    system = ridge * inner
    right = np.zeros((len(inner), targets.shape[1]))
    chunks = [slice(start, start + CHUNK) for start in range(0, len(targets), CHUNK)]
    for rows in chunks:
        part = columns(rows)
        weighted = part * weights[rows, None]
        system += part.T @ weighted
        right += weighted.T @ targets[rows]
    factor = cho_factor(system, lower=True, overwrite_a=True)
    solution: Matrix = cho_solve(factor, right)
    held_out = np.empty_like(targets)
    for rows in chunks:
        part = columns(rows)
        influence = np.square(solve_triangular(factor[0], part.T, lower=True)).sum(0) * weights[rows]
        influence = np.minimum(influence, 1 - 1e-6)[:, None]
        held_out[rows] = (part @ solution - influence * targets[rows]) / (1 - influence)
    return solution, held_out
