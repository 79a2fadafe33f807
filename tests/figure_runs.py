"""Run folders as training leaves them behind, made up in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from semilearn_bbam.config import OPTIONS, format_yaml

NAMES = ["cat", "dog", "mat $ b"]
# Shares of positives 0.5, 0.25 and 0.1: the order by frequency is that of the names.
SHARES = (0.5, 0.25, 0.1)


def write_run(
    folder: Path,
    *,
    results: bool = True,
    rows: list[dict[str, Any]] | None = None,
    scores: dict[str, float] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    hidden_labels: str = "none",
    **settings: Any,
) -> Path:
    """A folder with `config.yaml`, and the other files as asked for.

    scores: metrics such as mAP that go into both protocols of `results.json`; settings: options in which the run
    differs from a BBAM run on 5 % of `vectors`.
    """
    folder.mkdir(parents=True)
    known = {option.name: option.default for option in OPTIONS} | {"algorithm": "bbam", "scale": 20.0, "margin": 0.4}
    known |= {"dataset": "features", "feature_file": "vectors.npz", "label_ratio": 0.05, "warmup_epochs": 1}
    known |= {"balance": True, "save_name": folder.name} | settings
    (folder / "config.yaml").write_text(format_yaml(known), encoding="utf-8")
    if rows is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if results:
        metrics = {"mAP": 0.5, "macro_f1": 0.4, **(scores or {})}
        found = {"label_ratio": known["label_ratio"], "hidden_labels": hidden_labels, "seed": known["seed"]}
        text = json.dumps({**found, "test": metrics, "test_prior": metrics})
        (folder / "results.json").write_text(text, encoding="utf-8")
    if arrays is not None:
        np.savez(folder / "figures.npz", **arrays)
    return folder


def curve_rows(values: list[float], pseudo: list[float] | None = None) -> list[dict[str, Any]]:
    """Evaluations with these mAPs, ten steps apart, and angle variances `value + 1` and 2, or of pseudo-labels."""
    rows: list[dict[str, Any]] = []
    for number, value in enumerate(values, 1):
        place = {"epoch": float(number), "it": 10 * number}
        rows.append({**place, "test/mAP": value, "test/macro_f1": value / 2})
        row = {**place, "vdfd_true": value - 1, "var_pos_true": value + 1, "var_neg_true": 2.0}
        if pseudo is not None and number > 1:
            row |= {"vdfd_pseudo": pseudo[number - 1] - 4, "var_pos_pseudo": pseudo[number - 1], "var_neg_pseudo": 4.0}
        rows.append(row)
    return rows


def score_arrays(seed: int, *, mapped: bool = False, unknown: int = 0) -> dict[str, np.ndarray]:
    """What `report_figures` keeps: 40 labelled rows, 160 of the pool, 80 of a test set, three labels.

    mapped: with pseudo-labels, statistics and `counted`, as BBAM has them; unknown: last rows without true labels.
    """
    rng = np.random.default_rng(seed)
    total = np.arange(200)[:, None]
    targets = (total % 20 < 20 * np.array(SHARES)).astype(np.uint8)
    targets[200 - unknown :] = 0
    test_targets = (rng.random((80, 3)) < SHARES).astype(np.uint8)
    test_targets[0] = 1
    found = {
        "label_names": np.array(NAMES),
        "test_scores": rng.random((80, 3)).astype(np.float32) * 0.7 + 0.3 * test_targets.astype(np.float32),
        "test_targets": test_targets,
        "num_labeled": np.array(40),
        "targets": targets,
        "known": np.arange(200) < 200 - unknown,
        "angles_true": rng.normal(1.3 - 0.4 * targets, 0.1).astype(np.float16),
    }
    if mapped:
        pseudo = np.roll(targets[40:], 1, axis=0)
        labels = np.concatenate([targets[:40], pseudo])
        found |= {
            "pseudo_targets": pseudo.astype(np.float16),
            "pseudo_rows": np.ones(160, bool),
            "angles_pseudo": rng.normal(1.3 - 0.4 * labels, 0.2 - 0.1 * labels).astype(np.float16),
            "mean_pos": np.full(3, 0.9, np.float32),
            "var_pos": np.full(3, 0.01, np.float32),
            "mean_neg": np.full(3, 1.3, np.float32),
            "var_neg": np.full(3, 0.04, np.float32),
            "counted": (labels > 0) | (rng.random((200, 3)) < 0.5),
        }
    return found
