"""D2L + MAT: two views under four heads, and pseudo-labels at thresholds fitted to the labelled rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn

from semilearn_bbam.config import Conflict, Option, Settings
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.options import (
    ASYMMETRIC_OPTIONS,
    COSINE_HEAD_OPTIONS,
    LOSS_REDUCTION,
    asymmetric_options,
)
from semilearn_bbam.losses import asymmetric_loss
from semilearn_bbam.nets.twins import LOCAL_VIEWS, TwinHeads, TwinNet
from semilearn_bbam.thresholds import FORMS, TIES, f_beta_thresholds

# Only images have patches; the second view of other data is this project's choice.
DEFAULT_VIEWS = {"image": "patches", "text": "projection", "features": "projection"}
STATE = ("thresholds", "pseudo_targets", "targets_lb")


@ALGORITHMS.register("d2l")
class D2L(MultiLabelAlgorithm):
    """D2L with MAT (Xiao et al., ECCV 2024) on the shared net, whose projection is between backbone and heads.

    Two views of an input, the whole and its four patches (`TwinNet`), have two heads each: one that learns from
    labelled rows and makes the pseudo-labels, one that learns from pseudo-labelled rows. The warm-up minimises the
    first two of the terms below; then the heads of the other kind start from those, and a step minimises

        L = sum over both views of  mean over B_l, K of ASL(make(x), y) + lambda * mean over B_u, K of ASL(use(x), yhat)

    over strong views. yhat is 1 where the EMA model's score of the weak view, sigmoid of the mean of both `make`
    logits, is at least t_k; the same score is what is predicted. At the start of every semi-supervised epoch t_k
    becomes the threshold of highest F_beta on the EMA model's scores of the labelled rows. A label without labelled
    positives gets no pseudo-positive. With `decouple: false` use(x) is make(x). Only the abstract of the paper was
    read; this follows the released code, and whether the paper describes the same is uncertain.
    """

    options = (
        Option(
            "local_view",
            str,
            "auto",
            "second view: four patches of an image, four parts of the features, or a second "
            "projection of them; auto: patches of images, else projection",
            choices=("auto", *LOCAL_VIEWS),
        ),
        Option("decouple", bool, True, "false: the heads that make pseudo-labels learn from them as well"),
        Option("beta", float, 0.5, "beta of F_beta, the weight of recall against precision", above=0),
        Option(
            "f_beta_form",
            str,
            "standard",
            "standard: beta^2 P + R below the fraction; released: beta P + R (released code)",
            choices=FORMS,
        ),
        Option(
            "threshold_ties",
            str,
            "lowest",
            "which of equally good thresholds: the lowest (released code), middle or highest",
            choices=TIES,
        ),
        *ASYMMETRIC_OPTIONS,
        LOSS_REDUCTION,
        *COSINE_HEAD_OPTIONS,  # for head: cosine
    )

    head = "linear"
    shares_batches = True
    accumulates = True
    thresholds: Tensor | None = None
    pseudo_targets: Tensor | None = None
    targets_lb: Tensor | None = None  # of labelled rows with unknown cells, which are pseudo-labelled
    unlabeled_views: ClassVar[dict[str, str]] = {"x_ulb_w": "weak", "x_ulb_s": "strong"}
    joined_views = ("x_lb_s", "x_ulb_s")

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        view = values["local_view"]
        if view == "patches" and kind not in ("", "image"):
            yield ("local_view",), f"local_view: {kind} data have no patches; use auto, parts or projection"
        if values["projection"] == "none" and (DEFAULT_VIEWS.get(kind) if view == "auto" else view) == "projection":
            yield ("local_view", "projection"), "local_view: projection needs a projection; set one"

    @classmethod
    def build_net(cls, settings: Settings, kind: str, in_features: int, num_classes: int) -> nn.Module:
        view = settings.local_view
        net = super().build_net(settings, kind, in_features, num_classes)
        return TwinNet(net, DEFAULT_VIEWS[kind] if view == "auto" else view)

    @classmethod
    def build_head(cls, settings: Settings, in_features: int, *, num_classes: int) -> nn.Module:
        return TwinHeads(partial(super().build_head, settings, in_features, num_classes=num_classes))

    # ------------------------------------------------------------------ steps

    def views_loss(
        self, outputs: dict[str, Tensor], targets: Tensor, suffix: str = "", known: Tensor | None = None
    ) -> Tensor:
        """Sum over both views of the reduced loss of the heads that make ("") or use ("_used") pseudo-labels."""
        whole, local = (
            asymmetric_loss(outputs[f"{view}{suffix}"], targets, **asymmetric_options(self.args))
            for view in ("global", "local")
        )
        reduction = self.args.loss_reduction
        return self.reduce_labeled(whole, known, reduction) + self.reduce_labeled(local, known, reduction)

    def warmup_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        return self.step_result(self.views_loss(outputs, y_lb, known=known_lb))

    def train_step(
        self,
        x_lb_s: Any,
        y_lb: Tensor,
        idx_ulb: Tensor,
        x_ulb_w: Any,
        x_ulb_s: Any,
        known_lb: Tensor | None = None,
        idx_lb: Tensor | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.targets_lb is not None:  # with pseudo-labels where the labels are unknown
            y_lb, known_lb = self.targets_lb[idx_lb], None
        targets = self.pseudo_label(x_ulb_w)
        if self.pseudo_targets is None:
            # For the diagnostic only: the last pseudo-labels of each row, zeros for a row that was not drawn yet.
            self.pseudo_targets = targets.new_zeros(self.args.ulb_dest_len, self.num_classes)
        self.pseudo_targets[self.world.gather_batch(idx_ulb)] = self.world.gather_batch(targets)
        with self.amp_cm():
            labeled, unlabeled = self.joint(x_lb_s, x_ulb_s)
        loss_lb = self.views_loss(labeled, y_lb, known=known_lb)
        loss_ulb = self.views_loss(unlabeled, targets, "_used" if self.args.decouple else "")
        return self.step_result(
            loss_lb + self.lambda_u * loss_ulb,
            sup_loss=loss_lb,
            unsup_loss=loss_ulb,
            pseudo_positive_rate=targets.mean(),
        )

    # ------------------------------------------------------------------ pseudo-labels

    @torch.no_grad()
    def pseudo_label(self, x_ulb_w: Any) -> Tensor:
        """Decisions [B_u,K] of the EMA model at the thresholds of the epoch."""
        with self.amp_cm():
            outputs = self.ema_model(x_ulb_w)
        return (self.scores(outputs) >= self.thresholds).float()

    def refresh(self) -> dict[str, float]:
        """Choose the thresholds of the epoch; returns the row to log."""
        if self.epoch == self.plan.warmup_epochs:
            for net in (self.model, self.ema_model):
                net.head.hand_over()
        args, scores = self.args, self.scores(self.read("pool_lb"))
        pool = self.dataset_dict["pool_lb"]
        targets, known = pool.targets.to(self.device), None if pool.known is None else pool.known.to(self.device)
        self.thresholds, f_beta = f_beta_thresholds(
            scores, targets, beta=args.beta, form=args.f_beta_form, ties=args.threshold_ties, known=known
        )
        if self.unknown_lb is not None:
            self.targets_lb = torch.where(self.unknown_lb, (scores >= self.thresholds).to(targets), targets)
        reached = self.thresholds.isfinite()
        finite = self.thresholds[reached] if bool(reached.any()) else self.thresholds.new_zeros(1)
        return {
            "threshold_mean": float(finite.mean()),
            "threshold_min": float(finite.min()),
            "threshold_max": float(finite.max()),
            "f_beta_mean": float(f_beta.mean()),
            "labels_without_threshold": float((~reached).sum()),
        }

    def get_state(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in STATE}
        return {name: value for name, value in state.items() if value is not None}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state[name].to(self.device) if name in state else None)
