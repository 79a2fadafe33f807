"""S2ML2-BBAM: semi-supervised multi-label learning with the balanced binary angular margin loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.algorithms.online_pool import ONLINE_OPTIONS, OnlinePool
from semilearn_bbam.algorithms.pool_refresh import POOL_STORAGE
from semilearn_bbam.algorithms.released import RELEASED_OPTIONS
from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.config import Conflict, Option, Settings
from semilearn_bbam.engine.mixed_pass import MIXUP, Passed, mixed_pass
from semilearn_bbam.engine.options import (
    ANGULAR_OPTIONS,
    CONFIDENCE_WEIGHTS,
    LOSS_REDUCTION,
    NUM_BRANCHES,
)
from semilearn_bbam.engine.taught import TAUGHT_OPTIONS
from semilearn_bbam.fused_losses import reduced_angular_losses
from semilearn_bbam.losses import angular_logits, balanced_cosine
from semilearn_bbam.nets.ensemble import for_branches, of_branches


@ALGORITHMS.register("bbam")
class BBAM(OnlinePool):
    """S2ML2-BBAM (Li et al., NeurIPS 2024).

    Warm-up with the BAM loss on labelled data; then, at the start of every epoch, one pass over labelled and
    unlabelled data gives class-aware pseudo-labels, prototypes c_k, label angles, negative samples Omega_k and the
    Gaussian statistics of the angles; the steps of the epoch minimise

        L(W) = 1/(B_l K) sum beta_ik l_BBAM(p_ik, y_ik) + lambda/(B_u K) sum beta_ik l_BBAM(p_ik, yhat_ik)

    over strongly augmented batches. A label that is too rare in the labelled part for a pseudo-positive gets none; one
    without two positives or negatives keeps the BAM loss. The defaults follow the slides;
    `config/bbam_voc_released.yaml` follows the released code.
    """

    options = (
        *ANGULAR_OPTIONS,
        Option("balance", bool, True, "false: without the map psi, i.e. the BAM loss throughout"),
        Option("eta", float, 5.0, "sampled negatives per positive of a label", minimum=0),
        Option(
            "candidate_ratio",
            float,
            0.8,
            "share of a label's negatives, the nearest, to draw from",
            minimum=0,
            maximum=1,
        ),
        Option("negatives", str, "sampled", "all: no negative sampling", choices=("sampled", "all")),
        Option(
            "labeled_negatives",
            str,
            "refresh",
            "negatives of labelled rows: sampled again each epoch (slides), as in the first (released "
            "code, images), or all (released code, text)",
            choices=("refresh", "frozen", "all"),
        ),
        Option(
            "statistics_negatives",
            str,
            "sampled",
            "negatives in the angle statistics: the sampled ones (slides) or all (released code)",
            choices=("sampled", "all"),
        ),
        Option(
            "statistics_momentum",
            float,
            0.0,
            "share of the last epoch's statistics in the new ones (released code: 0.01, starting from zeros)",
            minimum=0,
            maximum=1,
        ),
        Option(
            "refresh_model",
            str,
            "ema",
            "net of the refresh pass; both: EMA for pseudo-labels, student for features (released, two passes)",
            choices=("ema", "student", "both"),
        ),
        Option("positive_share", float, 1.0, "share of the pseudo-positives that count", minimum=0, maximum=1),
        Option(
            "negative_share",
            float,
            1.0,
            "share of the pseudo-negatives that count (released code: 0.998)",
            minimum=0,
            maximum=1,
        ),
        LOSS_REDUCTION,
        Option(
            "score_map",
            str,
            "raw",
            "test scores from the cosine itself, or after the average of both maps (released code)",
            choices=("raw", "average"),
        ),
        NUM_BRANCHES,
        CONFIDENCE_WEIGHTS,
        Option("neighbours", int, 0, "smooth pool scores over each row's nearest ones; 0: off", minimum=0),
        MIXUP,
        POOL_STORAGE,
        *ONLINE_OPTIONS,
        *TAUGHT_OPTIONS,
        *RELEASED_OPTIONS,
    )

    shares_batches = True
    accumulates = True

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if values["score_map"] == "average" and values["readout"] == "fused":
            sentence = "score_map: average gives scores of the head alone; set readout: head"
            yield ("score_map", "readout"), sentence

    # ------------------------------------------------------------------ steps

    def warmup_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        if self.online:
            self.learn(outputs, y_lb, known_lb)
        (loss,) = self.reduced_losses([(of_branches(outputs, "cosine"), y_lb, known_lb)], balanced=False)
        return self.step_result(self.over_known(loss, known_lb, self.args.loss_reduction))

    def train_step(
        self,
        idx_lb: Tensor,
        x_lb_s: Any,
        y_lb: Tensor,
        idx_ulb: Tensor,
        x_ulb_s: Any,
        known_lb: Tensor | None = None,
        x_ulb_w: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.online:
            labeled, unlabeled, known_lb = self.online_pass(x_lb_s, y_lb, x_ulb_s, known_lb, x_ulb_w)
        else:
            labeled, unlabeled, known_lb = self.pool_pass(idx_lb, x_lb_s, y_lb, idx_ulb, x_ulb_s, known_lb)
        parts = [(of_branches(outputs, "cosine"), *values) for outputs, values in (labeled, unlabeled)]
        loss_lb, loss_ulb = self.reduced_losses(parts)
        loss_lb = self.over_known(loss_lb, known_lb, self.args.loss_reduction)
        return self.step_result(loss_lb + self.lambda_u * loss_ulb, sup_loss=loss_lb, unsup_loss=loss_ulb)

    def pool_pass(
        self, idx_lb: Tensor, x_lb: Any, y_lb: Tensor, idx_ulb: Tensor, x_ulb: Any, known_lb: Tensor | None
    ) -> tuple[Passed, Passed, Tensor | None]:
        """Outputs, targets and weights of both batches by the last refresh, and the known cells; None: all count."""
        state = self.pool_state
        y_ulb, beta_ulb = state.pseudo.rows(idx_ulb).float(), state.pool_weights(idx_ulb)
        if self.args.rare_shrinkage:
            beta_ulb = beta_ulb * for_branches(self.label_weight.expand(len(idx_ulb), -1), beta_ulb)
        if state.targets_lb is not None:  # with pseudo-labels where the labels are unknown
            y_lb, known_lb = state.targets_lb[idx_lb], None
        values_lb, values_ulb = (y_lb, state.labeled_weights(idx_lb)), (y_ulb, beta_ulb)
        with self.amp_cm():
            labeled, unlabeled = mixed_pass(self, x_lb, values_lb, x_ulb, values_ulb, known_lb)
        return labeled, unlabeled, known_lb

    def reduced_losses(
        self, parts: Sequence[tuple[Tensor, Tensor, Tensor | None]], balanced: bool = True
    ) -> tuple[Tensor, ...]:
        """Loss [] of each part: its cosines [B,H K], targets [B,K] and mask, [B,K] or [B,H K] or None for all."""
        args = self.args
        return reduced_angular_losses(
            [(c, for_branches(y, c), None if mask is None else for_branches(mask, c)) for c, y, mask in parts],
            self.statistics if balanced and args.balance else None,
            scale=args.scale,
            margin=args.margin,
            margin_on=args.margin_on,
            reduction=args.loss_reduction,
            terms=self.angular_terms,
        )

    @classmethod
    def scores_of(cls, outputs: Mapping[str, Tensor], settings: Settings, state: Mapping[str, Any]) -> Tensor:
        if settings.score_map == "raw" or "statistics" not in state:
            return super().scores_of(outputs, settings, state)
        cosine = of_branches(outputs, "cosine")
        half = torch.full_like(cosine, 0.5)
        statistics = AngleStatistics.from_state_dict(state["statistics"]).to(cosine.device)
        logits = angular_logits(
            balanced_cosine(cosine, half, statistics), half, scale=settings.scale, margin=settings.margin
        )
        return logits.unflatten(-1, (-1, outputs["cosine"].shape[-1])).mean(-2).sigmoid()

    def scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return self.scores_of(outputs, self.args, self.score_state())

    @classmethod
    def scoring_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        statistics = {"statistics": state["statistics"]} if "statistics" in state else {}
        return {**super().scoring_state(state), **statistics}

    def score_state(self) -> dict[str, Any]:
        if self.args.score_map == "raw" or (self.pool_state is None and not self.online):
            return super().score_state()
        return {**super().score_state(), "statistics": self.statistics.state_dict()}


@ALGORITHMS.register("bam")
class BAM(BBAM):
    """The slides' "w/o BBAM": all of S2ML2-BBAM but the balancing map psi, so the BAM loss throughout."""

    defaults: ClassVar[dict[str, Any]] = {"balance": False}
