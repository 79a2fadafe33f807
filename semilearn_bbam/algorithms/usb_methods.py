"""USB's own algorithms label by label (`engine/labelwise.py`), with one state per label where a class has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from semilearn.algorithms.adamatch import AdaMatch
from semilearn.algorithms.dash import Dash
from semilearn.algorithms.defixmatch import DeFixMatch
from semilearn.algorithms.fixmatch import FixMatch
from semilearn.algorithms.flexmatch import FlexMatch
from semilearn.algorithms.freematch import FreeMatch
from semilearn.algorithms.fullysupervised import FullySupervised
from semilearn.algorithms.hooks import PseudoLabelingHook
from semilearn.algorithms.meanteacher import MeanTeacher
from semilearn.algorithms.mixmatch import MixMatch
from semilearn.algorithms.pimodel import PiModel
from semilearn.algorithms.pseudolabel import PseudoLabel
from semilearn.algorithms.remixmatch import ReMixMatch
from semilearn.algorithms.remixmatch.remixmatch import ReMixMatch_Net
from semilearn.algorithms.softmatch import SoftMatch
from semilearn.algorithms.uda import UDA
from semilearn.algorithms.vat import VAT
from semilearn.core import AlgorithmBase
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn
from torch.nn import functional as F

from semilearn_bbam.config import Conflict, Settings
from semilearn_bbam.data.dataset import KINDS
from semilearn_bbam.engine.hooks.labelwise import (
    LabelwiseAdaMatchHook,
    LabelwiseAlignmentHook,
    LabelwiseFlexMatchHook,
    LabelwiseFreeMatchHook,
    LabelwiseSoftMatchHook,
    SavedDashHook,
)
from semilearn_bbam.engine.labelwise import Labelwise, StatefulLabelwise, partly_known

# Defaults that depend on the kind of the data: texts can only be mixed as features and perturbed in their embeddings,
# and only images can be rotated.
MANIFOLD = {kind: {"mixup_manifold": kind == "text"} for kind in KINDS}
ROTATION = {kind: {**MANIFOLD[kind], "rot_loss_ratio": 0.5 if kind == "image" else 0.0} for kind in KINDS}
EMBEDDING = {kind: {"vat_embed": kind == "text"} for kind in KINDS}


def mixing_conflicts(values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
    """Conflicts of `mixup_manifold` with data that cannot be mixed as inputs."""
    if kind == "text" and values["mixup_manifold"] is False:
        yield ("mixup_manifold",), "mixup_manifold: texts can be mixed as features only; set mixup_manifold: true"


@ALGORITHMS.register("ml_fixmatch")
class MLFixMatch(Labelwise, FixMatch):
    """FixMatch label by label: pseudo-labels where max(p, 1 - p) reaches `p_cutoff`."""


@ALGORITHMS.register("ml_defixmatch")
class MLDeFixMatch(Labelwise, DeFixMatch):
    """DeFixMatch label by label: FixMatch less the same loss on labelled data."""


@ALGORITHMS.register("ml_pseudolabel")
class MLPseudoLabel(Labelwise, PseudoLabel):
    """Pseudo-Label label by label, on one weak view."""

    joined_views = ()


@ALGORITHMS.register("ml_pimodel")
class MLPiModel(Labelwise, PiModel):
    """Pi-Model label by label: squared difference between the predictions of two views."""

    joined_views = ()
    second_view_is_weak = True


@ALGORITHMS.register("ml_meanteacher")
class MLMeanTeacher(Labelwise, MeanTeacher):
    """Mean Teacher label by label: squared difference to the EMA model's prediction."""

    joined_views = ()
    second_view_is_weak = True


@ALGORITHMS.register("ml_uda")
class MLUDA(Labelwise, UDA):
    """UDA label by label; the schedule of `tsa_schedule` runs from 1/2 to 1."""


@ALGORITHMS.register("ml_mixmatch")
class MLMixMatch(Labelwise, MixMatch):
    """MixMatch label by label; texts, which cannot be averaged, are mixed as features (`mixup_manifold`)."""

    joined_views = ()
    kind_defaults = MANIFOLD
    second_view_is_weak = True
    mixes = True

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        yield from mixing_conflicts(values, kind)


