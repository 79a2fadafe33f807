"""Least squares with a kernel or a linear function, against scikit-learn and fits that leave each row out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor

from semilearn_bbam import kernels
from semilearn_bbam.kernels import KernelScores, gaussian_kernel, kernel_ridge, linear_ridge, total_variance, unit_rows

N, D, K = 23, 5, 3
GAMMA, RIDGE = 0.7, 0.2


def table(rows: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors and 0/1 targets in double precision."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=generator, dtype=torch.float64)
    return x, (torch.rand(rows, K, generator=generator) < torch.tensor([0.5, 0.3, 0.1])).double()


def row_weights(rows: int = N) -> Tensor:
    return torch.linspace(0.05, 2, rows, dtype=torch.float64)


def reference(x: Tensor, targets: Tensor, weights: Tensor | None = None) -> KernelRidge:
    model = KernelRidge(kernel="rbf", gamma=GAMMA, alpha=RIDGE)
    return model.fit(x.numpy(), targets.numpy(), None if weights is None else weights.numpy())


def left_out(x: Tensor, fit: Callable[[np.ndarray], Any]) -> Tensor:
    """The prediction for each row of a fit to the others; `fit` gets their numbers."""
    rows = np.arange(len(x))
    return torch.from_numpy(np.concatenate([fit(np.delete(rows, i)).predict(x[i : i + 1].numpy()) for i in rows]))


def test_kernel_is_that_of_scikit_learn() -> None:
    x, y = table()[0], table(7, seed=1)[0]
    expected = torch.from_numpy(rbf_kernel(x, y, gamma=GAMMA))
    torch.testing.assert_close(gaussian_kernel(x, y, GAMMA), expected)
    half = gaussian_kernel(x.half(), y.half(), GAMMA)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), expected, atol=1e-2, rtol=0)


def test_unit_rows_and_variance() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
    assert torch.equal(unit_rows(x), torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]]))
    assert unit_rows(x.half()).dtype == torch.float32
    mean = x.mean(0)
    assert total_variance(x) == pytest.approx(float(sum((row - mean) @ (row - mean) for row in x)) / 3)
    assert total_variance(torch.ones(4, 2)) == 1
    assert total_variance(unit_rows(torch.full((7, 3), 0.1) + 1e-8 * torch.randn(7, 3))) == 1
    assert total_variance(1e-4 * torch.eye(2)) == pytest.approx(5e-9)


@pytest.mark.parametrize("weights", [None, row_weights()], ids=["equal rows", "weights"])
def test_kernel_ridge_is_that_of_scikit_learn(weights: Tensor | None) -> None:
    x, targets = table()
    new = table(8, seed=1)[0]
    fit = kernel_ridge(x, targets, gamma=GAMMA, ridge=RIDGE, weights=weights)
    expected = reference(x, targets, weights)
    torch.testing.assert_close(fit.scores(new), torch.from_numpy(expected.predict(new.numpy())))

    def without(rows: np.ndarray) -> KernelRidge:
        return reference(x[rows], targets[rows], None if weights is None else weights[rows])

    torch.testing.assert_close(fit.leave_one_out, left_out(x, without))


def test_an_unknown_cell_leaves_the_row_out_of_its_label_only() -> None:
    x, targets = table()
    known = torch.rand(N, K, generator=torch.Generator().manual_seed(2)) < 0.7
    known[:, 2] = False
    poisoned = torch.where(known, targets, torch.nan)
    for function in (
        lambda y, **cells: kernel_ridge(x, y, gamma=GAMMA, ridge=RIDGE, **cells),
        lambda y, **cells: kernel_ridge(x, y, gamma=GAMMA, ridge=RIDGE, landmarks=torch.arange(9), **cells),
    ):
        fit = function(poisoned, known=known)
        for k in range(2):
            rows = known[:, k]
            alone = kernel_ridge(
                torch.cat([x[:9], x[rows]]),
                torch.cat([targets[:9, k : k + 1], targets[rows, k : k + 1]]),
                gamma=GAMMA,
                ridge=RIDGE,
                weights=torch.cat([torch.full((9,), 1e-12), torch.ones(int(rows.sum()))]).double(),
                landmarks=torch.arange(9) if len(fit.scores.support) == 9 else None,
            )
            torch.testing.assert_close(fit.scores(x)[:, k], alone.scores(x)[:, 0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(fit.leave_one_out[rows, k], alone.leave_one_out[9:, 0], atol=1e-5, rtol=1e-5)
            assert torch.equal(fit.leave_one_out[~rows, k], fit.scores(x)[~rows, k])
        assert not fit.scores(x)[:, 2].any()
        assert not fit.leave_one_out[:, 2].any()
    scores, held_out = linear_ridge(x, poisoned, ridge=RIDGE, known=known)
    for k in range(2):
        rows = known[:, k]
        alone_scores, alone_held_out = linear_ridge(x[rows], targets[rows, k : k + 1], ridge=RIDGE)
        torch.testing.assert_close(scores(x)[:, k], alone_scores(x)[:, 0])
        torch.testing.assert_close(held_out[rows, k], alone_held_out[:, 0])


def test_all_rows_as_landmarks_are_the_exact_fit() -> None:
    x, targets = table()
    options = {"gamma": GAMMA, "ridge": RIDGE, "weights": row_weights()}
    exact = kernel_ridge(x, targets, **options)
    landmarks = kernel_ridge(x, targets, landmarks=torch.arange(N), **options)
    torch.testing.assert_close(landmarks.leave_one_out, exact.leave_one_out, atol=1e-4, rtol=1e-4)
    new = table(8, seed=1)[0]
    torch.testing.assert_close(landmarks.scores(new), exact.scores(new), atol=1e-4, rtol=1e-4)


def test_landmarks_against_normal_equations_and_a_fit_without_each_row() -> None:
    """f = sum_m beta_m k(l_m, .): least squares in the columns of the landmarks, penalty beta' K_mm beta."""
    x, targets = table()
    weights, landmarks = row_weights(), torch.tensor([1, 4, 9, 16, 20])
    columns = rbf_kernel(x, x[landmarks], gamma=GAMMA)
    penalty = RIDGE * (rbf_kernel(x[landmarks], gamma=GAMMA) + kernels.JITTER * np.eye(5))

    def solved(rows: np.ndarray) -> np.ndarray:
        part, w = columns[rows], weights.numpy()[rows, None]
        solution: np.ndarray = np.linalg.solve(part.T @ (w * part) + penalty, part.T @ (w * targets.numpy()[rows]))
        return solution

    fit = kernel_ridge(x, targets, gamma=GAMMA, ridge=RIDGE, weights=weights, landmarks=landmarks)
    rows = np.arange(N)
    torch.testing.assert_close(fit.scores(x), torch.from_numpy(columns @ solved(rows)))
    without = np.stack([columns[i] @ solved(np.delete(rows, i)) for i in rows])
    torch.testing.assert_close(fit.leave_one_out, torch.from_numpy(without))


