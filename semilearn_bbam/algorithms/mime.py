"""MIME: a Gaussian latent variable per label, and positives that the model adds to labels assumed negative."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn

from semilearn_bbam.config import Option, Settings
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.losses import reduce_loss
from semilearn_bbam.nets.latent import GaussianLabels, latent_divergence


@ALGORITHMS.register("mime")
class MIME(MultiLabelAlgorithm):
    """MIME (Liu et al., ICML 2023), a method for one known positive per sample, ported to labelled rows and a pool.

    Rows of the pool, and unknown cells of labelled rows, start without a positive; at the start of every
    semi-supervised epoch label k of row i becomes positive where sigmoid(z_ik) > theta, and stays positive. Everything
    else counts as negative. The warm-up minimises the first term, the steps after it

        L = mean over B_l, K of (BCE(z, y) + beta KL) + lambda * mean over B_u, K of (BCE(z, yhat) + beta KL)

    with KL = `latent_divergence` of the head's Gaussians. A label without labelled positives hardly ever reaches
    theta, so that it usually gets none.
    """

    options = (
        Option("beta", float, 1e-4, "weight of the divergence, averaged over z_dim", minimum=0),
        Option(
            "theta", float, 0.8, "score above which a label of the pool becomes positive for good", minimum=0, maximum=1
        ),
        Option("z_dim", int, 512, "width of a label's latent variable", minimum=1),
        Option("num_samples", int, 10, "draws of a latent variable that are averaged", minimum=1),
        Option(
            "refresh_model",
            str,
            "student",
            "net whose scores add positives (source: student)",
            choices=("student", "ema"),
        ),
    )

    head = "own"
    shares_batches = True
    accumulates = True

    def set_up(self) -> None:
        shape = (len(self.dataset_dict["pool_ulb"]), self.num_classes)
        self.pseudo_targets = torch.zeros(shape, dtype=torch.bool, device=self.device)
        self.positives_lb = None if self.unknown_lb is None else torch.zeros_like(self.unknown_lb)

    @classmethod
    def build_head(cls, settings: Settings, in_features: int, *, num_classes: int) -> nn.Module:
        return GaussianLabels(in_features, num_classes, latent_dim=settings.z_dim, num_samples=settings.num_samples)

    # ------------------------------------------------------------------ steps

    def objective(self, outputs: dict[str, Tensor], targets: Tensor, known: Tensor | None = None) -> Tensor:
        """Mean over B and K of cross-entropy, of known cells only, and beta KL."""
        entropy = F.binary_cross_entropy_with_logits(outputs["logits"], targets, reduction="none")
        if known is not None:
            entropy = entropy.masked_fill(~known, 0.0) / self.known_share
        return reduce_loss(entropy + self.args.beta * latent_divergence(outputs["mean"], outputs["deviation"]))

    def warmup_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        return self.step_result(self.objective(outputs, y_lb, known_lb))

    def train_step(
        self,
        x_lb_s: Any,
        y_lb: Tensor,
        idx_ulb: Tensor,
        x_ulb_s: Any,
        known_lb: Tensor | None = None,
        idx_lb: Tensor | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            labeled, unlabeled = self.joint(x_lb_s, x_ulb_s)
        if self.positives_lb is not None:  # those added to unknown cells
            y_lb = torch.where(self.unknown_lb[idx_lb], self.positives_lb[idx_lb].to(y_lb), y_lb)
            known_lb = None
        loss_lb = self.objective(labeled, y_lb, known_lb)
        loss_ulb = self.objective(unlabeled, self.pseudo_targets[idx_ulb].to(y_lb.dtype))
        return self.step_result(loss_lb + self.lambda_u * loss_ulb, sup_loss=loss_lb, unsup_loss=loss_ulb)

    # ------------------------------------------------------------------ pseudo-labels

    def refresh(self) -> dict[str, float]:
        """Add the positives whose scores are now above theta; returns the row to log."""
        model = self.model if self.args.refresh_model == "student" else self.ema_model
        before = self.pseudo_targets
        self.pseudo_targets = before | (self.scores(self.read("pool_ulb", model)) > self.args.theta)
        if self.positives_lb is not None:
            confident = self.scores(self.read("pool_lb", model)) > self.args.theta
            self.positives_lb = self.positives_lb | (confident & self.unknown_lb)
        return {
            "pseudo_positive_rate": float(self.pseudo_targets.float().mean()),
            "new_positive_rate": float((self.pseudo_targets & ~before).float().mean()),
        }

    def get_state(self) -> dict[str, Any]:
        state = {"pseudo_targets": self.pseudo_targets}
        return state if self.positives_lb is None else {**state, "positives_lb": self.positives_lb}

    def set_state(self, state: dict[str, Any]) -> None:
        self.pseudo_targets = state["pseudo_targets"].to(self.device)
        if "positives_lb" in state:
            self.positives_lb = state["positives_lb"].to(self.device)