@ALGORITHMS.register("ml_dash")
class MLDash(StatefulLabelwise, Dash):
    """Dash label by label. Its threshold starts from the labelled loss after the warm-up, not an evaluation loss.

    `num_wu_iter` and `num_wu_eval_iter` of USB have no effect: the warm-up is that of the run.
    """

    def set_hooks(self) -> None:
        super().set_hooks()
        args = self.args
        hook = SavedDashHook(rho_min=args.rho_min, gamma=args.gamma, C=args.C)
        self.masking = self.replace_hook("MaskingHook", hook)

    def refresh(self) -> dict[str, float]:
        hook = self.masking
        if hook.rho_init is None:
            pool = self.dataset_dict["pool_lb"]
            targets = pool.targets.long().to(self.device)
            if pool.known is not None:
                targets = partly_known(targets, pool.known.to(self.device))
            self.rho_init = float(self.ce_loss(self.read("pool_lb")["logits"], targets, reduction="mean"))
            hook.rho_init = hook.rho = self.rho_init
        return {"rho": hook.rho}


@ALGORITHMS.register("ml_supervised")
class MLSupervised(Labelwise, FullySupervised):
    """USB's supervised baseline: cross-entropy on weakly augmented labelled data."""

    uses_unlabeled = False
    stage_name = "supervised"


@ALGORITHMS.register("ml_fullysupervised")
class MLFullySupervised(MLSupervised):
    """USB's upper bound: the same with the labels of *all* training data, for any label_ratio."""

    uses_all_labels = True


@ALGORITHMS.register("ml_adamatch")
class MLAdaMatch(StatefulLabelwise, AdaMatch):
    """AdaMatch with a relative threshold per label, aligned to the labelled rate (USB: a running mean from 1/2)."""

    def set_hooks(self) -> None:
        super().set_hooks()
        self.replace_hook("DistAlignHook", LabelwiseAlignmentHook(self.positive_rate, self.args.ema_p))
        self.masking = self.replace_hook("MaskingHook", LabelwiseAdaMatchHook())


class _SoftMatchWithoutWeighting(SoftMatch):
    """USB's SoftMatch without its own weighting hook, which cannot be built with `per_class`."""

    def set_hooks(self) -> None:
        self.register_hook(PseudoLabelingHook(), "PseudoLabelingHook")
        AlgorithmBase.set_hooks(self)


@ALGORITHMS.register("ml_softmatch")
class MLSoftMatch(StatefulLabelwise, _SoftMatchWithoutWeighting):
    """SoftMatch with a Gaussian per label, aligned to the labelled rate (USB: to one half; `dist_uniform` is unused).

    As in USB the aligned prediction sets the weight only; the pseudo-label is that of the raw one.
    """

    def set_hooks(self) -> None:
        super().set_hooks()
        args = self.args
        self.replace_hook("DistAlignHook", LabelwiseAlignmentHook(self.positive_rate, args.ema_p))
        hook = LabelwiseSoftMatchHook(args.num_classes, args.n_sigma, args.ema_p, args.per_class)
        self.masking = self.replace_hook("MaskingHook", hook)


@ALGORITHMS.register("ml_flexmatch")
class MLFlexMatch(StatefulLabelwise, FlexMatch):
    """FlexMatch with curriculum thresholds per label."""

    def set_hooks(self) -> None:
        super().set_hooks()
        args = self.args
        self.register_hook(
            LabelwiseFlexMatchHook(args.ulb_dest_len, args.num_classes, args.thresh_warmup), "MaskingHook"
        )


