"""Prototype-based negative sampling: a few hard negatives per label instead of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from semilearn_bbam.angles import full_precision, require_same_shape
from semilearn_bbam.selection import ALONE, Shards, count, draw, highest


def sample_negatives(
    similarity: Tensor,
    targets: Tensor,
    *,
    eta: float,
    candidate_ratio: float,
    generator: torch.Generator | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Draw a few negatives per label, uniformly from those nearest to its prototype (slides, 'negative sampling').

        candidates  the ceil(candidate_ratio * negatives) most similar valid negatives, never fewer than are drawn
        drawn       min(floor(eta N_k), negatives) of them without replacement, N_k the number of valid positives

    Args:
        similarity: [N,K], finite, higher is nearer; ties go by row order.
        targets: [N,K] of 0 and 1.
        eta: negatives per positive, finite, >= 0.
        candidate_ratio: in [0, 1]; 0 takes the nearest ones, 1 draws from all negatives.
        generator: a CPU generator, so that a seed gives the same draw on every device; None is torch's global one.
        valid: [N,K] bool; entries where it is False count on neither side.

    Returns:
        Bool [N,K] on the device of `similarity`, False for positives and invalid entries. A label without positives
        draws floor(eta), as one with a single positive does, never all.

    Raises:
        ValueError: shapes that differ, values that are not finite or outside the ranges, a generator on another device.

    Example:
        >>> similarity = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
        >>> sample_negatives(similarity, torch.tensor([[1], [0], [0], [0]]), eta=2, candidate_ratio=0).T
        tensor([[False,  True,  True, False]])
    """
    require_same_shape(similarity=similarity, targets=targets, valid=valid)
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"the generator must be a CPU generator, got one on {generator.device}")
    if not bool(torch.isfinite(similarity).all()):
        raise ValueError("similarity holds NaN or infinite values; look for diverged features")
    nearness = full_precision(similarity.detach()).T.contiguous()
    positive = (targets.detach() > 0.5).T.contiguous()
    allowed = None if valid is None else valid.detach().bool().T.contiguous()
    seeds = label_seeds(generator, range(len(nearness)))
    sampled = draw_negatives(nearness, positive, allowed, eta=eta, candidate_ratio=candidate_ratio, seeds=seeds)
    return sampled.T.contiguous()


def label_seeds(generator: torch.Generator | None, labels: Sequence[int]) -> list[tuple[int, int]]:
    """A seed for the draw of each label, from one draw of the generator.

    Args:
        generator: a CPU generator; None is torch's global one.
        labels: their numbers.

    Returns:
        Pairs of the draw and the label's number.

    Example:
        >>> len(label_seeds(torch.Generator().manual_seed(0), range(3)))
        3
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    return [(seed, label) for label in labels]


def draw_negatives(
    nearness: Tensor,
    positive: Tensor,
    valid: Tensor | None,
    *,
    eta: float,
    candidate_ratio: float,
    seeds: Sequence[tuple[int, int]],
    shards: Shards = ALONE,
    segments: Sequence[int] | None = None,
) -> Tensor:
    """`sample_negatives` of a block of labels, whose rows may be divided among processes.

    Args:
        nearness: label-major, [K,N], float32 or float64, finite.
        positive: bool [K,N].
        valid: bool [K,N]; None: all are.
        eta: negatives per positive, finite, >= 0.
        candidate_ratio: in [0, 1].
        seeds: one per label, as from `label_seeds`.
        shards: the processes that hold further columns.
        segments: lengths of consecutive parts of the columns, each divided among the processes.

    Returns:
        Bool [K,N], on the device of `nearness`; labels without positives as in `sample_negatives`.

    Raises:
        ValueError: values outside the ranges.

    Example:
        >>> nearness, positive = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[True, False, False]])
        >>> draw_negatives(nearness, positive, None, eta=1, candidate_ratio=0, seeds=[(0, 0)])
        tensor([[False,  True, False]])
    """
    if not (eta >= 0 and math.isfinite(eta)):
        raise ValueError(f"eta must be a finite number >= 0, got {eta}")
    if not 0 <= candidate_ratio <= 1:
        raise ValueError(f"candidate_ratio must lie in [0, 1], got {candidate_ratio}")
    negative = ~positive if valid is None else valid & ~positive
    num_negatives = shards.all_reduce(count(negative))
    num_positives = shards.all_reduce(count(positive if valid is None else valid & positive))
    # The 1e-9 here and below keeps a product that is whole but for rounding from gaining or losing one.
    num_drawn = (eta * num_positives.clamp(min=1).double() + 1e-9).floor().long().minimum(num_negatives)
    num_candidates = (candidate_ratio * num_negatives.double() - 1e-9).ceil().long().maximum(num_drawn)
    candidates = negative
    if bool((num_candidates < num_negatives).any()):
        candidates = highest(nearness.masked_fill(~negative, -math.inf), num_candidates, shards, segments)
    return draw(candidates, num_drawn, seeds, shards, segments)
