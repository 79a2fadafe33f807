"""Optimisers inside a step: their schedule, clipping and scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.conftest import batches
from tests.drml_steps import GROUPS, PLAIN_STEPS, same, small_drml, step, update, weights


@pytest.fixture
def make(build: Any) -> Callable[..., Any]:
    return small_drml(build)


def test_own_optimisers_follow_the_schedule(make: Any) -> None:
    algorithm = make(classifier_lr_ratio=0.25, num_train_iter=30)
    batch = batches(algorithm)
    rates = [group["lr"] for group in algorithm.optimizer.param_groups]
    for _ in range(3):
        before, rates = rates, [group["lr"] for group in algorithm.optimizer.param_groups]
        update(algorithm, batch)
        own = algorithm.phases["classifiers"].optimizer.param_groups
        assert [group["lr"] for group in own] == [0.25 * rate for rate in rates]
    assert before != rates


def test_each_phase_is_clipped(make: Any) -> None:
    algorithm = make(clip_grad=1e-3, relation_lr_ratio=10.0, **PLAIN_STEPS)
    before = {name: weights(algorithm.model, name) for name in GROUPS}
    step(algorithm, batches(algorithm))
    for names, ratio in ((("C1", "C2"), 0.1), (("P",), 0.1), (("CR",), 10.0)):
        old, new = [w for name in names for w in before[name]], weights(algorithm.model, *names)
        moved = sum(float(((a - b) ** 2).sum()) for a, b in zip(old, new, strict=True)) ** 0.5
        assert moved == pytest.approx(0.5 * ratio * 1.5 * 1e-3, rel=1e-2)


@pytest.mark.parametrize("clip_grad", [0, 1e-3])
def test_one_scaler_serves_all_phases(clip_grad: float, make: Any) -> None:
    plain, scaled = make(clip_grad=clip_grad), make(clip_grad=clip_grad)
    scaled.use_amp, scaled.loss_scaler = True, torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    batch = batches(plain)
    for algorithm in (plain, scaled):
        for _ in range(2):
            update(algorithm, batch)
    assert same(weights(scaled.model, *GROUPS), weights(plain.model, *GROUPS), atol=1e-7)
    assert scaled.loss_scaler.get_scale() == 2048  # renewed once a step, so it grew once in two


@pytest.mark.parametrize(
    ("option", "moved"), [("classifier", ("C1", "C2")), ("projection", ("P",)), ("relation", ("CR",))]
)
def test_a_ratio_is_one_phases_switch(option: str, moved: tuple[str, ...], make: Any) -> None:
    ratios = dict.fromkeys(("classifier_lr_ratio", "projection_lr_ratio", "relation_lr_ratio"), 0)
    algorithm = make(**ratios | {f"{option}_lr_ratio": 1.0})
    before = {name: weights(algorithm.model, name) for name in GROUPS}
    step(algorithm, batches(algorithm))
    assert {name for name in GROUPS if not same(weights(algorithm.model, name), before[name])} == set(moved)
