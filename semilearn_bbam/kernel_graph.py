"""Semi-supervised kernel regression in closed form: smoothed vectors, and a student of class-aware pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from semilearn_bbam.kernels import KernelScores, kernel_ridge
from semilearn_bbam.model_selection import choose_kernel_ridge, choose_landmarks
from semilearn_bbam.neighbours import NEIGHBOURS, NeighbourGraph, smoothed_like
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels

SMOOTHINGS = (0.0, 0.3, 0.5, 0.7, 0.85)
POOL_WEIGHT = 0.1  # of a pseudo-labelled row against a labelled one


@dataclass(frozen=True, eq=False)
class KernelGraph:
    """A function of rows: the supervised and the student's kernel scores of smoothed rows, mixed label by label.

    x: rows of the graph, of unit length, and `smoothed` the same rows smoothed, [N,D]; alpha and num_neighbours: as in
    `smoothed_like`; student_share: [K] in [0, 1].
    """

    x: Tensor
    smoothed: Tensor
    alpha: float
    num_neighbours: int
    supervised: KernelScores
    student: KernelScores
    student_share: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [M,K] of rows [M,D], near 0 and 1 for targets 0 and 1."""
        return self.of_smoothed(smoothed_like(x, self.x, self.smoothed, self.alpha, self.num_neighbours))

    def of_smoothed(self, z: Tensor) -> Tensor:
        """Scores of rows that are smoothed already."""
        return torch.lerp(self.supervised(z), self.student(z), self.student_share)


@dataclass(frozen=True, eq=False)
class KernelGraphFit:
    """What `fit_kernel_graph` gives.

    scores: the function; pool: its scores of the pool's rows, [N_u,K]; leave_one_out: scores of all rows, labelled ones
    first, [N,K], by fits that leave the row's label or pseudo-label out; pseudo_targets [N_u,K]; chosen: alpha, the
    kernels' widths and the ridges, by name.
    """

    scores: KernelGraph
    pool: Tensor
    leave_one_out: Tensor
    pseudo_targets: Tensor
    chosen: dict[str, float]


def fit_kernel_graph(
    labeled: Tensor,
    targets: Tensor,
    pool: Tensor,
    positive_rate: Tensor,
    *,
    known: Tensor | None = None,
    shrinkage: float = 0.0,
    num_neighbours: int = NEIGHBOURS,
    smoothings: Iterable[float] = SMOOTHINGS,
    generator: torch.Generator | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> KernelGraphFit:
    """Kernel ridge regression that learns from the pool twice: along its neighbour graph, and by pseudo-labels.

        X         rows divided by their length;  P: their graph;  Z <- alpha P Z + (1 - alpha) X
        teacher   kernel ridge on the labelled rows of X  ->  class-aware pseudo-labels of the pool
        supervised  kernel ridge on the labelled rows of Z
        student   kernel ridge on all rows of Z, pseudo-labelled rows with weight 0.1
        score     (1 - w_k) supervised + w_k student,  w_k = n_k / (n_k + shrinkage) / 2

    Alpha, the widths and the ridges are those with the highest mAP of leave-one-out scores of the labelled rows. Beyond
    15,000 rows the student has 4,000 landmarks.

    Args:
        labeled: [N_l,D].
        targets: [N_l,K] of 0 and 1, of any value where unknown.
        pool: [N_u,D].
        positive_rate: rate of each label in the pool, [K] in [0, 1].
        known: [N_l,K] bool. The supervised fits use known cells only; in the student an unknown cell has the supervised
            score as its target. None: all are known.
        shrinkage: n_0 >= 0, in labelled positives: how many halve the student's share of a label.
        num_neighbours: k of the graph.
        smoothings: values of alpha to choose from; 0 is no smoothing.
        generator: draws the landmarks; None: one with seed 0.
        progress: called with the name of each step.

    Returns:
        Function, scores and choices. A label without a labelled positive gets 0 everywhere, and so does one with too
        low a rate for a pseudo-positive from the student.

    Raises:
        ValueError: no labelled row, a negative shrinkage, and as in `kernel_ridge`.
    """
    if not len(labeled) or shrinkage < 0:
        raise ValueError(f"labelled rows {len(labeled)} and shrinkage {shrinkage} must be at least 1 and 0")
    num_labeled = len(labeled)
    progress("neighbours")
    graph = NeighbourGraph.of(torch.cat([labeled, pool]), num_neighbours)
    progress("teacher")
    x = graph.x
    teacher_gamma, teacher_ridge, _ = choose_kernel_ridge(x[:num_labeled], targets, known)
    teacher = kernel_ridge(x[:num_labeled], targets, gamma=teacher_gamma, ridge=teacher_ridge, known=known)
    pseudo_targets, _ = class_aware_pseudo_labels(teacher.scores(x[num_labeled:]), positive_rate)

    progress("smoothing")
    best = (-1.0, 0.0, 0.0, 0.0)
    for alpha in smoothings:
        z = graph.smoothed(alpha)
        gamma, ridge, precision = choose_kernel_ridge(z[:num_labeled], targets, known)
        if precision > best[0]:
            best = (precision, alpha, gamma, ridge)
    precision, alpha, gamma, ridge = best
    z = graph.smoothed(alpha)
    supervised = kernel_ridge(z[:num_labeled], targets, gamma=gamma, ridge=ridge, known=known)

    progress("student")
    targets_lb = targets if known is None else torch.where(known, targets.to(z), supervised.leave_one_out)
    weights = torch.ones(len(z)).index_fill_(0, torch.arange(num_labeled, len(z)), POOL_WEIGHT)
    student = kernel_ridge(
        z,
        torch.cat([targets_lb.to(z), pseudo_targets.to(z)]),
        gamma=gamma,
        ridge=ridge,
        weights=weights,
        landmarks=choose_landmarks(num_labeled, len(z), generator or torch.Generator().manual_seed(0)),
    )
    positives = ((targets > 0) if known is None else (targets > 0) & known).sum(0)
    share = positives / (positives + shrinkage).clamp(min=1) / 2
    scores = KernelGraph(x, z, alpha, num_neighbours, supervised.scores, student.scores, share.to(z))
    pool_supervised = supervised.scores(z[num_labeled:])
    held_out = torch.cat([supervised.leave_one_out, pool_supervised])
    return KernelGraphFit(
        scores=scores,
        pool=torch.lerp(pool_supervised, student.scores(z[num_labeled:]), scores.student_share),
        leave_one_out=torch.lerp(held_out, student.leave_one_out, scores.student_share),
        pseudo_targets=pseudo_targets,
        chosen={
            "alpha": alpha,
            "gamma": gamma,
            "ridge": ridge,
            "leave_one_out_mAP": precision,
            "teacher_gamma": teacher_gamma,
            "teacher_ridge": teacher_ridge,
        },
    )
