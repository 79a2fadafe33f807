"""Thresholds of highest F_beta, against scikit-learn and plain loops."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from sklearn.metrics import fbeta_score
from torch import Tensor

from semilearn_bbam import thresholds
from semilearn_bbam.thresholds import f_beta_thresholds
from tests.conftest import naming

N, K = 61, 5


def table(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores that overlap, some of them on grid points, and labels of different frequency."""
    torch.manual_seed(seed)
    targets = (torch.rand(N, K) < torch.linspace(0.5, 0.1, K)).float()
    scores = (targets + 1.2 * torch.randn(N, K)).sigmoid()
    scores[::3] = (scores[::3] * 20).round() / 20
    return scores, targets


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_thresholds_are_the_best_of_the_grid_by_scikit_learn(beta: float) -> None:
    scores, targets = table()
    grid = [torch.tensor(i / 100, dtype=torch.float64).float() for i in range(100)]
    found, best = f_beta_thresholds(scores, targets, beta=beta)
    assert found.dtype == torch.float32
    for k in range(K):
        values = [fbeta_score(targets[:, k], scores[:, k] >= t, beta=beta, zero_division=0) for t in grid]
        assert float(best[k]) == pytest.approx(max(values))
        first = next(i for i, value in enumerate(values) if value > max(values) - 1e-12)
        assert found[k] == grid[first]


def exact(scores: Tensor, targets: Tensor, t: float, k: int, weight: Fraction, beta: Fraction) -> Fraction:
    """(1 + beta^2) P R / (weight P + R) in exact arithmetic."""
    pairs = [(float(s) >= t, y > 0) for s, y in zip(scores[:, k].tolist(), targets[:, k].tolist(), strict=True)]
    hits = sum(guess and true for guess, true in pairs)
    if not hits:
        return Fraction(0)
    precision = Fraction(hits, sum(guess for guess, _ in pairs))
    recall = Fraction(hits, sum(true for _, true in pairs))
    return (1 + beta**2) * precision * recall / (weight * precision + recall)


@pytest.mark.parametrize("form", ["standard", "released"])
@pytest.mark.parametrize("ties", ["lowest", "middle", "highest"])
@pytest.mark.parametrize("beta", [Fraction(1, 2), Fraction(7, 10)])
def test_both_forms_are_their_formulas_and_ties_are_as_told(form: str, ties: str, beta: Fraction) -> None:
    scores, targets = table(1)
    scores = (scores.double() * 8).round() / 8  # coarse, so that many grid points tie
    weight = beta**2 if form == "standard" else beta
    found, best = f_beta_thresholds(scores, targets, beta=float(beta), form=form, ties=ties, grid_size=25)
    numbers = set()
    for k in range(K):
        values = [exact(scores, targets, i / 25, k, weight, beta) for i in range(25)]
        equal = [i for i, value in enumerate(values) if value == max(values)]
        place = {"lowest": 0, "middle": (len(equal) - 1) // 2, "highest": -1}[ties]
        assert float(best[k]) == pytest.approx(float(max(values)), rel=1e-12)
        assert float(found[k]) == equal[place] / 25
        numbers.add(len(equal))
    assert max(numbers) > 2


def test_the_released_form_is_the_standard_one_at_another_beta() -> None:
    differ = 0
    for seed in range(8):
        scores, targets = table(seed)
        released, _ = f_beta_thresholds(scores, targets, beta=0.25, form="released")
        assert torch.equal(released, f_beta_thresholds(scores, targets, beta=0.5)[0])
        differ += not torch.equal(released, f_beta_thresholds(scores, targets, beta=0.25)[0])
    assert differ


@pytest.mark.parametrize(("ties", "expected"), [("lowest", 0.34), ("middle", 0.57), ("highest", 0.8)])
def test_separated_rows_leave_the_choice_to_ties(ties: str, expected: float) -> None:
    scores = torch.tensor([[0.9], [0.805], [0.335], [0.1]])
    found, best = f_beta_thresholds(scores, torch.tensor([[1.0], [1.0], [0.0], [0.0]]), ties=ties)
    assert float(found) == pytest.approx(expected)
    assert float(best) == 1


def test_labels_without_one_or_all_positives() -> None:
    scores, targets = table()
    targets[:, 0], targets[:, 1], targets[:, 2] = 0, 0, 1
    targets[7, 1] = 1
    scores[:, 0] = 1.0  # the highest score there is
    scores[7, 1], scores[9, 1] = 0.905, 1.0
    found, best = f_beta_thresholds(scores, targets)
    assert float(found[0]) == math.inf
    assert not (scores[:, 0] >= found[0]).any()
    assert float(best[0]) == 0
    above = int((scores[:, 1] >= 0.9).sum())
    assert float(best[1]) == pytest.approx(1.25 / (0.25 + above))
    assert float(found[2]) == 0  # everything is positive, and nothing beats that
    assert float(best[2]) == 1


def test_ends_of_the_range_count() -> None:
    found, best = f_beta_thresholds(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]))
    assert float(found) == pytest.approx(0.01)
    assert float(best) == 1
    nothing, _ = f_beta_thresholds(torch.empty(0, 3), torch.empty(0, 3))
    assert nothing.tolist() == [math.inf] * 3


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = table()
    whole = f_beta_thresholds(scores, targets)
    monkeypatch.setattr(thresholds, "CHUNK", 7)
    chunked = f_beta_thresholds(scores, targets)
    assert all(torch.equal(a, b) for a, b in zip(whole, chunked, strict=True))


def test_half_precision_scores_are_read_in_float32() -> None:
    scores, targets = table()
    found, _ = f_beta_thresholds(scores.half(), targets)
    assert found.dtype == torch.float32
    assert torch.equal(found, f_beta_thresholds(scores.half().float(), targets)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.full((N, K), 1.5)}, ("scores", "[0, 1]")),
        ({"scores": torch.full((N, K), math.nan)}, ("scores", "[0, 1]")),
        ({"scores": torch.zeros(N, K + 1)}, (f"scores [{N}, {K + 1}]", f"targets [{N}, {K}]")),
        ({"beta": 0.0}, ("beta", "positive", "0.0 and 100")),
        ({"beta": math.inf}, ("beta", "finite", "inf and 100")),
        ({"grid_size": 0}, ("grid_size at least 1", "0.5 and 0")),
        ({"form": "f1"}, ("form", "standard, released", "'f1'")),
        ({"ties": "first"}, ("ties", "lowest, middle, highest", "'first'")),
    ],
)
def test_errors(change: dict[str, Any], message: tuple[str, ...]) -> None:
    scores, targets = table()
    with pytest.raises(ValueError, match=naming(*message)):
        f_beta_thresholds(**{"scores": scores, "targets": targets} | change)
