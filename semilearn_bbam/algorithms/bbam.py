"""S2ML2-BBAM: semi-supervised multi-label learning with the balanced binary angular margin loss."""

from __future__ import annotations

from typing import Any

import torch
from semilearn.algorithms.utils import SSL_Argument, str2bool
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.algorithms.arguments import ANGULAR_ARGUMENTS, REDUCTION_ARGUMENT, one_of, positive_or_zero, share
from semilearn_bbam.algorithms.base import MultiLabelAlgorithm
from semilearn_bbam.algorithms.pool_state import PoolState, estimate_statistics, pseudo_label
from semilearn_bbam.hooks import RefreshHook
from semilearn_bbam.losses import angular_logits, balanced_cosine, bam_loss, bbam_loss, reduce_loss


@ALGORITHMS.register("bbam")
class BBAM(MultiLabelAlgorithm):
    """S2ML2-BBAM (Li et al., NeurIPS 2024).

    Warm-up with the BAM loss on labelled data; then, at the start of every epoch, one pass over labelled and
    unlabelled data gives class-aware pseudo-labels, prototypes c_k, label angles, negative samples Omega_k and the
    Gaussian statistics of the angles; the steps of the epoch minimise

        L(W) = 1/(B_l K) sum beta_ik l_BBAM(p_ik, y_ik) + lambda/(B_u K) sum beta_ik l_BBAM(p_ik, yhat_ik)

    over strongly augmented batches. A label that the labelled part shows too rarely for one pseudo-positive gets
    none; one without two positives or negatives keeps the BAM loss. The defaults are the slides' reading;
    `config/bbam_voc_released.yaml` sets the released code's.
    """

    def __init__(self, args: Any, net_builder: Any, tb_log: Any = None, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(args, net_builder, tb_log, logger, **kwargs)
        self.pool_state: PoolState | None = None

    def set_hooks(self) -> None:
        super().set_hooks()
        # Before the progress line of the epoch, after USB's sampler hook.
        self.register_hook(RefreshHook(), None, "BELOW_NORMAL")

    @property
    def pseudo_targets(self) -> Tensor | None:
        """Pseudo-labels of the pool, [N_u,K], for the diagnostic hook."""
        return None if self.pool_state is None else self.pool_state.pseudo_targets

    # ------------------------------------------------------------------ steps

    def warmup_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            cosine = self.model(x_lb_s)["cosine"]
        return self.step_result(
            reduce_loss(self.element_loss(cosine, y_lb, balanced=False), None, self.args.loss_reduction)
        )

    def train_step(
        self, idx_lb: Tensor, x_lb_s: Any, y_lb: Tensor, idx_ulb: Tensor, x_ulb_s: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        state = self.pool_state
        with self.amp_cm():
            cosine_lb, cosine_ulb = (outputs["cosine"] for outputs in self.joint(x_lb_s, x_ulb_s))
        reduction = self.args.loss_reduction
        loss_lb = reduce_loss(self.element_loss(cosine_lb, y_lb), state.beta_lb[idx_lb], reduction)
        loss_ulb = reduce_loss(
            self.element_loss(cosine_ulb, state.pseudo_targets[idx_ulb]), state.beta_ulb[idx_ulb], reduction
        )
        return self.step_result(loss_lb + self.lambda_u * loss_ulb, sup_loss=loss_lb, unsup_loss=loss_ulb)

    def element_loss(self, cosine: Tensor, targets: Tensor, balanced: bool = True) -> Tensor:
        args = self.args
        options = {"scale": args.scale, "margin": args.margin, "margin_on": args.margin_on}
        if balanced and args.balance:
            return bbam_loss(cosine, targets, self.pool_state.statistics, **options)
        return bam_loss(cosine, targets, **options)

    def scores(self, outputs: dict[str, Tensor]) -> Tensor:
        if self.args.score_map == "raw" or self.pool_state is None:
            return super().scores(outputs)
        half = torch.full_like(outputs["cosine"], 0.5)
        cosine = balanced_cosine(outputs["cosine"], half, self.pool_state.statistics)
        return angular_logits(cosine, half, scale=self.args.scale, margin=self.args.margin).sigmoid()

    # ------------------------------------------------------------------ the refresh

    def refresh(self) -> dict[str, float]:
        """Renew pseudo-labels, negatives and statistics from the current nets; gives the row to be logged."""
        args = self.args
        labeled, unlabeled = {}, {}
        if args.refresh_model in ("ema", "both"):
            labeled, unlabeled = self.read("pool_lb"), self.read("pool_ulb")
        cosine = unlabeled.get("cosine")
        if args.refresh_model in ("student", "both"):
            labeled, unlabeled = self.read("pool_lb", self.model), self.read("pool_ulb", self.model)
        cosine = unlabeled["cosine"] if cosine is None else cosine
        targets_lb = self.dataset_dict["pool_lb"].targets.to(self.device)
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + self.epoch)
        pseudo, mask = pseudo_label(cosine, self.positive_rate, args)
        self.pool_state = estimate_statistics(
            torch.cat([labeled["feat"], unlabeled["feat"]]), targets_lb, pseudo, mask, args, generator, self.pool_state
        )
        return self.pool_state.summary()

    def get_state(self) -> dict[str, Any]:
        return {} if self.pool_state is None else self.pool_state.state_dict()

    def set_state(self, state: dict[str, Any]) -> None:
        self.pool_state = PoolState.from_state_dict(state, self.device) if state else None

    @staticmethod
    def get_argument() -> list[SSL_Argument]:
        return [
            *ANGULAR_ARGUMENTS,
            SSL_Argument("--balance", str2bool, True, "false: without the map psi, i.e. the BAM loss throughout"),
            SSL_Argument("--eta", positive_or_zero, 5.0, "sampled negatives per positive of a label"),
            SSL_Argument("--candidate_ratio", share, 0.8, "share of a label's negatives, the nearest, to draw from"),
            SSL_Argument("--negatives", one_of("sampled", "all"), "sampled", "all: no negative sampling"),
            SSL_Argument(
                "--labeled_negatives",
                one_of("refresh", "frozen", "all"),
                "refresh",
                "negatives of labelled rows: sampled anew each epoch (slides), as in the first (released code, "
                "images), or all (released code, text)",
            ),
            SSL_Argument(
                "--statistics_negatives",
                one_of("sampled", "all"),
                "sampled",
                "negatives in the angle statistics: the sampled ones (slides) or all (released code)",
            ),
            SSL_Argument(
                "--statistics_momentum",
                share,
                0.0,
                "share of the last epoch's statistics in the new ones (released code: 0.01, starting from zeros)",
            ),
            SSL_Argument(
                "--refresh_model",
                one_of("ema", "student", "both"),
                "ema",
                "net of the refresh pass; both: EMA for pseudo-labels, student for features (released, two passes)",
            ),
            SSL_Argument("--positive_share", share, 1.0, "share of the pseudo-positives that count"),
            SSL_Argument(
                "--negative_share", share, 1.0, "share of the pseudo-negatives that count (released code: 0.998)"
            ),
            REDUCTION_ARGUMENT,
            SSL_Argument(
                "--score_map",
                one_of("raw", "average"),
                "raw",
                "test scores from the cosine itself, or after the average of both maps (released code)",
            ),
        ]


@ALGORITHMS.register("bam")
class BAM(BBAM):
    """The slides' "w/o BBAM": all of S2ML2-BBAM but the balancing map psi, so the BAM loss throughout."""

    @staticmethod
    def get_argument() -> list[SSL_Argument]:
        arguments = {argument.name: argument for argument in BBAM.get_argument()}
        arguments["--balance"] = SSL_Argument("--balance", str2bool, False, "true: with the map psi, i.e. bbam")
        return list(arguments.values())
