"""Exact selection of the highest values of each label, ties by row order, also where rows are divided among processes.

The functions here are label-major: a row of a matrix has the values of one label, contiguous in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

DIGIT = 11  # bits of a value that one histogram resolves: 2,048 bins for each label
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


class Shards(Protocol):
    """The processes that hold the rows of a pool, each a consecutive part; `util.distributed.World` is one.

    `all_reduce` is the sum of a tensor over them, `all_gather_rows` joins their rows in the order of ranks.
    """

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def all_reduce(self, values: Tensor) -> Tensor: ...

    def all_gather_rows(self, rows: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Alone:
    """One process that holds all rows.

    Args:
        rank: 0.
        world_size: 1.

    Example:
        >>> Alone().all_reduce(torch.tensor([2]))
        tensor([2])
    """

    rank: int = 0
    world_size: int = 1

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum of `values` [..] over the processes: the values themselves."""
        return values

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The `rows` [n,..] of all processes: the rows themselves."""
        return rows


ALONE = Alone()


def kth_highest(values: Tensor, counts: Tensor, shards: Shards = ALONE) -> Tensor:
    """The counts[k]-th highest value of each label.

    On a CPU that holds all rows by NumPy's partition, else by histograms of the digits of the values, the highest digit
    first: on a GPU nothing leaves it, and processes exchange 2,048 numbers per label and digit, however many rows they
    have. Both give the same value.

    Args:
        values: [K,N], float32 or float64, without NaN.
        counts: [K], int64, from 0 to the number of values.
        shards: the processes that hold further columns; all of them call this, with the same counts.

    Returns:
        [K], of the type of `values`; inf where the count is 0.

    Example:
        >>> kth_highest(torch.tensor([[0.1, 0.4, 0.3], [0.1, 0.4, 0.3]]), torch.tensor([2, 0]))
        tensor([0.3000,    inf])
    """
    if values.device.type == "cpu" and shards.world_size == 1:
        found = _by_partition(values, counts)
    else:
        found = _by_histograms(values, counts, shards)
    return torch.where(counts > 0, found, float("inf"))


def _by_partition(values: Tensor, counts: Tensor) -> Tensor:
    size = values.shape[1]
    found = torch.zeros(len(values), dtype=values.dtype)
    for k, (row, place) in enumerate(zip(values.numpy(), (size - counts).tolist(), strict=True)):
        if place < size:
            found[k] = float(np.partition(row, place)[place])
    return found


def _by_histograms(values: Tensor, counts: Tensor, shards: Shards) -> Tensor:
    integer = _INTEGERS[values.dtype]
    bits = torch.iinfo(integer).bits
    sign = torch.iinfo(integer).max
    keys = (values + 0.0).view(integer)  # + 0.0 makes 0 of -0
    keys = torch.where(keys >= 0, keys, keys ^ sign)  # integers in the order of the values
    prefix, left = torch.zeros_like(counts), counts.clone()
    for low in range(bits - DIGIT, -DIGIT, -DIGIT):
        width, shift = min(DIGIT, DIGIT + low), max(low, 0)
        bins = 1 << width
        digits = keys >> shift
        if low == bits - DIGIT:  # the highest digit has the sign
            digits, offset = digits + bins // 2, bins // 2
            known = digits
        else:
            offset = 0
            known = torch.where((digits >> width) == prefix.unsqueeze(1), digits & (bins - 1), bins)
        places = known + torch.arange(len(keys), device=keys.device).unsqueeze(1) * (bins + 1)
        histogram = torch.bincount(places.flatten(), minlength=len(keys) * (bins + 1)).view(len(keys), bins + 1)
        histogram = shards.all_reduce(histogram)[:, :bins].flip(1)  # the highest first
        reached = histogram.cumsum(1)
        place = (reached < left.unsqueeze(1)).sum(1).clamp(max=bins - 1)
        above = (reached - histogram).gather(1, place.unsqueeze(1)).squeeze(1)
        left = left - above
        digit = bins - 1 - place - offset
        prefix = digit if low == bits - DIGIT else (prefix << width) | digit
    keys = torch.where(prefix >= 0, prefix, prefix ^ sign).to(integer)
    return keys.view(values.dtype)


def highest(values: Tensor, counts: Tensor, shards: Shards = ALONE, segments: Sequence[int] | None = None) -> Tensor:
    """Which values of each label are its counts[k] highest, the earlier row where two are equal.

    Args:
        values: [K,N], float32 or float64, without NaN.
        counts: [K], int64, from 0 to the number of values.
        shards: the processes that hold further columns.
        segments: lengths of consecutive parts of the columns, each of which is divided among the processes: the first
            parts of all of them come first in the order of rows. None: one part.

    Returns:
        Bool [K,N] with exactly counts[k] True in row k (of all processes together).

    Example:
        >>> highest(torch.tensor([[0.3, 0.4, 0.3], [0.3, 0.4, 0.3]]), torch.tensor([2, 0]))
        tensor([[ True,  True, False],
                [False, False, False]])
    """
    threshold = kth_highest(values, counts, shards).unsqueeze(1)
    chosen, equal = values >= threshold, values == threshold
    extra = shards.all_reduce(count(chosen)) - counts
    crowded = (extra > 0).nonzero().squeeze(1)  # labels whose last value occurs more often than it is needed
    if len(crowded):
        ties = equal[crowded]
        wanted = (shards.all_reduce(count(ties)) - extra[crowded]).unsqueeze(1)
        parts = torch.split(ties, list(segments or [ties.shape[1]]), dim=1)
        before = counted_before(ties, shards, segments)
        places = [
            part.cumsum(1, dtype=torch.int32) + first.unsqueeze(1) for part, first in zip(parts, before, strict=True)
        ]
        chosen[crowded] &= ~ties | (torch.cat(places, dim=1) <= wanted)
    return chosen


def count(mask: Tensor) -> Tensor:
    """Number of True values in each row.

    Args:
        mask: bool [K,N].

    Returns:
        int64 [K].

    Example:
        >>> count(torch.tensor([[True, False, True]]))
        tensor([2])
    """
    if mask.device.type == "cpu":  # ten times as fast as torch's sum of bools
        return torch.from_numpy(np.asarray(np.count_nonzero(mask.numpy(), axis=1), np.int64))
    return mask.sum(1)


def counted_before(mask: Tensor, shards: Shards = ALONE, segments: Sequence[int] | None = None) -> list[Tensor]:
    """How many True values of each label come before each segment of this process, in the order of rows.

    Args:
        mask: bool [K,N].
        shards: the processes that hold further columns.
        segments: as in `highest`.

    Returns:
        int64 [K] for each segment.

    Example:
        >>> counted_before(torch.tensor([[True, False, True]]), segments=[2, 1])
        [tensor([0]), tensor([1])]
    """
    parts = torch.split(mask, list(segments or [mask.shape[1]]), dim=1)
    own = torch.stack([count(part) for part in parts])  # [S,K]
    everywhere = shards.all_gather_rows(own.unsqueeze(0))  # [ranks,S,K]
    totals = everywhere.sum(0)
    earlier = totals.cumsum(0) - totals + everywhere[: shards.rank].sum(0)
    return list(earlier)


def draw(
    candidates: Tensor,
    counts: Tensor,
    seeds: Sequence[int | tuple[int, ...]],
    shards: Shards = ALONE,
    segments: Sequence[int] | None = None,
) -> Tensor:
    """Draw counts[k] of each label's candidates uniformly without replacement.

    The draw of a label follows from its seed and the number of its candidates alone: it is the same on every device, in
    any blocks of labels and for any number of processes.

    Args:
        candidates: bool [K,N].
        counts: [K], int64, at most the number of candidates.
        seeds: K of them, each a number or several.
        shards: the processes that hold further columns.
        segments: as in `highest`.

    Returns:
        Bool [K,N], True for what was drawn.

    Example:
        >>> draw(torch.tensor([[True, False, True, True]]), torch.tensor([3]), [0])
        tensor([[ True, False,  True,  True]])
    """
    totals, counts_list = shards.all_reduce(count(candidates)).tolist(), counts.tolist()
    if all(number == total for number, total in zip(counts_list, totals, strict=True)):
        return candidates
    before = torch.stack(counted_before(candidates, shards, segments)).T.tolist()
    lengths = list(segments or [candidates.shape[1]])
    drawn = torch.zeros_like(candidates)
    for k, (total, number, seed) in enumerate(zip(totals, counts_list, seeds, strict=True)):
        numbers = np.random.default_rng(seed).choice(total, number, replace=False, shuffle=False)
        start = 0
        for length, first in zip(lengths, before[k], strict=True):
            rows = candidates[k, start : start + length].nonzero().squeeze(1) + start
            inside = numbers[(numbers >= first) & (numbers < first + len(rows))] - first
            drawn[k, rows[torch.from_numpy(inside).to(rows.device)]] = True
            start += length
    return drawn
