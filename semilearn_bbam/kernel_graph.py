"""Semi-supervised kernel regression in closed form: smoothed vectors, and students of class-aware pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from semilearn_bbam.kernels import KernelScores, kernel_ridge, linear_ridge, unit_rows
from semilearn_bbam.model_selection import choose_kernel_ridge, choose_landmarks, choose_linear_ridge
from semilearn_bbam.neighbours import NEIGHBOURS, NeighbourGraph, smoothed_like
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels

SMOOTHINGS = (0.0, 0.3, 0.5, 0.7, 0.85)
LANDMARKS = 2000  # of a student, where they stand in for all rows: 4,000 are no better and take twice the time
POOL_WEIGHT = 0.1  # of a pseudo-labelled row against a labelled one


@dataclass(frozen=True, eq=False)
class KernelGraph:
    """A function of rows: the supervised scores and those of two students, mixed label by label.

    x: rows of the graph, of unit length, and `smoothed` the same rows smoothed, [N,D]; alpha and num_neighbours: as in
    `smoothed_like`; supervised and student read smoothed rows, plain_student rows of unit length; student_share: of
    both students together, [K] in [0, 1].
    """

    x: Tensor
    smoothed: Tensor
    alpha: float
    num_neighbours: int
    supervised: KernelScores
    student: KernelScores
    plain_student: KernelScores
    student_share: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [M,K] of rows [M,D], near 0 and 1 for targets 0 and 1."""
        x = unit_rows(x)
        z = smoothed_like(x, self.x, self.smoothed, self.alpha, self.num_neighbours)
        return self.mixed(self.supervised(z), self.student(z), self.plain_student(x))

    def mixed(self, supervised: Tensor, student: Tensor, plain_student: Tensor) -> Tensor:
        """Scores [M,K] from those of the parts."""
        return torch.lerp(supervised, (student + plain_student) / 2, self.student_share)


@dataclass(frozen=True, eq=False)
class KernelGraphFit:
    """What `fit_kernel_graph` gives.

    scores: the function; pool: its scores of the pool's rows, [N_u,K]; leave_one_out: scores of all rows, labelled ones
    first, [N,K], by fits that leave the row's label or pseudo-label out; pseudo_targets: the share of the teachers that
    call the label positive, [N_u,K]; chosen: alpha, the kernels' gamma and the ridges, by name.
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
        supervised  kernel ridge on the labelled rows of Z
        teachers    it, and kernel and linear ridge on the labelled rows of X
        targets     mean of the class-aware pseudo-labels that each teacher gives the pool
        students    kernel ridge on all rows of Z, and of X, pseudo-labelled rows with weight 0.1
        score       (1 - w_k) supervised + w_k (mean of the students),  w_k = 2/3 n_k / (n_k + shrinkage)

    Alpha, the widths and the ridges are those with the highest mAP of leave-one-out scores of the labelled rows. Beyond
    15,000 rows the students have 2,000 landmarks.

    Args:
        labeled: [N_l,D].
        targets: [N_l,K] of 0 and 1, of any value where unknown.
        pool: [N_u,D].
        positive_rate: rate of each label in the pool, [K] in [0, 1].
        known: [N_l,K] bool. The supervised fits use known cells only; in the students an unknown cell has the
            supervised score as its target. None: all are known.
        shrinkage: n_0 >= 0, in labelled positives: how many halve the students' share of a label.
        num_neighbours: k of the graph.
        smoothings: values of alpha to choose from; 0 is no smoothing.
        generator: draws the landmarks; None: one with seed 0.
        progress: called with the name of each step.

    Returns:
        Function, scores and choices. A label without a labelled positive gets 0 everywhere, and so does one with too
        low a rate for a pseudo-positive from the students.

    Raises:
        ValueError: no labelled row, a negative shrinkage, and as in `kernel_ridge`.
    """
    if not len(labeled) or shrinkage < 0:
        raise ValueError(f"labelled rows {len(labeled)} and shrinkage {shrinkage} must be at least 1 and 0")
    num_labeled = len(labeled)
    progress("neighbours")
    graph = NeighbourGraph.of(torch.cat([labeled, pool]), num_neighbours)
    labeled_rows, pool_rows = slice(num_labeled), slice(num_labeled, None)
    progress("supervised fits")
    x = graph.x
    plain_gamma, plain_ridge, _ = choose_kernel_ridge(x[labeled_rows], targets, known)
    plain = kernel_ridge(x[labeled_rows], targets, gamma=plain_gamma, ridge=plain_ridge, known=known)
    linear_ridge_value, _ = choose_linear_ridge(x[labeled_rows], targets, known)
    linear, _ = linear_ridge(x[labeled_rows], targets, ridge=linear_ridge_value, known=known)

    progress("smoothing")
    best = (-1.0, 0.0, 0.0, 0.0)
    for alpha in smoothings:
        z = graph.smoothed(alpha)
        gamma, ridge, precision = choose_kernel_ridge(z[labeled_rows], targets, known)
        if precision > best[0]:
            best = (precision, alpha, gamma, ridge)
    precision, alpha, gamma, ridge = best
    z = graph.smoothed(alpha)
    supervised = kernel_ridge(z[labeled_rows], targets, gamma=gamma, ridge=ridge, known=known)
    pool_supervised = supervised.scores(z[pool_rows])

    progress("students")
    teachers = pool_supervised, plain.scores(x[pool_rows]), linear(x[pool_rows])
    votes = [class_aware_pseudo_labels(scores, positive_rate)[0] for scores in teachers]
    pseudo_targets = torch.stack(votes).mean(0)
    targets_lb = targets if known is None else torch.where(known, targets.to(z), supervised.leave_one_out)
    student_targets = torch.cat([targets_lb.to(z), pseudo_targets.to(z)])
    weights = torch.ones(len(z)).index_fill_(0, torch.arange(num_labeled, len(z)), POOL_WEIGHT)
    landmarks = choose_landmarks(num_labeled, len(z), LANDMARKS, generator or torch.Generator().manual_seed(0))
    student, plain_student = (
        kernel_ridge(rows, student_targets, gamma=width, ridge=value, weights=weights, landmarks=landmarks)
        for rows, width, value in ((z, gamma, ridge), (x, plain_gamma, plain_ridge))
    )
    positives = ((targets > 0) if known is None else (targets > 0) & known).sum(0)
    share = 2 / 3 * positives / (positives + shrinkage).clamp(min=1)
    scores = KernelGraph(
        x, z, alpha, num_neighbours, supervised.scores, student.scores, plain_student.scores, share.to(z)
    )
    held_out = torch.cat([supervised.leave_one_out, pool_supervised])
    return KernelGraphFit(
        scores=scores,
        pool=scores.mixed(pool_supervised, student.scores(z[pool_rows]), plain_student.scores(x[pool_rows])),
        leave_one_out=scores.mixed(held_out, student.leave_one_out, plain_student.leave_one_out),
        pseudo_targets=pseudo_targets,
        chosen={
            "alpha": alpha,
            "gamma": gamma,
            "ridge": ridge,
            "leave_one_out_mAP": precision,
            "plain_gamma": plain_gamma,
            "plain_ridge": plain_ridge,
            "linear_ridge": linear_ridge_value,
        },
    )
