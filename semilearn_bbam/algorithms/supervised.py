"""Supervised-only training on the labelled part, step for step as long as a semi-supervised run."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from semilearn.algorithms.utils import SSL_Argument
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.algorithms.arguments import (
    ANGULAR_ARGUMENTS,
    ASYMMETRIC_ARGUMENTS,
    BRANCHES_ARGUMENT,
    asymmetric_options,
)
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.losses import asymmetric_loss, bam_loss
from semilearn_bbam.nets.ensemble import for_branches, of_branches


class Supervised(MultiLabelAlgorithm):
    """Minimise the mean over B and K of an element loss on strongly augmented labelled batches."""

    uses_unlabeled = False
    stage_name = "supervised"
    shares_batches = True

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        raise NotImplementedError

    def train_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        return self.step_result(self.element_loss(outputs, y_lb).mean())

    warmup_step = train_step


@ALGORITHMS.register("supervised_bam")
class SupervisedBAM(Supervised):
    """Cosine prototypes with the binary angular margin loss (slides, "BAM loss")."""

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        args = self.args
        cosine = of_branches(outputs, "cosine")
        targets = for_branches(targets, cosine)
        return bam_loss(cosine, targets, scale=args.scale, margin=args.margin, margin_on=args.margin_on)

    @staticmethod
    def get_argument() -> list[SSL_Argument]:
        return [*ANGULAR_ARGUMENTS, BRANCHES_ARGUMENT]


@ALGORITHMS.register("fullysupervised_bam")
class FullySupervisedBAM(SupervisedBAM):
    """`supervised_bam` with the labels of all training rows: what the pool could be worth at most, no contender."""

    uses_all_labels = True


@ALGORITHMS.register("supervised_asl")
class SupervisedASL(Supervised):
    """A linear classifier with the asymmetric loss, which is CAP without unlabelled data."""

    head = "linear"

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        logits = of_branches(outputs, "logits")
        return asymmetric_loss(logits, for_branches(targets, logits), **asymmetric_options(self.args))

    @staticmethod
    def get_argument() -> list[SSL_Argument]:
        return [*ASYMMETRIC_ARGUMENTS, *ANGULAR_ARGUMENTS[:2], BRANCHES_ARGUMENT]


@ALGORITHMS.register("supervised_bce")
class SupervisedBCE(Supervised):
    """A linear classifier with binary cross-entropy, on the same projection."""

    head = "linear"

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        logits = of_branches(outputs, "logits")
        return F.binary_cross_entropy_with_logits(logits, for_branches(targets, logits), reduction="none")

    @staticmethod
    def get_argument() -> list[SSL_Argument]:
        return [*ANGULAR_ARGUMENTS[:2], BRANCHES_ARGUMENT]  # for head: cosine