def test_linear_ridge_is_that_of_scikit_learn_with_a_constant_column() -> None:
    x, targets = table()
    extended = torch.cat([x, torch.ones(N, 1)], dim=1)

    def fitted(rows: Any) -> Ridge:
        return Ridge(alpha=RIDGE, fit_intercept=False).fit(extended[rows].numpy(), targets[rows].numpy())

    scores, held_out = linear_ridge(x, targets, ridge=RIDGE)
    torch.testing.assert_close(scores(x), torch.from_numpy(fitted(np.arange(N)).predict(extended.numpy())))
    torch.testing.assert_close(held_out, left_out(extended, fitted))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, targets = table()
    landmarks = torch.arange(0, N, 2)

    def everything() -> list[Tensor]:
        exact = kernel_ridge(x, targets, gamma=GAMMA, ridge=RIDGE)
        few = kernel_ridge(x, targets, gamma=GAMMA, ridge=RIDGE, landmarks=landmarks)
        scores, held_out = linear_ridge(x, targets, ridge=RIDGE)
        return [exact.scores(x), exact.leave_one_out, few.scores(x), few.leave_one_out, scores(x), held_out]

    whole = everything()
    monkeypatch.setattr(kernels, "CHUNK", 4)
    for expected, actual in zip(whole, everything(), strict=True):
        torch.testing.assert_close(actual, expected)


def both(x: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Scores of the rows and leave-one-out scores by every kind of fit."""
    landmarks = torch.arange(max(len(x) // 2, 1))
    exact = kernel_ridge(x, targets, gamma=1.0, ridge=0.1)
    few = kernel_ridge(x, targets, gamma=1.0, ridge=0.1, landmarks=landmarks)
    scores, held_out = linear_ridge(x, targets, ridge=0.1)
    return [(exact.scores(x), exact.leave_one_out), (few.scores(x), few.leave_one_out), (scores(x), held_out)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_at_the_edge(dtype: torch.dtype) -> None:
    for x in (torch.ones(4, 2), torch.zeros(4, 2), torch.eye(2).repeat(2, 1), torch.eye(4)[:, :2]):
        targets = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1]])
        for fitted, held_out in both(x.to(dtype), targets):
            assert fitted.dtype == held_out.dtype == torch.float32
            assert fitted.isfinite().all()
            assert held_out.isfinite().all()
            assert not fitted[:, 1].any()  # without a positive
            assert not held_out[:, 1].any()
            assert (fitted[:, 3] > fitted[:, 2]).all()  # always positive, against once
            assert float(held_out[1, 2]) < float(fitted[1, 2])  # the only positive is not found by the others


def test_one_row_and_no_row() -> None:
    for fitted, held_out in both(torch.ones(1, 2), torch.ones(1, 1)):
        assert float(fitted) > 0.5
        assert float(held_out) == pytest.approx(0, abs=1e-5)  # nothing is left to fit to
    fit = kernel_ridge(torch.ones(0, 2), torch.ones(0, 3), gamma=1.0, ridge=1.0)
    assert fit.scores(torch.ones(4, 2)).shape == (4, 3)
    assert not fit.scores(torch.ones(4, 2)).any()
    assert KernelScores(torch.eye(2), torch.eye(2), 1.0)(torch.ones(0, 2)).shape == (0, 2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ridge": 0.0}, "ridge"),
        ({"gamma": 0.0}, "gamma"),
        ({"weights": torch.zeros(N)}, "weights"),
        ({"weights": torch.ones(N - 1)}, "weights"),
        ({"targets": torch.ones(N - 1, K)}, "targets"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], named: str) -> None:
    x, targets = table()
    with pytest.raises(ValueError, match=named):
        kernel_ridge(**{"x": x, "targets": targets, "gamma": GAMMA, "ridge": RIDGE} | changes)
