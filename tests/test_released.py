"""The faults of the released code that can be brought back for a measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.algorithms import BBAM
from semilearn_bbam.algorithms.released import SEED_SHIFT
from semilearn_bbam.errors import UserError

LEAK = {"reproduce_released_leak": "true"}
SPLITS = {"reproduce_released_splits": "true"}


def test_the_first_pseudo_labels_are_clean_and_later_ones_read_true_labels(build: Callable[..., BBAM]) -> None:
    clean, leaky = build(refresh=True), build(refresh=True, **LEAK)
    assert torch.equal(clean.pseudo_targets, leaky.pseudo_targets)
    for algorithm in (clean, leaky):
        algorithm.epoch = 2
        algorithm.refresh()
    assert not torch.equal(clean.pseudo_targets, leaky.pseudo_targets)


def test_the_leak_maps_each_score_by_its_true_label(build: Callable[..., BBAM]) -> None:
    algorithm = build(refresh=True, **LEAK)
    truth, statistics = algorithm.true_targets, algorithm.pool_state.statistics
    pool = algorithm.dataset_dict["pool_ulb"]
    assert truth.shape == (len(pool), 7)
    cosine = torch.rand(len(pool), 7, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    found = algorithm.leaked(cosine, statistics)
    assert statistics.usable.any()
    for i in range(0, len(pool), 7):
        for k in range(7):
            expected = float(cosine[i, k])
            if statistics.usable[k]:
                side = "pos" if truth[i, k] else "neg"
                mean, variance = (float(getattr(statistics, f"{name}_{side}")[k]) for name in ("mean", "var"))
                pooled = float(statistics.var_pos[k] + statistics.var_neg[k]) / 2
                slope = math.sqrt(pooled / variance)
                expected = math.cos(slope * math.acos(expected) + (1 - slope) * mean)
            assert float(found[i, k]) == pytest.approx(expected, abs=1e-4)


def test_the_leak_reads_the_labels_of_the_pools_own_rows(build: Callable[..., BBAM], features_dir: Any) -> None:
    algorithm = build(**LEAK)
    targets = np.load(features_dir / "ohsumed_minilm.npz")["train_y"]
    rows = algorithm.dataset_dict["pool_ulb"].rows
    assert np.array_equal(algorithm.true_targets.numpy(), targets[rows])
    assert build().true_targets is None


def test_the_warm_up_reads_another_split_and_the_main_stage_its_own(build: Callable[..., BBAM]) -> None:
    own, shifted, other = build(), build(**SPLITS), build(seed=SEED_SHIFT)
    assert shifted.dataset_dict["train_lb"].rows.tolist() == own.dataset_dict["train_lb"].rows.tolist()
    assert "warmup_lb" not in own.dataset_dict
    warm = shifted.dataset_dict["warmup_lb"]
    assert warm.rows.tolist() == other.dataset_dict["train_lb"].rows.tolist()
    assert torch.equal(warm.targets, other.dataset_dict["train_lb"].targets)
    assert shifted.loader_dict["warmup_lb"].dataset is warm
    assert shifted.hidden_labels == "leak"


def test_the_other_split_keeps_away_from_validation_rows(build: Callable[..., BBAM]) -> None:
    algorithm = build(**SPLITS, val_ratio=0.6, label_ratio=0.5)
    held_out = set(algorithm.dataset_dict["validation"].rows.tolist())
    assert held_out
    assert not held_out & set(algorithm.dataset_dict["warmup_lb"].rows.tolist())
    assert held_out & set(build(seed=SEED_SHIFT, label_ratio=0.5).dataset_dict["train_lb"].rows.tolist())


@pytest.mark.parametrize("fault", [LEAK, SPLITS])
def test_results_and_log_say_so(fault: dict[str, str], train: Any, features_dir: Any) -> None:
    results, folder = train("bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.2, **fault)
    assert results["hidden_labels"] == json.loads((folder / "results.json").read_text())["hidden_labels"] == "leak"
    assert "WARNING reproduce_released" in (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**LEAK, "balance": "false"}, "set balance"),
        ({**LEAK, "algorithm": "bam"}, "set balance"),
        ({**LEAK, "num_branches": 2}, "num_branches: 1"),
        ({**SPLITS, "split_file": "own"}, "one split"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(
    options: dict[str, Any], message: str, build: Callable[..., BBAM], train: Any, features_dir: Any
) -> None:
    if "split_file" in options:
        _, folder = train("bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.2)
        options = {**options, "split_file": folder / "split.json", "label_ratio": 0.0}
    with pytest.raises(UserError, match=message):
        build(**options)
