"""Methods that fit a function in closed form instead of stepping: a run of one step, the fit."""

from __future__ import annotations

import argparse
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import SGD

from semilearn_bbam.config import Conflict, Settings
from semilearn_bbam.data import Pool
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.schedule import StagePlan
from semilearn_bbam.errors import RunError
from semilearn_bbam.model_selection import cardinality_boundary
from semilearn_bbam.nets import get_net_builder
from semilearn_bbam.nets.fitted import FittedHead, RowFunction
from semilearn_bbam.nets.heads import MultiLabelNet
from semilearn_bbam.runs.folder import LATEST
from semilearn_bbam.runs.reader import Run

FROZEN_NETS = ("plain", "pixels")


class FittedAlgorithm(MultiLabelAlgorithm):
    """Base class of methods that `fit` a function to the features of the net, which stays as it is.

    Everything around the fit is that of other methods: split, pools, metrics, checkpoints, the run folder. A run is one
    epoch of one step. What was fitted is the state of the method, not a weight, since its size depends on the data.
    """

    uses_unlabeled = False
    shares_batches = True  # every process fits the same to the features of all
    accumulates = True  # it takes no batches
    nonfinite_cure = "fix the weights of the net, or the data"
    head = "own"
    stage_name = "fit"
    slope: ClassVar[float] = 4.0
    boundary: ClassVar[float | None] = None  # of the function's scores; None: by `cardinality_boundary`
    held_out: Tensor | None = None  # scores of the `prior` pool by fits without the row, where they differ

    @abstractmethod
    def fit(self, labeled: Tensor, targets: Tensor, known: Tensor | None) -> tuple[RowFunction, Tensor]:
        """Fit to features [N_l,D] and targets [N_l,K]; the function, and leave-one-out scores of the labelled rows.

        known [N_l,K]: the cells whose label is known; None: all. A fit that uses the pool also sets `held_out`.
        """

    # ------------------------------------------------------------------ what a fit does not need

    def make_plan(self, settings: argparse.Namespace, num_labeled: int, num_unlabeled: int) -> StagePlan:
        if settings.resume and Run.read(self.folder.path).settings["epoch"] != settings.epoch:
            raise RunError(
                f"--resume: {settings.algorithm} fits in one step and has no further epochs; leave out --epoch"
            )
        return StagePlan(epochs=1, warmup_epochs=0, warmup_steps=0, steps=1)

    def set_up(self) -> None:
        self.print_fn(
            f"{self.args.algorithm} is a fit in closed form, one step on the vectors of all rows: epochs, batch sizes, "
            "learning rate and strong views have no effect"
        )

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        name = values["algorithm"]
        if values["net"] and values["net"] not in FROZEN_NETS and not values["use_pretrain"]:
            cure = "net: plain" if kind == "features" else "encoder, or use_pretrain: true, or net: pixels for images"
            yield (
                ("net", "use_pretrain"),
                f"{name} trains no net, and {values['net']} starts from random weights; set {cure}",
            )
        if values["projection"] not in ("auto", "none"):
            yield ("projection",), f"{name} trains no layer; leave projection at auto"

    @classmethod
    def build_net(cls, settings: Settings, kind: str, in_features: int, num_classes: int) -> nn.Module:
        backbone = get_net_builder(settings)(in_features, num_classes, pretrained=settings.use_pretrain)
        net = MultiLabelNet(backbone, "none", lambda width: cls.build_head(settings, width, num_classes=num_classes))
        return net.requires_grad_(False)

    @classmethod
    def build_head(cls, settings: Settings, in_features: int, *, num_classes: int) -> nn.Module:
        return FittedHead(num_classes, slope=cls.slope)

    def set_ema_model(self) -> nn.Module:
        return self.model.eval()  # there are no steps to average

    def set_dataset(self) -> dict[str, Pool]:
        pools = super().set_dataset()
        for name in ("pool_lb", "pool_ulb"):
            pools[name].views = {"x_lb": self.views["eval"]}
        return pools

    def set_data_loader(self) -> dict[str, Any]:
        return self.reading_loaders()

    def set_optimizer(self) -> tuple[Any, Any]:
        return SGD([{"params": []}], lr=0.0), None

    @classmethod
    def batch_sizes(cls, values: Mapping[str, Any]) -> dict[str, int]:
        return {}

    def take_step(self, step: Any, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        outputs: tuple[dict[str, Any], dict[str, Any]] = step()
        return outputs

    def epoch_loaders(self, epoch: int) -> list[Any]:
        return []

    def batches(self, epoch: int) -> Iterator[dict[str, Any]]:
        yield {}

    # ------------------------------------------------------------------ the fit

    def read(self, name: str, model: nn.Module | None = None) -> dict[str, Tensor]:
        with self.preserved_random_state():  # so that a fit that starts again draws nothing else
            return super().read(name, model)

    def begin(self, part: str) -> None:
        """Log a part of the fit that begins; stop here where the user requested that."""
        self.print_fn(f"{self.args.algorithm}: {part}")
        if self.must_stop():
            self.save_model(LATEST, self.folder.path)
            self.stop()

    def train_step(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The one step of a run; the value that is logged is the squared error of the leave-one-out scores."""
        pool = self.dataset_dict["pool_lb"]
        targets = pool.targets.to(self.device)
        known = None if pool.known is None else pool.known.to(self.device)
        function, leave_one_out = self.fit(self.read("pool_lb")["feat"], targets, known)
        boundary = cardinality_boundary(leave_one_out, targets, known) if self.boundary is None else self.boundary
        self.model.head.set_function(function, boundary)
        self.model.to(self.device)
        if self.held_out is None and not len(self.split.unlabeled):
            self.held_out = leave_one_out
        probability = self.model.head.logits_of(leave_one_out).sigmoid()
        return {}, self.process_log_dict(
            total_loss=(probability - targets).square()[... if known is None else known].mean()
        )

    def report_choice(self, precision: float, **chosen: float) -> None:
        """Log what leave-one-out scores chose."""
        values = ", ".join(f"{name} {value:.3g}" for name, value in chosen.items())
        self.print_fn(f"{values}: leave-one-out mAP of the labelled rows {precision:.4f}")

    def predict(self, name: str) -> tuple[Tensor, Tensor | None]:
        if name == "prior" and self.held_out is not None:
            return self.scores({"logits": self.model.head.logits_of(self.held_out)}), None
        return super().predict(name)

    # ------------------------------------------------------------------ state

    def get_state(self) -> dict[str, Any]:
        return self.model.head.state() | ({} if self.held_out is None else {"held_out": self.held_out})

    def set_state(self, state: dict[str, Any]) -> None:
        self.model.head.set_state(state)
        self.model.to(self.device)
        self.held_out = state["held_out"].to(self.device) if "held_out" in state else None

    @classmethod
    def finished_net(cls, net: nn.Module, settings: Settings, state: Mapping[str, Any]) -> nn.Module:
        net.head.set_state(state)
        return net

    @classmethod
    def scoring_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        return {key: state[key] for key in ("boundary", "function") if key in state}
