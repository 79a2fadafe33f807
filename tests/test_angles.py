from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semilearn_bbam.angles import (
    AngleStatistics,
    cosine_similarity_matrix,
    label_angles,
    label_prototypes,
    safe_arccos,
)
from tests.conftest import naming

HALF = [torch.float16, torch.bfloat16]
ALL_TYPES = [*HALF, torch.float32, torch.float64]
FIELDS = ("mean_pos", "var_pos", "mean_neg", "var_neg")


def close(actual: Tensor, expected: Tensor | list[float], tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(
        actual.double(), torch.as_tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance
    )


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), leaf)[0]


def statistics(mean_pos: float, var_pos: float, mean_neg: float, var_neg: float) -> AngleStatistics:
    return AngleStatistics(*(torch.tensor([value]) for value in (mean_pos, var_pos, mean_neg, var_neg)))


# --- arccos and cosines -------------------------------------------------------------------------------------


def test_safe_arccos_is_arccos_inside_and_stays_close_at_the_ends() -> None:
    inside = [-0.99, -0.5, 0.0, 0.3, 0.99]
    close(safe_arccos(torch.tensor(inside)), [math.acos(c) for c in inside], 1e-6)
    ends = safe_arccos(torch.tensor([1.0, 1.0 + 1e-6, -1.0, -1.0 - 1e-6]))
    close(ends, [0.0, 0.0, math.pi, math.pi], 2e-3)


@pytest.mark.parametrize("dtype", ALL_TYPES)
@pytest.mark.parametrize("value", [-1.01, -1.0, 0.0, 1.0, 1.01])
def test_safe_arccos_gradient_is_finite_and_never_vanishes(dtype: torch.dtype, value: float) -> None:
    cosine = torch.tensor([value], dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        angle = safe_arccos(cosine)
    assert angle.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    slope = gradient(angle, cosine).item()
    assert slope == pytest.approx(-1.0 if value == 0 else -1 / math.sqrt(2e-6 - 1e-12), rel=0.05)


def test_cosine_of_the_angle_keeps_slope_one_at_the_bound() -> None:
    # So a balanced loss with psi = theta moves a sample at cosine 1 exactly as the plain angular loss does.
    cosine = torch.tensor([1.0, -1.0, 0.2], requires_grad=True)
    close(gradient(safe_arccos(cosine).cos(), cosine), [1.0, 1.0, 1.0], 1e-3)


def test_angles_in_the_plane_can_be_read_off() -> None:
    degrees = torch.tensor([0.0, 45.0, 90.0, 180.0, 270.0]).deg2rad()
    length = torch.tensor([1.0, 5.0, 0.1, 2.0, 3.0]).unsqueeze(1)
    features = length * torch.stack([degrees.cos(), degrees.sin()], dim=1)
    prototypes = torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, 0.0]])
    expected = [[0, 45, 90], [45, 0, 90], [90, 45, 90], [180, 135, 90], [90, 135, 90]]
    close(label_angles(features, prototypes).rad2deg(), torch.tensor(expected), 0.1)


