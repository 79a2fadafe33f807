"""Scores of two models, mixed label by label."""

from __future__ import annotations

import pytest
import torch

from semilearn_bbam.scores import Fusion, Standard, mixed_scores


def test_standard_is_undone_and_has_mean_0_and_deviation_1() -> None:
    scores = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 5
    standard = Standard.of(scores)
    applied = standard.apply(scores)
    torch.testing.assert_close(applied.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(applied.std(0), torch.ones(4))
    torch.testing.assert_close(standard.undo(applied), scores)


@pytest.mark.parametrize("scores", [torch.full((5, 2), 3.0), torch.full((1, 2), 3.0)])
def test_a_label_whose_scores_are_equal_stays_finite(scores: torch.Tensor) -> None:
    assert torch.equal(Standard.of(scores).apply(scores), torch.zeros_like(scores))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_mixes_orders_within_a_label(share: float) -> None:
    first, second = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[20.0], [10.0], [0.0]])
    mixed = mixed_scores(first, second, share)
    expected = (1 - share) * torch.tensor([-1.0, 0, 1]) + share * torch.tensor([1.0, 0, -1])
    torch.testing.assert_close(mixed[:, 0], expected)


def test_fused_logits_have_mean_and_spread_of_the_second_and_ignore_those_of_the_first() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(40, 3, generator=generator), 3 + 2 * torch.randn(40, 3, generator=generator)
    fused = Fusion.of(first, second).apply(first, second)
    torch.testing.assert_close(fused.mean(0), second.mean(0))
    torch.testing.assert_close(fused.std(0), second.std(0))
    scaled = 7 * first - 2
    torch.testing.assert_close(Fusion.of(scaled, second).apply(scaled, second), fused)
    torch.testing.assert_close(Fusion.of(second, second).apply(second, second), second)


def test_a_fusion_keeps_its_numbers() -> None:
    first, second = torch.randn(9, 2), torch.randn(9, 2)
    fusion = Fusion.of(first, second)
    restored = Fusion.from_state_dict(fusion.state_dict()).to(torch.device("cpu"))
    assert torch.equal(restored.apply(first, second), fusion.apply(first, second))
