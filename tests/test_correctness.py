"""Correctness rates, thresholds and the contrastive loss, against plain loops."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from torch import Tensor

from semilearn_bbam.correctness import (
    WeightedLabels,
    class_contrastive_loss,
    class_embeddings,
    correctness_rates,
    correctness_weights,
    dual_threshold_labels,
    midrange_thresholds,
)
from tests.conftest import naming

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def table(rows: int, labels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores in steps of 1/64, so that no bin's edge is a matter of rounding, and targets."""
    random = Random(seed)
    scores = [[random.randrange(65) / 64 for _ in range(labels)] for _ in range(rows)]
    targets = [[float(random.random() < score) for score in row] for row in scores]
    return torch.tensor(scores), torch.tensor(targets)


def rates_in_loops(scores: list[list[float]], targets: list[list[float]], bins: int) -> list[float]:
    seen: dict[int, list[float]] = {}
    for row, truth in zip(scores, targets, strict=True):
        for score, target in zip(row, truth, strict=True):
            seen.setdefault(min(int(score * bins), bins - 1), []).append(target)
    known = {b: sum(hits) / len(hits) for b, hits in seen.items()}
    rates = []
    for b in range(bins):
        below, above = [k for k in known if k <= b], [k for k in known if k >= b]
        if not below or not above:
            rates.append(known[min(above)] if above else known[max(below)])
        else:
            low, high = max(below), min(above)
            share = 0.0 if low == high else (b - low) / (high - low)
            rates.append(known[low] + share * (known[high] - known[low]))
    return rates


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("rows", "labels", "bins"), [(40, 3, 20), (2, 2, 20), (1, 1, 7), (30, 4, 1)])
def test_rates_match_loops(rows: int, labels: int, bins: int, device: str) -> None:
    for seed in range(5):
        scores, targets = table(rows, labels, seed)
        rates = correctness_rates(scores.to(device), targets.to(device), bins)
        assert rates.tolist() == pytest.approx(rates_in_loops(scores.tolist(), targets.tolist(), bins), abs=1e-6)


def test_empty_bins_lie_on_the_line_between_their_neighbours() -> None:
    scores = torch.tensor([[0.3], [0.3], [0.75], [1.0]])  # of ten bins, 3, 7 and 9 are filled
    targets = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    expected = [0.5, 0.5, 0.5, 0.5, 0.625, 0.75, 0.875, 1.0, 0.5, 0.0]
    assert correctness_rates(scores + 0.01 * (scores < 0.5), targets, 10).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("knots", ["edge", "center"])
def test_weights_match_loops(knots: str) -> None:
    scores, pseudo = table(25, 3, seed=2)
    rates = [0.1, 0.0, 0.3, 0.9, 0.6]
    weights = correctness_weights(scores, pseudo, torch.tensor(rates), knots)
    places = [b / 5 if knots == "edge" else (b + 0.5) / 5 for b in range(5)]
    for i in range(25):
        for k in range(3):
            p = float(scores[i, k])
            rate = rates[0] if p <= places[0] else rates[-1]
            for b in range(4):
                if places[b] <= p <= places[b + 1]:
                    rate = (rates[b] * (places[b + 1] - p) + rates[b + 1] * (p - places[b])) * 5
            assert float(weights[i, k]) == pytest.approx(rate if pseudo[i, k] else 1 - rate, abs=1e-5)


def test_thresholds_are_mid_ranges_also_with_one_positive_or_none() -> None:
    scores = torch.tensor([[0.2, 0.5, 0.3, 0.9], [0.8, 0.1, 0.4, 0.7], [0.6, 0.3, 0.5, 0.2], [0.4, 0.2, 0.9, 0.1]])
    targets = torch.tensor([[0.0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 1, 1]])
    tau_pos, tau_neg = midrange_thresholds(scores, targets)
    assert tau_pos.tolist() == pytest.approx([0.7, math.inf, 0.9, 0.5])
    assert tau_neg.tolist() == pytest.approx([0.3, 0.3, 0.4, -math.inf])
    pseudo, ambiguous = dual_threshold_labels(torch.full((1, 4), 1.0), tau_pos, tau_neg)
    assert pseudo.tolist() == [[1.0, 0.0, 1.0, 1.0]]  # nothing makes a label without positives positive
    assert ambiguous.tolist() == [[False, True, False, False]]
    none_pos, none_neg = midrange_thresholds(scores[:0], targets[:0])
    assert none_pos.tolist() == [math.inf] * 4
    assert none_neg.tolist() == [-math.inf] * 4


