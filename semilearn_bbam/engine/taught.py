"""A kernel teacher on frozen features for methods that pseudo-label a pool, and its share in their scores."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from semilearn_bbam.config import Conflict, Option, Settings
from semilearn_bbam.data import Pool
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.loaders import reading_loader
from semilearn_bbam.engine.options import RARE_SHRINKAGE
from semilearn_bbam.kernel_graph import fit_kernel_graph
from semilearn_bbam.model_selection import cardinality_boundary
from semilearn_bbam.nets.fitted import FittedHead
from semilearn_bbam.nets.heads import MultiLabelNet
from semilearn_bbam.scores import Fusion, mixed_scores

TAUGHT_OPTIONS = (
    Option(
        "teacher",
        str,
        "none",
        "kernel: pseudo-labels begin with those of kernel_graph on the features of the untrained net; "
        "auto: where these are vectors or pretrained",
        choices=("none", "kernel", "auto"),
    ),
    Option(
        "teacher_share",
        float,
        0.0,
        "the teacher's share in the scores that are ranked at the last refresh; 1 at the first, linear in between",
        minimum=0,
        maximum=1,
    ),
    Option(
        "readout",
        str,
        "head",
        "fused: scores are the mean of the head's and the teacher's, standardised label by label; auto: with a teacher",
        choices=("head", "fused", "auto"),
    ),
    RARE_SHRINKAGE,
)


def has_teacher(values: Mapping[str, Any], kind: str) -> bool:
    """Whether these options ask for a teacher on data of this kind."""
    return values["teacher"] == "kernel" or (
        values["teacher"] == "auto" and (kind == "features" or bool(values["use_pretrain"]))
    )


class TaughtAlgorithm(MultiLabelAlgorithm):
    """Base class of methods with the options `TAUGHT_OPTIONS`.

    The teacher is `kernel_graph`, fitted once to the features of the net before its first step: features of a net that
    was trained on the labelled rows separate them, and leave-one-out scores mean nothing there. With `readout: fused`
    its scores of new rows are averaged with the head's.
    """

    label_weight: Tensor  # what the pseudo-labels of each label count, n / (n + n_0): [K]
    teacher: Teacher | None = None
    fusion: Fusion | None = None  # of the head's and the teacher's logits

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if values["teacher"] == "kernel" and kind in ("image", "text") and not values["use_pretrain"]:
            cure = "set encoder, or use_pretrain: true, or teacher: none"
            yield (
                ("teacher", "use_pretrain"),
                f"teacher: kernel reads features, and those of random weights are none; {cure}",
            )
        if values["readout"] == "fused" and values["teacher"] == "none":
            yield ("readout", "teacher"), "readout: fused averages the head with a teacher; set teacher: kernel"

    @classmethod
    def effective(cls, values: Mapping[str, Any], kind: str) -> dict[str, Any]:
        teacher = has_teacher(values, kind)
        readout = "fused" if teacher and values["readout"] != "head" else "head"
        return {**super().effective(values, kind), "teacher": "kernel" if teacher else "none", "readout": readout}

    def set_up(self) -> None:
        super().set_up()
        positives = self.dataset_dict["pool_lb"].targets.to(self.device).sum(0)
        self.label_weight = positives / (positives + self.args.rare_shrinkage).clamp(min=1)
        if has_teacher(vars(self.args), self.kind) and not self.args.resume:
            self.teacher = Teacher.of(self)

    @property
    def fused(self) -> bool:
        """Whether scores are those of head and teacher together."""
        return self.teacher is not None and self.args.readout != "head"

    def taught(self, scores: Tensor) -> Tensor:
        """The scores [N_u,K] of the net that are ranked, with the teacher's share in them."""
        if self.teacher is None:
            return scores
        last = max(self.plan.epochs - 1 - self.plan.warmup_epochs, 1)
        progress = (self.epoch - self.plan.warmup_epochs) / last
        return mixed_scores(scores, self.teacher.pool, 1 - (1 - self.args.teacher_share) * progress)

    def fuse(self, outputs: Mapping[str, Tensor]) -> None:
        """Take means and spreads of both kinds of logits in the pool, from the net's outputs on `pool_ulb`."""
        if self.fused:
            self.fusion = Fusion.of(outputs["logits"], self.teacher.held_out)

    # ------------------------------------------------------------------ scores

    def read(self, name: str, model: nn.Module | None = None, gather: bool = True) -> dict[str, Tensor]:
        outputs = super().read(name, model, gather)
        if self.fused and model is None and name in (*self.evaluated, "prior"):
            outputs["teacher"] = self.teacher.logits(self, name)
        return outputs

    def score_state(self) -> dict[str, Any]:
        """What `scores_of` needs of `get_state`."""
        return {} if self.fusion is None else {"fusion": self.fusion.state_dict()}

    def scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return self.scores_of(outputs, self.args, self.score_state())

    @classmethod
    def scores_of(cls, outputs: Mapping[str, Tensor], settings: Settings, state: Mapping[str, Any]) -> Tensor:
        if "teacher" not in outputs or "fusion" not in state:
            return super().scores_of(outputs, settings, state)
        logits = outputs["logits"]
        return Fusion.from_state_dict(state["fusion"]).to(logits.device).apply(logits, outputs["teacher"]).sigmoid()

    # ------------------------------------------------------------------ state

    @classmethod
    def scoring_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        if "fusion" not in state:
            return super().scoring_state(state)
        teacher = {key: state["teacher"][key] for key in ("net", "head")}
        return {**super().scoring_state(state), "fusion": state["fusion"], "teacher": teacher}

    def get_state(self) -> dict[str, Any]:
        teacher = {} if self.teacher is None else {"teacher": self.teacher.state_dict(self.fused)}
        return {**super().get_state(), **teacher, **self.score_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        if "teacher" in state:
            self.teacher = Teacher.from_state_dict(state["teacher"], self)
        if "fusion" in state:
            self.fusion = Fusion.from_state_dict(state["fusion"]).to(self.device)
        super().set_state({key: value for key, value in state.items() if key not in ("teacher", "fusion")})

    @classmethod
    def finished_net(cls, net: nn.Module, settings: Settings, state: Mapping[str, Any]) -> nn.Module:
        if "fusion" not in state:
            return net
        frozen = frozen_net(net.backbone, len(state["fusion"]["first"]["mean"]))
        frozen.load_state_dict(state["teacher"]["net"])
        frozen.head.set_state(state["teacher"]["head"])
        return WithTeacher(net, frozen)


class WithTeacher(nn.Module):
    """A trained net and its teacher: outputs of the net, and the teacher's logits [B,K] as "teacher"."""

    def __init__(self, net: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.net, self.teacher, self.num_features = net, teacher, net.num_features

    def forward(self, x: Any) -> dict[str, Tensor]:
        return {**self.net(x), "teacher": self.teacher(x)["logits"]}


def frozen_net(backbone: nn.Module, num_classes: int) -> MultiLabelNet:
    """A copy of a backbone, as it is now, under a head to be fitted."""
    net = MultiLabelNet(copy.deepcopy(backbone), "none", lambda width: FittedHead(num_classes))
    return net.eval().requires_grad_(False)


class Teacher:
    """A fitted `kernel_graph`: its net, and its scores of the pool.

    pool [N_u,K]: logits of the rows of `pool_ulb`, and `held_out` those by fits that leave the row's pseudo-label out.
    """

    def __init__(self, net: MultiLabelNet, pool: Tensor, held_out: Tensor) -> None:
        self.net, self.pool, self.held_out = net, pool, held_out
        self.read: dict[str, Tensor] = {}

    @classmethod
    def of(cls, algorithm: TaughtAlgorithm) -> Teacher:
        """Fit to the features of the net of a run as it is now."""
        net, pools = frozen_net(algorithm.ema_model.backbone, algorithm.args.num_classes), algorithm.dataset_dict
        rows_lb, rows_ulb = algorithm.split.labeled, algorithm.split.unlabeled
        with algorithm.preserved_random_state():
            labeled, pool = (features(algorithm, net, rows) for rows in (rows_lb, rows_ulb))
        pool_lb = pools["pool_lb"]
        targets = pool_lb.targets.to(algorithm.device)
        known = None if pool_lb.known is None else pool_lb.known.to(algorithm.device)
        fitted = fit_kernel_graph(
            labeled,
            targets,
            pool,
            algorithm.positive_rate.to(algorithm.device),
            known=known,
            shrinkage=algorithm.args.rare_shrinkage,
            generator=torch.Generator().manual_seed(algorithm.args.seed),
            progress=lambda step: algorithm.print_fn(f"kernel teacher: {step}"),
        )
        held_out_lb = fitted.leave_one_out[: len(labeled)]
        net.head.set_function(fitted.scores, cardinality_boundary(held_out_lb, targets, known))
        net.to(algorithm.device)
        held_out = fitted.leave_one_out[len(labeled) :]
        scores = [fitted.pool, held_out]
        if algorithm.args.include_lb_to_ulb:
            scores = [torch.cat([held_out_lb, values]) for values in scores]
        return cls(net, *(net.head.logits_of(values) for values in scores))

    def logits(self, algorithm: TaughtAlgorithm, name: str) -> Tensor:
        """Logits of a pool that is evaluated, computed once: of `prior`, its rows are left out of the fit."""
        if name not in self.read:
            prior = name == "prior" and len(self.held_out) == len(algorithm.dataset_dict[name])
            self.read[name] = self.held_out if prior else algorithm.read(name, self.net)["logits"]
        return self.read[name]

    def state_dict(self, with_net: bool) -> dict[str, Any]:
        net = {"net": self.net.state_dict(), "head": self.net.head.state()} if with_net else {}
        return {"pool": self.pool, "held_out": self.held_out, **net}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], algorithm: TaughtAlgorithm) -> Teacher:
        net = frozen_net(algorithm.ema_model.backbone, algorithm.args.num_classes)
        if "net" in state:
            net.load_state_dict(state["net"])
            net.head.set_state(state["head"])
        pool, held_out = (state[name].to(algorithm.device) for name in ("pool", "held_out"))
        return cls(net.to(algorithm.device), pool, held_out)


def features(algorithm: TaughtAlgorithm, net: nn.Module, rows: Any) -> Tensor:
    """Features [N,D] of training rows, seen as in an evaluation."""
    items = algorithm.dataset_dict["pool_lb"].items
    pool = Pool(items, rows, {"x_lb": algorithm.views["eval"]})
    algorithm.loader_dict["teacher"] = reading_loader(algorithm.args, pool, algorithm.world)
    outputs = algorithm.read("teacher", net)
    del algorithm.loader_dict["teacher"]
    return outputs["feat"]
