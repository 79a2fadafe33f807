"""Running histograms, prototypes, moments and draws, against plain loops over all rows with their weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semilearn_bbam.online import (
    NUM_BINS,
    RunningMoments,
    ScoreHistogram,
    add_to_prototypes,
    decay_of,
    negative_probabilities,
    prototype_cosines,
    running_statistics,
    threshold_pseudo_labels,
)
from semilearn_bbam.pseudo_labels import pseudo_labels_against

SIZES = (5, 1, 8, 3)  # of consecutive batches
DECAY = 0.8


def batches(*shape: int, seed: int = 0) -> list[Tensor]:
    """Values in [-1, 1], [B, *shape] for each of `SIZES`."""
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.rand(size, *shape, generator=generator) - 1 for size in SIZES]


def ages() -> list[float]:
    """What each row of the batches, in order, counts after the last."""
    return [DECAY ** (len(SIZES) - 1 - number) for number, size in enumerate(SIZES) for _ in range(size)]


def test_decay_makes_the_weights_sum_to_the_window() -> None:
    total = 0.0
    for _ in range(400):
        total = decay_of(20, window=500) * total + 20
    assert total == pytest.approx(500, rel=0.03)
    assert decay_of(6, 500) == pytest.approx(decay_of(2, 500) ** 3)
    assert decay_of(3, window=1) == 0


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_those_of_all_rows_by_weight_to_a_bin(seed: int) -> None:
    parts = batches(3, seed=seed)
    counted = [part[:, :1] > -0.5 for part in batches(1, seed=seed + 10)]
    histogram = ScoreHistogram.zeros(3)
    for scores, mask in zip(parts, counted, strict=True):
        histogram = histogram.add(scores, mask.expand_as(scores), DECAY)
    rows, masks = torch.cat(parts).tolist(), torch.cat(counted).flatten().tolist()
    weights = [age if mask else 0.0 for age, mask in zip(ages(), masks, strict=True)]
    assert histogram.total.tolist() == pytest.approx([sum(weights)] * 3)
    shares = torch.tensor([[0.1, 0.5, 0.9], [0.7, 0.2, 0.33]])
    found = histogram.thresholds(shares)
    for s in range(2):
        for k in range(3):
            left, expected = float(shares[s, k]) * sum(weights), math.inf
            for score, weight in sorted(((row[k], w) for row, w in zip(rows, weights, strict=True)), reverse=True):
                if left > 1e-6:
                    expected = score
                left -= weight
            assert float(found[s, k]) == pytest.approx(expected, abs=2 / NUM_BINS)
    assert torch.equal(histogram.thresholds(shares[0]), found[0])


def test_thresholds_at_the_ends() -> None:
    histogram = ScoreHistogram.zeros(3).add(torch.tensor([[-1.0, 1.0, 0.3], [-2.0, 2.0, 0.1]]), torch.ones(2, 3), 0.5)
    assert histogram.thresholds(torch.zeros(3)).tolist() == [math.inf] * 3
    lowest = histogram.thresholds(torch.ones(3))
    assert (lowest <= torch.tensor([-1.0, 1.0, 0.1])).all()
    assert ScoreHistogram.zeros(2).thresholds(torch.ones(2)).tolist() == [math.inf] * 2
    assert ScoreHistogram.zeros(2).ready(torch.ones(2)).tolist() == [False] * 2
    assert histogram.ready(torch.tensor([0.5, 0.49, 0.0])).tolist() == [True, False, False]


@pytest.mark.parametrize(("positive_share", "negative_share"), [(1.0, 1.0), (0.5, 0.75)])
def test_pseudo_labels_are_those_against_a_queue(positive_share: float, negative_share: float) -> None:
    """Where no two scores share a bin and nothing is forgotten."""
    generator = torch.Generator().manual_seed(0)
    columns = [torch.linspace(-0.9, 0.9, 200)[torch.randperm(200, generator=generator)] for _ in range(3)]
    scores, rates = torch.stack(columns, dim=1), torch.tensor([0.1, 0.5, 0.02])
    histogram = ScoreHistogram.zeros(3)
    for part in scores.split(40):
        histogram = histogram.add(part, torch.ones_like(part), decay=1.0)
    shares = {"positive_share": positive_share, "negative_share": negative_share}
    expected = pseudo_labels_against(scores, scores, rates, **shares)
    targets, mask = threshold_pseudo_labels(scores, histogram, rates, **shares)
    assert torch.equal(targets, expected[0] > 0)
    assert torch.equal(mask, expected[1])


def test_a_label_with_less_than_one_expected_positive_counts_nowhere() -> None:
    scores = torch.rand(20, 3)
    histogram = ScoreHistogram.zeros(3).add(scores, torch.ones(20, 3), 1.0)
    targets, mask = threshold_pseudo_labels(scores, histogram, torch.tensor([0.04, 0.05, 0.0]))
    assert targets.sum(0).tolist() == [0, 1, 0]
    assert mask.all(0).tolist() == mask.any(0).tolist() == [False, True, False]


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_moments_are_those_of_all_rows_by_weight(offset: float) -> None:
    values, weights = [part + offset for part in batches(4)], [part > 0 for part in batches(4, seed=1)]
    moments = RunningMoments.zeros(4)
    for x, w in zip(values, weights, strict=True):
        moments = moments.add(x, w, DECAY)
    for k in range(4):
        entries = [
            (float(x), age)
            for x, w, age in zip(torch.cat(values)[:, k], torch.cat(weights)[:, k], ages(), strict=True)
            if w
        ]
        total = sum(age for _, age in entries)
        mean = sum(x * age for x, age in entries) / total
        spread = sum((x - mean) ** 2 * age for x, age in entries)
        assert float(moments.weight[k]) == pytest.approx(total, rel=1e-5)
        assert float(moments.mean[k]) == pytest.approx(mean, rel=1e-5)
        assert float(moments.spread[k]) == pytest.approx(spread, rel=1e-3)
        assert float(moments.variance[k]) == pytest.approx(spread / (total - 1) if total >= 2 else 0, rel=1e-3)


def test_labels_with_no_positive_or_one_have_no_usable_statistics() -> None:
    angles, targets = torch.rand(30, 3), torch.zeros(30, 3)
    targets[0, 1] = targets[3:9, 2] = 1
    sides = [RunningMoments.zeros(3).add(angles, side, DECAY) for side in (targets, 1 - targets)]
    statistics = running_statistics(*sides)
    assert statistics.usable.tolist() == [False, False, True]
    assert all(value.isfinite().all() for value in statistics.state_dict().values())
    later = sides[0].add(torch.rand(4, 3), torch.zeros(4, 3), DECAY)
    assert torch.equal(later.mean, sides[0].mean)  # nothing new of any label


def test_prototypes_and_cosines_of_branches() -> None:
    features, positive = batches(6), [part > 0 for part in batches(3, seed=1)]
    positive = [part & torch.tensor([True, True, False]) for part in positive]  # the last label has none
    sums = torch.zeros(2, 3, 3)
    for z, y in zip(features, positive, strict=True):
        sums = add_to_prototypes(sums, z, y, DECAY)
    rows, labels = torch.cat(features).double(), torch.cat(positive)
    cosines = prototype_cosines(torch.cat(features), sums)
    for h in range(2):
        for k in range(3):
            prototype = torch.zeros(3, dtype=torch.float64)
            for row, label, age in zip(rows, labels, ages(), strict=True):
                prototype += age * float(label[k]) * row[3 * h : 3 * h + 3]
            torch.testing.assert_close(sums[h, k].double(), prototype, rtol=1e-5, atol=1e-6)
            for i, row in enumerate(rows):
                part = row[3 * h : 3 * h + 3]
                expected = 0.0 if k == 2 else float(part @ prototype / (part.norm() * prototype.norm()))
                assert float(cosines[i, 3 * h + k]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("eta", "ratio"), [(0, 0.8), (1, 0.0), (2, 0.3), (2, 1.0), (50, 0.1)])
def test_probabilities_of_negatives(eta: float, ratio: float) -> None:
    similarity, negative = batches(3)[2], batches(3, seed=1)[2] > -0.3
    negative[:, 2] = False  # nothing to draw
    positives, negatives = torch.tensor([3.0, 0.2, 4.0]), torch.tensor([40.0, 30.0, 0.0])
    found = negative_probabilities(similarity, negative, positives, negatives, eta=eta, candidate_ratio=ratio)
    for k in range(2):
        wanted = min(1.0, eta * max(float(positives[k]), 1.0) / float(negatives[k]))
        candidates, size = max(ratio, wanted), int(negative[:, k].sum())
        for i in range(len(similarity)):
            nearer = int((negative[:, k] & (similarity[:, k] > similarity[i, k])).sum())
            inside = min(1.0, max(0.0, candidates * size - nearer))
            expected = wanted / candidates * inside if negative[i, k] and candidates else 0.0
            assert float(found[i, k]) == pytest.approx(expected, abs=1e-6)
        assert float(found[:, k].sum()) == pytest.approx(wanted * size, rel=1e-5)
    assert not found[:, 2].any()
