#!/usr/bin/env python
"""Inputs on which the algorithms of this package and their ports to USB are compared: python inputs.py inputs.npz.

Plain NumPy, so that the environment of either side can run it: a net in two arrays, labelled rows, a pool, the rows of
a few successive steps, and the settings of each algorithm. All sizes differ, so that arrays of the wrong shape do not
broadcast. `batch` gives the views of a step.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

NUM_LABELS, NUM_FEATURES = 5, 6
NUM_LABELED, NUM_UNLABELED = 40, 70
BATCH, UNLABELED_BATCH, STEPS = 4, 9, 4
# Rates from 0.6 to 0.125, and a label with a single positive, which `batch(.., 0)` has.
POSITIVES = (24, 13, 8, 5, 1)
# Lowest and highest mean and variance of the angles of positives, and of negatives.
STATISTICS = ((0.7, 1.1), (0.02, 0.06), (1.4, 1.7), (0.05, 0.02))
# The number of step t of a run, which Pseudo-Label's ramp reads, is FIRST_STEP + t of NUM_TRAIN_ITER.
FIRST_STEP, NUM_TRAIN_ITER = 100, 1000

_HARD: dict[str, Any] = {"ulb_loss_ratio": 0.7, "hard_label": True, "T": 0.5}
_SOFT: dict[str, Any] = {**_HARD, "hard_label": False}
_CURRICULUM: dict[str, Any] = {**_HARD, "p_cutoff": 0.75}
_ADAPTIVE: dict[str, Any] = {"ema_p": 0.9, "ent_loss_ratio": 0.5}
_GAUSSIAN: dict[str, Any] = {**_HARD, "ema_p": 0.2, "n_sigma": 2, "dist_align": True, "dist_uniform": True}
_GAUSSIAN |= {"per_class": False}
_PROTOTYPES: dict[str, Any] = {
    "ulb_loss_ratio": 1.0,
    "scale": 10.0,
    "margin": 0.2,
    "eta": 2.0,
    "candidate_ratio": 0.0,  # the nearest negatives: nothing is drawn
}
# Name in the output -> settings. What precedes the first "_" is the algorithm, what follows it the variant.
SETTINGS: dict[str, dict[str, Any]] = {
    "supervised": {},
    "pseudolabel": {"ulb_loss_ratio": 0.7, "p_cutoff": 0.75, "unsup_warm_up": 0.4},
    "fixmatch": {**_HARD, "p_cutoff": 0.75},
    "fixmatch_soft": {**_SOFT, "p_cutoff": 0.75},
    "flexmatch": {**_CURRICULUM, "thresh_warmup": True},
    "flexmatch_unramped": {**_CURRICULUM, "thresh_warmup": False},
    "freematch": {**_HARD, **_ADAPTIVE, "use_quantile": False, "clip_thresh": False},
    "freematch_soft": {**_SOFT, **_ADAPTIVE, "use_quantile": True, "clip_thresh": True},
    "softmatch": _GAUSSIAN,
    "cap": {
        "ulb_loss_ratio": 1.0,
        "gamma_negative": 4.0,
        "gamma_positive": 0.0,
        "clip": 0.05,
        "positive_share": 1.0,
        "negative_share": 0.75,  # of two labels a whole number, up to rounding: it needs the slack of the counts
    },
    "bbam": _PROTOTYPES,
    "bam": _PROTOTYPES,
}


def inputs(seed: int = 0) -> Arrays:
    """The arrays, float32, row numbers int64.

    weight [K,D] and bias [K]: the net, logits = x @ weight.T + bias; nets with cosines compare x with `weight`;
    x_lb [N_l,D], y_lb [N_l,K], x_ulb [N_u,D]: rows and targets of 0 and 1;
    statistics [4,K]: of angles, means and variances of positives, then of negatives; the last label has none;
    idx_lb [S,B_l], idx_ulb [S,B_u]: rows of each step, distinct within a step; noise [S,B_u,D]: of the strong views.
    """
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(NUM_LABELS, NUM_FEATURES))
    # Rows of different lengths, so that a cosine is not a product.
    lengths = np.linspace(1.6, 1.0, NUM_LABELS)[:, None]
    weight = lengths * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    bias = np.linspace(0.3, -1.2, NUM_LABELS)
    x_lb, x_ulb = rng.normal(size=(NUM_LABELED, NUM_FEATURES)), rng.normal(size=(NUM_UNLABELED, NUM_FEATURES))
    scores = x_lb @ weight.T + bias + rng.normal(size=(NUM_LABELED, NUM_LABELS))
    y_lb = np.zeros((NUM_LABELED, NUM_LABELS))
    for k, count in enumerate(POSITIVES):
        y_lb[np.argsort(-scores[:, k])[:count], k] = 1
    rarest = int(y_lb[:, -1].argmax())
    others = np.setdiff1d(rng.permutation(NUM_LABELED), [rarest])
    rows = np.concatenate([[rarest], rng.permutation(others)])[: STEPS * BATCH]
    drawn = [rng.choice(NUM_UNLABELED, UNLABELED_BATCH, replace=False) for _ in range(STEPS)]
    noise = 0.5 * rng.normal(size=(STEPS, UNLABELED_BATCH, NUM_FEATURES))
    statistics = np.stack([np.linspace(low, high, NUM_LABELS) for low, high in STATISTICS])
    statistics[:, -1] = 0
    floats = {"weight": weight, "bias": bias, "x_lb": x_lb, "y_lb": y_lb, "x_ulb": x_ulb, "noise": noise}
    floats["statistics"] = statistics
    numbers = {"idx_lb": rows.reshape(STEPS, BATCH), "idx_ulb": np.stack(drawn)}
    return {
        **{key: value.astype(np.float32) for key, value in floats.items()},
        **{key: value.astype(np.int64) for key, value in numbers.items()},
    }


def batch(arrays: Mapping[str, np.ndarray], step: int) -> Arrays:
    """The batch of a step, under USB's keys; the labelled view is the same, weak or strong."""
    rows_lb, rows_ulb = arrays["idx_lb"][step], arrays["idx_ulb"][step]
    labeled, weak = arrays["x_lb"][rows_lb], arrays["x_ulb"][rows_ulb]
    return {
        "idx_lb": rows_lb,
        "x_lb": labeled,
        "x_lb_s": labeled,
        "y_lb": arrays["y_lb"][rows_lb],
        "idx_ulb": rows_ulb,
        "x_ulb_w": weak,
        "x_ulb_s": weak + arrays["noise"][step],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the arrays to a file."""
    parser = argparse.ArgumentParser(prog="inputs.py", description=__doc__)
    parser.add_argument("path", help=".npz file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    np.savez(args.path, **inputs(args.seed))


if __name__ == "__main__":
    main()
