#!/usr/bin/env python
"""What this package's algorithms give on the arrays of inputs.py: python reference.py inputs.npz reference.npz.

The losses of successive steps without an update of the weights in between, so that only the state of a method advances;
for CAP and BBAM what a refresh gives first; and element losses of the first labelled batch. Ports to USB are compared
with these numbers, which are computed in float32 and written in float64.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import torch
import torch.nn.functional as F
from inputs import FIRST_STEP, NUM_TRAIN_ITER, SETTINGS, STEPS, Arrays, batch
from torch import Tensor

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.data.readers.arrays import source_of
from semilearn_bbam.data.splits import Split, save_split
from semilearn_bbam.losses import asymmetric_loss, bam_loss, bbam_loss
from semilearn_bbam.run import build_algorithm, read_settings, seed_everything
from semilearn_bbam.runs.folder import RunFolder

OWN = ("cap", "bbam", "bam")  # the other algorithms are USB's, label by label
LOSSES = {"total": "train/total_loss", "sup": "train/sup_loss", "unsup": "train/unsup_loss", "util": "train/util_ratio"}
COMMON: dict[str, Any] = {"dataset": "arrays", "net": "plain", "projection": "none", "strong": "none", "device": "cpu"}
# Half of all steps are those of the warm-up.
COMMON |= {"epoch": 2, "warmup_epochs": 1, "num_train_iter": NUM_TRAIN_ITER, "num_threads": 1}


def build(name: str, arrays: Mapping[str, np.ndarray], folder: Path) -> MultiLabelAlgorithm:
    """The algorithm of an entry of SETTINGS as its first semi-supervised epoch begins, with the net of the arrays."""
    method = name.partition("_")[0]
    source = source_of(
        arrays["x_lb"], arrays["y_lb"], arrays["x_ulb"], [f"label {k}" for k in range(len(arrays["bias"]))]
    )
    num_labeled = len(arrays["x_lb"])
    rows = np.arange(num_labeled + len(arrays["x_ulb"]))
    folder.mkdir()
    split = folder / "rows.json"  # in their order, not a drawn one
    save_split(Split(rows[:num_labeled], rows[num_labeled:], rows[:0], source.fingerprint), split)
    options = {
        "algorithm": method if method in OWN else f"ml_{method}",
        "split_file": split,
        **COMMON,
        **SETTINGS[name],
    }
    settings = read_settings([word for key, value in options.items() for word in (f"--{key}", text_of(value))])
    seed_everything(settings.seed)
    logger = logging.getLogger(name)
    logger.setLevel(logging.WARNING)
    algorithm = build_algorithm(settings, source, folder=RunFolder(folder), logger=logger)
    weights = {key: torch.from_numpy(arrays[key]) for key in ("weight", "bias")}
    for net in (algorithm.model, algorithm.ema_model):
        for key, parameter in net.named_parameters():
            parameter.data.copy_(weights[key.rpartition(".")[2]])
    assert algorithm.num_train_iter == NUM_TRAIN_ITER
    algorithm.epoch = 1
    return algorithm


def text_of(value: Any) -> str:
    """A value as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def tensors(arrays: Mapping[str, np.ndarray], step: int) -> dict[str, Tensor]:
    """The batch of a step."""
    return {key: torch.from_numpy(value) for key, value in batch(arrays, step).items()}


def losses(algorithm: MultiLabelAlgorithm, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Each loss that the steps log, [S]; `ent` is what the total has besides the labelled and unlabelled loss.

    `util` is the mean mask or weight. `<attribute of a hook>` is the state of USB's hooks after the last step.
    """
    rows = []
    for step in range(STEPS):
        algorithm.it = FIRST_STEP + step
        out, logged = algorithm.train_step(**algorithm.process_batch(None, **tensors(arrays, step)))
        assert np.isclose(float(out["loss"].detach()), float(logged["train/total_loss"]))
        rows.append({key: float(logged[full]) for key, full in LOSSES.items() if full in logged})
    values: Arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    if ratio := getattr(algorithm, "lambda_e", 0):
        values["ent"] = (values["total"] - values["sup"] - algorithm.lambda_u * values["unsup"]) / ratio
    assert all((np.abs(value) > 1e-3).all() for value in values.values())
    hooks = [hook for hook in algorithm.hooks_dict.values() if hasattr(hook, "state_keys")]
    states = {f"{hook.name}.{key}": getattr(hook, key).numpy() for hook in hooks for key in hook.state_keys}
    return {**values, **states}


def refreshed(algorithm: MultiLabelAlgorithm) -> Arrays:
    """What a refresh gives: pseudo-labels and masks, uint8, and the angle statistics."""
    algorithm.refresh()
    if algorithm.args.algorithm == "cap":
        found = {"pseudo": algorithm.pseudo_targets, "mask": algorithm.mask}
        return {key: value.numpy().astype(np.uint8) for key, value in found.items()}
    state = algorithm.pool_state
    masks = {key: getattr(state, key).whole.numpy().astype(np.uint8) for key in ("pseudo", "beta_lb", "beta_ulb")}
    return {**masks, **{key: value.numpy().astype(np.float64) for key, value in state.statistics.state_dict().items()}}


def element_losses(nets: Mapping[str, MultiLabelAlgorithm], arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Logits, cosines and element losses [B_l,K] of the first labelled batch, by the settings of `cap` and `bbam`."""
    first = tensors(arrays, 0)
    x, y = first["x_lb"], first["y_lb"]
    with torch.no_grad():
        logits, cosine = nets["cap"].model(x)["logits"], nets["bbam"].model(x)["cosine"]
    focusing = {key: SETTINGS["cap"][key] for key in ("gamma_negative", "gamma_positive", "clip")}
    angular = {key: SETTINGS["bbam"][key] for key in ("scale", "margin")}
    values = {
        "logits": logits,
        "cosine": cosine,
        "bce": F.binary_cross_entropy_with_logits(logits, y, reduction="none"),
        "asymmetric_loss": asymmetric_loss(logits, y, **focusing),
        "bam_loss": bam_loss(cosine, y, **angular),
        "bbam_loss": bbam_loss(cosine, y, AngleStatistics(*torch.from_numpy(arrays["statistics"])), **angular),
    }
    return {key: value.numpy().astype(np.float64) for key, value in values.items()}


def reference(arrays: Mapping[str, np.ndarray], folder: Path) -> Arrays:
    """All numbers, named `<entry of SETTINGS>/<value>` and `functions/<loss>`."""
    nets = {name: build(name, arrays, folder / name) for name in SETTINGS}
    result: Arrays = {}
    for name, algorithm in nets.items():
        values: Arrays = {}
        if name.partition("_")[0] in OWN:
            warm = tensors(arrays, 0)
            values["warmup"] = np.array(float(algorithm.warmup_step(warm["x_lb_s"], warm["y_lb"])[0]["loss"].detach()))
            values |= refreshed(algorithm)
        result |= {f"{name}/{key}": value for key, value in {**values, **losses(algorithm, arrays)}.items()}
    return result | {f"functions/{key}": value for key, value in element_losses(nets, arrays).items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the numbers to a file."""
    parser = argparse.ArgumentParser(prog="reference.py", description=__doc__)
    parser.add_argument("inputs", help=".npz file of inputs.py")
    parser.add_argument("output", help=".npz file to write")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with np.load(args.inputs) as file:
        arrays = dict(file)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(args.output, **reference(arrays, Path(folder)))


if __name__ == "__main__":
    main()