def test_zero_rows_have_cosine_zero_and_a_tame_gradient() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    cosine = cosine_similarity_matrix(features, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    close(cosine.detach(), torch.tensor([[0.0, 0.0], [0.6, 0.0]]))
    assert gradient(cosine, features).abs().max() <= 1


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_and_autocast_do_not_reach_the_product(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 64, generator=generator).to(dtype)
    targets = (torch.rand(20, 5, generator=generator) < 0.4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prototypes = label_prototypes(features, targets)
        cosine = cosine_similarity_matrix(features, prototypes)
        angles = label_angles(features, prototypes)
    assert cosine.dtype == angles.dtype == torch.float32
    exact = label_prototypes(features.double(), targets)
    close(prototypes, exact, 1e-5)
    close(cosine, cosine_similarity_matrix(features.double(), exact), 1e-5)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=naming("features [4, 3]", "vectors [2, 5]")):
        cosine_similarity_matrix(torch.zeros(4, 3), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"targets \[5, 2\]"):
        label_prototypes(torch.zeros(4, 3), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"angles \[4, 3\], targets \[4, 2\]"):
        AngleStatistics.estimate(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="2 columns"):
        AngleStatistics.zeros(2).balance(torch.zeros(4, 1), torch.zeros(4, 1))


@pytest.mark.parametrize("dtype", ALL_TYPES)
def test_prototypes_match_a_loop(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(30, 4, generator=generator).to(dtype)
    targets = (torch.rand(30, 3, generator=generator) < 0.3).int()
    targets[:, 1] = 0
    targets[:, 2] = 0
    targets[7, 2] = 1
    prototypes = label_prototypes(features, targets)
    rows = [features[i].double() for i in range(30) if targets[i, 0] == 1]
    close(prototypes[0], sum(rows, torch.zeros(4).double()) / len(rows))
    assert torch.equal(prototypes[1], torch.zeros_like(prototypes[1]))  # no positives
    close(prototypes[2], features[7].double())  # a single positive


# --- statistics ---------------------------------------------------------------------------------------------


def loop_moments(values: list[float], weights: list[float], center: float | None) -> tuple[float, float]:
    total = sum(weights)
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
    around = mean if center is None else center
    return mean, sum(w * (v - around) ** 2 for w, v in zip(weights, values, strict=True)) / (total - 1)


@pytest.mark.parametrize("dtype", ALL_TYPES)
@pytest.mark.parametrize("with_beta", [False, True])
@pytest.mark.parametrize("with_valid", [False, True])
@pytest.mark.parametrize("with_center", [False, True])
def test_estimate_matches_a_loop(dtype: torch.dtype, with_beta: bool, with_valid: bool, with_center: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    angles = (math.pi * torch.rand(60, 3, generator=generator)).to(dtype)
    targets = (torch.rand(60, 3, generator=generator) < 0.4).float()
    beta = (torch.rand(60, 3, generator=generator) < 0.5) if with_beta else None
    valid = (torch.rand(60, 3, generator=generator) < 0.8) if with_valid else None
    given_means = torch.tensor([0.5, 1.0, 1.5]), torch.tensor([2.0, 1.0, 0.1])
    center = given_means if with_center else None
    result = AngleStatistics.estimate(angles, targets, beta, valid=valid, center=center)
    for k in range(3):
        for side, label in enumerate((1, 0)):
            values, weights = [], []
            for i in range(60):
                if targets[i, k] == label and (valid is None or valid[i, k]):
                    values.append(angles[i, k].item())
                    weights.append(float(beta[i, k]) if beta is not None and label == 0 else 1.0)
            mean, var = loop_moments(values, weights, None if center is None else center[side][k].item())
            close(getattr(result, FIELDS[2 * side])[k], torch.tensor(mean), 1e-5)
            close(getattr(result, FIELDS[2 * side + 1])[k], torch.tensor(var), 1e-5)


def test_unusable_labels_are_finite_and_marked_by_a_zero_variance() -> None:
    angles = torch.tensor([[0.7, 0.7, 0.7, 0.2, 0.2], [0.9, 0.9, 0.7, 0.4, 0.4],
                           [1.1, 1.1, 1.0, 0.6, float("nan")], [1.3, 1.3, 1.4, 1.8, 0.8]])  # fmt: skip
    targets = torch.tensor([[0.0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]])
    result = AngleStatistics.estimate(angles, targets)  # no, one, two equal positives; one negative; a NaN
    assert result.usable.tolist() == [False] * 5
    assert result.var_pos[:3].tolist() == [0, 0, 0]
    assert result.var_pos[3] > 0
    assert result.var_neg[3:].tolist() == [0, 0]
    assert (result.var_neg[:3] > 0).all()
    assert all(torch.isfinite(getattr(result, name)).all() for name in FIELDS)
    assert result.mean_pos[0] == 0
    assert result.mean_pos[1] == pytest.approx(1.1)
    theta = torch.rand(4, 5)
    assert torch.equal(result.balance(theta, torch.full((4, 5), 0.3)), theta)
    assert torch.isnan(result.difference()).all()


def test_one_sample_or_a_rounding_error_is_no_variance() -> None:
    angles, targets = torch.rand(7, 1) + 0.5, torch.zeros(7, 1)
    targets[0] = 1
    single = AngleStatistics.estimate(angles, targets, center=(torch.tensor([0.1]), torch.tensor([0.1])))
    assert single.var_pos.item() == 0
    assert single.var_neg.item() > 0
    few = AngleStatistics.estimate(angles, targets, torch.full((7, 1), 0.3))  # six negatives that weigh 1.8
    assert few.var_neg.item() == 0
    # Angles that differ by 1e-6 differ by float32 rounding, which is no spread to divide by.
    nearly = torch.full((1001, 1), 0.7) + 1e-6 * (torch.arange(1001) % 2).unsqueeze(1)
    assert AngleStatistics.estimate(nearly, torch.ones(1001, 1)).var_pos.item() == 0


def test_an_invalid_entry_may_hold_nan() -> None:
    angles = torch.tensor([[0.2], [0.4], [float("nan")], [1.0], [1.4]])
    targets = torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0]])
    result = AngleStatistics.estimate(angles, targets, valid=torch.isfinite(angles))
    close(torch.stack([getattr(result, name)[0] for name in FIELDS]), [0.3, 0.02, 1.2, 0.08])
    close(result.difference(), [-0.06])


