"""CAP: class-aware pseudo-labelling with the asymmetric loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.bits import pack_labels, unpack_labels
from semilearn_bbam.config import Conflict, Option
from semilearn_bbam.engine.mixed_pass import MIXUP, mixed_pass
from semilearn_bbam.engine.options import (
    ASYMMETRIC_OPTIONS,
    CONFIDENCE_WEIGHTS,
    COSINE_HEAD_OPTIONS,
    LOSS_REDUCTION,
    NUM_BRANCHES,
    asymmetric_options,
)
from semilearn_bbam.engine.taught import TAUGHT_OPTIONS, TaughtAlgorithm, has_teacher
from semilearn_bbam.losses import asymmetric_loss, reduce_loss
from semilearn_bbam.nets.ensemble import for_branches, of_branches
from semilearn_bbam.pseudo_labels import (
    class_aware_pseudo_labels,
    confidence_weights,
    pseudo_label_unknown,
    pseudo_labels_against,
    select_pseudo_labels,
    smoothed_scores,
)


@ALGORITHMS.register("cap")
class CAP(TaughtAlgorithm):
    """CAP (Xie et al., NeurIPS 2023).

    Warm-up with the asymmetric loss on labelled data. Then, at the start of every epoch, the EMA model scores the pool
    and label k's floor(pi_k N_u) highest scores become positive, pi_k its labelled frequency; the shares of positives
    and negatives that count are options. The steps minimise the asymmetric loss of strong views,

        L = mean over B_l, K of l(z, y) + lambda * mean over B_u, K of mask * l(z, yhat)

    A label too rare for one pseudo-positive gets none. With `threshold_source: queue` a batch is ranked among the last
    `queue_size` weak scores of the EMA model (never more than the pool has rows), instead of the epoch's ranking.
    """

    options = (
        *ASYMMETRIC_OPTIONS,
        LOSS_REDUCTION,
        Option("positive_share", float, 1.0, "share of the pseudo-positives that count", minimum=0, maximum=1),
        Option("negative_share", float, 0.998, "share of the pseudo-negatives that count", minimum=0, maximum=1),
        Option(
            "threshold_source",
            str,
            "epoch",
            "epoch: rank the whole pool once an epoch (CAP); queue: each batch among the last scores",
            choices=("epoch", "queue"),
        ),
        NUM_BRANCHES,
        CONFIDENCE_WEIGHTS,
        MIXUP,
        Option("neighbours", int, 0, "smooth pool scores over each row's nearest ones; 0: off", minimum=0),
        Option("queue_size", int, 64_000, "scores per label in the queue", minimum=1),
        *TAUGHT_OPTIONS,
        *COSINE_HEAD_OPTIONS,  # for head: cosine
    )

    head = "linear"
    shares_batches = True
    accumulates = True
    joined_views = ("x_lb_s", "x_ulb_s")
    pseudo_targets: Tensor | None = None
    mask: Tensor | None = None
    targets_lb: Tensor | None = None  # of labelled rows with unknown cells, which are pseudo-labelled, and their mask
    mask_lb: Tensor | None = None

    def set_up(self) -> None:
        super().set_up()
        self.queue = torch.empty(0, self.num_classes, device=self.device)

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        for key in ("neighbours", "confidence_weights"):
            if values["threshold_source"] == "queue" and values[key]:
                cure = f"set {key}: {'false' if values[key] is True else 0}, or threshold_source: epoch"
                yield ("threshold_source", key), f"threshold_source: queue does not use {key}; {cure}"
        if values["threshold_source"] == "queue" and values["gradient_accumulation"] > 1:
            sentence = "gradient_accumulation: threshold_source: queue ranks whole batches; set threshold_source: epoch"
            yield ("gradient_accumulation", "threshold_source"), sentence
        if values["threshold_source"] == "queue" and has_teacher(values, kind):
            sentence = "threshold_source: queue ranks batches, and a teacher the pool; set teacher: none"
            yield ("threshold_source", "teacher"), sentence

    def batch_views(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        weak = {"x_ulb_w": "weak"} if self.args.threshold_source == "queue" else {}
        return self.labeled_views, {**self.unlabeled_views, **weak}

    @property
    def refreshes(self) -> bool:
        return self.args.threshold_source == "epoch"

    # ------------------------------------------------------------------ steps

    def element_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return asymmetric_loss(logits, for_branches(targets, logits), **asymmetric_options(self.args))

    def masked_loss(self, logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        return reduce_loss(self.element_loss(logits, targets), for_branches(mask, logits), self.args.loss_reduction)

    def warmup_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            logits = of_branches(self.model(x_lb_s), "logits")
        return self.step_result(
            self.reduce_labeled(self.element_loss(logits, y_lb), known_lb, self.args.loss_reduction)
        )

    def train_step(
        self,
        x_lb_s: Any,
        y_lb: Tensor,
        idx_ulb: Tensor,
        x_ulb_s: Any,
        x_ulb_w: Any = None,
        known_lb: Tensor | None = None,
        idx_lb: Tensor | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        mask_lb = torch.ones_like(y_lb)
        if self.targets_lb is not None:  # with pseudo-labels where the labels are unknown
            y_lb, mask_lb, known_lb = self.targets_lb[idx_lb], self.mask_lb[idx_lb], None
        if self.args.threshold_source == "queue":
            targets, mask = self.from_queue(x_ulb_w)
        else:
            targets, mask = self.pseudo_targets[idx_ulb], self.mask[idx_ulb]
        if self.args.rare_shrinkage:
            mask = mask * self.label_weight
        with self.amp_cm():
            labeled, unlabeled = mixed_pass(self, x_lb_s, (y_lb, mask_lb), x_ulb_s, (targets, mask), known_lb)
        loss_lb, loss_ulb = (
            self.masked_loss(of_branches(outputs, "logits"), *targets_and_mask)
            for outputs, targets_and_mask in (labeled, unlabeled)
        )
        if known_lb is not None and self.args.loss_reduction == "mean":
            loss_lb = loss_lb / self.known_share
        return self.step_result(loss_lb + self.lambda_u * loss_ulb, sup_loss=loss_lb, unsup_loss=loss_ulb)

    # ------------------------------------------------------------------ pseudo-labels

    def refresh(self) -> dict[str, float]:
        """Rank the pool by the EMA model; returns the row to log."""
        args = self.args
        if not (self.unknown_lb is not None or self.teacher or args.neighbours or args.confidence_weights):
            return self.refresh_own_rows()
        outputs = self.read("pool_ulb")
        scores = raw_scores = self.scores(outputs)
        if args.neighbours:
            scores = smoothed_scores(scores, outputs["feat"], args.neighbours)
        self.fuse(outputs)
        ranked = self.taught(scores)
        self.pseudo_targets, self.mask = class_aware_pseudo_labels(
            ranked,
            self.positive_rate,
            positive_share=args.positive_share,
            negative_share=args.negative_share,
        )
        row = {"pseudo_positive_rate": float(self.pseudo_targets.mean())}
        row["left_out_rate"] = 1 - float(self.mask.float().mean())
        if args.confidence_weights:
            self.mask = self.mask * confidence_weights(ranked, self.positive_rate)
            row["weight_mean"] = float(self.mask.mean())
        if self.unknown_lb is not None:
            row |= self.fill_unknown(scores, raw_scores, outputs["feat"])
        return row

    def refresh_own_rows(self) -> dict[str, float]:
        """`refresh` of several processes, each of which ranks its rows by histograms of all; bits are exchanged."""
        args, columns = self.args, self.scores(self.read("pool_ulb", gather=False)).T.contiguous()
        parts = select_pseudo_labels(
            columns,
            self.positive_rate,
            len(self.dataset_dict["pool_ulb"]),
            positive_share=args.positive_share,
            negative_share=args.negative_share,
            shards=self.world,
        )
        pseudo, self.mask = (
            unpack_labels(self.world.all_gather_rows(pack_labels(part.T)), self.num_classes) for part in parts
        )
        self.pseudo_targets = pseudo.float()
        rates = {"pseudo_positive_rate": pseudo, "left_out_rate": ~self.mask}
        return {name: float(value.float().mean()) for name, value in rates.items()}

    def fill_unknown(self, pool_scores: Tensor, raw_scores: Tensor, features: Tensor) -> dict[str, float]:
        """Pseudo-label the unknown cells of labelled rows by their rank in the pool; returns values to log."""
        args, labeled = self.args, self.read("pool_lb")
        scores = self.scores(labeled)
        if args.neighbours:
            joined = torch.cat([scores, raw_scores]), torch.cat([labeled["feat"], features])
            scores = smoothed_scores(*joined, args.neighbours)[: len(scores)]
        targets = self.dataset_dict["pool_lb"].targets.to(self.device)
        shares = {"positive_share": args.positive_share, "negative_share": args.negative_share}
        self.targets_lb, mask = pseudo_label_unknown(
            scores, pool_scores, targets, self.unknown_lb, self.positive_rate, **shares
        )
        self.mask_lb = mask.float()
        if args.confidence_weights:
            weights = confidence_weights(scores, self.positive_rate, pool_scores)
            self.mask_lb = torch.where(self.unknown_lb, mask * weights, 1.0)
        return {"labeled_pseudo_positive_rate": float(self.targets_lb[self.unknown_lb].mean())}

    @torch.no_grad()
    def from_queue(self, x_ulb_w: Any) -> tuple[Tensor, Tensor]:
        """Pseudo-labels and mask [B_u,K] of a batch, by its rank in the queue, to which it is added first."""
        args = self.args
        with self.amp_cm():
            outputs = self.ema_model(x_ulb_w)
        scores = self.scores(outputs).float()
        self.queue = torch.cat([self.queue, self.world.gather_batch(scores)])[
            -min(args.queue_size, args.ulb_dest_len) :
        ]
        return pseudo_labels_against(
            scores,
            self.queue,
            self.positive_rate,
            positive_share=args.positive_share,
            negative_share=args.negative_share,
        )

    def get_state(self) -> dict[str, Any]:
        state = {**super().get_state(), "queue": self.queue}
        if self.pseudo_targets is None:
            return state
        state |= {"pseudo_targets": self.pseudo_targets.to(torch.uint8), "mask": self.mask}
        if self.targets_lb is not None:
            state |= {"targets_lb": self.targets_lb, "mask_lb": self.mask_lb}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.queue = state["queue"].to(self.device)
        if "mask" in state:
            self.pseudo_targets = state["pseudo_targets"].to(self.device, torch.float32)
            self.mask = state["mask"].to(self.device)
        if "targets_lb" in state:
            self.targets_lb, self.mask_lb = (state[name].to(self.device) for name in ("targets_lb", "mask_lb"))
