from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from semilearn_bbam.engine.schedule import build_optimizer, build_scheduler, plan_stages
from semilearn_bbam.errors import UserError
from tests.conftest import FEATURES

PEAK = 0.1
SHARES = sorted({a / b for b in (1, 2, 3, 5, 7, 10, 25, 50) for a in range(b + 1)} | {1e-9, 1 - 1e-9})


def settings(**changes: Any) -> argparse.Namespace:
    values = {
        "epoch": 5,
        "warmup_epochs": 2,
        "num_train_iter": 0,
        "warmup_iter_per_epoch": 0,
        "batch_size": 12,
        "uratio": 1,
        "ulb_batch_size": 52,
        "warmup_batch_size": 16,
        "encoder": "",
        "dataset": "features",
    }
    return argparse.Namespace(**(values | changes))


def test_steps_follow_from_the_pools() -> None:
    plan = plan_stages(settings(), num_labeled=33, num_unlabeled=521)
    assert (plan.warmup_steps, plan.steps) == (3, 11)  # ceil(33 / 16), ceil(521 / 52)
    assert plan.total == 2 * 3 + 3 * 11


def test_uratio_is_used_without_a_batch_size() -> None:
    assert plan_stages(settings(ulb_batch_size=0, uratio=5), 33, 600).steps == 10


@pytest.mark.parametrize("changes", [{"encoder": "timm:resnet18"}, {"dataset": "arrays"}])
def test_with_an_encoder_and_on_arrays_no_epoch_is_shorter_than_one_of_the_warm_up(changes: dict[str, str]) -> None:
    own = {"warmup_iter_per_epoch": 40}
    assert plan_stages(settings(**own | changes), 10, 50).steps == 40
    assert plan_stages(settings(**own | changes), 10, 52 * 41).steps == 41
    assert plan_stages(settings(**own), 10, 50).steps == 1


def test_fixed_number_of_steps() -> None:
    plan = plan_stages(settings(num_train_iter=50), 33, 521)
    assert (plan.warmup_steps, plan.steps, plan.total) == (10, 10, 50)
    with pytest.raises(UserError, match="no multiple of epoch"):
        plan_stages(settings(num_train_iter=51), 33, 521)


def test_without_a_pool_an_epoch_is_a_pass_over_the_labelled_part() -> None:
    assert plan_stages(settings(), 160, 0).steps == 10


def test_more_warm_up_than_epochs_is_refused() -> None:
    with pytest.raises(UserError, match="warmup_epochs"):
        plan_stages(settings(warmup_epochs=6), 33, 521)


def test_first_steps_and_epochs_done_agree() -> None:
    plan = plan_stages(settings(), 33, 521)
    steps = 0
    for epoch in range(plan.epochs):
        assert plan.in_warmup(epoch) == (epoch < 2)
        assert plan.first_step(epoch) == steps
        assert plan.epochs_done(steps) == epoch
        steps += plan.warmup_steps if epoch < 2 else plan.steps
    assert plan.total == steps
    assert plan.epochs_done(steps) == 5


# ---------------------------------------------------------------------- the optimiser and its schedule


def optimiser(**changes: Any) -> tuple[nn.Linear, torch.optim.Optimizer, argparse.Namespace]:
    """A small model with an optimiser over all its weights, and the options that made it."""
    values = {"optim": "AdamW", "lr": PEAK, "momentum": 0.9, "weight_decay": 0.01, "layer_decay": 1.0}
    values |= {"scheduler": "onecycle", "pct_start": 0.2, "num_warmup_iter": 0}
    args = argparse.Namespace(**(values | changes))
    model = nn.Linear(2, 2)
    return model, build_optimizer(model, args), args


def course(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, total: int) -> list[tuple[float, Any]]:
    """Learning rate and momentum before each of `total` steps and after the last."""
    rows = []
    for _ in range(total):
        rows.append((optimizer.param_groups[-1]["lr"], optimizer.param_groups[-1].get("betas")))
        optimizer.step()
        scheduler.step()
    return [*rows, (optimizer.param_groups[-1]["lr"], optimizer.param_groups[-1].get("betas"))]


