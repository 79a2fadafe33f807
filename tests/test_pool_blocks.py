"""The refresh in blocks of labels, against the functions on whole matrices that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from semilearn_bbam import pool_blocks
from semilearn_bbam.angles import AngleStatistics, label_angles, label_prototypes
from semilearn_bbam.bits import unpack_labels
from semilearn_bbam.negatives import sample_negatives
from semilearn_bbam.pool_blocks import PoolEstimate, PoolOptions, Rows, estimate_pool, label_blocks
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels
from tests.shards import in_shards, part

LABELS, LABELED, POOL, WIDTH = 19, 30, 171, 6


class Pieces:
    """Features that come in chunks of seven rows."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def chunks(self) -> Iterator[Tensor]:
        yield from self.features.split(7)


def data(branches: int = 1, ties: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(branches)
    scores = torch.randn(POOL, LABELS, generator=generator)
    targets = torch.rand(LABELED, LABELS, generator=generator) < torch.linspace(0.5, 0.01, LABELS)
    targets[:, -1] = False
    targets[:, -2] = False
    targets[0, -2] = True
    return {
        "scores": (scores * 2).round() / 4 if ties else scores,
        "labeled": torch.randn(LABELED, branches * WIDTH, generator=generator),
        "pool": torch.randn(POOL, branches * WIDTH, generator=generator),
        "targets": targets.float(),
        "rate": targets.double().mean(0),
        "valid": torch.rand(LABELED, LABELS, generator=generator) < 0.8,
    }


def estimated(values: dict[str, Tensor], options: PoolOptions, rows: Any = Rows, **further: Any) -> PoolEstimate:
    return estimate_pool(
        lambda start, stop: values["scores"][:, start:stop].T.contiguous(),
        rows(values["labeled"]),
        rows(values["pool"]),
        values["targets"],
        values["rate"],
        options,
        torch.Generator().manual_seed(5),
        **further,
    )


def unpacked(estimate: PoolEstimate) -> tuple[Tensor, Tensor]:
    """Pseudo-labels [n_u,K] and beta of all rows [n_l + n_u, H K]."""
    beta = torch.cat([estimate.beta_lb, estimate.beta_ulb])
    return unpack_labels(estimate.pseudo, LABELS), unpack_labels(beta, LABELS).flatten(1)


def assert_equal(first: PoolEstimate, second: PoolEstimate) -> None:
    for one, other in zip(unpacked(first), unpacked(second), strict=True):
        assert torch.equal(one, other)
    for name, value in first.statistics.state_dict().items():
        assert torch.equal(value, second.statistics.state_dict()[name]), name


@pytest.mark.parametrize("with_valid", [False, True])
@pytest.mark.parametrize("shares", [(1.0, 1.0), (0.6, 0.7)])
@pytest.mark.parametrize("ties", [False, True])
def test_a_refresh_is_made_of_the_plain_functions(with_valid: bool, shares: tuple[float, float], ties: bool) -> None:
    values = data(ties=ties)
    options = PoolOptions(eta=2, candidate_ratio=0.6, positive_share=shares[0], negative_share=shares[1])
    valid_lb = values["valid"] if with_valid else None
    estimate = estimated(values, options, valid_lb=valid_lb)
    pseudo, beta = unpacked(estimate)

    expected, mask = class_aware_pseudo_labels(
        values["scores"], values["rate"], positive_share=shares[0], negative_share=shares[1]
    )
    assert torch.equal(pseudo, expected > 0)
    assert estimate.num_positive == int(expected.sum())
    features = torch.cat([values["labeled"], values["pool"]])
    targets = torch.cat([values["targets"], expected])
    valid = torch.cat([values["valid"] if with_valid else torch.ones(LABELED, LABELS, dtype=torch.bool), mask])
    angles = label_angles(features, label_prototypes(features, targets * valid))
    negatives = sample_negatives(
        angles.cos(), targets, eta=2, candidate_ratio=0.6, generator=torch.Generator().manual_seed(5), valid=valid
    )
    # A label without positives has a zero prototype, to which all rows are equally near but for rounding.
    assert torch.equal(beta[:, :-1], (negatives | ((targets > 0) & valid))[:, :-1])
    assert int(beta[:, -1].sum()) == 2
    plain = AngleStatistics.estimate(angles, targets, negatives.float(), valid=valid)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(estimate.statistics.state_dict()[name][:-1], value[:-1], rtol=1e-4, atol=1e-6)
    assert not estimate.statistics.usable[-1]


@pytest.mark.parametrize("branches", [1, 2])
def test_blocks_of_labels_and_chunks_of_rows_change_nothing(branches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values, options = data(branches), PoolOptions(eta=1, candidate_ratio=0.5, num_branches=branches)
    whole = estimated(values, options)
    monkeypatch.setattr(pool_blocks, "BLOCK", 8 * (LABELED + POOL))
    assert len(label_blocks(LABELED + POOL, LABELS)) == 3
    blocks = estimated(values, options, Pieces)
    for one, other in zip(unpacked(whole), unpacked(blocks), strict=True):
        assert torch.equal(one[:, :-1], other[:, :-1])
    for name, value in whole.statistics.state_dict().items():
        torch.testing.assert_close(blocks.statistics.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert len(whole.statistics.mean_pos) == branches * LABELS
    for branch in range(branches):  # each has its own negatives
        columns = slice(branch * WIDTH, (branch + 1) * WIDTH)
        alone = {**values, "labeled": values["labeled"][:, columns], "pool": values["pool"][:, columns]}
        single = estimated(alone, PoolOptions(eta=1, candidate_ratio=0.5))
        part_of = whole.statistics.of_labels(branch * LABELS, (branch + 1) * LABELS)
        torch.testing.assert_close(single.statistics.mean_pos, part_of.mean_pos, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shards", [2, 3])
@pytest.mark.parametrize("sampled", [True, False])
def test_shards_refresh_as_one_process(shards: int, sampled: bool) -> None:
    """Pseudo-labels and negatives are the same, ties included; sums differ in their last digits."""
    values = data(ties=True)
    options = PoolOptions(eta=2, candidate_ratio=0.6, positive_share=0.8, sampled=sampled, momentum=0.1)
    previous = AngleStatistics(*(torch.rand(LABELS) for _ in range(4)))
    alone = estimated(values, options, valid_lb=values["valid"], previous=previous)

    def refresh(shard: object) -> PoolEstimate:
        own = {name: part(value, shard) if name != "rate" else value for name, value in values.items()}
        return estimated(own, options, valid_lb=own["valid"], previous=previous, num_pool=POOL, shards=shard)

    found = in_shards(refresh, shards)
    for name in ("pseudo", "beta_lb", "beta_ulb"):
        joined = unpack_labels(torch.cat([getattr(own, name) for own in found]), LABELS)
        expected = unpack_labels(getattr(alone, name), LABELS)
        assert torch.equal(joined[..., :-1], expected[..., :-1]), name
    for own in found:
        assert own.num_positive == alone.num_positive
        for name, value in alone.statistics.state_dict().items():
            torch.testing.assert_close(own.statistics.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_negatives_of_the_statistics_are_a_choice() -> None:
    values = data()
    sampled, everything = (
        estimated(values, PoolOptions(eta=1, candidate_ratio=0.2, balanced_over_sampled=choice)).statistics
        for choice in (True, False)
    )
    assert torch.equal(sampled.var_pos, everything.var_pos)
    assert not torch.equal(sampled.mean_neg, everything.mean_neg)


def test_blocks_are_whole_bytes() -> None:
    blocks = label_blocks(1_000_000, 1000)
    assert blocks[0] == (0, 32)
    assert blocks[-1][1] == 1000
    assert all(start % 8 == 0 for start, _ in blocks)
    assert [stop for _, stop in blocks[:-1]] == [start for start, _ in blocks[1:]]
    assert label_blocks(10, 3) == [(0, 3)]
