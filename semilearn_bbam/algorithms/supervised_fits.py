"""Ridge, logistic and kernel regression on the labelled part alone: the floor for any semi-supervised method."""

from __future__ import annotations

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.engine.fitted import FittedAlgorithm
from semilearn_bbam.kernels import kernel_ridge, linear_ridge, unit_rows
from semilearn_bbam.logistic import logistic_regression
from semilearn_bbam.model_selection import choose_kernel_ridge, choose_landmarks, choose_linear_ridge
from semilearn_bbam.nets.fitted import RowFunction

LANDMARKS = 8000  # with all labels a fit loses by fewer, unlike the students of kernel_graph


@ALGORITHMS.register("supervised_kernel")
class SupervisedKernel(FittedAlgorithm):
    """Kernel ridge regression of the targets, Gaussian kernel; width and ridge by leave-one-out mAP.

    Beyond 15,000 labelled rows the function has 8,000 landmarks. A label without a labelled positive scores 0.
    """

    def fit(self, labeled: Tensor, targets: Tensor, known: Tensor | None) -> tuple[RowFunction, Tensor]:
        x = unit_rows(labeled)
        self.begin("width and ridge")
        gamma, ridge, precision = choose_kernel_ridge(x, targets, known)
        self.report_choice(precision, gamma=gamma, ridge=ridge)
        self.begin("all rows")
        draws = torch.Generator().manual_seed(self.args.seed)
        landmarks = choose_landmarks(len(x), len(x), LANDMARKS, draws)
        fitted = kernel_ridge(x, targets, gamma=gamma, ridge=ridge, known=known, landmarks=landmarks)
        return fitted.scores, fitted.leave_one_out


@ALGORITHMS.register("fullysupervised_kernel")
class FullySupervisedKernel(SupervisedKernel):
    """`supervised_kernel` with the labels of all training rows: an upper bound, not a semi-supervised method."""

    uses_all_labels = True


@ALGORITHMS.register("supervised_ridge")
class SupervisedRidge(FittedAlgorithm):
    """Linear least squares of the targets with a quadratic penalty, which leave-one-out mAP chooses."""

    def fit(self, labeled: Tensor, targets: Tensor, known: Tensor | None) -> tuple[RowFunction, Tensor]:
        x = unit_rows(labeled)
        self.begin("ridge")
        ridge, precision = choose_linear_ridge(x, targets, known)
        self.report_choice(precision, ridge=ridge)
        self.begin("all rows")
        return linear_ridge(x, targets, ridge=ridge, known=known)


@ALGORITHMS.register("supervised_logistic")
class SupervisedLogistic(FittedAlgorithm):
    """scikit-learn's logistic regression of each label; one C for all by approximate leave-one-out mAP."""

    slope = 1.0
    boundary = 0.0

    def fit(self, labeled: Tensor, targets: Tensor, known: Tensor | None) -> tuple[RowFunction, Tensor]:
        self.begin("all strengths")
        scores, leave_one_out, strength, precision = logistic_regression(unit_rows(labeled), targets, known=known)
        self.report_choice(precision, C=strength)
        return scores, leave_one_out
