from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semilearn_bbam.negatives import sample_negatives

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def candidates(
    similarity: Tensor, targets: Tensor, valid: Tensor | None, k: int, eta: float, ratio: float
) -> tuple[set[int], int]:
    """The candidate rows of label k and the number drawn, by sorting in plain Python."""
    rows = [i for i in range(len(targets)) if valid is None or valid[i, k]]
    positives = sum(1 for i in rows if targets[i, k] == 1)
    negatives = [i for i in rows if targets[i, k] == 0]
    drawn = min(math.floor(eta * positives) if positives else math.floor(eta), len(negatives))
    nearest = sorted(negatives, key=lambda i: (-similarity[i, k].item(), i))
    return set(nearest[: max(math.ceil(ratio * len(negatives)), drawn)]), drawn


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 1000.0]),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    st.booleans(),
    st.booleans(),
)
def test_the_draw_comes_from_the_candidates_and_has_the_right_size(
    seed: int, num_samples: int, num_labels: int, eta: float, ratio: float, with_valid: bool, ties: bool
) -> None:
    generator = seeded(seed)
    shape = (num_samples, num_labels)
    similarity = 100 * torch.randn(shape, generator=generator)
    if ties:
        similarity = similarity.sign()
    targets = (torch.rand(shape, generator=generator) < torch.rand(1, generator=generator)).float()
    valid = torch.rand(shape, generator=generator) < 0.7 if with_valid else None
    sampled = sample_negatives(similarity, targets, eta=eta, candidate_ratio=ratio, generator=seeded(seed), valid=valid)
    assert sampled.dtype == torch.bool
    assert sampled.shape == shape
    for k in range(num_labels):
        allowed, drawn = candidates(similarity, targets, valid, k, eta, ratio)
        rows = {i for i in range(num_samples) if sampled[i, k]}
        assert rows <= allowed
        assert len(rows) == drawn
    again = sample_negatives(similarity, targets, eta=eta, candidate_ratio=ratio, generator=seeded(seed), valid=valid)
    assert torch.equal(sampled, again)


def test_ratio_zero_takes_the_nearest_for_any_seed() -> None:
    similarity = torch.tensor([[0.9], [0.8], [0.2], [0.8], [-0.5], [0.1]])
    targets = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    for seed in range(20):
        sampled = sample_negatives(similarity, targets, eta=3, candidate_ratio=0, generator=seeded(seed))
        assert sampled.squeeze(1).tolist() == [False, True, True, True, False, False]
        tied = sample_negatives(similarity, targets, eta=1, candidate_ratio=0, generator=seeded(seed))
        assert tied.squeeze(1).tolist() == [False, True, False, False, False, False]  # the earlier row


def test_the_draw_is_uniform_over_the_candidates() -> None:
    # 4000 labels that all look alike stand for 4000 draws of 2 from the 5 nearest of 10 negatives.
    draws = 4000
    similarity = torch.arange(12.0).unsqueeze(1).repeat(1, draws)
    targets = torch.zeros(12, draws)
    targets[[0, 11]] = 1
    sampled = sample_negatives(similarity, targets, eta=1, candidate_ratio=0.5, generator=seeded(0))
    frequency = sampled.double().mean(dim=1)
    assert frequency[:6].tolist() == [0] * 6
    assert frequency[11] == 0
    deviation = math.sqrt(0.4 * 0.6 / draws)
    assert all(abs(value - 0.4) < 5 * deviation for value in frequency[6:11].tolist())
    # Pairs are equally likely as well, so the two of one draw do not depend on each other.
    together = (sampled[6] & sampled[7]).double().mean().item()
    assert abs(together - 0.1) < 5 * math.sqrt(0.1 * 0.9 / draws)


def test_different_seeds_and_labels_draw_differently() -> None:
    similarity, targets = torch.zeros(200, 2), torch.zeros(200, 2)
    targets[:10] = 1
    one = sample_negatives(similarity, targets, eta=5, candidate_ratio=1, generator=seeded(1))
    two = sample_negatives(similarity, targets, eta=5, candidate_ratio=1, generator=seeded(2))
    assert not torch.equal(one, two)
    assert not torch.equal(one[:, 0], one[:, 1])
    torch.manual_seed(7)
    first = sample_negatives(similarity, targets, eta=5, candidate_ratio=1)
    torch.manual_seed(7)
    assert torch.equal(first, sample_negatives(similarity, targets, eta=5, candidate_ratio=1))


def test_labels_without_positives_and_without_negatives() -> None:
    similarity = torch.rand(50, 3, generator=seeded(0))
    targets = torch.zeros(50, 3)
    targets[:, 1] = 1
    targets[0, 2] = 1
    valid = torch.ones(50, 3, dtype=torch.bool)
    valid[0, 2] = False  # its only positive does not count
    sampled = sample_negatives(similarity, targets, eta=5, candidate_ratio=0.8, generator=seeded(0), valid=valid)
    assert sampled.sum(dim=0).tolist() == [5, 0, 5]
    assert not sampled[0, 2]


def test_a_product_that_is_whole_but_for_rounding_stays_whole() -> None:
    # 0.29 * 100 = 28.999999999999996 and 0.55 * 100 = 55.00000000000001 in float64.
    similarity = torch.arange(200.0, 0.0, -1.0).unsqueeze(1)
    targets = torch.ones(200, 1)
    targets[:100] = 0
    sampled = sample_negatives(similarity, targets, eta=0.29, candidate_ratio=0, generator=seeded(0))
    assert sampled.sum() == 29
    reached = torch.zeros(200, dtype=torch.bool)
    for seed in range(60):
        reached |= sample_negatives(
            similarity, targets, eta=0.29, candidate_ratio=0.55, generator=seeded(seed)
        ).squeeze(1)
    assert reached.nonzero().squeeze(1).tolist() == list(range(55))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_seed_gives_one_draw_on_every_device_and_type(device: str, dtype: torch.dtype) -> None:
    similarity = torch.randn(100, 4, generator=seeded(0)).bfloat16().clamp(-2, 2).half().to(dtype)
    targets = (torch.rand(100, 4, generator=seeded(1)) < 0.2).int()
    expected = sample_negatives(similarity.double(), targets, eta=2, candidate_ratio=0.6, generator=seeded(5))
    actual = sample_negatives(
        similarity.to(device), targets.to(device), eta=2, candidate_ratio=0.6, generator=seeded(5)
    )
    assert actual.device.type == device
    assert torch.equal(actual.cpu(), expected)


def test_errors_name_what_is_wrong() -> None:
    similarity, targets = torch.rand(5, 2), torch.zeros(5, 2)
    with pytest.raises(ValueError, match=r"targets \[5\]"):
        sample_negatives(similarity, torch.zeros(5), eta=1, candidate_ratio=0.5)
    with pytest.raises(ValueError, match="valid"):
        sample_negatives(similarity, targets, eta=1, candidate_ratio=0.5, valid=torch.ones(5, 1))
    for eta in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="eta"):
            sample_negatives(similarity, targets, eta=eta, candidate_ratio=0.5)
    with pytest.raises(ValueError, match="candidate_ratio"):
        sample_negatives(similarity, targets, eta=1, candidate_ratio=1.5)
    similarity[0, 0] = math.nan
    with pytest.raises(ValueError, match="similarity holds NaN"):
        sample_negatives(similarity, targets, eta=1, candidate_ratio=0.5)
