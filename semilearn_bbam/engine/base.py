"""What every multi-label algorithm shares: any device, multi-hot targets, evaluation, checkpoints, stages."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch
from semilearn.core.hooks import Hook
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from semilearn_bbam.config import Conflict
from semilearn_bbam.data import Source, save_split, with_all_labels
from semilearn_bbam.engine.device import precision, resolve_device
from semilearn_bbam.engine.hooks import (
    AllValuesToAim,
    AllValuesToWandb,
    EpochCheckpointHook,
    FigureDataHook,
    GuardedUpdateHook,
    ModelEMAHook,
    MultiLabelEvaluationHook,
    ProgressHook,
    PseudoLabelQualityHook,
    ResultsHook,
    SelectionHook,
    WallTimerHook,
    check_finite,
)
from semilearn_bbam.engine.loaders import reading_loader, training_loader
from semilearn_bbam.engine.loop import TrainingLoop
from semilearn_bbam.engine.pools import build_pools, prepare_source, read_split
from semilearn_bbam.engine.schedule import plan_stages, unlabeled_batch_size
from semilearn_bbam.errors import UserError
from semilearn_bbam.metrics import multilabel_metrics
from semilearn_bbam.nets.ensemble import BranchedNet
from semilearn_bbam.nets.heads import DEFAULT_PROJECTIONS, CosinePrototypes, LinearLabels, MultiLabelNet
from semilearn_bbam.nets.shared_norm import share_batch_norms
from semilearn_bbam.runs.folder import LABELS, SKIPPED, SPLIT, RunFolder
from semilearn_bbam.util.distributed import World

# What USB's AlgorithmBase and hooks read besides our own options. Its distribution is not used; `world` is ours.
USB_SETTINGS = {
    "gpu": None,
    "rank": 0,
    "world_size": 1,
    "distributed": False,
    "multiprocessing_distributed": False,
    "train_sampler": "RandomSampler",
    "imb_algorithm": None,
    "lb_imb_ratio": 1,
    "ulb_imb_ratio": 1,
    "ulb_num_labels": None,
}


class MultiLabelAlgorithm(TrainingLoop):
    """Base class of multi-label algorithms on USB's `AlgorithmBase`.

    A run has two stages (`schedule.StagePlan`): a warm-up on labelled data, `warmup_step`, and `train_step` on
    labelled and unlabelled data. A subclass gives these steps, says by `labeled_views` and `unlabeled_views` which
    views its batches hold, and keeps what it learns about the pool in `get_state` / `set_state`.
    """

    head: ClassVar[str] = "cosine"  # or "linear", which `head` may change to cosine, or "own"
    labeled_views: ClassVar[dict[str, str]] = {"x_lb_s": "strong"}
    unlabeled_views: ClassVar[dict[str, str]] = {"x_ulb_s": "strong"}
    uses_unlabeled: ClassVar[bool] = True
    uses_all_labels: ClassVar[bool] = False  # an upper bound, not a semi-supervised method
    # Whether processes can share a batch: losses are means over rows, all else about rows goes through `world`.
    shares_batches: ClassVar[bool] = False
    stage_name: ClassVar[str] = "semi-supervised"
    shown: ClassVar[tuple[str, ...]] = ("validation/mAP", "test/mAP")

    def __init__(self, args: argparse.Namespace, net_builder: Any, tb_log: Any = None, logger: Any = None, **kw: Any):
        for key, value in USB_SETTINGS.items():
            vars(args).setdefault(key, value)
        self.device = resolve_device(args.device)
        self.world = World.init(self.device.type)
        if self.world.world_size > 1 and not self.shares_batches:
            raise UserError(f"{args.algorithm} shares no batches between processes; start it without torchrun")
        if self.world.world_size > 1 and getattr(args, "loss_reduction", "mean") == "sum":  # an option of some methods
            raise UserError("loss_reduction: sum is not shared between processes; set mean, or start without torchrun")
        self.source, self.views, _ = prepare_source(args)
        self.kind = self.source.kind
        for _, sentence in self.conflicts(vars(args), self.kind):  # the command line has asked before, if it could
            raise UserError(sentence)
        self.num_training = len(self.source.train)
        self.split = read_split(args, self.source)
        num_unlabeled = len(self.split.unlabeled) + (len(self.split.labeled) if args.include_lb_to_ulb else 0)
        if self.uses_unlabeled and not len(self.split.unlabeled):
            raise UserError(
                f"{args.algorithm} needs unlabelled data, but every training row is labelled; lower label_ratio"
            )
        self.plan = plan_stages(args, len(self.split.labeled), num_unlabeled)
        self.hidden_labels = "all" if self.uses_all_labels else "none"  # labels given away that a method must not have
        if self.uses_all_labels:  # after the plan, so that it takes as many steps as the others
            self.split = with_all_labels(self.split, len(self.source.targets))
        args.num_train_iter = self.plan.total
        self.folder = RunFolder.inside(args.save_dir, args.save_name, writes=self.world.is_main)
        self.seconds_before, self.selected_epoch = 0.0, self.plan.epochs
        with warnings.catch_warnings():
            # USB asks for CUDA's scaler by a deprecated name, and is told so; ours replaces it below.
            warnings.filterwarnings("ignore", message=".*GradScaler.*")
            super().__init__(args, partial(self.build_net, net_builder), tb_log, logger, **kw)
        self.amp_cm, self.loss_scaler = precision(self.device, args.amp, args.amp_dtype)
        self.best_eval_acc = -1.0
        self.world.average_gradients(self.model)
        if not args.resume:  # a resumed run first sees whether its split is the checkpoint's
            self.folder.write(SPLIT, partial(save_split, self.split))

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        """Settings that the method cannot have: their keys, and why.

        values: all options; kind: that of the data, "image", "text" or "features", or "" where it is not known yet.
        """
        if cls.head == "cosine" and values["head"] == "linear":
            yield ("head",), f"head cannot be linear, for {values['algorithm']} measures angles; leave it at auto"
        if cls.head == "own" and values["head"] != "auto":
            name, head = values["algorithm"], values["head"]
            yield ("head",), f"head cannot be {head}, for {name} has one of its own; leave it at auto"

    # ------------------------------------------------------------------ what USB builds, built for many labels

    def set_dataset(self) -> dict[str, Any]:
        args = self.args
        pools = build_pools(self.source, self.split, self.views, *self.batch_views(), args.include_lb_to_ulb)
        self.evaluated = [name for name in ("validation", "test") if name in pools]
        labeled = pools["train_lb"].targets
        self.positive_rate = labeled.mean(0)
        if args.report_pseudo_label_quality or args.report_figures:
            rows = torch.from_numpy(pools["train_ulb"].rows)
            known = rows < len(self.source.targets)
            self.diagnostic = known, torch.from_numpy(self.source.targets[rows[known]])
        self.identity = {
            "labels": list(self.source.label_names),
            "fingerprint": self.source.fingerprint,
            "split": self.split.digest,
        }
        self.report_data(self.source)
        # From here on nothing but the diagnostic hooks can reach a label of the unlabelled pool.
        self.source = None
        args.lb_dest_len, args.ulb_dest_len = len(pools["train_lb"]), len(pools["train_ulb"])
        self.print_fn(
            f"{args.dataset}: {args.lb_dest_len} labelled, {args.ulb_dest_len} unlabelled, {len(pools['test'])} test "
            f"rows, {args.num_classes} labels"
        )
        return pools

    def batch_views(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Views in a labelled and in an unlabelled training batch: key of the batch -> name of the view."""
        return self.labeled_views, self.unlabeled_views

    def report_data(self, source: Source) -> None:
        """What the reader has to say goes to the log, the order of the labels and left-out items to the run folder."""
        for note in source.notes:
            self.print_fn(f"{self.args.dataset}: {note}")
        if self.args.resume:
            return
        self.folder.write_json(LABELS, {"label_names": list(source.label_names)})
        if source.problems:
            self.folder.write_json(SKIPPED, {"skipped": [asdict(problem) for problem in source.problems]})

    def set_data_loader(self) -> dict[str, Any]:
        args, plan, pools = self.args, self.plan, self.dataset_dict
        # A supervised-only run keeps the warm-up's batch, so that it is not handicapped by a mixed batch's share.
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
                    args, pools["train_ulb"], unlabeled_batch_size(args), plan.steps, 2, world
                )
        reading = ("pool_lb", "pool_ulb", "prior", "validation", "test")
        return loaders | {name: reading_loader(args, pools[name], world) for name in reading if name in pools}

    def build_net(self, build_backbone: Callable[..., torch.nn.Module], **kwargs: Any) -> torch.nn.Module:
        """What USB takes for its net builder: the configured backbone under projection and head."""
        spec = self.args.projection
        if spec == "auto":
            spec = DEFAULT_PROJECTIONS[self.kind]
        backbone = build_backbone(**kwargs)
        if hasattr(backbone, "weights_report"):
            self.print_fn(backbone.weights_report)
        net = MultiLabelNet(backbone, spec, self.build_head)
        branches = getattr(self.args, "num_branches", 1)  # an option of those methods that can use them
        net = net if branches == 1 else BranchedNet(net, spec, self.build_head, branches)
        share_batch_norms(net, self.world)
        return net

    def build_head(self, in_features: int) -> torch.nn.Module:
        """The last layer over features of this width; a method with a head of its own overrides this."""
        args = self.args
        if (self.head if args.head == "auto" else args.head) == "cosine":
            return CosinePrototypes(in_features, args.num_classes, scale=args.scale, margin=args.margin)
        return LinearLabels(in_features, args.num_classes)

    def set_model(self) -> torch.nn.Module:
        # Channels last makes convolutions faster on every device.
        return super().set_model().to(self.device, memory_format=torch.channels_last)

    def set_ema_model(self) -> torch.nn.Module:
        ema_model = super().set_ema_model().to(self.device, memory_format=torch.channels_last)
        return ema_model.eval().requires_grad_(False)

    def set_optimizer(self) -> tuple[Any, Any]:
        optimizer, scheduler = super().set_optimizer()
        if isinstance(optimizer, AdamW) and self.device.type in ("cpu", "cuda"):
            for group in optimizer.param_groups:  # one kernel for all of them: half the time of a small net's step
                group["fused"] = True
        if self.args.scheduler == "onecycle":
            peaks = [group["lr"] for group in optimizer.param_groups]
            scheduler = OneCycleLR(optimizer, peaks, total_steps=self.plan.total, pct_start=self.args.pct_start)
        return optimizer, scheduler

    def set_hooks(self) -> None:
        super().set_hooks()
        # Registering again under USB's names replaces its hooks in their places in the queue. The checkpoint takes
        # a later place, because it must hold what the selection says.
        self.register_hook(
            GuardedUpdateHook(self.device, self.args.on_nonfinite, self.world), "ParamUpdateHook", "HIGHEST"
        )
        self.register_hook(ModelEMAHook(), "EMAHook", "HIGH")
        self.register_hook(MultiLabelEvaluationHook(), "EvaluationHook", "HIGH")
        self.register_hook(Hook(), "CheckpointHook", "HIGH")
        self.register_hook(WallTimerHook(), "TimerHook", "LOW")
        self.register_hook(ProgressHook(), "LoggingHook", "LOWEST")
        self.register_hook(SelectionHook(), None, "ABOVE_NORMAL")
        self.register_hook(EpochCheckpointHook(), None, "BELOW_NORMAL")
        self.register_hook(ResultsHook(), None, "LOW")
        for name, tracker in (("WANDBHook", AllValuesToWandb), ("AimHook", AllValuesToAim)):
            if name in self.hooks_dict:
                self.register_hook(tracker(), name, "LOWEST")
        if self.args.report_pseudo_label_quality:
            self.register_hook(PseudoLabelQualityHook(*self.diagnostic), None, "LOW")
        if self.args.report_figures:  # after the selection, but before the checkpoint, so that no row is lost
            self.register_hook(FigureDataHook(*self.diagnostic), None, "NORMAL")

    # ------------------------------------------------------------------ steps

    def joint(self, *inputs: Any, **options: Any) -> list[dict[str, Tensor]]:
        """Outputs of the model for each of these batches: from one pass with `use_cat`, else from one each.

        One pass shares the batch statistics; texts of different lengths, which do not stack, always take their own.
        options: further arguments of the model's.
        """
        net = partial(self.model, **options)
        if not self.use_cat or not all(isinstance(batch, Tensor) for batch in inputs):
            return [net(batch) for batch in inputs]
        parts = {key: out.split([len(b) for b in inputs]) for key, out in net(torch.cat(inputs)).items()}
        return [{key: part[i] for key, part in parts.items()} for i in range(len(inputs))]

    def step_result(self, total: Tensor, **parts: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pair that USB expects of a step; logged values stay tensors, so that no step waits for the device."""
        logged = {key: value.detach() for key, value in {**parts, "total_loss": total}.items()}
        return self.process_out_dict(loss=total), self.process_log_dict(**logged)

    # ------------------------------------------------------------------ reading and evaluation

    @torch.no_grad()
    def read(self, name: str, model: torch.nn.Module | None = None) -> dict[str, Tensor]:
        """Outputs of a net in evaluation mode (the EMA model by default) over a whole pool, in its order.

        NonFiniteError where one of them is infinite or undefined.
        """
        model = model or self.ema_model
        was_training = model.training
        model.eval()
        loader, found = self.loader_dict[name], []
        for batch in tqdm(loader, name, leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty()):
            with self.amp_cm():
                found.append(model(self.to_device(batch["x_lb"])))
        model.train(was_training)
        outputs = {key: self.world.all_gather_rows(torch.cat([out[key].float() for out in found])) for key in found[0]}
        check_finite(self, outputs, f"the net's outputs on {name}")
        return outputs

    def scores(self, outputs: dict[str, Tensor]) -> Tensor:
        """Scores in [0, 1] from a net's outputs; 0.5 is the training boundary."""
        return outputs["logits"].sigmoid()

    def predict(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Scores of the EMA model over a pool, [N,K], and the pool's targets where it has any."""
        return self.scores(self.read(name)), self.dataset_dict[name].targets

    def evaluate(
        self, eval_dest: str = "validation", out_key: str = "logits", return_logits: bool = False
    ) -> dict[str, Any]:
        """Multi-label metrics of the EMA model, its weights with its own buffers, keyed `<eval_dest>/<metric>`."""
        outputs = self.read(eval_dest)
        metrics = multilabel_metrics(self.scores(outputs).cpu(), self.dataset_dict[eval_dest].targets)
        found: dict[str, Any] = {f"{eval_dest}/{key}": value for key, value in metrics.items()}
        if return_logits:
            found[f"{eval_dest}/logits"] = outputs[out_key].cpu().numpy()
        return found
