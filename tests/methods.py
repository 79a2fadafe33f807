"""The test row of every algorithm: its name, and the options without which it does not run on plain vectors."""

from __future__ import annotations

from typing import Any

import pytest

ALGORITHMS: dict[str, dict[str, Any]] = {
    "bam": {},
    "bbam": {},
    "bbam_plus": {},
    "cap": {},
    "d2l": {},
    "dicap": {},
    "drml": {},
    "flatmatch": {},
    "fullysupervised_bam": {},
    "fullysupervised_kernel": {},
    "kernel_graph": {},
    "mime": {"theta": 0.5, "z_dim": 6},
    "supervised_asl": {},
    "supervised_bam": {},
    "supervised_bce": {},
    "supervised_kernel": {},
    "supervised_logistic": {},
    "supervised_ridge": {},
    "ml_adamatch": {},
    "ml_dash": {},
    "ml_defixmatch": {},
    "ml_fixmatch": {},
    "ml_flexmatch": {},
    "ml_freematch": {},
    "ml_fullysupervised": {},
    "ml_meanteacher": {},
    "ml_mixmatch": {},
    "ml_pimodel": {},
    "ml_pseudolabel": {},
    "ml_remixmatch": {"rot_loss_ratio": 0.0},
    "ml_softmatch": {},
    "ml_supervised": {},
    "ml_uda": {},
    "ml_vat": {},
}
# Options of a method that change what a checkpoint must hold.
VARIANTS: dict[str, dict[str, Any]] = {
    "bbam": {"num_branches": 2, "confidence_weights": "true", "neighbours": 2},
    "bbam_plus": {"refresh": "online", "online_window": 64, "negatives": "sampled", "mixup": 0, "teacher": "none"},
    "cap": {"threshold_source": "queue"},
    "flatmatch": {"perturb_along": "buffer"},
    "ml_softmatch": {"per_class": "true"},
}
# Those that keep pseudo-labels of the whole pool, and those that keep statistics of angles too.
WITH_STATISTICS = {"bam", "bbam", "bbam_plus"}
KEEP_PSEUDO_LABELS = WITH_STATISTICS | {"cap", "d2l", "dicap", "drml", "kernel_graph", "mime"}
# Those that fit a function in closed form instead of stepping, in one epoch of one step; they train no net.
FITTED = {"fullysupervised_kernel", "kernel_graph", "supervised_kernel", "supervised_logistic", "supervised_ridge"}
ON_IMAGES: dict[str, dict[str, Any]] = dict.fromkeys(FITTED, {"net": "pixels"})  # options for images without weights
OWN_HEAD = {"drml", "mime"} | FITTED  # neither linear nor cosine
# These take the pool's labels, and say so in their name.
UPPER_BOUNDS = {"fullysupervised_bam", "fullysupervised_kernel", "ml_fullysupervised"}
CASES = [(name, options) for name, options in ALGORITHMS.items()]
CASES += [(name, ALGORITHMS[name] | options) for name, options in VARIANTS.items()]
CASE_IDS = [*ALGORITHMS, *(f"{name}-{next(iter(options))}" for name, options in VARIANTS.items())]
STEPPING = [pytest.param(*case, id=id) for case, id in zip(CASES, CASE_IDS, strict=True) if case[0] not in FITTED]
SEMI_SUPERVISED = [name for name in ALGORITHMS if "supervised" not in name]


def steps_at(algorithm: str, *steps: int) -> list[tuple[int, int]]:
    """Epoch and steps done at the end of each epoch of a short run: `steps`, or a single one where a method fits."""
    return list(enumerate([1] if algorithm in FITTED else steps, start=1))
