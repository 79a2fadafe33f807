"""The base class of multi-label algorithms: any device, multi-hot targets, checkpoints, stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import AdamW

from semilearn_bbam.config import Settings
from semilearn_bbam.data import Pool, Source, save_split, with_all_labels
from semilearn_bbam.data.suspicious import labeled_summary
from semilearn_bbam.data.unknown import settle_unknown
from semilearn_bbam.engine.building import Facts, build_net
from semilearn_bbam.engine.compiling import compile_training
from semilearn_bbam.engine.device import precision, resolve_device
from semilearn_bbam.engine.hooks import GuardedUpdateHook, ResultsHook
from semilearn_bbam.engine.hooks.table import register_hooks
from semilearn_bbam.engine.label_rates import label_rates
from semilearn_bbam.engine.loaders import SINGLE_PROCESS, reading_loader, training_loader
from semilearn_bbam.engine.loop import TrainingLoop
from semilearn_bbam.engine.method import Method
from semilearn_bbam.engine.pools import build_pools, read_split
from semilearn_bbam.engine.preprocessing import Preprocessor
from semilearn_bbam.engine.reading import PoolReading
from semilearn_bbam.engine.schedule import (
    StagePlan,
    build_optimizer,
    build_scheduler,
    plan_stages,
    unlabeled_batch_size,
)
from semilearn_bbam.engine.steps import Steps
from semilearn_bbam.engine.sums import EpochSums
from semilearn_bbam.engine.usb_adapter import USB_SETTINGS, without_scaler_warning
from semilearn_bbam.errors import UserError
from semilearn_bbam.nets.shared_norm import share_batch_norms
from semilearn_bbam.runs.folder import LABELS, SKIPPED, SPLIT, RunFolder
from semilearn_bbam.util.distributed import World


class MultiLabelAlgorithm(Method, Steps, PoolReading, TrainingLoop):
    """Base class of multi-label algorithms on USB's `AlgorithmBase`.

    A run has two stages (`schedule.StagePlan`): a warm-up on labelled data, `warmup_step`, and `train_step` on
    labelled and unlabelled data. A subclass defines these steps, names the views of its batches in `labeled_views` and
    `unlabeled_views`, and saves its state of the pool with `get_state` / `set_state`.
    """

    labeled_views: ClassVar[dict[str, str]] = {"x_lb_s": "strong"}
    unlabeled_views: ClassVar[dict[str, str]] = {"x_ulb_s": "strong"}
    uses_all_labels: ClassVar[bool] = False  # an upper bound, not a semi-supervised method
    # Whether processes can share a batch: losses are means over rows, everything else about rows uses `world`.
    shares_batches: ClassVar[bool] = False
    joined_views: ClassVar[tuple[str, ...] | None] = None  # those that a step passes at once with `use_cat`; None: all
    stage_name: ClassVar[str] = "semi-supervised"
    progress_metrics: ClassVar[tuple[str, ...]] = ("validation/mAP", "test/mAP")

    def __init__(
        self,
        settings: Settings,
        net: nn.Module,
        *,
        source: Source,
        folder: RunFolder,
        world: World = SINGLE_PROCESS,
        device: torch.device | None = None,
        tb_log: Any = None,
        logger: Any = None,
    ) -> None:
        """An algorithm that trains `net` (from `building.build_net`) on a dataset.

        source: its texts are not tokenised yet; folder: where the run writes; world: the processes that share the run;
        device: without it the one that the settings name. The settings are not changed: values derived from them and
        the data are in `self.args`, a copy. UserError for settings that the method does not support with these data.
        """
        self.device = resolve_device(settings.device) if device is None else device
        self.world, self.folder, self.net = world, folder, net
        source = settle_unknown(source)
        self.facts = Facts.of(settings, source)
        self.kind = source.kind
        self.check(settings, self.kind)
        if world.world_size > 1 and not self.shares_batches:
            raise UserError(f"{settings.algorithm} does not run in several processes; start it without torchrun")
        if world.world_size > 1 and getattr(settings, "loss_reduction", "mean") == "sum":  # an option of some methods
            raise UserError(
                "loss_reduction: sum does not work in several processes; set mean, or start without torchrun"
            )
        preprocessor = Preprocessor.of(settings, self.kind, net, strong_texts=source.strong_texts is not None)
        self.source, self.views = preprocessor.encode(source), preprocessor.views
        self.num_training = len(source.train)
        # An upper bound saves another split than the one that it draws.
        saved = folder.path / SPLIT if settings.resume and not self.uses_all_labels else None
        self.split = read_split(settings, source, saved=saved, log=logger.info if logger else print)
        num_unlabeled = len(self.split.unlabeled) + (len(self.split.labeled) if settings.include_lb_to_ulb else 0)
        if self.uses_unlabeled and not len(self.split.unlabeled):
            raise UserError(
                f"{settings.algorithm} needs unlabelled data, but every training row is labelled; lower label_ratio"
            )
        self.plan = self.make_plan(settings, len(self.split.labeled), num_unlabeled)
        self.hidden_labels = "all" if self.uses_all_labels else "none"  # labels used that a method must not see
        if self.uses_all_labels:  # after the plan, so that it takes as many steps as the others
            self.split = with_all_labels(self.split, len(source.targets))
        self.seconds_before, self.selected_epoch, self.sums = 0.0, self.plan.epochs, EpochSums()
        args = self.with_kind_defaults(settings, self.kind).having(
            **{key: value for key, value in USB_SETTINGS.items() if not hasattr(settings, key)},
            num_classes=self.facts.num_classes,
            num_train_iter=self.plan.total,
            epoch=self.plan.epochs,
        )
        with without_scaler_warning():
            super().__init__(args, None, tb_log, logger)
        self.amp_cm, self.loss_scaler = precision(self.device, args.amp, args.amp_dtype)
        self.best_eval_acc = -1.0
        self.set_up()
        if args.compile:
            compile_training(self)
        if not args.resume:  # a resumed run compares its split with the checkpoint's first
            self.folder.write(SPLIT, partial(save_split, self.split))

    def make_plan(self, settings: Settings, num_labeled: int, num_unlabeled: int) -> StagePlan:
        """Epochs and steps of the run, from the sizes of its two pools."""
        return plan_stages(settings, num_labeled, num_unlabeled)

    def set_up(self) -> None:
        """Prepare what the method needs; its nets, pools and optimiser exist by then."""

    # ------------------------------------------------------------------ USB's builders, for many labels

    def set_model(self) -> nn.Module:
        for module in self.net.modules():
            if hasattr(module, "weights_report"):
                self.print_fn(module.weights_report)
        share_batch_norms(self.net, self.world, self.device.type)
        # Channels last makes convolutions faster on every device.
        return self.net.to(self.device, memory_format=torch.channels_last)

    def set_ema_model(self) -> nn.Module:
        # A second net as USB builds it, not a copy: its initial weights take random numbers, on which results depend.
        ema_model = build_net(self.args, **self.facts.as_dict(), weights_follow=True)
        share_batch_norms(ema_model, self.world, self.device.type)
        ema_model.load_state_dict(self.model.state_dict())
        return ema_model.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def set_dataset(self) -> dict[str, Any]:
        args = self.args
        pools = build_pools(self.source, self.split, self.views, *self.batch_views(), args.include_lb_to_ulb)
        self.evaluated = [name for name in ("validation", "test") if name in pools and len(pools[name])]
        self.read_known_cells(pools["train_lb"])
        if args.report_pseudo_label_quality or args.report_figures:
            rows = torch.from_numpy(pools["train_ulb"].rows)
            known = rows < len(self.source.targets)  # the items; of their cells some may be -1, unknown
            self.diagnostic = known, torch.from_numpy(self.source.targets[rows[known]])
        self.identity = {
            "labels": list(self.source.label_names),
            "fingerprint": self.source.fingerprint,
            "split": self.split.digest,
        }
        self.report_data(self.source)
        # From here on only the diagnostic hooks have access to labels of the unlabelled pool.
        self.source = None
        self.count_rows(pools)
        self.print_fn(
            f"{args.dataset}: {len(pools['train_lb'])} labelled, {len(pools['train_ulb'])} unlabelled, "
            f"{len(pools['test'])} test rows, {args.num_classes} labels"
        )
        return pools

    def read_known_cells(self, labeled: Pool) -> None:
        """Set `positive_rate` [K] over known cells, and what steps need of the unknown cells of labelled rows.

        `known_share` is the share of known cells, by which masked means are divided; `unknown_lb` [N_l,K] marks the
        cells to pseudo-label, None where there are none.
        """
        known = labeled.known
        unknown = torch.from_numpy(self.source.targets[labeled.rows] < 0)
        self.known_share, self.unknown_lb = 1.0, None
        self.positive_rate = label_rates(labeled, self.split.weights, self.args.cluster_rates, log=self.print_fn)
        if known is not None:
            self.known_share = float(known.float().mean())
        if bool(unknown.any()) and self.args.unknown_labels == "pseudo":
            self.unknown_lb = unknown.to(self.device)
        for line in labeled_summary(self.source.targets[labeled.rows], self.source.label_names):
            self.print_fn(f"{self.args.dataset}: {line}")

    def count_rows(self, pools: Mapping[str, Pool]) -> None:
        """Set the sizes of the two training pools, as USB names them."""
        self.args = self.args.having(lb_dest_len=len(pools["train_lb"]), ulb_dest_len=len(pools["train_ulb"]))

    def batch_views(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Views in labelled and in unlabelled training batches: key of the batch -> name of the view."""
        return self.labeled_views, self.unlabeled_views

    def report_data(self, source: Source) -> None:
        """Log the notes of the reader; write label names, facts and skipped items to the run folder."""
        for note in source.notes:
            self.print_fn(f"{self.args.dataset}: {note}")
        if self.args.resume:
            return
        encoding = {} if source.encoding is None else {"encoding": source.encoding}
        self.folder.write_json(LABELS, {"label_names": list(source.label_names), **self.facts.as_dict(), **encoding})
        if source.problems:
            self.folder.write_json(SKIPPED, {"skipped": [asdict(problem) for problem in source.problems]})

    def set_data_loader(self) -> dict[str, Any]:
        args, plan, pools = self.args, self.plan, self.dataset_dict
        # A supervised-only run keeps the warm-up's batch, not the smaller labelled part of a mixed batch.
        size = args.batch_size if self.uses_unlabeled else args.warmup_batch_size
        loaders, world = {}, self.world
        if plan.warmup_epochs:
            loaders["warmup_lb"] = training_loader(
                args, pools.get("warmup_lb", pools["train_lb"]), args.warmup_batch_size, plan.warmup_steps, 0, world
            )
        if plan.warmup_epochs < plan.epochs:
            loaders["train_lb"] = training_loader(args, pools["train_lb"], size, plan.steps, 1, world)
            if self.uses_unlabeled:
                loaders["train_ulb"] = training_loader(
                    args, pools["train_ulb"], unlabeled_batch_size(vars(args)), plan.steps, 2, world
                )
        return loaders | self.reading_loaders()

    def reading_loaders(self) -> dict[str, Any]:
        """Loaders that read each pool in order."""
        names = ("pool_lb", "pool_ulb", "prior", "validation", "test")
        pools = self.dataset_dict
        return {name: reading_loader(self.args, pools[name], self.world) for name in names if name in pools}

    def set_optimizer(self) -> tuple[Any, Any]:
        optimizer = build_optimizer(self.model, self.args)
        if isinstance(optimizer, AdamW) and self.device.type in ("cpu", "cuda"):
            for group in optimizer.param_groups:  # one kernel for all: half the time of a small net's step
                group["fused"] = True
        return optimizer, build_scheduler(optimizer, self.args, self.plan.cycle_steps)

    @property
    def refreshes(self) -> bool:
        """Whether the method has a `refresh`, which updates its state of the pool at the start of an epoch."""
        return hasattr(self, "refresh")

    def set_hooks(self) -> None:
        super().set_hooks()
        self.update_hook = GuardedUpdateHook(self.device, self.args.on_nonfinite, self.world, self.model)
        self.results_hook = ResultsHook()
        register_hooks(self)
