"""Gradients that several processes average in one exchange: their values, layout and bits, and what they refuse."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.gradient_buckets import ALIGNED, GradientBuckets
from tests.processes import fork_two, statuses_of


def parameters() -> list[nn.Parameter]:
    """Three number formats, a scalar, channels last, one that stays without gradient, and a frozen one."""
    torch.manual_seed(0)
    made = [
        nn.Parameter(torch.randn(3, 5)),
        nn.Parameter(torch.randn(7, dtype=torch.float64)),
        nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)),
        nn.Parameter(torch.randn(9)),
        nn.Parameter(torch.randn((), dtype=torch.bfloat16)),
        nn.Parameter(torch.randn(4)),
    ]
    made[5].requires_grad_(False)
    return made


def gradients(rank: int) -> list[Tensor | None]:
    """Those of a process, None for the fourth parameter."""
    generator = torch.Generator().manual_seed(rank)
    given: list[Tensor | None] = [torch.randn(one.shape, generator=generator).to(one.dtype) for one in parameters()[:5]]
    given[3] = None
    return given


def save_averages(folder: Path) -> None:
    """Averages of two steps, in which another parameter has none, and how many exchanges a step took."""
    world = World.init("cpu")
    trained, exchanges, all_reduce = parameters(), [], dist.all_reduce

    def counted(tensor: Tensor) -> Any:
        exchanges.append(tensor.nbytes)
        return all_reduce(tensor)

    pytest.MonkeyPatch().setattr(dist, "all_reduce", counted)
    buckets, steps = GradientBuckets(trained, world), []
    for missing in (3, 0):
        for row, (one, gradient) in enumerate(zip(trained, gradients(world.rank), strict=False)):
            one.grad = torch.ones_like(one) if gradient is None else gradient.clone()
            if row == missing:
                one.grad = None
        before = len(exchanges)
        buckets.average()
        assert len(exchanges) - before == 3
        assert sum(exchanges[before:]) == buckets.bytes_exchanged
        steps.append([None if one.grad is None else one.grad.clone() for one in trained])
        assert all(one.grad is None or one.grad.stride() == one.stride() for one in trained)
        assert all(one.grad is None or one.grad.data_ptr() % ALIGNED == 0 for one in trained[:5])
    torch.save(steps, folder / f"{world.rank}.pt")
    World.destroy()


def test_averages_are_means_and_have_the_same_bits_everywhere(tmp_path: Path) -> None:
    assert statuses_of(fork_two([partial(save_averages, tmp_path)] * 2)) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    pairs = list(zip(gradients(0), gradients(1), strict=True))
    for missing, step, other in zip((3, 0), first, second, strict=True):
        for row, (actual, same) in enumerate(zip(step, other, strict=True)):
            if row in (missing, 5):
                assert actual is None
                assert same is None
                continue
            assert actual.equal(same)
            a, b = pairs[row]
            assert actual.equal(torch.ones(9) if a is None or b is None else (a + b) / 2)


def test_one_process_keeps_its_gradients() -> None:
    trained = parameters()
    for one, gradient in zip(trained, gradients(0), strict=False):
        one.grad = gradient
    before = [one.grad for one in trained]
    buckets = GradientBuckets(trained, World())
    buckets.average()
    assert all(one.grad is gradient for one, gradient in zip(trained, before, strict=True))
    assert buckets.bytes_exchanged == 0
    buckets.check()


def refuse_uneven() -> int:
    world = World.init("cpu")
    trained = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    trained[0].grad = torch.ones(2)
    if world.is_main:
        trained[1].grad = torch.ones(2)
    try:
        GradientBuckets(trained, world).average()
    except RuntimeError as error:
        return 7 if "in some processes and none in others" in str(error) else 8
    return 0


def test_a_gradient_in_one_process_only_is_an_error_in_all() -> None:
    assert statuses_of(fork_two([refuse_uneven] * 2)) == [7, 7]


def overflow_in_one() -> int:
    """0 where the scaler of each process skips the step in which one of them overflowed, and takes the next."""
    world = World.init("cpu")
    weight = nn.Parameter(torch.zeros(2))
    optimizer, scaler = torch.optim.SGD([weight], 1.0), torch.amp.GradScaler("cpu", init_scale=8.0)
    buckets = GradientBuckets([weight], world)
    for factor, expected in ((float("inf"), 0.0), (1.0, -1.5)):
        scale = factor if world.rank == 1 else 1.0
        scaler.scale((weight * (1 + world.rank) * scale).sum()).backward()
        buckets.average()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if not weight.detach().equal(torch.full((2,), expected)):
            return 7
    return 0 if scaler.get_scale() == 4.0 else 8


def test_an_overflow_in_one_process_skips_the_step_of_all() -> None:
    assert statuses_of(fork_two([overflow_in_one] * 2)) == [0, 0]
