"""What a fit in closed form takes from its labelled rows: width, ridge, boundary and landmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from semilearn_bbam.kernels import kernel_ridge, linear_ridge, total_variance
from semilearn_bbam.metrics import average_precision_per_label

# Shared over the total variance of the rows: exp(-width |x - y|^2 / variance). Within it results hardly change.
WIDTHS = (0.3, 0.6, 1.0)
RIDGES = (0.1, 0.3, 1.0)
LINEAR_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Width and ridge are chosen on this many labelled rows at most: the time of a choice grows with their cube.
MOST_CHOOSING = 2000
# Beyond this many rows landmarks replace all rows: a matrix of 8 bytes takes 1.8 GB there, its factor four minutes.
MOST_EXACT = 15_000

Choice = TypeVar("Choice")


def best_by_leave_one_out(
    candidates: Iterable[Choice],
    leave_one_out: Callable[[Choice], Tensor],
    targets: Tensor,
    known: Tensor | None = None,
) -> tuple[Choice, float]:
    """The candidate whose leave-one-out scores have the highest mAP on the labelled rows, the first of equals.

    Args:
        candidates: not empty.
        leave_one_out: scores [N,K] of a candidate.
        targets: [N,K] of 0 and 1, of any value where unknown.
        known: [N,K] bool; None: all are known.

    Returns:
        The candidate and that mAP, over the labels with two known positives or more: a single one, left out, cannot be
        found again. Without such a label it is the mAP of all labels with a positive, without any 0.

    Raises:
        ValueError: no candidate.

    Example:
        >>> targets = torch.tensor([[1.0], [1.0], [0.0]])
        >>> best_by_leave_one_out((1.0, -1.0), lambda sign: sign * targets, targets)
        (1.0, 1.0)
    """
    positives = targets > 0 if known is None else (targets > 0) & known
    counts = positives.sum(0)
    judged = counts >= 2 if bool((counts >= 2).any()) else counts >= 1
    cells = None if known is None else known[:, judged].cpu().numpy()
    truth = positives[:, judged].cpu().numpy()
    best: tuple[Choice, float] | None = None
    for candidate in candidates:
        precision = 0.0
        if truth.size:
            scores = leave_one_out(candidate)[:, judged].cpu().numpy()
            precision = float(np.mean(average_precision_per_label(scores, truth, cells)))
        if best is None or precision > best[1]:
            best = (candidate, precision)
    if best is None:
        raise ValueError("there must be a candidate")
    return best


def choosing_rows(num_labeled: int) -> Tensor:
    """The labelled rows on which settings are chosen: all, or 2,000 drawn with a fixed seed, for their order may mean
    something.

    Args:
        num_labeled: how many there are.

    Returns:
        Row numbers, [min(num_labeled, 2000)].

    Example:
        >>> choosing_rows(3)
        tensor([0, 1, 2])
    """
    if num_labeled <= MOST_CHOOSING:
        return torch.arange(num_labeled)
    return torch.randperm(num_labeled, generator=torch.Generator().manual_seed(0))[:MOST_CHOOSING]


def choose_kernel_ridge(x: Tensor, targets: Tensor, known: Tensor | None = None) -> tuple[float, float, float]:
    """Width and ridge of `kernel_ridge` by `best_by_leave_one_out`.

    Args:
        x: labelled rows, of which `choosing_rows` are used, [N,D].
        targets: [N,K] of 0 and 1, of any value where unknown.
        known: [N,K] bool; None: all are known.

    Returns:
        gamma, ridge and their leave-one-out mAP. gamma is 0.3, 0.6 or 1 over the total variance of the rows, the ridge
        0.1, 0.3 or 1.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [1.0], [1.1]])
        >>> gamma, ridge, precision = choose_kernel_ridge(x, torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
        >>> precision
        1.0
    """
    rows = choosing_rows(len(x))
    x, targets, known = x[rows], targets[rows], None if known is None else known[rows]
    variance = total_variance(x)

    def leave_one_out(choice: tuple[float, float]) -> Tensor:
        return kernel_ridge(x, targets, gamma=choice[0], ridge=choice[1], known=known).leave_one_out

    choices = [(width / variance, ridge) for width in WIDTHS for ridge in RIDGES]
    (gamma, ridge), precision = best_by_leave_one_out(choices, leave_one_out, targets, known)
    return gamma, ridge, precision


def choose_linear_ridge(x: Tensor, targets: Tensor, known: Tensor | None = None) -> tuple[float, float]:
    """Ridge of `linear_ridge` by `best_by_leave_one_out`.

    Args:
        x: labelled rows, of which `choosing_rows` are used, [N,D].
        targets: [N,K] of 0 and 1, of any value where unknown.
        known: [N,K] bool; None: all are known.

    Returns:
        The ridge, from 0.03 to 10, and its leave-one-out mAP.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [1.0], [1.1]])
        >>> choose_linear_ridge(x, torch.tensor([[0.0], [0.0], [1.0], [1.0]]))[1]
        1.0
    """
    rows = choosing_rows(len(x))
    x, targets, known = x[rows], targets[rows], None if known is None else known[rows]
    return best_by_leave_one_out(
        LINEAR_RIDGES, lambda ridge: linear_ridge(x, targets, ridge=ridge, known=known)[1], targets, known
    )


def cardinality_boundary(scores: Tensor, targets: Tensor, known: Tensor | None = None) -> float:
    """The score that as many cells reach as are positive: one boundary for all labels, which changes no ranking.

    Least squares with a penalty shrink scores towards 0, so that few reach 1/2.

    Args:
        scores: leave-one-out scores of labelled rows, [N,K].
        targets: [N,K] of 0 and 1, of any value where unknown.
        known: [N,K] bool; None: all are known.

    Returns:
        The boundary, halfway to the next lower score; 1/2 where no known cell is positive, or all are.

    Example:
        >>> cardinality_boundary(torch.tensor([[0.5, 0.25], [0.125, 0.0]]), torch.tensor([[1, 0], [1, 0]]))
        0.1875
    """
    cells = torch.ones_like(targets, dtype=torch.bool) if known is None else known
    values = scores[cells].sort(descending=True).values
    count = int((targets[cells] > 0).sum())
    return float(values[count - 1 : count + 1].mean()) if 0 < count < len(values) else 0.5


def choose_landmarks(num_labeled: int, num_rows: int, count: int, generator: torch.Generator) -> Tensor | None:
    """Row numbers of the landmarks of a fit to labelled rows, which come first, and others.

    Args:
        num_labeled: the first rows.
        num_rows: N.
        count: landmarks, fewer than `num_rows`.
        generator: draws.

    Returns:
        None where all rows can be used, up to 15,000; else `count` row numbers, sorted: half of them labelled rows, or
        all of these where there are fewer, the rest drawn from the others.

    Example:
        >>> choose_landmarks(10, 100, 50, torch.Generator()) is None
        True
    """
    if num_rows <= MOST_EXACT:
        return None
    labeled = torch.randperm(num_labeled, generator=generator)[: count // 2]
    missing = count - len(labeled)
    others = num_labeled + torch.randperm(num_rows - num_labeled, generator=generator)[:missing]
    if len(others) < missing:
        labeled = torch.randperm(num_labeled, generator=generator)[: count - len(others)]
    return torch.cat([labeled, others]).sort().values
