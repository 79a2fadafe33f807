"""Supervised-only training on the labelled part, with as many steps as a semi-supervised run."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.options import (
    ANGULAR_OPTIONS,
    ASYMMETRIC_OPTIONS,
    COSINE_HEAD_OPTIONS,
    NUM_BRANCHES,
    asymmetric_options,
)
from semilearn_bbam.fused_losses import reduced_angular_loss
from semilearn_bbam.losses import asymmetric_loss
from semilearn_bbam.nets.ensemble import for_branches, of_branches


class Supervised(MultiLabelAlgorithm):
    """Minimise the mean over B and K of an element loss on strongly augmented labelled batches."""

    uses_unlabeled = False
    stage_name = "supervised"
    shares_batches = True
    accumulates = True

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        raise NotImplementedError

    def train_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        return self.step_result(self.reduced_loss(outputs, y_lb, known_lb))

    warmup_step = train_step

    def reduced_loss(self, outputs: dict[str, Tensor], targets: Tensor, known: Tensor | None) -> Tensor:
        loss = self.element_loss(outputs, targets)
        return loss.mean() if known is None else self.reduce_labeled(loss, known)


@ALGORITHMS.register("supervised_bam")
class SupervisedBAM(Supervised):
    """Cosine prototypes with the binary angular margin loss (slides, "BAM loss")."""

    options = (
        *ANGULAR_OPTIONS,
        NUM_BRANCHES,
    )

    def reduced_loss(self, outputs: dict[str, Tensor], targets: Tensor, known: Tensor | None) -> Tensor:
        args, cosine = self.args, of_branches(outputs, "cosine")
        loss = reduced_angular_loss(
            cosine,
            for_branches(targets, cosine),
            None if known is None else for_branches(known, cosine),
            scale=args.scale,
            margin=args.margin,
            margin_on=args.margin_on,
            terms=self.angular_terms,
        )
        return self.over_known(loss, known)


@ALGORITHMS.register("fullysupervised_bam")
class FullySupervisedBAM(SupervisedBAM):
    """`supervised_bam` with the labels of all training rows: an upper bound, not a semi-supervised method."""

    uses_all_labels = True


@ALGORITHMS.register("supervised_asl")
class SupervisedASL(Supervised):
    """A linear classifier with the asymmetric loss, which is CAP without unlabelled data."""

    options = (
        *ASYMMETRIC_OPTIONS,
        *COSINE_HEAD_OPTIONS,
        NUM_BRANCHES,
    )

    head = "linear"

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        logits = of_branches(outputs, "logits")
        return asymmetric_loss(logits, for_branches(targets, logits), **asymmetric_options(self.args))


@ALGORITHMS.register("supervised_bce")
class SupervisedBCE(Supervised):
    """A linear classifier with binary cross-entropy, on the same projection."""

    options = (
        *COSINE_HEAD_OPTIONS,
        NUM_BRANCHES,
    )

    head = "linear"

    def element_loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        logits = of_branches(outputs, "logits")
        return F.binary_cross_entropy_with_logits(logits, for_branches(targets, logits), reduction="none")
