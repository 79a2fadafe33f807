"""Logistic regression per label, against scikit-learn and fits that leave each row out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from semilearn_bbam.logistic import CERTAIN, STRENGTHS, logistic_regression
from semilearn_bbam.model_selection import best_by_leave_one_out

N, K = 30, 3


def table(width: int = 5, rows: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(rows, K, generator=generator) < torch.tensor([0.5, 0.3, 0.2])).float()
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    x[:, :K] += targets
    return torch.nn.functional.normalize(x, dim=1), targets


def without_row(x: np.ndarray, y: np.ndarray, bias: float, strength: float, left: int) -> float:
    """Log-odds of a row by a fit to the others, with the bias of all."""
    rows, sign = np.delete(x, left, axis=0), np.delete(2 * y - 1, left)

    def loss(weight: np.ndarray) -> float:
        return float(weight @ weight / 2 + strength * np.logaddexp(0, -sign * (rows @ weight + bias)).sum())

    solution = minimize(loss, np.zeros(x.shape[1]), method="BFGS")
    return float(x[left] @ solution.x + bias)


@pytest.mark.parametrize("width", [5, 60], ids=["more rows than columns", "more columns than rows"])
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_function_is_that_of_scikit_learn(strength: float, width: int) -> None:
    x, targets = table(width)
    scores, _, chosen, _ = logistic_regression(x, targets, strengths=(strength,))
    assert chosen == strength
    for k in range(K):
        model = LogisticRegression(C=strength, tol=1e-8, max_iter=2000).fit(x.numpy(), targets[:, k].numpy())
        np.testing.assert_allclose(scores(x)[:, k], model.decision_function(x.numpy()), atol=0.05)  # both stop early


def test_leave_one_out_scores_are_near_those_of_fits_without_each_row() -> None:
    x, targets = table()
    scores, held_out, _, _ = logistic_regression(x, targets, strengths=(3.0,))
    exact = np.array(
        [
            [without_row(x.numpy(), targets[:, k].numpy(), float(scores.bias[k]), 3.0, i) for k in range(K)]
            for i in range(N)
        ]
    )
    off = np.abs(held_out.numpy() - exact)
    shift = np.abs(scores(x).numpy() - exact)  # what leaving out changes
    assert off.mean() < 0.1 * shift.mean()
    assert off.max() < 0.25 * shift.max()


def test_strength_is_the_one_with_the_best_leave_one_out_scores() -> None:
    x, targets = table()
    _, held_out, chosen, precision = logistic_regression(x, targets)
    by_strength = {c: logistic_regression(x, targets, strengths=(c,))[3] for c in STRENGTHS}
    assert len(set(by_strength.values())) > 1
    assert by_strength[chosen] == precision == max(by_strength.values())
    assert best_by_leave_one_out([held_out], lambda values: values, targets)[1] == precision


def test_an_unknown_cell_leaves_the_row_out_of_its_label_only() -> None:
    x, targets = table()
    known = torch.rand(N, K, generator=torch.Generator().manual_seed(1)) < 0.7
    known[:, 2] = False
    poisoned = torch.where(known, targets, 1 - targets)
    scores, held_out, _, _ = logistic_regression(x, poisoned, known=known, strengths=(3.0,))
    for k in range(2):
        rows = known[:, k]
        alone, alone_held_out, _, _ = logistic_regression(x[rows], targets[rows, k : k + 1], strengths=(3.0,))
        torch.testing.assert_close(scores(x)[:, k], alone(x)[:, 0], atol=5e-3, rtol=0)
        torch.testing.assert_close(held_out[rows, k], alone_held_out[:, 0], atol=2e-2, rtol=0)
        torch.testing.assert_close(held_out[~rows, k], scores(x)[~rows, k])
    assert (scores(x)[:, 2] == -CERTAIN).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_labels_and_rows_at_the_edge(rows: int, dtype: torch.dtype) -> None:
    targets = torch.zeros(rows, 4)
    targets[0, 1], targets[:, 2] = 1, 1
    targets[: rows // 2, 3] = 1
    for x in (torch.ones(rows, 2), torch.zeros(rows, 2), torch.eye(2).repeat(4, 1)[:rows], torch.eye(8)[:rows]):
        scores, held_out, strength, precision = logistic_regression(x.to(dtype), targets)
        assert scores(x.to(dtype)).dtype == held_out.dtype == torch.float32
        assert scores(x).isfinite().all()
        assert held_out.isfinite().all()
        assert (scores(x)[:, 0] == -CERTAIN).all()
        assert (scores(x)[:, 2] == CERTAIN).all()
        assert strength in STRENGTHS
        assert 0 <= precision <= 1


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="row"):
        logistic_regression(torch.ones(0, 2), torch.ones(0, 1))
    with pytest.raises(ValueError, match="candidate"):
        logistic_regression(torch.ones(2, 2), torch.ones(2, 1), strengths=())
