"""What is chosen by leave-one-out scores, against every candidate fitted by scikit-learn without each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import average_precision_score
from torch import Tensor

from semilearn_bbam import model_selection
from semilearn_bbam.kernels import total_variance
from semilearn_bbam.model_selection import (
    RIDGES,
    WIDTHS,
    best_by_leave_one_out,
    cardinality_boundary,
    choose_kernel_ridge,
    choose_landmarks,
    choosing_rows,
)


def table(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 2, generator=generator)
    return x, ((x[:, :2] ** 2 + 0.5 * noise) > torch.tensor([0.7, 1.2])).float()


def precision_without_each_row(x: Tensor, targets: Tensor, gamma: float, ridge: float) -> float:
    scores = []
    for i in range(len(x)):
        rows = np.delete(np.arange(len(x)), i)
        model = KernelRidge(kernel="rbf", gamma=gamma, alpha=ridge).fit(x[rows], targets[rows])
        scores.append(model.predict(x[i : i + 1]))
    return float(np.mean([average_precision_score(targets[:, k], np.concatenate(scores)[:, k]) for k in range(2)]))


def test_width_and_ridge_are_the_best_of_the_grid() -> None:
    x, targets = table(24)
    gamma, ridge, precision = choose_kernel_ridge(x, targets)
    variance = total_variance(x)
    by_choice = {
        (width / variance, r): precision_without_each_row(x, targets, width / variance, r)
        for width in WIDTHS
        for r in RIDGES
    }
    assert len(set(by_choice.values())) > 3  # the candidates do differ
    assert precision == pytest.approx(max(by_choice.values()))
    assert by_choice[gamma, ridge] == pytest.approx(precision)


def test_of_many_rows_some_choose_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a file stand in its order, which may be that of their labels."""
    x, targets = table(40)
    known = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) < 0.8
    monkeypatch.setattr(model_selection, "MOST_CHOOSING", 25)
    rows = choosing_rows(40)
    assert len(set(rows.tolist())) == 25
    assert set(rows.tolist()) <= set(range(40))
    assert 5 < int((rows >= 20).sum()) < 20  # of both halves
    assert choosing_rows(40).equal(rows)
    assert choosing_rows(25).tolist() == list(range(25))
    assert choose_kernel_ridge(x, targets, known) == choose_kernel_ridge(x[rows], targets[rows], known[rows])


def test_a_label_with_one_positive_does_not_count_beside_others() -> None:
    """Left out it cannot be found again, whatever is chosen."""
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    tables = {"first": torch.tensor([[3.0, 9, 0], [2, 1, 0], [1, 0, 0]]), "second": torch.tensor([[1.0, 0, 0]] * 3)}
    assert best_by_leave_one_out(["second", "first"], tables.__getitem__, targets) == ("first", 1.0)
    alone = best_by_leave_one_out(["first", "second"], lambda name: tables[name][:, 1:], targets[:, 1:])
    assert alone == ("first", pytest.approx(1 / 3))  # the only label there is; the first of equals
    assert best_by_leave_one_out([1, 2], lambda value: targets[:, 2:], targets[:, 2:]) == (1, 0.0)
    with pytest.raises(ValueError, match="candidate"):
        best_by_leave_one_out([], lambda value: targets, targets)


def test_unknown_cells_do_not_count() -> None:
    targets = torch.tensor([[1.0], [1.0], [0.0], [1.0]])
    known = torch.tensor([[True], [True], [True], [False]])
    scores = torch.tensor([[3.0], [2.0], [1.0], [0.0]])
    assert best_by_leave_one_out([scores], lambda values: values, targets, known)[1] == 1.0
    assert best_by_leave_one_out([scores], lambda values: values, targets)[1] == pytest.approx((1 + 1 + 3 / 4) / 3)


@given(st.lists(st.tuples(st.integers(-500, 500), st.booleans(), st.booleans()), min_size=1, max_size=30, unique=True))
def test_as_many_cells_reach_the_boundary_as_are_positive(cells: list[tuple[int, bool, bool]]) -> None:
    values = {value: (positive, known) for value, positive, known in cells}  # distinct scores
    scores = torch.tensor([[float(value)] for value in values]) / 100
    targets = torch.tensor([[float(positive)] for positive, _ in values.values()])
    known = torch.tensor([[known] for _, known in values.values()])
    boundary = cardinality_boundary(scores, targets, known)
    count = int(targets[known].sum())
    if 0 < count < int(known.sum()):
        assert int((scores[known] >= boundary).sum()) == count
    else:
        assert boundary == 0.5
    assert cardinality_boundary(scores[known], targets[known]) == boundary


def test_landmarks_are_half_labelled_rows_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_selection, "MOST_EXACT", 100)
    assert choose_landmarks(30, 100, 20, torch.Generator()) is None
    for num_labeled, num_rows, labeled in ((30, 101, 10), (4, 101, 4), (95, 101, 14), (101, 101, 20)):
        rows = choose_landmarks(num_labeled, num_rows, 20, torch.Generator().manual_seed(1))
        assert rows is not None
        assert len(set(rows.tolist())) == 20
        assert rows.equal(rows.sort().values)
        assert int((rows < num_labeled).sum()) == labeled
        assert 0 <= int(rows[0]) <= int(rows[-1]) < num_rows
        assert rows.equal(choose_landmarks(num_labeled, num_rows, 20, torch.Generator().manual_seed(1)))