@ALGORITHMS.register("ml_freematch")
class MLFreeMatch(StatefulLabelwise, FreeMatch):
    """FreeMatch with self-adaptive thresholds and fairness per label.

    The step is written here, because USB's takes its fairness term from a function over one class distribution.
    """

    def set_hooks(self) -> None:
        super().set_hooks()
        self.masking = self.replace_hook("MaskingHook", LabelwiseFreeMatchHook(self.args.num_classes, self.args.ema_p))
        self.pseudo_labeling = self.replace_hook("PseudoLabelingHook", PseudoLabelingHook())

    def train_step(self, x_lb: Any, y_lb: Tensor, x_ulb_w: Any, x_ulb_s: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            labeled, weak, strong = (outputs["logits"] for outputs in self.joint(x_lb, x_ulb_w, x_ulb_s))
        sup_loss = self.ce_loss(labeled, y_lb, reduction="mean")
        mask = self.masking.masking(self, logits_x_ulb=weak)
        pseudo_label = self.pseudo_labeling.gen_ulb_targets(
            self, logits=weak, use_hard_label=self.use_hard_label, T=self.T
        )
        unsup_loss = self.consistency_loss(strong, pseudo_label, "ce", mask=mask)
        ent_loss = self.masking.fairness(self, mask, strong)
        total = sup_loss + self.lambda_u * unsup_loss + self.lambda_e * ent_loss
        return self.step_result(total, sup_loss=sup_loss, unsup_loss=unsup_loss, util_ratio=mask.mean())


@ALGORITHMS.register("ml_vat")
class MLVAT(Labelwise, VAT):
    """VAT label by label: one adversarial direction per sample, for the mean divergence of its labels.

    Texts are perturbed in their embeddings (`vat_embed`).
    """

    joined_views = ()
    kind_defaults = EMBEDDING

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if kind and values["vat_embed"] not in (None, kind == "text"):
            yield ("vat_embed",), f"vat_embed must be {str(kind == 'text').lower()} for {kind} data"

    def set_up(self) -> None:
        super().set_up()
        self.vat_embed = False  # USB's step for embeddings needs an output that only some of its nets have

    def vat_loss(
        self, model: nn.Module, ul_x: Any, ul_y: Tensor, xi: float = 1e-6, eps: float = 6, num_iters: int = 1
    ) -> Tensor:
        """The divergence after a step of length `eps` in the worst direction; the search for it leaves no gradient."""
        point, as_input = perturbable(model, ul_x)
        direction = unit(torch.randn_like(point))
        # Differences of the size of xi vanish in half precision.
        with torch.autocast(self.device.type, enabled=False):
            clean = ul_y.detach() if not self.use_amp else model(ul_x)["logits"].detach()
            for _ in range(num_iters):
                direction.requires_grad_()
                divergence = self.kl_div_with_logit(clean, model(as_input(point.detach() + xi * direction))["logits"])
                (gradient,) = torch.autograd.grad(divergence, direction)
                direction = unit(gradient)
        return self.kl_div_with_logit(ul_y.detach(), model(as_input(point + eps * direction))["logits"])

    def kl_div_with_logit(self, q_logit: Tensor, p_logit: Tensor) -> Tensor:
        return super().kl_div_with_logit(q_logit.flatten(0, 1), p_logit.flatten(0, 1))

    def entropy_loss(self, ul_y: Tensor) -> Tensor:
        return super().entropy_loss(ul_y.flatten(0, 1))


def perturbable(model: nn.Module, x: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The tensor to perturb in an input, for texts their embeddings [B,T,D], and the function back to an input."""
    if isinstance(x, Tensor):
        return x, lambda point: point
    encoder = next(m for m in model.modules() if callable(getattr(m, "get_input_embeddings", None)))
    rest = {key: value for key, value in x.items() if key != "input_ids"}
    return encoder.get_input_embeddings()(x["input_ids"]), lambda point: {**rest, "inputs_embeds": point}


def unit(x: Tensor) -> Tensor:
    """Each sample [B,...] scaled to length 1; zeros stay zeros."""
    return F.normalize(x.flatten(1), dim=1, eps=1e-16).view_as(x)


class _ReMixMatchWithoutCounts(ReMixMatch):
    """USB's ReMixMatch without its count of single labels."""

    def set_hooks(self) -> None:
        AlgorithmBase.set_hooks(self)


@ALGORITHMS.register("ml_remixmatch")
class MLReMixMatch(StatefulLabelwise, _ReMixMatchWithoutCounts):
    """ReMixMatch label by label, aligned to the labelled rate; only images can be rotated (`rot_loss_ratio`)."""

    joined_views = ()
    kind_defaults = ROTATION
    mixes = True

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        yield from mixing_conflicts(values, kind)
        if values["rot_loss_ratio"] and kind not in ("", "image"):
            yield ("rot_loss_ratio",), f"rot_loss_ratio: {kind} data cannot be rotated; set rot_loss_ratio: 0"

    @classmethod
    def build_net(cls, settings: Settings, kind: str, in_features: int, num_classes: int) -> nn.Module:
        """USB's wrapper with a classifier of rotations."""
        settings = cls.with_kind_defaults(settings, kind)
        return ReMixMatch_Net(super().build_net(settings, kind, in_features, num_classes), settings.rot_loss_ratio > 0)

    def set_hooks(self) -> None:
        super().set_hooks()
        self.replace_hook("DistAlignHook", LabelwiseAlignmentHook(self.positive_rate))

    def train_step(
        self, x_lb: Any, y_lb: Tensor, x_ulb_w: Any, x_ulb_s_0: Any, x_ulb_s_1: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        turned = turns = None
        if self.use_rot:
            turns = torch.randint(4, (len(x_ulb_s_0),)).to(self.device)
            views = torch.stack([x_ulb_s_0.rot90(i, (-2, -1)) for i in range(4)])
            turned = views[turns, torch.arange(len(turns), device=self.device)]
        return super().train_step(x_lb, y_lb, x_ulb_w, x_ulb_s_0, x_ulb_s_1, turned, turns)
