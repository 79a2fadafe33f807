from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semilearn_bbam.pseudo_labels import (
    class_aware_pseudo_labels,
    class_thresholds,
    confidence_weights,
    pseudo_labels_against,
    smoothed_scores,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def exact_count(share: float, rate: float, num_samples: int) -> int:
    """floor(share * rate * N + 1e-3) in exact arithmetic on the given numbers."""
    return math.floor(Fraction(share) * Fraction(rate) * num_samples + Fraction(1, 1000))


def ranking(column: list[float]) -> list[int]:
    """Rows from the highest score to the lowest, the earlier row first among equals."""
    return sorted(range(len(column)), key=lambda row: (-column[row], row))


@st.composite
def problems(draw: st.DrawFn, distinct: bool = False) -> tuple[Tensor, Tensor]:
    num_samples, num_labels = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    columns = []
    for _ in range(num_labels):
        if distinct:
            columns.append([float(value) for value in draw(st.permutations(range(num_samples)))])
        else:
            columns.append(draw(st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, math.inf, -math.inf]),
                                         min_size=num_samples, max_size=num_samples)))  # fmt: skip
    rates = draw(st.lists(st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 1, width=32)),
                          min_size=num_labels, max_size=num_labels))  # fmt: skip
    return torch.tensor(columns).T, torch.tensor(rates)


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([1.0, 0.5, 0.0, 0.998]), st.sampled_from([1.0, 0.5, 0.0, 0.998]))
def test_targets_and_mask_match_a_sort_in_plain_python(
    problem: tuple[Tensor, Tensor], positive_share: float, negative_share: float
) -> None:
    scores, rates = problem
    targets, mask = class_aware_pseudo_labels(
        scores, rates, positive_share=positive_share, negative_share=negative_share
    )
    assert targets.dtype == torch.float32
    assert mask.dtype == torch.bool
    n = len(scores)
    for k, rate in enumerate(rates.tolist()):
        order = ranking(scores[:, k].tolist())
        chosen = set(order[: exact_count(1.0, rate, n)])
        assert {i for i in range(n) if targets[i, k] == 1} == chosen
        assert set(targets[:, k].tolist()) <= {0.0, 1.0}
        kept = set(order[: exact_count(positive_share, rate, n)])
        kept |= set(order[n - exact_count(negative_share, 1 - rate, n):])  # fmt: skip
        if positive_share == negative_share == 1:
            kept = set(range(n))
        assert {i for i in range(n) if mask[i, k]} == kept


@settings(max_examples=100, deadline=None)
@given(problems())
def test_thresholds_are_order_statistics(problem: tuple[Tensor, Tensor]) -> None:
    scores, rates = problem
    thresholds = class_thresholds(scores, rates)
    for k, rate in enumerate(rates.tolist()):
        count = exact_count(1.0, rate, len(scores))
        expected = sorted(scores[:, k].tolist(), reverse=True)[count - 1] if count else math.inf
        assert thresholds[k].item() == expected


@settings(max_examples=60, deadline=None)
@given(problems(distinct=True), st.randoms(use_true_random=False))
def test_without_ties_the_order_of_rows_does_not_matter(problem: tuple[Tensor, Tensor], random: Random) -> None:
    scores, rates = problem
    rows = list(range(len(scores)))
    random.shuffle(rows)
    targets, mask = class_aware_pseudo_labels(scores, rates, positive_share=0.5, negative_share=0.7)
    moved_targets, moved_mask = class_aware_pseudo_labels(scores[rows], rates, positive_share=0.5, negative_share=0.7)
    assert torch.equal(moved_targets, targets[rows])
    assert torch.equal(moved_mask, mask[rows])
    assert torch.equal(class_thresholds(scores[rows], rates), class_thresholds(scores, rates))
    assert torch.equal((scores >= class_thresholds(scores, rates)).float(), targets)


def test_a_table_to_check_by_eye() -> None:
    scores = torch.tensor([[0.9, 0.5], [0.1, 0.5], [0.7, 0.5], [0.3, 0.5]])
    targets, mask = class_aware_pseudo_labels(scores, torch.tensor([0.5, 0.25]))
    assert targets.tolist() == [[1, 1], [0, 0], [1, 0], [0, 0]]  # ties: the first row
    assert mask.all()
    half = {"positive_share": 0.5, "negative_share": 0.5}
    _, mask = class_aware_pseudo_labels(scores, torch.tensor([0.5, 0.25]), **half)
    assert mask.tolist() == [[True, False], [True, False], [False, False], [False, True]]
    assert class_thresholds(scores, torch.tensor([0.5, 0.2])).tolist() == pytest.approx([0.7, math.inf])


def test_a_rare_label_gets_no_positive_rather_than_all() -> None:
    scores = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    targets, mask = class_aware_pseudo_labels(scores, torch.tensor([0.0, 0.009, 0.01]))
    assert targets.sum(dim=0).tolist() == [0, 0, 1]
    assert mask.all()
    thresholds = class_thresholds(scores, torch.tensor([0.0, 0.009, 0.01]))
    assert (scores >= thresholds).sum(dim=0).tolist() == [0, 0, 1]