@pytest.mark.parametrize("momentum", [0.0, 0.01, 0.9, 1.0])
def test_blend_is_a_weighted_mean_of_all_four(momentum: float) -> None:
    now, before = statistics(1.0, 0.1, 2.0, 0.3), statistics(1.5, 0.4, 1.8, 0.2)
    blended = now.blend(before, momentum)
    for name in FIELDS:
        expected = (1 - momentum) * getattr(now, name).item() + momentum * getattr(before, name).item()
        assert getattr(blended, name).item() == pytest.approx(expected)


def test_blend_with_unusable_labels() -> None:
    now = AngleStatistics.estimate(torch.tensor([[0.5], [1.0], [1.5]]), torch.tensor([[1.0], [0.0], [0.0]]))
    blended = now.blend(statistics(0.4, 0.3, 1.0, 0.2), 0.5)
    assert blended.var_pos.item() == 0  # one positive now: no leftover variance
    assert not blended.usable.item()
    broken = statistics(float("nan"), float("nan"), 1.0, float("inf"))
    good = statistics(1.0, 0.1, 2.0, 0.3)
    for mixed in (good.blend(broken, 0.5), broken.blend(good, 0.5), broken.blend(broken, 0.5)):
        assert all(torch.isfinite(getattr(mixed, name)).all() for name in FIELDS)
    assert good.blend(broken, 0.5).var_pos.item() == pytest.approx(0.1)
    assert good.blend(AngleStatistics.zeros(1), 0.01).mean_neg.item() == pytest.approx(1.98)
    with pytest.raises(ValueError, match="momentum"):
        good.blend(good, 1.5)


# --- the balancing map --------------------------------------------------------------------------------------


def test_balance_by_hand() -> None:
    # sigma 0.1 and 0.7, pooled variance (0.01 + 0.49) / 2 = 0.25: slope 5 for positives, 5/7 for negatives.
    stats = statistics(1.0, 0.01, 2.0, 0.49)
    theta = torch.tensor([[1.0], [1.1], [2.0], [1.3], [1.1]])
    targets = torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.25]])
    soft = 0.25 * 1.5 + 0.75 * (2 - 0.9 * 5 / 7)
    close(stats.balance(theta, targets), torch.tensor([[1.0], [1.5], [2.0], [1.5], [soft]]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_balance_gives_both_sides_one_variance_and_keeps_the_means(seed: int, wide: float, narrow: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    targets = torch.zeros(40, 2).double()
    targets[:15] = 1
    angles = torch.where(targets == 1, 1.0 + narrow * noise, 1.8 + wide * noise)
    before = AngleStatistics.estimate(angles, targets)
    after = AngleStatistics.estimate(before.balance(angles, targets), targets)
    close(after.var_pos, after.var_neg, 1e-9)
    close(after.var_pos, (before.var_pos + before.var_neg) / 2, 1e-9)
    close(after.mean_pos, before.mean_pos, 1e-9)
    close(after.mean_neg, before.mean_neg, 1e-9)


def test_gradients_pass_an_unusable_label_unharmed() -> None:
    mean, var = torch.tensor([1.0, float("nan"), 1.0]), torch.tensor([0.1, 0.1, 0.0])
    stats = AngleStatistics(mean, var, torch.tensor([2.0, 2.0, 2.0]), torch.tensor([0.3, 0.3, 0.3]))
    theta = torch.full((1, 3), 1.2, requires_grad=True)
    close(gradient(stats.balance(theta, torch.ones(1, 3)), theta), torch.tensor([[math.sqrt(2.0), 1.0, 1.0]]))


def test_balance_never_asks_the_device_for_a_value() -> None:
    # vmap raises at any .item() and at any Python branch on a value.
    def balance(theta: Tensor, targets: Tensor, *fields: Tensor) -> Tensor:
        return AngleStatistics(*fields).balance(theta, targets)

    theta, targets, fields = torch.rand(2, 4, 3), torch.rand(2, 4, 3), [torch.rand(2, 3) for _ in FIELDS]
    mapped = torch.func.vmap(balance)(theta, targets, *fields)
    close(mapped[1], balance(theta[1], targets[1], *(field[1] for field in fields)))


def test_the_state_is_four_tensors() -> None:
    stats = statistics(1.0, 0.1, 2.0, 0.3)
    state = stats.state_dict()
    assert set(state) == set(FIELDS)
    restored = AngleStatistics.from_state_dict(state).to("cpu")
    assert all(torch.equal(getattr(restored, name), getattr(stats, name)) for name in FIELDS)
    with pytest.raises(ValueError, match="keys"):
        AngleStatistics.from_state_dict({"mean_pos": torch.zeros(1)})
    with pytest.raises(ValueError, match="one length"):
        AngleStatistics.from_state_dict({**state, "var_neg": torch.zeros(2)})
