"""MIME: a Gaussian latent variable per label, and positives that the model adds to labels assumed negative."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from semilearn.algorithms.utils import SSL_Argument
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn

from semilearn_bbam.algorithms.arguments import one_of, positive_or_zero, share, whole_positive
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.hooks import RefreshHook
from semilearn_bbam.losses import reduce_loss
from semilearn_bbam.nets.latent import GaussianLabels, latent_divergence


@ALGORITHMS.register("mime")
class MIME(MultiLabelAlgorithm):
    """MIME (Liu et al., ICML 2023), a method for one known positive per sample, ported to a labelled and a pool part.

    Labelled rows have all their labels. Rows of the pool begin without a positive; at the start of every
    semi-supervised epoch label k of row i becomes positive where sigmoid(z_ik) > theta, and stays it. What is not
    positive counts as negative. The warm-up minimises the first term, the steps after it

        L = mean over B_l, K of (BCE(z, y) + beta KL) + lambda * mean over B_u, K of (BCE(z, yhat) + beta KL)

    with KL = `latent_divergence` of the head's Gaussians. A label without labelled positives hardly reaches theta, so
    it usually gets none.
    """

    head = "own"
    shares_batches = True

    def __init__(self, args: Any, net_builder: Any, tb_log: Any = None, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(args, net_builder, tb_log, logger, **kwargs)
        shape = (len(self.dataset_dict["pool_ulb"]), args.num_classes)
        self.pseudo_targets = torch.zeros(shape, dtype=torch.bool, device=self.device)

    def build_head(self, in_features: int) -> nn.Module:
        args = self.args
        return GaussianLabels(in_features, args.num_classes, latent_dim=args.z_dim, num_samples=args.num_samples)

    def set_hooks(self) -> None:
        super().set_hooks()
        # Before the progress line of the epoch, after USB's sampler hook.
        self.register_hook(RefreshHook(), None, "BELOW_NORMAL")

    # ------------------------------------------------------------------ steps

    def objective(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Mean over B and K of cross-entropy and beta KL."""
        entropy = F.binary_cross_entropy_with_logits(outputs["logits"], targets, reduction="none")
        return reduce_loss(entropy + self.args.beta * latent_divergence(outputs["mean"], outputs["deviation"]))

    def warmup_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        return self.step_result(self.objective(outputs, y_lb))

    def train_step(
        self, x_lb_s: Any, y_lb: Tensor, idx_ulb: Tensor, x_ulb_s: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            labeled, unlabeled = self.joint(x_lb_s, x_ulb_s)
        loss_lb = self.objective(labeled, y_lb)
        loss_ulb = self.objective(unlabeled, self.pseudo_targets[idx_ulb].to(y_lb.dtype))
        return self.step_result(loss_lb + self.lambda_u * loss_ulb, sup_loss=loss_lb, unsup_loss=loss_ulb)

    # ------------------------------------------------------------------ pseudo-labels

    def refresh(self) -> dict[str, float]:
        """Add the positives that now lie above theta; gives the row to be logged."""
        model = self.model if self.args.refresh_model == "student" else self.ema_model
        before = self.pseudo_targets
        self.pseudo_targets = before | (self.scores(self.read("pool_ulb", model)) > self.args.theta)
        return {
            "pseudo_positive_rate": float(self.pseudo_targets.float().mean()),
            "new_positive_rate": float((self.pseudo_targets & ~before).float().mean()),
        }

    def get_state(self) -> dict[str, Any]:
        return {"pseudo_targets": self.pseudo_targets}

    def set_state(self, state: dict[str, Any]) -> None:
        self.pseudo_targets = state["pseudo_targets"].to(self.device)

    @staticmethod
    def get_argument() -> list[SSL_Argument]:
        return [
            SSL_Argument("--beta", positive_or_zero, 1e-4, "weight of the divergence, averaged over z_dim"),
            SSL_Argument("--theta", share, 0.8, "score above which a label of the pool becomes positive for good"),
            SSL_Argument("--z_dim", whole_positive, 512, "width of a label's latent variable"),
            SSL_Argument("--num_samples", whole_positive, 10, "draws of a latent variable that are averaged"),
            SSL_Argument(
                "--refresh_model",
                one_of("student", "ema"),
                "student",
                "net whose scores add positives (source: student)",
            ),
        ]
