"""USB's own algorithms, unmodified, label by label: every label is a two-class problem.

The net gives logits [B,K,2] = (0, z), of which softmax is (1 - p, p) with p = sigmoid(z). USB's steps run on them
unchanged, with losses that average over B and K: the step loss is the mean over labels of K two-class runs that share
the net. The names are `ml_<USB's name>`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar

import torch
from semilearn.core.criterions import CELoss, ConsistencyLoss
from semilearn.core.hooks import Hook
from torch import Tensor, nn
from torch.nn import functional as F

from semilearn_bbam.config import Option, Settings
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.options import COSINE_HEAD_OPTIONS
from semilearn_bbam.engine.usb_adapter import from_usb, without_prints
from semilearn_bbam.nets.heads import TwoWay

# USB's keys of the views in a batch -> names of the views.
LABELED_VIEWS = {"x_lb": "weak", "x_lb_s": "strong"}
UNLABELED_VIEWS = {"x_ulb_w": "weak", "x_ulb_s": "strong", "x_ulb_s_0": "strong", "x_ulb_s_1": "strong"}


IGNORED = -100  # the target of an unknown cell: torch's cross-entropy gives it no loss


class PartlyKnown(Tensor):
    """Labelled targets [B,K] with `IGNORED` in unknown cells, for USB's steps, which know of none.

    One-hot encoded, as USB's mixing methods do, an unknown cell is NaN, and so is its mixture with any other.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is F.one_hot:
                targets, num_classes = args
                hot = F.one_hot(targets.clamp(min=0), num_classes).float()
                return hot.masked_fill((targets == IGNORED).unsqueeze(-1), float("nan"))
            return func(*args, **(kwargs or {}))


