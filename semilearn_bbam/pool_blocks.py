"""Pseudo-labels, prototypes, angles, negatives and statistics of a pool, in blocks of labels.

Nothing of the size N x K is held but bits: a block needs a few label-major arrays of `BLOCK` values, the scores of its
labels, and the features of all rows, which are read in chunks, from memory or from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics, safe_arccos
from semilearn_bbam.bits import num_bytes, pack_labels
from semilearn_bbam.negatives import draw_negatives, label_seeds
from semilearn_bbam.pseudo_labels import select_pseudo_labels
from semilearn_bbam.selection import ALONE, Shards, count

BLOCK = 1 << 25  # values of a block: 128 MiB in float32
CHUNK = 1 << 12  # rows of features that are read at once: some MB, which stay in the cache of a processor


class Features(Protocol):
    """Features [N,D] that are read in chunks of consecutive rows."""

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[Tensor]: ...


@dataclass(frozen=True)
class Rows:
    """Features in memory, in chunks of `CHUNK` rows.

    Args:
        features: [N,D].

    Example:
        >>> [len(chunk) for chunk in Rows(torch.ones(3, 2)).chunks()]
        [3]
    """

    features: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def chunks(self) -> Iterator[Tensor]:
        """The rows in order, [n,D] each."""
        yield from torch.split(self.features.float(), CHUNK)


@dataclass(frozen=True)
class PoolOptions:
    """What of a refresh is a choice, under the names of the options of `bbam`.

    Args:
        eta: sampled negatives per positive, >= 0.
        candidate_ratio: share of the negatives, the nearest, to draw from, in [0, 1].
        positive_share: part of the pseudo-positives that count, in [0, 1].
        negative_share: part of the pseudo-negatives that count, in [0, 1].
        sampled: whether negatives are drawn; else all count.
        balanced_over_sampled: whether the statistics of the negatives are those of the sampled ones.
        momentum: share of the previous statistics in the new ones, in [0, 1].
        num_branches: H >= 1, parts of the features with a head each.

    Example:
        >>> PoolOptions(eta=5, candidate_ratio=0.8).sampled
        True
    """

    eta: float
    candidate_ratio: float
    positive_share: float = 1.0
    negative_share: float = 1.0
    sampled: bool = True
    balanced_over_sampled: bool = True
    momentum: float = 0.0
    num_branches: int = 1


@dataclass
class PoolEstimate:
    """What a refresh gives, for the n_l labelled and n_u unlabelled rows of this process; masks are bits (`bits`).

    Args:
        pseudo: pseudo-labels, uint8 [n_u, ceil(K/8)].
        beta_lb: which cells of labelled rows count, uint8 [n_l, H, ceil(K/8)].
        beta_ulb: which cells of unlabelled rows count, uint8 [n_u, H, ceil(K/8)].
        statistics: those of H K columns, of all processes.
        num_positive: pseudo-positives of all processes.

    Example:
        >>> bits = torch.zeros(2, 1, 1, dtype=torch.uint8)
        >>> PoolEstimate(bits[:, 0], bits, bits).num_positive
        0
    """

    pseudo: Tensor
    beta_lb: Tensor
    beta_ulb: Tensor
    statistics: AngleStatistics = field(default_factory=lambda: AngleStatistics.zeros(0))
    num_positive: int = 0


def label_blocks(num_rows: int, num_labels: int) -> list[tuple[int, int]]:
    """The first label and the end of each block: as many labels as `BLOCK` allows, a multiple of eight.

    Args:
        num_rows: N, equal in all processes.
        num_labels: K.

    Returns:
        Pairs that cover 0 to K in order.

    Example:
        >>> label_blocks(num_rows=2**21, num_labels=20)
        [(0, 16), (16, 20)]
    """
    width = max(BLOCK // max(num_rows, 1) // 8 * 8, 8)
    return [(start, min(start + width, num_labels)) for start in range(0, num_labels, width)]


def update_statistics(
    estimate: Callable[[tuple[Tensor, Tensor] | None], AngleStatistics],
    momentum: float,
    previous: AngleStatistics | None,
) -> AngleStatistics:
    """Plain estimates (momentum 0, the slides) or the released code's blend with the last epoch's.

    In the latter the first epoch is blended with zeros, and variances are taken around the blended means.

    Args:
        estimate: takes the centres of the variances of both sides, each [K], or None for the means.
        momentum: share of the previous statistics, in [0, 1].
        previous: those of the last refresh; None before the first.

    Returns:
        Statistics of K labels; sides that cannot be used as in `AngleStatistics.estimate`.

    Example:
        >>> angles, targets = torch.tensor([[0.4], [0.8], [1.1], [1.9]]), torch.tensor([[1], [1], [0], [0]])
        >>> def estimate(center):
        ...     return AngleStatistics.estimate(angles, targets, center=center)
        >>> update_statistics(estimate, momentum=0, previous=None).mean_pos
        tensor([0.6000])
    """
    estimates = estimate(None)
    if momentum == 0:
        return estimates
    if previous is None:
        previous = AngleStatistics.zeros(len(estimates.mean_pos), estimates.mean_pos.device)
    means = estimates.blend(previous, momentum)
    return estimate((means.mean_pos, means.mean_neg)).blend(previous, momentum)


def estimate_pool(
    scores: Callable[[int, int], Tensor],
    labeled: Features,
    pool: Features,
    targets_lb: Tensor,
    positive_rate: Tensor,
    options: PoolOptions,
    generator: torch.Generator,
    *,
    num_pool: int | None = None,
    valid_lb: Tensor | None = None,
    previous: AngleStatistics | None = None,
    shards: Shards = ALONE,
) -> PoolEstimate:
    """Refresh a pool (slides, chapter 03): equal, ties included, wherever scores and features are kept.

    A block of labels after the other: class-aware pseudo-labels from its scores; prototypes, the mean features of the
    positives of labelled and unlabelled rows; angles to them; negatives near them; mean and variance of the angles.
    Several processes exchange histograms, counts and sums, and no row.

    Args:
        scores: gives those of the labels k to l (excluded) for the pool, label-major, [l - k, n_u].
        labeled: features [n_l, H D] of the labelled rows, of this process.
        pool: those of the unlabelled rows, [n_u, H D].
        targets_lb: [n_l,K] of 0 and 1.
        positive_rate: [K] in [0, 1].
        options: eta, shares and so on.
        generator: a CPU generator, with the same state in all processes.
        num_pool: N_u, the unlabelled rows of all processes; None: n_u.
        valid_lb: bool [n_l,K]; cells where it is False are neither positive nor negative anywhere. None: all are valid.
        previous: the last statistics, H K columns, for the momentum.
        shards: the processes that hold the other rows.

    Returns:
        Bits and statistics. A label with a count of 0 has no pseudo-positive; one without positives at all has a zero
        prototype, `eta` negatives at most and no usable statistics.

    Example:
        >>> scores, features = torch.tensor([[0.9, 0.2, 0.1]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> labeled, targets, rate = Rows(features[:1]), torch.ones(1, 1), torch.tensor([0.5])
        >>> options, generator = PoolOptions(eta=1, candidate_ratio=0), torch.Generator()
        >>> estimate = estimate_pool(
        ...     lambda start, stop: scores[start:stop], labeled, Rows(features), targets, rate, options, generator
        ... )
        >>> estimate.pseudo.T, estimate.beta_ulb.flatten()  # two positives with that of the labelled row, two negatives
        (tensor([[1, 0, 0]], dtype=torch.uint8), tensor([1, 1, 1], dtype=torch.uint8))
    """
    num_lb, num_ulb, num_labels = len(labeled), len(pool), targets_lb.shape[1]
    device, branches = targets_lb.device, options.num_branches
    width = num_bytes(num_labels)
    estimate = PoolEstimate(
        torch.empty(num_ulb, width, dtype=torch.uint8, device=device),
        torch.empty(num_lb, branches, width, dtype=torch.uint8, device=device),
        torch.empty(num_ulb, branches, width, dtype=torch.uint8, device=device),
    )
    if num_pool is None:
        num_pool = num_ulb
    norms = torch.cat([_of_branches(z, branches).norm(dim=2) for part in (labeled, pool) for z in part.chunks()])
    norms = torch.where(norms > 0, norms, 1.0).T.contiguous()  # [H,n]
    seeds = label_seeds(generator, range(branches * num_labels))
    statistics: dict[int, list[AngleStatistics]] = {branch: [] for branch in range(branches)}
    everything = options.positive_share == options.negative_share == 1 and valid_lb is None
    segments = [num_lb, num_ulb]
    # Of all processes alike, whose parts may differ by a row.
    for start, stop in label_blocks(num_pool // shards.world_size, num_labels):
        pseudo, mask = select_pseudo_labels(
            scores(start, stop), positive_rate[start:stop], num_pool, positive_share=options.positive_share,
            negative_share=options.negative_share, shards=shards,
        )  # fmt: skip
        estimate.pseudo[:, start // 8 : num_bytes(stop)] = pack_labels(pseudo.T)
        estimate.num_positive += int(shards.all_reduce(count(pseudo)).sum())
        positive = torch.cat([(targets_lb[:, start:stop] > 0).T, pseudo], dim=1)
        valid = None
        if not everything:
            known = torch.ones_like(positive[:, :num_lb]) if valid_lb is None else valid_lb[:, start:stop].T
            valid = torch.cat([known, mask], dim=1)
            positive &= valid
        del pseudo, mask
        for branch in range(branches):
            cosine = prototype_cosines(labeled, pool, positive, norms[branch], branch, branches, shards)
            negative = ~positive if valid is None else valid & ~positive
            sampled = negative
            if options.sampled:
                first = branch * num_labels
                sampled = draw_negatives(
                    cosine, positive, valid, eta=options.eta, candidate_ratio=options.candidate_ratio,
                    seeds=seeds[first + start : first + stop], shards=shards, segments=segments,
                )  # fmt: skip
            beta = pack_labels((sampled | positive).T)
            columns = slice(start // 8, num_bytes(stop))
            estimate.beta_lb[:, branch, columns], estimate.beta_ulb[:, branch, columns] = torch.split(beta, segments)
            angles = safe_arccos(cosine)
            del cosine
            counted = sampled if options.balanced_over_sampled else negative
            first, last = branch * num_labels + start, branch * num_labels + stop
            statistics[branch].append(
                update_statistics(
                    lambda center, a=angles, p=positive, n=counted: AngleStatistics.of_sides(  # type: ignore[misc]
                        a.T, p.T, n.T, center=center, shards=shards
                    ),
                    options.momentum,
                    None if previous is None else previous.of_labels(first, last),
                )
            )
    estimate.statistics = AngleStatistics.joined([part for parts in statistics.values() for part in parts])
    return estimate


def _of_branches(features: Tensor, branches: int) -> Tensor:
    """Features [n, H D] as [n,H,D]."""
    return features.view(len(features), branches, features.shape[1] // branches)


def prototype_cosines(
    labeled: Features,
    pool: Features,
    positive: Tensor,
    norms: Tensor,
    branch: int = 0,
    branches: int = 1,
    shards: Shards = ALONE,
) -> Tensor:
    """Cosines of all rows with the prototypes of a block of labels, the mean features of their positives.

    Args:
        labeled: features [n_l, H D] of the labelled rows, of this process.
        pool: those of the unlabelled rows, [n_u, H D].
        positive: bool [K,n], label-major, n = n_l + n_u.
        norms: lengths of the rows of the branch, [n], positive.
        branch: which of the H parts of the features.
        branches: H.
        shards: the processes that hold the other rows.

    Returns:
        [K,n], float32, in [-1, 1] up to rounding; 0 for a label without positives.

    Example:
        >>> rows, positive = torch.eye(2), torch.tensor([[True, False], [False, False]])
        >>> prototype_cosines(Rows(rows[:1]), Rows(rows[1:]), positive, torch.ones(2))
        tensor([[1., 0.],
                [0., 0.]])
    """

    def parts() -> Iterator[tuple[slice, Tensor]]:
        start = 0
        for features in (labeled, pool):
            for chunk in features.chunks():
                yield slice(start, start + len(chunk)), _of_branches(chunk, branches)[:, branch]
                start += len(chunk)

    wide = torch.float32 if positive.device.type == "mps" else torch.float64
    sums = torch.zeros(1, dtype=wide, device=positive.device)
    for rows, z in parts():
        sums = sums + (positive[:, rows].float() @ z).to(wide)
    prototypes = shards.all_reduce(sums)
    lengths = prototypes.norm(dim=1, keepdim=True)
    unit = (prototypes / torch.where(lengths > 0, lengths, 1.0)).float()
    cosine = torch.empty(positive.shape, device=positive.device)
    for rows, z in parts():
        torch.div(unit @ z.T, norms[rows], out=cosine[:, rows])
    return cosine