def test_labels_follow_the_cases_in_their_order() -> None:
    scores = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).unsqueeze(1).repeat(1, 2)
    pseudo, ambiguous = dual_threshold_labels(scores, torch.tensor([0.7, 0.2]), torch.tensor([0.3, 0.8]))
    assert pseudo.T.tolist() == [[0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]  # the second label's thresholds cross
    assert ambiguous.T.tolist() == [[False, True, True, True, False], [False] * 5]


def test_pool_weights_come_from_the_estimation_rows_and_thresholds_from_the_others() -> None:
    known, pool = table(30, 2, seed=3), table(12, 2, seed=5)[0]
    estimation = table(9, 2, seed=4)
    found = WeightedLabels.estimate(pool, labeled=known, estimation=estimation, bins=4, knots="center")
    rates = torch.tensor(rates_in_loops(estimation[0].tolist(), estimation[1].tolist(), 4))
    tau_pos, tau_neg = midrange_thresholds(*known)
    weights = correctness_weights(pool, found.pseudo_targets, rates, "center")
    for i in range(12):
        for k in range(2):
            p = float(pool[i, k])
            zone = float(tau_neg[k]) <= p <= float(tau_pos[k])
            assert bool(found.ambiguous[i, k]) == zone
            assert bool(found.pseudo_targets[i, k]) == (p > float(tau_pos[k]))
            assert float(found.weights[i, k]) == (0.0 if zone else pytest.approx(float(weights[i, k])))
    assert found.ambiguous.any()
    summary = found.summary()
    assert summary["ambiguous_rate"] == pytest.approx(float(found.ambiguous.double().mean()))
    assert summary["weight_pos_mean"] == pytest.approx(float(found.weights[found.pseudo_targets > 0].mean()))


def contrast_in_loops(first: Tensor, second: Tensor, mask: Tensor, temperature: float) -> list[list[float]]:
    batch, labels, _ = first.shape
    both = torch.cat([first, second]).double().tolist()
    kept = mask.repeat(2, 1).tolist()

    def cosine(u: list[float], v: list[float]) -> float:
        norms = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v))
        return sum(a * b for a, b in zip(u, v, strict=True)) / norms if norms else 0.0

    loss = [[0.0] * labels for _ in range(batch)]
    for k in range(labels):
        for u in range(2 * batch):
            if kept[u][k]:
                value = [cosine(both[u][k], both[v][k]) / temperature for v in range(2 * batch)]
                below = sum(math.exp(value[v]) for v in range(2 * batch) if v != u and kept[v][k])
                loss[u % batch][k] -= (value[(u + batch) % (2 * batch)] - math.log(below)) / 2
    return loss


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [False, True])
def test_contrastive_loss_matches_loops(autocast: bool, device: str) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 4, 3), torch.randn(5, 4, 3)
    mask = torch.rand(5, 4) < 0.6
    mask[:, 2], mask[:, 3] = False, False
    mask[1, 3] = True  # the only entry of its label
    first[0, 0], mask[0, 0] = 0.0, True
    with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        loss = class_contrastive_loss(first.to(device), second.to(device), mask.to(device), 0.3)
    expected = torch.tensor(contrast_in_loops(first, second, mask, 0.3))
    assert loss.dtype == torch.float32
    assert torch.allclose(loss.cpu(), expected, atol=1e-4)
    assert not loss.cpu()[~mask].any()
    assert not loss[:, 2:].any()


def test_contrastive_gradient_is_finite_and_stays_in_the_zone() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    first[0, 0], second[3, 0] = 0.0, math.inf  # a zero vector, and garbage that the mask hides
    second[3, 0] = 1e6
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True], [False, False, False]])
    first.requires_grad_()
    second.requires_grad_()
    class_contrastive_loss(first, second, mask, 0.05).sum().backward()
    for view in (first, second):
        assert view.grad.isfinite().all()
        assert not view.grad[~mask].any()
        assert view.grad[1, 0].any()
        assert not view.grad[2, 2].any()  # alone in its label


def test_contrastive_loss_falls_when_views_agree() -> None:
    torch.manual_seed(0)
    first = torch.randn(6, 2, 8)
    mask = torch.ones(6, 2, dtype=torch.bool)
    same = class_contrastive_loss(first, first + 0.01, mask, 0.1)
    other = class_contrastive_loss(first, torch.randn(6, 2, 8), mask, 0.1)
    assert float(same.mean()) < 0.1 * float(other.mean())


def test_class_embeddings_sum_to_the_logit_and_leave_the_head_alone() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 5, requires_grad=True)
    head = torch.nn.Linear(5, 2)
    vectors = class_embeddings(features, head.weight)
    assert vectors.shape == (3, 2, 5)
    assert torch.allclose(vectors.sum(-1) + head.bias, head(features), atol=1e-6)
    vectors.sum().backward()
    assert features.grad.any()
    assert head.weight.grad is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: correctness_rates(s, t[:2]), ("scores [4, 3]", "targets [2, 3]")),
        (lambda s, t: correctness_rates(s, t, 0), ("at least one bin and one score", "0 and 12")),
        (lambda s, t: correctness_rates(s[:0], t[:0]), ("at least one bin and one score", "20 and 0")),
        (lambda s, t: correctness_rates(s * math.nan, t), ("scores", "[0, 1]", "NaN")),
        (lambda s, t: correctness_rates(s + 1.5, t), ("scores", "[0, 1]")),
        (lambda s, t: correctness_weights(s, t, torch.ones(2), "left"), ("edge, center", "'left'")),
        (lambda s, t: midrange_thresholds(s - 2, t), ("scores", "[0, 1]")),
        (
            lambda s, t: dual_threshold_labels(s, torch.ones(2), torch.ones(3)),
            ("thresholds", "[[4, 3], [2], [3]]"),
        ),
        (lambda s, t: class_embeddings(s, torch.ones(3, 2)), ("class_weights", "[4, 3] and [3, 2]")),
        (lambda s, t: class_contrastive_loss(s.unsqueeze(2), s.unsqueeze(2), t[:1] > 0, 0.1), ("mask", "[1, 3]")),
        (lambda s, t: class_contrastive_loss(s.unsqueeze(2), s.unsqueeze(2), t > 0, 0.0), ("temperature", "0.0")),
    ],
)
def test_errors_name_what_is_wrong(call: object, message: tuple[str, ...]) -> None:
    scores, targets = table(4, 3)
    with pytest.raises(ValueError, match=naming(*message)):
        call(scores, targets)
