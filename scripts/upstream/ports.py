"""What USB from a checkout gives on the arrays of inputs.py: the same numbers as reference.py writes.

Imported by probe.py, in a checkout with both series. The algorithms are USB's classes; their data are the rows and the
pool of the arrays, and their net is the one in `weight` and `bias`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from inputs import FIRST_STEP, NUM_TRAIN_ITER, SETTINGS, STEPS, Arrays, batch
from semilearn.algorithms import name2alg
from semilearn.core.criterions import asymmetric_loss, bce_loss
from semilearn.datasets.cv_datasets.datasetbase import BasicDataset
from torch import Tensor, nn

LOSSES = {"total": "train/total_loss", "sup": "train/sup_loss", "unsup": "train/unsup_loss", "util": "train/util_ratio"}
STATES = {
    "flexmatch": {"MaskingHook": ("selected_label", "classwise_acc")},
    "freematch": {"MaskingHook": ("p_model", "label_hist", "time_p")},
    "softmatch": {"DistAlignHook": ("p_model", "p_target"), "MaskingHook": ("prob_max_mu_t", "prob_max_var_t")},
}
RENAMED = {"clip": "asl_clip"}


class Rows(BasicDataset):
    """Vectors as USB's data set, with one view."""

    def __init__(self, algorithm: str, x: np.ndarray, y: np.ndarray | None, is_ulb: bool) -> None:
        def view(vector: Tensor) -> Tensor:
            return vector

        super().__init__(algorithm, torch.from_numpy(x), y, transform=view, is_ulb=is_ulb, strong_transform=view)  # type: ignore[no-untyped-call]


class Net(nn.Module):
    """The net of the arrays, with USB's keywords; what follows a feature is replaced by the cosine net of BBAM."""

    def __init__(self, num_classes: int, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.num_features = arrays["weight"].shape[1]
        self.classifier = nn.Linear(self.num_features, num_classes)
        self.classifier.weight.data = torch.from_numpy(arrays["weight"])
        self.classifier.bias.data = torch.from_numpy(arrays["bias"])

    def forward(self, x: Tensor, only_feat: bool = False, **options: Any) -> Any:
        return x if only_feat else {"logits": self.classifier(x), "feat": x}


def build(name: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """USB's algorithm of an entry of SETTINGS."""
    from training import configured

    method = name.partition("_")[0]
    usb_name = {"bam": "bbam"}.get(method, method)
    usb_class = name2alg[usb_name]

    class OnArrays(usb_class):  # type: ignore[misc,valid-type]
        def set_dataset(self) -> dict[str, Any]:
            self.args.ulb_dest_len, self.args.lb_dest_len = len(arrays["x_ulb"]), len(arrays["x_lb"])
            labeled = Rows(usb_name, arrays["x_lb"], arrays["y_lb"], False)
            return {"train_lb": labeled, "train_ulb": Rows(usb_name, arrays["x_ulb"], None, True), "eval": labeled}

        def set_data_loader(self) -> dict[str, Any]:
            return {key: argparse.Namespace(dataset=value) for key, value in self.dataset_dict.items()}

    settings = {RENAMED.get(key, key): value for key, value in SETTINGS[name].items()}
    if usb_name == "bbam":
        settings["balance"] = method == "bbam"
    options = {"algorithm": usb_name, "multilabel": True, "num_classes": len(arrays["bias"]), "num_workers": 0}
    args = configured(**options, num_train_iter=NUM_TRAIN_ITER, warmup_epoch=0, **settings)
    args.distributed = False
    algorithm = OnArrays(args, lambda num_classes, **options: Net(num_classes, arrays), None, None)
    if usb_name == "bbam":
        for net in (algorithm.model, algorithm.ema_model):
            net.head.weight.data = torch.from_numpy(arrays["weight"])
    algorithm.epoch = 0
    return algorithm


def tensors(arrays: Mapping[str, np.ndarray], step: int) -> dict[str, Tensor]:
    """The batch of a step."""
    return {key: torch.from_numpy(value) for key, value in batch(arrays, step).items()}


def losses(name: str, algorithm: Any, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """What the steps log, and the states of hooks after them."""
    rows = []
    for step in range(STEPS):
        algorithm.it = FIRST_STEP + step
        out, logged = algorithm.train_step(**algorithm.process_batch(**tensors(arrays, step)))
        logged.setdefault("train/total_loss", float(out["loss"].detach()))
        rows.append({key: float(logged[full]) for key, full in LOSSES.items() if full in logged})
    values: Arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    if ratio := getattr(algorithm, "lambda_e", 0):
        values["ent"] = (values["total"] - values["sup"] - algorithm.lambda_u * values["unsup"]) / ratio
    for hook, keys in STATES.get(name.partition("_")[0], {}).items():
        values |= {f"{hook}.{key}": getattr(algorithm.hooks_dict[hook], key).cpu().numpy() for key in keys}
    return values


def refreshed(algorithm: Any, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The loss of a warm-up step, and what a refresh gives."""
    first = tensors(arrays, 0)
    warmup = algorithm.warmup_step(first["x_lb"].cuda(), first["y_lb"].cuda())[0]["loss"]
    algorithm.refresh()
    names = ("mask",) if algorithm.args.algorithm == "cap" else ("beta_lb", "beta_ulb")
    values = {key: getattr(algorithm, key) for key in names} | {"pseudo": algorithm.pseudo_label}
    if algorithm.args.algorithm == "bbam":
        values |= {key: getattr(algorithm.statistics, key) for key in ("mean_pos", "var_pos", "mean_neg", "var_neg")}
    return {"warmup": np.array(float(warmup)), **{key: value.cpu().numpy() for key, value in values.items()}}


def element_losses(nets: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Logits, cosines and element losses of the first labelled batch."""
    from semilearn.algorithms.bbam.utils import AngleStatistics, bam_loss, bbam_loss

    first = tensors(arrays, 0)
    x, y = first["x_lb"].cuda(), first["y_lb"].cuda()
    with torch.no_grad():
        logits, cosine = nets["cap"].model(x)["logits"], nets["bbam"].model(x)["cosine"]
    focusing = {key: SETTINGS["cap"][key] for key in ("gamma_negative", "gamma_positive", "clip")}
    angular = {key: SETTINGS["bbam"][key] for key in ("scale", "margin")}
    values = {
        "logits": logits,
        "cosine": cosine,
        "bce": bce_loss(logits, y),
        "asymmetric_loss": asymmetric_loss(logits, y, **focusing),
        "bam_loss": bam_loss(cosine, y, **angular),
        "bbam_loss": bbam_loss(cosine, y, AngleStatistics(*torch.from_numpy(arrays["statistics"]).cuda()), **angular),
    }
    return {key: value.cpu().numpy() for key, value in values.items()}


def steps(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """All numbers, named as those of reference.py."""
    nets = {name: build(name, arrays) for name in SETTINGS}
    result: Arrays = {}
    for name, algorithm in nets.items():
        algorithm.model.cuda(), algorithm.ema_model.cuda()
        values = refreshed(algorithm, arrays) if name in ("cap", "bbam", "bam") else {}
        result |= {f"{name}/{key}": value for key, value in {**values, **losses(name, algorithm, arrays)}.items()}
    return result | {f"functions/{key}": value for key, value in element_losses(nets, arrays).items()}
