"""USB's own algorithms, unmodified, as multi-label ones: every label is a two-class problem of theirs.

A lifted net gives logits [B,K,2] = (0, z), of which softmax is (1 - p, p) with p = sigmoid(z). USB's steps run on
them as they are, with losses that average over B and K: the step loss is the mean over labels of K two-class runs
that share the net. The names are `ml_<USB's name>`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar

import torch
from semilearn.algorithms.utils import SSL_Argument
from semilearn.core.criterions import CELoss, ConsistencyLoss
from torch import Tensor

from semilearn_bbam.algorithms.arguments import ANGULAR_ARGUMENTS, one_of
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.nets.heads import TwoWay

# What USB calls the views of a batch, and which view each is.
LABELED_VIEWS = {"x_lb": "weak", "x_lb_s": "strong"}
UNLABELED_VIEWS = {"x_ulb_w": "weak", "x_ulb_s": "strong", "x_ulb_s_0": "strong", "x_ulb_s_1": "strong"}


class LabelwiseCELoss(CELoss):
    """USB's cross-entropy for logits [B,K,2] and targets [B,K] or [B,K,2] -> [B,K], or their mean."""

    def forward(self, logits: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        loss = super().forward(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none").view(logits.shape[:2])
        return loss.mean() if reduction == "mean" else loss


class LabelwiseConsistencyLoss(ConsistencyLoss):
    """USB's consistency loss for logits [B,K,2], targets [B,K] or [B,K,2] and mask [B,K] -> mean over B and K."""

    def forward(self, logits: Tensor, targets: Tensor, name: str = "ce", mask: Tensor | None = None) -> Tensor:
        flat = None if mask is None else mask.flatten(0, 1)
        return super().forward(logits.flatten(0, 1), targets.flatten(0, 1), name, flat)


class Lifted(MultiLabelAlgorithm):
    """The mixin: `class MLFixMatch(Lifted, FixMatch)` is FixMatch for K labels, with a linear or the cosine head.

    The warm-up, on strongly augmented labelled batches, is that of all methods here; after it the step is USB's. What
    USB's hooks learn is saved under USB's keys, by their attribute `kept`.
    """

    head = "linear"
    shares_batches = True
    second_view_is_weak: ClassVar[bool] = False  # USB's second unlabelled view of these algorithms is a weak one

    def __init__(self, args: Any, net_builder: Any, tb_log: Any = None, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(args, net_builder, tb_log, logger, **kwargs)
        self.use_cat = self.use_cat and self.kind != "text"  # texts of different lengths do not stack

    def batch_views(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        of_step = set(signature(self.train_step).parameters)
        wanted = of_step | set(signature(self.warmup_step).parameters)
        labeled = {key: view for key, view in LABELED_VIEWS.items() if key in wanted}
        unlabeled = {key: view for key, view in UNLABELED_VIEWS.items() if key in wanted}
        if "x_lb_s" not in of_step:  # a step that takes both views of a labelled sample compares them
            labeled["x_lb"] = self.args.labeled_view
        # The weak view of a vector or text is the thing itself, and two equal views would teach nothing.
        if self.second_view_is_weak and self.kind == "image":
            unlabeled["x_ulb_s"] = "weak"
        return labeled, unlabeled

    def build_head(self, in_features: int) -> torch.nn.Module:
        return TwoWay(super().build_head(in_features))

    def set_hooks(self) -> None:
        self.num_classes = 2
        self.ce_loss, self.consistency_loss = LabelwiseCELoss(), LabelwiseConsistencyLoss()
        with contextlib.redirect_stdout(io.StringIO()):  # USB prints the targets of hooks that are replaced here
            super().set_hooks()

    def process_batch(self, input_args: list[str] | None = None, **batch: Any) -> dict[str, Any]:
        found = super().process_batch(input_args, **batch)
        return {key: value.long() if key == "y_lb" else value for key, value in found.items()}

    def process_log_dict(self, log_dict: Any = None, prefix: str = "train", **parts: Any) -> dict[str, Any]:
        parts.setdefault("total_loss", parts.get("sup_loss"))  # a supervised step of USB's has no total
        return super().process_log_dict(log_dict, prefix, **parts)

    def warmup_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            logits = self.model(x_lb_s)["logits"]
        return self.step_result(self.ce_loss(logits, y_lb, reduction="mean"))

    def scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["logits"].softmax(dim=-1)[..., 1]

    def load_model(self, load_path: Any) -> dict[str, Any]:
        checkpoint = super().load_model(load_path)
        for hook in self.hooks_dict.values():
            for key in getattr(hook, "kept", ()):
                value = checkpoint[key]
                setattr(hook, key, value.to(self.device) if isinstance(value, Tensor) else value)
            if hasattr(hook, "after_load"):
                hook.after_load()
        return checkpoint

    @classmethod
    def get_argument(cls) -> list[SSL_Argument]:
        """USB's own, the labelled view and the cosine head's."""
        view = SSL_Argument(
            "--labeled_view",
            one_of("strong", "weak"),
            "strong",
            "of labelled batches: as all methods here, or as in USB",
        )
        return [*super().get_argument(), view, *ANGULAR_ARGUMENTS[:2]]