def known_targets(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Targets [B,K,2] with zeros for NaN, and which of the cells [B,K] are known."""
    known = ~targets.isnan().any(dim=-1)
    return torch.where(known.unsqueeze(-1), targets, 0.0), known


class LabelwiseCELoss(CELoss):
    """USB's cross-entropy for logits [B,K,2] and targets [B,K] or [B,K,2] -> [B,K], or their mean.

    Unknown cells (`PartlyKnown`, or NaN where targets are mixed) have no loss; the others of labelled targets are
    divided by `known_share`, the share of known cells among all labelled ones, so that their mean keeps its size.
    """

    def __init__(self, known_share: float | None = None, mixed: bool = False) -> None:
        super().__init__()
        self.known_share, self.mixed = known_share, mixed

    def forward(self, logits: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        share = self.known_share if isinstance(targets, PartlyKnown) else None
        if self.mixed and self.known_share is not None and targets.is_floating_point():
            share, (targets, _) = self.known_share, known_targets(targets)
        loss = super().forward(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none").view(logits.shape[:2])
        if share is not None:
            loss = loss / share
        return loss.mean() if reduction == "mean" else loss


class LabelwiseConsistencyLoss(ConsistencyLoss):
    """USB's consistency loss for logits [B,K,2], targets [B,K] or [B,K,2] and mask [B,K] -> mean over B and K.

    mixed: targets may be mixtures with unknown cells, NaN, which are masked.
    """

    def __init__(self, mixed: bool = False) -> None:
        super().__init__()
        self.mixed = mixed

    def forward(self, logits: Tensor, targets: Tensor, name: str = "ce", mask: Tensor | None = None) -> Tensor:
        if self.mixed and targets.is_floating_point():
            targets, known = known_targets(targets)
            mask = known.to(logits.dtype) if mask is None else mask * known
        flat = None if mask is None else mask.flatten(0, 1)
        return super().forward(logits.flatten(0, 1), targets.flatten(0, 1), name, flat)


def partly_known(targets: Tensor, known: Tensor) -> PartlyKnown:
    """Targets [B,K] of 0 and 1 of which only some are known, bool [B,K]."""
    return targets.masked_fill(~known, IGNORED).as_subclass(PartlyKnown)


class Labelwise(MultiLabelAlgorithm):
    """The mixin: `class MLFixMatch(Labelwise, FixMatch)` is FixMatch for K labels, with a linear or the cosine head.

    The warm-up, on strongly augmented labelled batches, is that of all methods here; after it the step is USB's. The
    state of USB's hooks is saved under USB's keys, which their attribute `state_keys` lists.
    """

    options = (
        Option(
            "labeled_view",
            str,
            "strong",
            "of labelled batches: as in all methods here, or as in USB",
            choices=("strong", "weak"),
        ),
        *COSINE_HEAD_OPTIONS,
    )
    head = "linear"
    shares_batches = True
    accumulates = True
    second_view_is_weak: ClassVar[bool] = False  # whether USB's second unlabelled view is a weak one
    mixes: ClassVar[bool] = False  # whether USB's step mixes targets of labelled rows with others

    def set_up(self) -> None:
        self.use_cat = self.use_cat and self.kind != "text"  # texts of different lengths do not stack

    def batch_views(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        step_arguments = set(signature(self.train_step).parameters)
        arguments = step_arguments | set(signature(self.warmup_step).parameters)
        labeled = {key: view for key, view in LABELED_VIEWS.items() if key in arguments}
        unlabeled = {key: view for key, view in UNLABELED_VIEWS.items() if key in arguments}
        if "x_lb_s" not in step_arguments:  # a step that takes both views of a labelled sample compares them
            labeled["x_lb"] = self.args.labeled_view
        # The weak view of a vector or text is the item itself, and two equal views would give no loss.
        if self.second_view_is_weak and self.kind == "image":
            unlabeled["x_ulb_s"] = "weak"
        return labeled, unlabeled

    @classmethod
    def build_head(cls, settings: Settings, in_features: int, *, num_classes: int) -> nn.Module:
        return TwoWay(super().build_head(settings, in_features, num_classes=num_classes))

    def set_hooks(self) -> None:
        self.num_classes = 2
        partly = self.dataset_dict["train_lb"].known is not None
        self.ce_loss = LabelwiseCELoss(self.known_share if partly else None, mixed=self.mixes)
        self.consistency_loss = LabelwiseConsistencyLoss(mixed=self.mixes and partly)
        with without_prints():
            super().set_hooks()

    def replace_hook(self, name: str, hook: Hook) -> Any:
        """Replace USB's hook of this name, in its place in the order; returns the new hook."""
        index = next((number for number, registered in enumerate(self._hooks) if registered.name == name), None)
        if index is not None:
            del self._hooks[index]
        self.register_hook(hook, name)
        if index is not None:
            self._hooks.insert(index, self._hooks.pop(self._hooks.index(hook)))
            self.hooks_dict = OrderedDict((registered.name, registered) for registered in self._hooks)
        return hook

    def process_batch(self, input_args: list[str] | None = None, **batch: Any) -> dict[str, Any]:
        arguments = super().process_batch(input_args, **batch)
        arguments = {key: value.long() if key == "y_lb" else value for key, value in arguments.items()}
        if "known_lb" in batch and "y_lb" in arguments:
            arguments["y_lb"] = partly_known(arguments["y_lb"], self.to_device(batch["known_lb"]))
        return arguments

    def process_log_dict(self, log_dict: Any = None, prefix: str = "train", **parts: Any) -> dict[str, Any]:
        parts.setdefault("total_loss", parts.get("sup_loss"))  # a supervised step of USB's has no total
        return super().process_log_dict(log_dict, prefix, **parts)

    def warmup_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            logits = self.model(x_lb_s)["logits"]
        return self.step_result(self.ce_loss(logits, y_lb, reduction="mean"))

    @classmethod
    def scores_of(cls, outputs: Mapping[str, Tensor], settings: Settings, state: Mapping[str, Any]) -> Tensor:
        return outputs["logits"].softmax(dim=-1)[..., 1]

    def load_model(self, load_path: Any) -> dict[str, Any]:
        checkpoint = super().load_model(load_path)
        for hook in self.hooks_dict.values():
            for key in getattr(hook, "state_keys", ()):
                value = checkpoint[key]
                setattr(hook, key, value.to(self.device) if isinstance(value, Tensor) else value)
            if hasattr(hook, "after_load"):
                hook.after_load()
        return checkpoint

    @classmethod
    def own_options(cls) -> tuple[Option, ...]:
        """USB's options, then those of this class."""
        return cls.with_defaults((*map(from_usb, super().get_argument()), *cls.options))


class StatefulLabelwise(Labelwise):
    """The mixin for methods whose steps change thresholds or running means by the rows of the whole batch."""

    accumulates = False