def torch_course(total: int, pct_start: float) -> list[tuple[float, Any]] | None:
    """The course of torch's own OneCycleLR, where it has one."""
    _, optimizer, _ = optimiser()
    try:
        return course(optimizer, OneCycleLR(optimizer, PEAK, total_steps=total, pct_start=pct_start), total)
    except ZeroDivisionError:
        return None


def test_every_total_and_share_has_a_one_cycle_and_torchs_where_torch_has_one() -> None:
    undefined = 0
    for total in range(1, 51):
        for share in SHARES:
            _, optimizer, args = optimiser(pct_start=share)
            rows = course(optimizer, build_scheduler(optimizer, args, total), total)
            expected = torch_course(total, share)
            undefined += expected is None
            assert expected in (None, rows), (total, share)
            assert all(0 < rate <= PEAK for rate, _ in rows), (total, share)
            if expected is None:  # the peak is at the step where the rise ends
                assert rows[round(share * total) - 1][0] == pytest.approx(PEAK), (total, share)
    assert undefined > 50


def test_every_total_has_a_cosine() -> None:
    for total in range(1, 51):
        for warmup in (0, 1, total, total + 5):
            _, optimizer, args = optimiser(scheduler="cosine", num_warmup_iter=warmup)
            rows = course(optimizer, build_scheduler(optimizer, args, total), total)
            for step, (rate, _) in enumerate(rows):
                rising, falling = step / max(1, warmup), math.pi * 7 / 16 * (step - warmup) / max(1, total - warmup)
                assert rate == pytest.approx(PEAK * (rising if step < warmup else max(0, math.cos(falling))))


def test_the_rise_of_cosine_does_not_touch_one_cycle() -> None:
    """A one-cycle schedule built on a rate that had begun to rise from 0 would stay at 0."""
    rates = []
    for warmup in (0, 5):
        _, optimizer, args = optimiser(num_warmup_iter=warmup)
        rates.append(course(optimizer, build_scheduler(optimizer, args, 10), 10))
    assert rates[0] == rates[1]
    assert max(rate for rate, _ in rates[0]) == pytest.approx(PEAK, rel=0.1)


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_sgd_without_momentum_is_plain_sgd(scheduler: str) -> None:
    model, optimizer, args = optimiser(optim="SGD", momentum=0.0, scheduler=scheduler)
    schedule = build_scheduler(optimizer, args, 6)
    for _ in range(6):
        model(torch.ones(3, 2)).square().sum().backward()
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        rate = optimizer.param_groups[0]["lr"]
        expected = [p.detach() - rate * (p.grad + decay[id(p)] * p.detach()) for p in model.parameters()]
        optimizer.step()
        schedule.step()
        torch.testing.assert_close(list(map(torch.Tensor.detach, model.parameters())), expected)
        model.zero_grad()
    assert not any(group["nesterov"] or group["momentum"] for group in optimizer.param_groups)


def test_sgd_with_momentum_is_nesterovs() -> None:
    _, optimizer, _ = optimiser(optim="SGD")
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 5, "warmup_epochs": 2, "num_train_iter": 5, "warmup_iter_per_epoch": 0},
        {"epoch": 1, "warmup_epochs": 0, "num_train_iter": 1, "pct_start": 1},
        {"optim": "SGD", "momentum": 0},
        {"optim": "SGD", "momentum": 0, "scheduler": "cosine"},
    ],
    ids=["five steps", "one step", "plain SGD", "plain SGD, cosine"],
)
def test_short_and_plain_runs_train(changes: dict[str, Any], train: Any, features_dir: Path) -> None:
    results, _ = train(FEATURES, data_dir=features_dir, label_ratio=0.2, **changes)
    assert results["steps"] == (8 if "optim" in changes else changes["num_train_iter"])
