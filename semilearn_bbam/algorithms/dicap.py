"""DiCaP: pseudo-labels weighted by a correctness rate that held-out labelled rows estimate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.config import Conflict, Option
from semilearn_bbam.correctness import KNOTS, WeightedLabels, class_contrastive_loss, class_embeddings
from semilearn_bbam.data import Pool
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.loaders import reading_loader, training_loader
from semilearn_bbam.engine.options import (
    ASYMMETRIC_OPTIONS,
    COSINE_HEAD_OPTIONS,
    LOSS_REDUCTION,
    asymmetric_options,
)
from semilearn_bbam.errors import UserError
from semilearn_bbam.losses import asymmetric_loss, reduce_loss
from semilearn_bbam.nets.heads import CosinePrototypes


@ALGORITHMS.register("dicap")
class DiCaP(MultiLabelAlgorithm):
    """DiCaP (Han et al., AAAI 2026) on the shared net: a linear head instead of its ML-Decoder.

    A share of the labelled rows, the estimation split, joins the unlabelled pool without its labels. At the start of
    every semi-supervised epoch the EMA model's scores on it estimate how often a score is correct, its scores on the
    other labelled rows give two thresholds per label, and the steps of the epoch minimise

        mean ASL(labelled) + lambda mean w_ik ASL(confident pseudo-labels) + weight * InfoNCE(ambiguous entries)

    In the last `finetune_epochs` only the head learns, from the estimation split's labels. A label without positives
    gets no pseudo-positive. Only notes on the paper were read, and not its code. Uncertain are: knots of the
    interpolation, rows of the thresholds, embeddings, temperature and scale of the contrastive term, lambda, and the
    contrastive term in the warm-up, which is left out.
    """

    options = (
        *COSINE_HEAD_OPTIONS,  # for head: cosine
        Option("estimation_ratio", float, 0.2, "share of the labelled rows that are held out", minimum=0, maximum=1),
        Option("correctness_bins", int, 20, "bins of scores with a correctness rate each", minimum=1),
        Option("bin_knots", str, "edge", "a bin's rate belongs to its lower edge or its center", choices=KNOTS),
        Option("temperature", float, 0.1, "T of the contrastive term (not given by the source)", above=0),
        Option("contrastive_weight", float, 1.0, "weight of the contrastive term", minimum=0),
        *ASYMMETRIC_OPTIONS,
        LOSS_REDUCTION,
        Option("finetune_epochs", int, 1, "last epochs, of the head on the held-out rows", minimum=0),
        Option("finetune_lr", float, 1e-4, "learning rate of these epochs; 0: the schedule's", minimum=0),
    )

    head = "linear"
    shares_batches = True
    labels: WeightedLabels | None = None
    labels_lb: WeightedLabels | None = None  # of labelled rows with unknown cells; labels weigh 1
    unlabeled_views: ClassVar[dict[str, str]] = {"x_ulb_w": "weak", "x_ulb_s": "strong"}

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        finetune_epochs, remaining = values["finetune_epochs"], values["epoch"] - values["warmup_epochs"]
        if finetune_epochs > remaining >= 0:
            yield (
                ("finetune_epochs", "epoch", "warmup_epochs"),
                f"finetune_epochs ({finetune_epochs}) is more than the {remaining} epochs after the warm-up; lower it",
            )

    # ------------------------------------------------------------------ the estimation split

    def set_dataset(self) -> dict[str, Any]:
        args, pools = self.args, super().set_dataset()
        labeled, unlabeled = pools["train_lb"], pools["train_ulb"]
        count = max(1, round(args.estimation_ratio * len(labeled)))
        if count >= len(labeled):
            raise UserError(
                f"estimation_ratio: {args.estimation_ratio} of {len(labeled)} labelled rows leaves none to train on; "
                "lower it or label more rows"
            )
        order = np.random.default_rng(args.seed).permutation(len(labeled))
        estimation_rows, training_rows = np.sort(order[:count]), np.sort(order[count:])
        pools["train_est"], pools["pool_est"] = labeled.part(estimation_rows), pools["pool_lb"].part(estimation_rows)
        for name in ("train_lb", "pool_lb"):
            pools[name] = pools[name].part(training_rows)
        if self.unknown_lb is not None:
            self.unknown_lb = self.unknown_lb[training_rows]
        # The rows of the pool come first, so that the diagnostic and the prior thresholds use only them.
        self.num_unlabeled = len(unlabeled)
        if not args.include_lb_to_ulb:
            for name in ("train_ulb", "pool_ulb"):
                pool = pools[name]
                rows = np.concatenate([pool.rows, labeled.rows[estimation_rows]])
                pools[name] = Pool(pool.items, rows, pool.views, suffix=pool.suffix)
        self.count_rows(pools)
        self.print_fn(f"{args.algorithm}: {count} of {len(labeled)} labelled rows are held out to estimate correctness")
        return pools

    def set_data_loader(self) -> dict[str, Any]:
        args, pools = self.args, self.dataset_dict
        loaders = super().set_data_loader() | {"pool_est": reading_loader(args, pools["pool_est"], self.world)}
        if args.finetune_epochs:
            # As many steps as in other epochs, so that the run is as long as those of other methods.
            size, steps = args.warmup_batch_size, self.plan.steps
            loaders["train_est"] = training_loader(args, pools["train_est"], size, steps, 3, self.world)
        return loaders

    @property
    def pseudo_targets(self) -> Tensor | None:
        """Pseudo-labels of the pool, [N_u,K], for the diagnostic hook; the ambiguous count as negatives."""
        return None if self.labels is None else self.labels.pseudo_targets[: self.num_unlabeled]

    def in_finetuning(self, epoch: int) -> bool:
        return epoch >= self.plan.epochs - self.args.finetune_epochs

    def epoch_loaders(self, epoch: int) -> list[Any]:
        return [self.loader_dict["train_est"]] if self.in_finetuning(epoch) else super().epoch_loaders(epoch)

    # ------------------------------------------------------------------ steps

    def reduced_loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return reduce_loss(
            asymmetric_loss(logits, targets, **asymmetric_options(self.args)), weights, self.args.loss_reduction
        )

    def warmup_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            logits = self.model(x_lb_s)["logits"]
        return self.step_result(self.labeled_loss(logits, y_lb, known_lb))

    def labeled_loss(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        loss = asymmetric_loss(logits, targets, **asymmetric_options(self.args))
        return self.reduce_labeled(loss, known, self.args.loss_reduction)

    def train_step(
        self,
        x_lb_s: Any,
        y_lb: Tensor,
        idx_ulb: Tensor | None = None,
        x_ulb_w: Any = None,
        x_ulb_s: Any = None,
        known_lb: Tensor | None = None,
        idx_lb: Tensor | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if idx_ulb is None:  # a batch of the estimation split
            return self.finetune_step(x_lb_s, y_lb, known_lb)
        args, state = self.args, self.labels
        with self.amp_cm():
            outputs_lb, weak, strong = self.joint(x_lb_s, x_ulb_w, x_ulb_s)
        if self.labels_lb is None:
            loss_lb = self.labeled_loss(outputs_lb["logits"], y_lb, known_lb)
        else:  # with pseudo-labels where the labels are unknown
            filled = self.labels_lb
            loss_lb = self.reduced_loss(outputs_lb["logits"], filled.pseudo_targets[idx_lb], filled.weights[idx_lb])
        loss_ulb = self.reduced_loss(strong["logits"], state.pseudo_targets[idx_ulb], state.weights[idx_ulb])
        ambiguous, head = self.world.gather_batch(state.ambiguous[idx_ulb]), self.model.head
        class_weights = head.weight if isinstance(head, CosinePrototypes) else head.linear.weight
        first, second = (
            self.world.gather_batch(class_embeddings(view["feat"], class_weights)) for view in (weak, strong)
        )
        contrast = class_contrastive_loss(first, second, ambiguous, args.temperature)
        contrast = contrast.sum() / ambiguous.sum().clamp(min=1)
        total = loss_lb + self.lambda_u * loss_ulb + args.contrastive_weight * contrast
        return self.step_result(total, sup_loss=loss_lb, unsup_loss=loss_ulb, contrastive_loss=contrast)

    def finetune_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The head on labelled rows of the estimation split, at a separate learning rate."""
        if self.args.finetune_lr:
            # The schedule, which is nearly at its end here, sets the rate after every step.
            for group in self.optimizer.param_groups:
                group["lr"] = self.args.finetune_lr
        self.model.eval()  # frozen layers keep their batch statistics too
        with torch.no_grad(), self.amp_cm():
            features = self.model(x_lb_s, only_feat=True)
        self.model.train()
        with self.amp_cm():
            logits = self.model(features, only_fc=True)
        return self.step_result(self.labeled_loss(logits, y_lb, known_lb))

    # ------------------------------------------------------------------ the refresh

    def refresh(self) -> dict[str, float]:
        """Update pseudo-labels and weights from the EMA model; not in the epochs that train on the estimation split."""
        if self.in_finetuning(self.epoch):
            return {}
        args, pools = self.args, self.dataset_dict
        scores = {name: self.scores(self.read(name)) for name in ("pool_lb", "pool_est", "pool_ulb")}
        targets = {name: pools[name].targets.to(self.device) for name in ("pool_lb", "pool_est")}
        known = {name: None if pools[name].known is None else pools[name].known.to(self.device) for name in targets}
        estimate = partial(
            WeightedLabels.estimate,
            labeled=(scores["pool_lb"], targets["pool_lb"]),
            estimation=(scores["pool_est"], targets["pool_est"]),
            bins=args.correctness_bins,
            knots=args.bin_knots,
            labeled_known=known["pool_lb"],
            estimation_known=known["pool_est"],
        )
        self.labels = estimate(scores["pool_ulb"])
        if self.unknown_lb is not None:
            self.labels_lb = estimate(scores["pool_lb"]).within(self.unknown_lb, targets["pool_lb"])
        return self.labels.summary()

    def get_state(self) -> dict[str, Any]:
        state = {} if self.labels is None else asdict(self.labels)
        return state if self.labels_lb is None else {**state, "labeled": asdict(self.labels_lb)}

    def set_state(self, state: dict[str, Any]) -> None:
        state = dict(state)
        labeled = state.pop("labeled", None)
        self.labels, self.labels_lb = (
            WeightedLabels(**{name: tensor.to(self.device) for name, tensor in tensors.items()}) if tensors else None
            for tensors in (state, labeled)
        )
