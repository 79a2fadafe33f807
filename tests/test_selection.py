"""Exact selection, against sorting, on one device and in shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semilearn_bbam.selection import ALONE, _by_histograms, _by_partition, draw, highest, kth_highest
from tests.shards import in_shards, part


def by_sorting(values: Tensor, counts: Tensor) -> Tensor:
    """The highest values of each row by a stable sort."""
    order = values.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(values.shape[1]).expand_as(order))
    return ranks < counts.unsqueeze(1)


def drawn_values(seed: int, size: int, kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(5, size, generator=generator, dtype=dtype)
    if kind == "ties":
        values = (values * 2).round() / 3
    if kind == "half":
        values = (values * 0.1).half().to(dtype)
    if kind == "infinite":
        values = torch.where(values > 1, torch.inf, torch.where(values < -1, -torch.inf, values.sign() * 0.0))
    return values, torch.randint(0, size + 1, (5,), generator=generator)


CASES = (st.integers(0, 10_000), st.integers(1, 40), st.sampled_from(["plain", "ties", "half", "infinite"]))


@settings(max_examples=150, deadline=None)
@given(*CASES, st.sampled_from([torch.float32, torch.float64]))
def test_partition_histograms_and_sorting_agree(seed: int, size: int, kind: str, dtype: torch.dtype) -> None:
    values, counts = drawn_values(seed, size, kind, dtype)
    expected = by_sorting(values, counts)
    assert torch.equal(highest(values, counts), expected)
    wanted = counts > 0
    partition, histograms = _by_partition(values, counts), _by_histograms(values, counts, ALONE)
    assert torch.equal(partition[wanted], histograms[wanted])
    for k in range(5):
        if counts[k]:
            assert kth_highest(values, counts)[k] == values[k].sort(descending=True).values[counts[k] - 1]
        else:
            assert kth_highest(values, counts)[k] == torch.inf


@settings(max_examples=25, deadline=None)
@given(*CASES, st.integers(2, 3), st.integers(0, 8))
def test_shards_select_what_one_process_does(seed: int, size: int, kind: str, shards: int, labeled: int) -> None:
    """Also where rows come in two segments, each divided among all shards; ties follow the order of rows."""
    values, counts = drawn_values(seed, size, kind, torch.float32)
    first, second = values[:, :labeled], values[:, labeled:]
    expected = by_sorting(values, counts)

    def select(shard: object) -> tuple[Tensor, Tensor]:
        parts = [part(first, shard, 1), part(second, shard, 1)]
        lengths = [own.shape[1] for own in parts]
        return highest(torch.cat(parts, 1), counts, shard, lengths).split(lengths, 1)

    found = in_shards(select, shards)
    assert torch.equal(torch.cat([own[0] for own in found] + [own[1] for own in found], 1), expected)


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_draw_what_one_process_does(shards: int) -> None:
    candidates = torch.rand(6, 50, generator=torch.Generator().manual_seed(0)) < 0.5
    counts, seeds = torch.tensor([0, 1, 5, 10, 15, int(candidates[5].sum())]), [(3, k) for k in range(6)]
    expected = draw(candidates, counts, seeds, segments=[9, 41])
    assert torch.equal(expected.sum(1), counts)
    assert not (expected & ~candidates).any()

    def one(shard: object) -> tuple[Tensor, Tensor]:
        parts = [part(candidates[:, :9], shard, 1), part(candidates[:, 9:], shard, 1)]
        lengths = [own.shape[1] for own in parts]
        return draw(torch.cat(parts, 1), counts, seeds, shard, lengths).split(lengths, 1)

    found = in_shards(one, shards)
    assert torch.equal(torch.cat([own[0] for own in found] + [own[1] for own in found], 1), expected)


def test_a_draw_depends_on_its_label_alone() -> None:
    """Not on the block that the label is in."""
    candidates = torch.ones(4, 30, dtype=torch.bool)
    counts, seeds = torch.full((4,), 7), [(1, k) for k in range(4)]
    whole = draw(candidates, counts, seeds)
    blocks = [draw(candidates[k : k + 2], counts[k : k + 2], seeds[k : k + 2]) for k in (0, 2)]
    assert torch.equal(whole, torch.cat(blocks))
    assert not torch.equal(whole[0], whole[1])


def test_no_row_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection is linear: neither torch nor NumPy sorts."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("sorted")

    values, counts = drawn_values(0, 40, "ties", torch.float32)
    expected = by_sorting(values, counts)
    for module, name in ((torch, "sort"), (torch, "argsort"), (torch, "topk"), (np, "sort"), (np, "argsort")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(Tensor, "sort", refuse)
    assert torch.equal(highest(values, counts), expected)
