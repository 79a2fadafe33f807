from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.losses import (
    angular_logits,
    asymmetric_loss,
    balanced_cosine,
    bam_loss,
    bbam_loss,
    reduce_loss,
)
from tests.conftest import naming

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
STATISTICS = AngleStatistics(
    torch.tensor([1.0, 0.9, 1.1]),
    torch.tensor([0.09, 0.04, 0.0]),  # the last label is not usable
    torch.tensor([1.6, 1.5, 1.7]),
    torch.tensor([0.01, 0.16, 0.04]),
)
Loss = Callable[[Tensor, Tensor], Tensor]


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), leaf)[0]


def scalar_log_loss(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


def scalar_psi(theta: float, target: float, k: int) -> float:
    mean_pos, var_pos = STATISTICS.mean_pos[k].item(), STATISTICS.var_pos[k].item()
    mean_neg, var_neg = STATISTICS.mean_neg[k].item(), STATISTICS.var_neg[k].item()
    if var_pos == 0 or var_neg == 0:
        return theta
    pooled = math.sqrt((var_pos + var_neg) / 2)
    slope_pos, slope_neg = pooled / math.sqrt(var_pos), pooled / math.sqrt(var_neg)
    psi_pos = slope_pos * theta + (1 - slope_pos) * mean_pos
    psi_neg = slope_neg * theta + (1 - slope_neg) * mean_neg
    return target * psi_pos + (1 - target) * psi_neg


def example(dtype: torch.dtype, soft: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    cosine = (1.9 * torch.rand(8, 3, generator=generator) - 0.95).to(dtype)
    targets = torch.rand(8, 3, generator=generator)
    return cosine, targets if soft else (targets < 0.5).float()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("margin_on", ["both", "positive"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_angular_losses_match_a_loop(dtype: torch.dtype, margin_on: str, soft: bool, autocast: bool) -> None:
    cosine, targets = example(dtype, soft)
    scale, margin = 10.0, 0.2
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        bam = bam_loss(cosine, targets, scale=scale, margin=margin, margin_on=margin_on)
        bbam = bbam_loss(cosine, targets, STATISTICS, scale=scale, margin=margin, margin_on=margin_on)
    assert bam.shape == bbam.shape == (8, 3)
    assert bam.dtype == bbam.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for i in range(8):
        for k in range(3):
            c, y = cosine[i, k].item(), targets[i, k].item()
            shift = margin if margin_on == "both" else margin * y
            assert bam[i, k].item() == pytest.approx(scalar_log_loss(scale * (c - shift), y), rel=1e-4)
            logit = scale * (math.cos(scalar_psi(math.acos(c), y, k)) - shift)
            assert bbam[i, k].item() == pytest.approx(scalar_log_loss(logit, y), rel=1e-4)


def test_the_boundary_costs_log_two() -> None:
    cosine = torch.tensor([[0.4, 0.4], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    both = bam_loss(cosine, targets, scale=20, margin=0.4, margin_on="both")
    assert both[0].tolist() == pytest.approx([math.log(2)] * 2)  # the slides' form: cosine m is undecided
    positive = bam_loss(cosine, targets, scale=20, margin=0.4, margin_on="positive")
    assert positive[0, 0].item() == pytest.approx(math.log(2))
    assert positive[1, 1].item() == pytest.approx(math.log(2))  # negatives are not shifted


def test_angular_logits_by_hand() -> None:
    cosine, targets = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    assert angular_logits(cosine, targets, scale=10, margin=0.2).tolist() == [[pytest.approx(3.0)] * 2]
    positive = angular_logits(cosine, targets, scale=10, margin=0.2, margin_on="positive")
    assert positive.tolist() == [[pytest.approx(3.0), pytest.approx(5.0)]]


def test_an_unusable_label_has_exactly_the_plain_loss_and_gradient() -> None:
    cosine = torch.linspace(-1, 1, 33).unsqueeze(1).repeat(1, 3)
    targets = (torch.arange(33) % 2).unsqueeze(1).repeat(1, 3).float()
    first, second = cosine.clone().requires_grad_(), cosine.clone().requires_grad_()
    bbam = bbam_loss(first, targets, STATISTICS, scale=20, margin=0.4)
    bam = bam_loss(second, targets, scale=20, margin=0.4)
    assert torch.equal(bbam[:, 2], bam[:, 2])
    assert not torch.allclose(bbam[:, :2], bam[:, :2])
    assert torch.equal(gradient(bbam, first)[:, 2], gradient(bam, second)[:, 2])


def test_label_free_cosine_averages_the_two_maps() -> None:
    cosine, _ = example(torch.float64)
    balanced = balanced_cosine(cosine, torch.full_like(cosine, 0.5), STATISTICS)
    for i in range(8):
        for k in range(3):
            expected = math.cos(scalar_psi(math.acos(cosine[i, k].item()), 0.5, k))
            assert balanced[i, k].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


ANGULAR: dict[str, Loss] = {
    "bam both": lambda c, y: bam_loss(c, y, scale=20, margin=0.4),
    "bam positive": lambda c, y: bam_loss(c, y, scale=20, margin=0.4, margin_on="positive"),
    "bam steep": lambda c, y: bam_loss(c, y, scale=300, margin=0.4),
    "bbam both": lambda c, y: bbam_loss(c, y, STATISTICS, scale=20, margin=0.4),
    "bbam positive": lambda c, y: bbam_loss(c, y, STATISTICS, scale=20, margin=0.4, margin_on="positive"),
    "bbam steep": lambda c, y: bbam_loss(c, y, STATISTICS, scale=60, margin=0.4),
}


@pytest.mark.parametrize("name", sorted(ANGULAR))
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_value_and_gradient_are_finite_everywhere(name: str, dtype: torch.dtype, autocast: bool, target: float) -> None:
    eps = torch.finfo(dtype).eps
    column = torch.tensor([-1, -1 + eps, -0.5, 0, 0.5, 1 - eps, 1, 1 + eps], dtype=dtype)
    cosine = column.unsqueeze(1).repeat(1, 3).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = ANGULAR[name](cosine, torch.full((8, 3), target, dtype=dtype))
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()
    slope = gradient(loss, cosine)
    assert torch.isfinite(slope).all()
    # A sample at the wrong end still feels a force. (Where the map stretches an angle past 0 or pi, cos(psi)
    # turns round, as the slides' formula has it; so only what has psi = theta is held to this.)
    worst = slope[6] if target == 0 else slope[0]
    felt = worst[2:] if name.startswith("bbam") else worst
    assert (felt.abs() > 10).all()


# --- asymmetric loss ----------------------------------------------------------------------------------------


def scalar_asymmetric(logit: float, target: float, gamma_neg: float, gamma_pos: float, clip: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    shifted = max(p - clip, 0.0)
    positive = -math.pow(1 - p, gamma_pos) * math.log(p)
    negative = -math.pow(shifted, gamma_neg) * math.log(1 - shifted)
    return target * positive + (1 - target) * negative


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("settings", [(4.0, 0.0, 0.05), (4.0, 1.0, 0.05), (2.0, 1.0, 0.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("soft", [False, True])
def test_asymmetric_loss_matches_a_loop(dtype: torch.dtype, settings: tuple[float, float, float], soft: bool) -> None:
    cosine, targets = example(dtype, soft)
    logits = 4 * cosine
    gamma_neg, gamma_pos, clip = settings
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = asymmetric_loss(logits, targets, gamma_negative=gamma_neg, gamma_positive=gamma_pos, clip=clip)
    for i in range(8):
        for k in range(3):
            expected = scalar_asymmetric(logits[i, k].item(), targets[i, k].item(), *settings)
            assert loss[i, k].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_asymmetric_defaults_and_easy_negatives() -> None:
    logits, targets = torch.tensor([[2.0, -4.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    loss = asymmetric_loss(logits, targets)
    assert loss[0, 0].item() == pytest.approx(math.log1p(math.exp(-2.0)))  # gamma_positive 0: plain log loss
    assert loss[0, 1].item() == 0  # p = 0.018 is below the clip
    assert loss[0, 2].item() == pytest.approx(scalar_asymmetric(1.0, 0.0, 4.0, 0.0, 0.05))


def test_the_focal_weight_carries_no_gradient() -> None:
    logit = torch.tensor([[1.0]], dtype=torch.float64, requires_grad=True)
    slope = gradient(asymmetric_loss(logit, torch.zeros(1, 1), gamma_negative=4, clip=0.0), logit)
    p = 1 / (1 + math.exp(-1.0))
    assert slope.item() == pytest.approx(p**4 * p)  # d(-log(1 - p))/dx = p


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
def test_asymmetric_loss_is_finite_for_huge_logits(dtype: torch.dtype, clip: float, gamma: float) -> None:
    column = torch.tensor([-6e4, -100, -20, 0, 20, 100, 6e4], dtype=dtype)
    logits = column.unsqueeze(1).repeat(1, 2).requires_grad_()
    targets = torch.tensor([[0.0, 1.0]]).repeat(7, 1)
    loss = asymmetric_loss(logits, targets, gamma_negative=gamma, gamma_positive=gamma, clip=clip)
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()
    assert torch.isfinite(gradient(loss, logits)).all()


# --- reduction ----------------------------------------------------------------------------------------------


def test_the_mean_divides_by_all_entries_not_by_the_kept_ones() -> None:
    loss = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    mask = torch.tensor([[True, False, True], [False, False, True]])
    assert reduce_loss(loss).item() == pytest.approx(63 / 6)
    assert reduce_loss(loss, mask).item() == pytest.approx(37 / 6)
    assert reduce_loss(loss, mask, "sum").item() == 37
    assert reduce_loss(loss, mask, reduction="mean").item() == pytest.approx(37 / 6)
    assert reduce_loss(loss, 0.5 * mask.float(), "sum").item() == pytest.approx(18.5)
    assert reduce_loss(loss[:0]).item() == 0  # an empty batch


def test_a_masked_entry_may_be_infinite() -> None:
    loss = torch.tensor([[1.0, float("inf"), float("nan")]], requires_grad=True)
    value = reduce_loss(loss, torch.tensor([[True, False, False]]))
    assert value.item() == pytest.approx(1 / 3)
    assert gradient(value, loss).tolist() == [[pytest.approx(1 / 3), 0.0, 0.0]]


def test_errors_name_what_is_wrong() -> None:
    cosine, targets = torch.zeros(2, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=naming("margin_on", "both, positive", "'negative'")):
        bam_loss(cosine, targets, scale=10, margin=0.2, margin_on="negative")
    with pytest.raises(ValueError, match="scale"):
        bam_loss(cosine, targets, scale=0, margin=0.2)
    with pytest.raises(ValueError, match=r"cosine \[2, 3\], targets \[3, 2\]"):
        bam_loss(cosine, targets.T, scale=10, margin=0.2)
    with pytest.raises(ValueError, match="columns"):
        bbam_loss(cosine, targets, AngleStatistics.zeros(2), scale=10, margin=0.2)
    with pytest.raises(ValueError, match=r"logits \[2, 3\], targets \[2\]"):
        asymmetric_loss(cosine, torch.zeros(2))
    with pytest.raises(ValueError, match="clip"):
        asymmetric_loss(cosine, targets, clip=1.0)
    with pytest.raises(ValueError, match="gammas"):
        asymmetric_loss(cosine, targets, gamma_negative=-1)
    with pytest.raises(ValueError, match="reduction"):
        reduce_loss(cosine, None, "none")
    with pytest.raises(ValueError, match="mask"):
        reduce_loss(cosine, torch.ones(2, 1))