def test_a_rate_in_float32_loses_no_positive() -> None:
    # In float64 these float32 rates times N fall just short of a whole number.
    rates = torch.tensor([24 / 400, 47 / 400, 139 / 400, 399 / 400], dtype=torch.float32)
    scores = torch.rand(400, 4, generator=torch.Generator().manual_seed(0))
    targets, mask = class_aware_pseudo_labels(scores, rates, negative_share=0.5)
    assert targets.sum(dim=0).tolist() == [24, 47, 139, 399]
    assert mask[targets == 1].all()
    assert mask.sum(dim=0).tolist() == [24 + 188, 47 + 176, 139 + 130, 399]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_and_devices_agree_even_with_many_ties(device: str, dtype: torch.dtype) -> None:
    scores = torch.randint(0, 7, (500, 3), generator=torch.Generator().manual_seed(0)).to(dtype) / 8
    rates = torch.tensor([0.1, 0.5, 0.75])
    expected = class_aware_pseudo_labels(scores.double(), rates, positive_share=0.8, negative_share=0.6)
    actual = class_aware_pseudo_labels(scores.to(device), rates.to(device), positive_share=0.8, negative_share=0.6)
    for one, other in zip(actual, expected, strict=True):
        assert one.device.type == device
        assert torch.equal(one.cpu(), other)
    thresholds = class_thresholds(scores.to(device), rates.to(device))
    assert torch.equal(thresholds.cpu().double(), class_thresholds(scores.double(), rates))


def test_errors_name_what_is_wrong() -> None:
    scores, rates = torch.rand(5, 2), torch.tensor([0.5, 0.5])
    broken = scores.clone()
    broken[3, 1] = math.nan
    for function in (class_aware_pseudo_labels, class_thresholds):
        with pytest.raises(ValueError, match="NaN"):
            function(broken, rates)
        with pytest.raises(ValueError, match=r"got \[5, 2\] and \[3\]"):
            function(scores, torch.rand(3))
        for bad in (-0.1, 1.1, math.nan):
            with pytest.raises(ValueError, match="positive_rate"):
                function(scores, torch.tensor([0.5, bad]))
    with pytest.raises(ValueError, match="shares"):
        class_aware_pseudo_labels(scores, rates, positive_share=1.5)
    with pytest.raises(ValueError, match="shares"):
        class_aware_pseudo_labels(scores, rates, negative_share=-0.5)


@pytest.mark.parametrize("shares", [(1.0, 1.0), (0.5, 0.25)])
def test_labels_against_a_reference_in_plain_loops(shares: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(40, 3, generator=generator).mul(8).round() / 8  # with ties
    scores = torch.rand(9, 3, generator=generator).mul(8).round() / 8
    rate = torch.tensor([0.0, 0.2, 0.9])
    targets, mask = pseudo_labels_against(scores, reference, rate, positive_share=shares[0], negative_share=shares[1])
    for i in range(9):
        for k in range(3):
            higher = sum(float(r) > float(scores[i, k]) for r in reference[:, k])
            lower = sum(float(r) < float(scores[i, k]) for r in reference[:, k])
            positives = math.floor(float(rate[k]) * 40 + 1e-3)
            top = math.floor(shares[0] * float(rate[k]) * 40 + 1e-3)
            bottom = math.floor(shares[1] * (1 - float(rate[k])) * 40 + 1e-3)
            assert float(targets[i, k]) == (higher < positives)
            assert bool(mask[i, k]) == (higher < top or lower < bottom)
    assert targets[:, 0].sum() == 0


def test_labels_of_a_pool_against_itself_are_the_class_aware_ones() -> None:
    scores = torch.rand(50, 4, generator=torch.Generator().manual_seed(1))
    rate = torch.tensor([0.02, 0.3, 0.5, 1.0])
    shares = {"positive_share": 0.5, "negative_share": 0.7}
    for one, two in zip(
        pseudo_labels_against(scores, scores, rate, **shares), class_aware_pseudo_labels(scores, rate, **shares),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(one, two)


def test_weights_grow_with_the_distance_from_a_labels_own_threshold() -> None:
    scores = torch.tensor([[0.9], [0.8], [0.4], [0.1], [0.0]])
    weights = confidence_weights(scores, torch.tensor([0.4]))  # two positives; the threshold is 0.6
    deviation = float(scores.std())
    expected = [min(1.0, abs(float(s) - 0.6) / deviation) for s in scores]
    assert weights[:, 0].tolist() == pytest.approx(expected)
    assert min(expected) < 1, "else nothing was weighed"


@pytest.mark.parametrize(("rate", "threshold"), [(0.0, 0.9), (1.0, 0.1)])
def test_weights_of_a_label_with_one_kind_of_pseudo_labels(rate: float, threshold: float) -> None:
    scores = torch.tensor([[0.9], [0.5], [0.1]])
    expected = [min(1.0, abs(float(s) - threshold) / float(scores.std())) for s in scores]
    assert confidence_weights(scores, torch.tensor([rate]))[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_label_whose_scores_are_equal_has_full_weights() -> None:
    assert (confidence_weights(torch.full((5, 2), 0.3), torch.tensor([0.2, 0.4])) == 1).all()


@pytest.mark.parametrize("chunk", [2, 100])
def test_scores_are_smoothed_over_the_nearest_rows(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, features = torch.rand(9, 3, generator=generator), torch.randn(9, 4, generator=generator)
    found = smoothed_scores(scores, features, 2, chunk)
    for i in range(9):
        cosines = [float(torch.nn.functional.cosine_similarity(features[i], f, dim=0)) for f in features]
        nearest = sorted(range(9), key=lambda j: -cosines[j])[:3]
        assert torch.allclose(found[i], scores[nearest].mean(0), atol=1e-6)
    assert torch.allclose(smoothed_scores(scores, features, 50), scores.mean(0).expand(9, 3), atol=1e-6)


def test_smoothing_needs_scores_and_features_of_the_same_rows() -> None:
    with pytest.raises(ValueError, match="same rows"):
        smoothed_scores(torch.zeros(3, 2), torch.zeros(4, 2), 1)
