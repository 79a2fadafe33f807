from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.fused_losses import reduced_angular_loss, reduced_angular_losses
from semilearn_bbam.losses import bam_loss, bbam_loss, reduce_loss
from tests.conftest import naming
from tests.test_losses import STATISTICS, example, gradient, scalar_log_loss, scalar_psi

MASK = (torch.arange(24).view(8, 3) % 4 != 1).float() * torch.linspace(0.5, 2, 24).view(8, 3)


def plain(
    cosine: Tensor, targets: Tensor, mask: Tensor | None, statistics: AngleStatistics | None, **options: Any
) -> Tensor:
    """The same from the element losses, whose gradient is torch's."""
    reduction = options.pop("reduction")
    if statistics is None:
        return reduce_loss(bam_loss(cosine, targets, **options), mask, reduction)
    return reduce_loss(bbam_loss(cosine, targets, statistics, **options), mask, reduction)


@pytest.mark.parametrize("margin_on", ["both", "positive"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_matches_a_loop_over_cells(margin_on: str, soft: bool, reduction: str) -> None:
    cosine, targets = example(torch.float64, soft)
    options: dict[str, Any] = {"scale": 10.0, "margin": 0.2, "margin_on": margin_on, "reduction": reduction}
    plain_sum = balanced_sum = 0.0
    for i in range(8):
        for k in range(3):
            c, y, weight = cosine[i, k].item(), targets[i, k].item(), MASK[i, k].item()
            shift = 0.2 if margin_on == "both" else 0.2 * y
            plain_sum += weight * scalar_log_loss(10 * (c - shift), y)
            balanced_sum += weight * scalar_log_loss(10 * (math.cos(scalar_psi(math.acos(c), y, k)) - shift), y)
    divisor = 24 if reduction == "mean" else 1
    bam = reduced_angular_loss(cosine, targets, MASK, **options)
    bbam = reduced_angular_loss(cosine, targets, MASK, STATISTICS, **options)
    assert bam.item() == pytest.approx(plain_sum / divisor, rel=1e-5)
    assert bbam.item() == pytest.approx(balanced_sum / divisor, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("margin_on", ["both", "positive"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("statistics", [None, STATISTICS], ids=["bam", "bbam"])
@pytest.mark.parametrize("mask", [None, MASK, MASK > 1], ids=["all", "weights", "bool"])
def test_value_and_gradient_are_those_of_the_element_losses(
    dtype: torch.dtype, margin_on: str, soft: bool, statistics: AngleStatistics | None, mask: Tensor | None
) -> None:
    cosine, targets = example(dtype, soft)
    bounds = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]], dtype=dtype)  # the slope at the bound is the bound's
    cosine[:2] = bounds
    first, second = cosine.clone().requires_grad_(), cosine.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = reduced_angular_loss(
            first, targets, mask, statistics, scale=20, margin=0.4, margin_on=margin_on, reduction="sum"
        )
    expected = plain(second, targets, mask, statistics, scale=20, margin=0.4, margin_on=margin_on, reduction="sum")
    assert value.dtype == expected.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value, expected)
    slope = gradient(value, first)
    assert slope.dtype == dtype
    expected_slope = gradient(expected, second)
    torch.testing.assert_close(slope[2:], expected_slope[2:], atol=1e-5, rtol=1e-9 if dtype == torch.float64 else 1e-3)
    torch.testing.assert_close(slope[:2], expected_slope[:2], atol=1e-5, rtol=5e-3)  # 1 - c^2 is rounded coarsely there


@pytest.mark.parametrize("margin_on", ["both", "positive"])
@pytest.mark.parametrize("statistics", [None, STATISTICS], ids=["bam", "bbam"])
def test_the_gradient_is_that_of_the_value(margin_on: str, statistics: AngleStatistics | None) -> None:
    cosine, targets = example(torch.float64, soft=True)
    exact = statistics and AngleStatistics(*(value.double() for value in statistics.state_dict().values()))

    def value(c: Tensor) -> Tensor:
        return 3 * reduced_angular_loss(c, targets, MASK, exact, scale=5, margin=0.3, margin_on=margin_on)

    assert torch.autograd.gradcheck(value, (cosine.requires_grad_(),))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_at_once_equal_separate_calls_bit_for_bit(reduction: str) -> None:
    cosine, targets = example(torch.float32, soft=True)
    options: dict[str, Any] = {"scale": 20, "margin": 0.4, "reduction": reduction}
    first, second = cosine.clone().requires_grad_(), cosine.clone().requires_grad_()
    at_once = reduced_angular_losses(
        [(first[:3], targets[:3], None), (first[3:], targets[3:], MASK[3:])], STATISTICS, **options
    )
    apart = (
        reduced_angular_loss(second[:3], targets[:3], None, STATISTICS, **options),
        reduced_angular_loss(second[3:], targets[3:], MASK[3:], STATISTICS, **options),
    )
    assert [value.item() for value in at_once] == [value.item() for value in apart]
    slopes = [gradient(a + 3 * b, leaf) for (a, b), leaf in ((at_once, first), (apart, second))]
    assert torch.equal(*slopes)


def test_an_unusable_label_has_exactly_the_loss_and_gradient_without_statistics() -> None:
    cosine = torch.linspace(-1, 1, 33).unsqueeze(1).repeat(1, 3)
    targets = (torch.arange(33) % 2).unsqueeze(1).repeat(1, 3).float()
    only = torch.tensor([0.0, 0.0, 1.0]).expand(33, 3)  # the label that is not usable
    first, second = cosine.clone().requires_grad_(), cosine.clone().requires_grad_()
    bbam = reduced_angular_loss(first, targets, only, STATISTICS, scale=20, margin=0.4)
    bam = reduced_angular_loss(second, targets, only, scale=20, margin=0.4)
    assert torch.equal(bbam, bam)
    assert torch.equal(gradient(bbam, first), gradient(bam, second))


def test_easy_samples_keep_a_loss_and_steep_ones_stay_finite() -> None:
    cosine = torch.tensor([[1.0, -1.0]])
    loss = reduced_angular_loss(cosine, torch.tensor([[1, 0]]), scale=20, margin=0.0, reduction="sum")
    assert loss.item() == pytest.approx(2 * math.log1p(math.exp(-20)), rel=1e-4)
    leaf = cosine.clone().requires_grad_()
    steep = reduced_angular_loss(leaf, torch.tensor([[0, 1]]), scale=1000, margin=0.0, reduction="sum")
    assert steep.item() == 2000
    assert gradient(steep, leaf).tolist() == [[1000.0, -1000.0]]


def test_a_gradient_can_be_taken_twice_but_not_of_itself() -> None:
    cosine, targets = example(torch.float32)
    leaf = cosine.requires_grad_()
    loss = reduced_angular_loss(leaf, targets, scale=10, margin=0.2)
    first = torch.autograd.grad(loss, leaf, retain_graph=True)[0]
    second = torch.autograd.grad(2 * loss, leaf, create_graph=True)[0]
    torch.testing.assert_close(second, 2 * first)
    with pytest.raises(RuntimeError, match="does not require grad"):
        second.sum().backward()


def test_empty_batches_and_errors() -> None:
    cosine, targets = torch.zeros(2, 3), torch.zeros(2, 3)
    assert reduced_angular_loss(cosine[:0], targets[:0], scale=10, margin=0.2).item() == 0
    with pytest.raises(ValueError, match=naming("margin_on", "both, positive", "'negative'")):
        reduced_angular_loss(cosine, targets, scale=10, margin=0.2, margin_on="negative")
    with pytest.raises(ValueError, match="scale"):
        reduced_angular_loss(cosine, targets, scale=0, margin=0.2)
    with pytest.raises(ValueError, match="reduction"):
        reduced_angular_loss(cosine, targets, scale=10, margin=0.2, reduction="none")
    with pytest.raises(ValueError, match=r"cosine \[2, 3\], targets \[3, 2\]"):
        reduced_angular_loss(cosine, targets.T, scale=10, margin=0.2)
    with pytest.raises(ValueError, match="mask"):
        reduced_angular_loss(cosine, targets, torch.ones(2, 1), scale=10, margin=0.2)
    with pytest.raises(ValueError, match=naming("3", "2", "columns")):
        reduced_angular_loss(cosine, targets, None, AngleStatistics.zeros(2), scale=10, margin=0.2)
