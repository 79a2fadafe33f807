from __future__ import annotations

import argparse
from typing import Any

import pytest

from semilearn_bbam.engine.schedule import plan_stages
from semilearn_bbam.errors import UserError


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
    }
    return argparse.Namespace(**(values | changes))


def test_steps_follow_from_the_pools() -> None:
    plan = plan_stages(settings(), num_labeled=33, num_unlabeled=521)
    assert (plan.warmup_steps, plan.steps) == (3, 11)  # ceil(33 / 16), ceil(521 / 52)
    assert plan.total == 2 * 3 + 3 * 11


def test_uratio_is_used_without_a_batch_size() -> None:
    assert plan_stages(settings(ulb_batch_size=0, uratio=5), 33, 600).steps == 10


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
