"""The closed form of teacher, graph and student, against the same steps by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from torch import Tensor

from semilearn_bbam import kernel_graph, model_selection
from semilearn_bbam.kernel_graph import POOL_WEIGHT, SMOOTHINGS, KernelGraphFit, fit_kernel_graph
from semilearn_bbam.kernels import unit_rows
from semilearn_bbam.model_selection import choose_kernel_ridge
from semilearn_bbam.neighbours import NeighbourGraph
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels

LABELED, POOL, D, K, COUNT = 14, 25, 6, 3, 4


def table(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labelled rows, their targets, the pool, and its rates; labels are clusters, and overlap."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(K, D, generator=generator, dtype=torch.float64)
    targets = (torch.rand(LABELED + POOL, K, generator=generator) < torch.tensor([0.5, 0.4, 0.3])).double()
    x = targets @ centres + torch.randn(LABELED + POOL, D, generator=generator, dtype=torch.float64) + 1
    return x[:LABELED], targets[:LABELED].float(), x[LABELED:], targets[:LABELED].float().mean(0)


def fitted(**changes: Any) -> KernelGraphFit:
    labeled, targets, pool, rate = table()
    options = {"num_neighbours": COUNT} | changes
    return fit_kernel_graph(labeled, targets, pool, rate, **options)


def ridge(
    z: Tensor, targets: Tensor, fit: KernelGraphFit, weights: np.ndarray | None = None, plain: bool = False
) -> KernelRidge:
    prefix = "plain_" if plain else ""
    model = KernelRidge(kernel="rbf", gamma=fit.chosen[f"{prefix}gamma"], alpha=fit.chosen[f"{prefix}ridge"])
    return model.fit(z.numpy(), targets.double().numpy(), weights)


def student_weights() -> np.ndarray:
    return np.r_[np.ones(LABELED), np.full(POOL, POOL_WEIGHT)]


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_every_step_follows_the_definition(shrinkage: float) -> None:
    labeled, targets, pool, rate = table()
    fit = fitted(shrinkage=shrinkage)
    graph = NeighbourGraph.of(torch.cat([labeled, pool]), COUNT)
    x = unit_rows(torch.cat([labeled, pool]))
    assert choose_kernel_ridge(x[:LABELED], targets)[:2] == (fit.chosen["plain_gamma"], fit.chosen["plain_ridge"])
    precisions = {alpha: choose_kernel_ridge(graph.smoothed(alpha)[:LABELED], targets)[2] for alpha in SMOOTHINGS}
    assert fit.chosen["leave_one_out_mAP"] == max(precisions.values())
    assert precisions[fit.chosen["alpha"]] == max(precisions.values())
    z = graph.smoothed(fit.chosen["alpha"])

    supervised = ridge(z[:LABELED], targets, fit).predict(z)
    plain = ridge(x[:LABELED], targets, fit, plain=True).predict(x)
    constant = np.c_[x.numpy(), np.ones(LABELED + POOL)]  # whose weight is the bias
    linear = Ridge(alpha=fit.chosen["linear_ridge"], fit_intercept=False).fit(constant[:LABELED], targets.double())
    votes = [
        class_aware_pseudo_labels(torch.from_numpy(scores[LABELED:]), rate)[0]
        for scores in (supervised, plain, linear.predict(constant))
    ]
    pseudo = torch.stack(votes).mean(0)
    torch.testing.assert_close(fit.pseudo_targets, pseudo)
    assert pseudo.sum(0).tolist() == pytest.approx([int(float(r) * POOL + 1e-3) for r in rate])

    all_targets = torch.cat([targets, pseudo])
    students = [ridge(z, all_targets, fit, student_weights()).predict(z)]
    students += [ridge(x, all_targets, fit, student_weights(), plain=True).predict(x)]
    share = np.array([2 / 3 * n / (n + shrinkage) for n in targets.sum(0).tolist()])
    expected = torch.from_numpy((1 - share) * supervised + share * sum(students) / 2)
    torch.testing.assert_close(fit.pool, expected[LABELED:], atol=1e-6, rtol=1e-5)


def test_leave_one_out_scores_leave_the_label_or_pseudo_label_out() -> None:
    _, targets, _, _ = table()
    fit = fitted()
    x, z, rows = fit.scores.x, fit.scores.smoothed, np.arange(LABELED + POOL)
    all_targets = torch.cat([targets, fit.pseudo_targets])
    for i in (0, 5, LABELED, LABELED + 9):
        others, own = np.delete(rows, i), slice(i, i + 1)
        labeled, weights = others[others < LABELED], student_weights()[others]
        parts = [ridge(z[labeled], targets[labeled], fit).predict(z[own])]
        parts += [ridge(z[others], all_targets[others], fit, weights).predict(z[own])]
        parts += [ridge(x[others], all_targets[others], fit, weights, plain=True).predict(x[own])]
        torch.testing.assert_close(fit.leave_one_out[i], torch.from_numpy(sum(parts) / 3)[0], atol=1e-6, rtol=1e-5)
    assert fit.leave_one_out.shape == (LABELED + POOL, K)


def test_new_rows_are_smoothed_like_those_of_the_graph() -> None:
    fit = fitted()
    new = table(seed=1)[2]
    scores = fit.scores(new)
    assert scores.shape == (POOL, K)
    without = fitted(smoothings=(0.0,))
    assert without.chosen["alpha"] == 0
    parts = [
        part(unit_rows(new))
        for part in (without.scores.supervised, without.scores.student, without.scores.plain_student)
    ]
    torch.testing.assert_close(without.scores(new), sum(parts) / 3)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(fitted(smoothings=(0.7,)).scores(new), without.scores(new))


def test_the_pool_teaches() -> None:
    """Other rows in the pool give another function, other rates too; without rates there is nothing to learn."""
    labeled, targets, pool, rate = table()
    new = table(seed=1)[2]
    scores = fitted().scores(new)
    other = fit_kernel_graph(labeled, targets, table(seed=2)[2], rate, num_neighbours=COUNT).scores(new)
    assert float((scores - other).abs().max()) > 0.01
    none = fit_kernel_graph(labeled, targets, pool, torch.zeros(K), num_neighbours=COUNT)
    assert not none.pseudo_targets.any()
    assert float((scores - none.scores(new)).abs().max()) > 0.01


def test_an_unknown_cell_is_filled_with_its_supervised_score_in_the_student_only() -> None:
    labeled, targets, pool, rate = table()
    known = torch.ones(LABELED, K, dtype=torch.bool)
    known[::4, 0] = known[1::5, 1] = False
    runs = [
        fit_kernel_graph(labeled, torch.where(known, targets, fill), pool, rate, known=known, num_neighbours=COUNT)
        for fill in (0.0, 1.0)
    ]
    for key in ("pool", "leave_one_out", "pseudo_targets"):
        assert torch.equal(getattr(runs[0], key), getattr(runs[1], key))
    fit = runs[0]
    z = fit.scores.smoothed
    supervised = np.stack(
        [ridge(z[:LABELED][known[:, k]], targets[known[:, k], k], fit).predict(z) for k in range(K)], axis=1
    )
    filled = torch.where(known, targets.double(), torch.from_numpy(supervised[:LABELED]))
    all_targets = torch.cat([filled, fit.pseudo_targets.double()])
    x = fit.scores.x
    students = [ridge(z, all_targets, fit, student_weights()).predict(z)]
    students += [ridge(x, all_targets, fit, student_weights(), plain=True).predict(x)]
    expected = torch.from_numpy((supervised + sum(students)) / 3)[LABELED:]
    torch.testing.assert_close(fit.pool, expected, atol=1e-6, rtol=1e-5)
    complete = fit_kernel_graph(labeled, targets, pool, rate, known=known | True, num_neighbours=COUNT)
    assert torch.equal(complete.pool, fitted().pool)


def test_landmarks_of_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = fitted()
    monkeypatch.setattr(model_selection, "MOST_EXACT", 30)
    monkeypatch.setattr(kernel_graph, "LANDMARKS", LABELED + POOL)
    every = fitted()
    torch.testing.assert_close(every.pool, exact.pool, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(every.leave_one_out, exact.leave_one_out, atol=1e-3, rtol=1e-3)
    monkeypatch.setattr(kernel_graph, "LANDMARKS", 10)
    few = fitted(generator=torch.Generator().manual_seed(1))
    assert len(few.scores.student.support) == 10
    assert torch.equal(few.pool, fitted(generator=torch.Generator().manual_seed(1)).pool)
    assert not torch.equal(few.pool, fitted(generator=torch.Generator().manual_seed(2)).pool)
    assert float((few.pool - exact.pool).abs().mean()) < float(exact.pool.std())


@pytest.mark.parametrize("labeled_rows", [1, 2, 30])
@pytest.mark.parametrize("pool_rows", [1, 3, 30])
@pytest.mark.parametrize("kind", ["random", "constant", "zeros", "copies", "float16"])
def test_data_at_the_edge(kind: str, pool_rows: int, labeled_rows: int) -> None:
    x = torch.randn(labeled_rows + pool_rows, 4, generator=torch.Generator().manual_seed(0))
    changes = {"constant": torch.ones_like(x), "zeros": torch.zeros_like(x), "float16": x.half()}
    x = changes.get(kind, x)
    if kind == "copies":
        x[1:] = x[:1]
    targets = torch.zeros(labeled_rows, 4)
    targets[:, 1] = targets[0, 2] = targets[::2, 3] = 1
    fit = fit_kernel_graph(x[:labeled_rows], targets, x[labeled_rows:], targets.mean(0))
    for scores in (fit.pool, fit.leave_one_out, fit.scores(x)):
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()
        assert not scores[:, 0].any()  # no positive
    assert fit.pool[:, 1].mean() >= fit.pool[:, 2].mean() - 1e-6  # always positive, against once


def test_steps_are_reported_and_what_is_refused() -> None:
    steps: list[str] = []
    fitted(progress=steps.append)
    assert len(steps) >= 4
    labeled, targets, pool, rate = table()
    with pytest.raises(ValueError, match="labelled rows 0"):
        fit_kernel_graph(labeled[:0], targets[:0], pool, rate)
    with pytest.raises(ValueError, match="shrinkage"):
        fit_kernel_graph(labeled, targets, pool, rate, shrinkage=-1.0)
