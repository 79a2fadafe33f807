"""The file of `report_figures`, and that the option changes nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.bits import unpack_labels
from semilearn_bbam.engine.hooks import FigureDataHook
from semilearn_bbam.engine.hooks.checkpoint import EpochCheckpointHook
from tests.conftest import TIMED
from tests.methods import ALGORITHMS, KEEP_PSEUDO_LABELS, UPPER_BOUNDS, WITH_STATISTICS, steps_at

CONFIG = "bbam_ohsumed_features.yaml"
SETTINGS = {"label_ratio": 0.2, "report_figures": "true"}


def logged(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


def figure_arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "figures.npz", allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_method_is_the_same_with_it(algorithm: str, train: Any, features_dir: Path) -> None:
    settings = {"data_dir": features_dir, "algorithm": algorithm, "label_ratio": 0.2, **ALGORITHMS[algorithm]}
    without, plain = train(CONFIG, save_name="without", **settings)
    results, folder = train(CONFIG, save_name="with", report_figures="true", **settings)
    assert results["test"] == without["test"]
    assert results["test_prior"] == without["test_prior"]
    first, second = (torch.load(f / "latest_model.pth", weights_only=True) for f in (plain, folder))
    for part in ("model", "ema_model"):
        assert all(torch.equal(first[part][key], second[part][key]) for key in first[part])
    assert first["random"][0]["torch"].equal(second["random"][0]["torch"])
    figure_rows = [row for row in logged(folder) if "vdfd_true" in row]
    assert [row for row in logged(folder) if "vdfd_true" not in row] == logged(plain)
    assert [(row["epoch"], row["it"]) for row in figure_rows] == steps_at(algorithm, 2, 5, 8)
    for row in figure_rows:
        assert row["vdfd_true"] == pytest.approx(row["var_pos_true"] - row["var_neg_true"], abs=1e-6)
    with_pseudo = [False, *[algorithm in KEEP_PSEUDO_LABELS] * 2]  # a method that fits has no warm-up
    assert ["vdfd_pseudo" in row for row in figure_rows] == with_pseudo[-len(figure_rows) :]
    arrays = figure_arrays(folder)
    assert arrays["targets"].shape == arrays["angles_true"].shape == (160, 7)
    assert arrays["angles_true"].dtype == np.float16
    assert arrays["known"].all()
    assert int(arrays["num_labeled"]) == (160 if algorithm in UPPER_BOUNDS else 32)
    assert arrays["test_scores"].shape == arrays["test_targets"].shape == (60, 7)
    assert arrays["label_names"].tolist() == json.loads((folder / "labels.json").read_text())["label_names"]
    assert ("pseudo_targets" in arrays) == ("angles_pseudo" in arrays) == (algorithm in KEEP_PSEUDO_LABELS)
    assert ("counted" in arrays) == (algorithm in WITH_STATISTICS)
    assert not (plain / "figures.npz").exists()


def in_loops(features: np.ndarray, targets: np.ndarray, rows: np.ndarray) -> list[tuple[float, float]]:
    """Angle variances of positives and of negatives of every label, from the definitions."""
    variances = []
    for k in range(targets.shape[1]):
        prototype = np.mean([features[i] for i in range(len(rows)) if rows[i] and targets[i, k] == 1], axis=0)
        sides: dict[int, list[float]] = {0: [], 1: []}
        for i in range(len(rows)):
            if rows[i]:
                cosine = features[i] @ prototype / math.sqrt((features[i] @ features[i]) * (prototype @ prototype))
                sides[int(targets[i, k])].append(math.acos(cosine))
        variances.append((np.var(sides[1], ddof=1), np.var(sides[0], ddof=1)))
    return variances


@pytest.mark.parametrize("num_branches", [1, 2])
def test_readings_follow_the_definitions(build: Callable[..., MultiLabelAlgorithm], num_branches: int) -> None:
    algorithm = build(refresh=True, num_branches=num_branches)
    rng = np.random.default_rng(0)
    known = torch.from_numpy(rng.random(128) < 0.7)
    true = torch.from_numpy((rng.random((int(known.sum()), 7)) < 0.3).astype(np.uint8))
    before = torch.get_rng_state()
    readings = FigureDataHook(known, true).readings(algorithm)
    assert torch.equal(torch.get_rng_state(), before)
    width = algorithm.read("pool_lb")["feat"].shape[1] // num_branches
    features = torch.cat([algorithm.read(name)["feat"][:, :width] for name in ("pool_lb", "pool_ulb")]).double().numpy()
    labeled = algorithm.dataset_dict["pool_lb"].targets.numpy()
    pool_targets = np.zeros((128, 7))
    pool_targets[known.numpy()] = true.numpy()
    tables = {
        "true": (np.concatenate([labeled, pool_targets]), np.concatenate([np.ones(32, bool), known.numpy()])),
        "pseudo": (np.concatenate([labeled, algorithm.pseudo_targets.numpy()]), np.ones(160, bool)),
    }
    for name, (targets, rows) in tables.items():
        variances = in_loops(features, targets, rows)
        summary = readings[name].summary(name)
        for key, expected in (
            ("vdfd", [p - n for p, n in variances]),
            ("var_pos", [p for p, _ in variances]),
            ("var_neg", [n for _, n in variances]),
        ):
            assert summary[f"{key}_{name}"] == pytest.approx(np.mean(expected), rel=1e-3)


def test_rows_without_pseudo_labels_do_not_count(build: Callable[..., MultiLabelAlgorithm]) -> None:
    """DRML gives pseudo-labels to few rows; the others are no negatives."""
    algorithm = build(algorithm="drml", refresh=True, added_rows=30)
    hook = FigureDataHook(torch.zeros(128, dtype=torch.bool), torch.zeros(0, 7))
    reading = hook.readings(algorithm)["pseudo"]
    assert int(reading.rows.sum()) == 32 + 30
    features = torch.cat([algorithm.read(name)["feat"] for name in ("pool_lb", "pool_ulb")])
    features[~reading.rows] = 1e3 * torch.randn(98, features.shape[1])
    again = type(reading).of(features, reading.targets, reading.rows)
    first, second = reading.summary("x"), again.summary("x")
    for key, value in first.items():
        assert second[key] == pytest.approx(value, rel=1e-3, abs=1e-7, nan_ok=True)


def test_statistics_are_those_of_the_map(train: Any, features_dir: Path) -> None:
    options = {"num_branches": 2, "negatives": "sampled", "labeled_negatives": "all"}
    _, folder = train(CONFIG, data_dir=features_dir, **SETTINGS, **options)
    arrays = figure_arrays(folder)
    state = torch.load(folder / "latest_model.pth", weights_only=True)["state"]
    for name in ("mean_pos", "var_pos", "mean_neg", "var_neg"):
        np.testing.assert_array_equal(arrays[name], state["statistics"][name][:7].numpy())
    assert arrays["counted"].shape == (160, 7)
    assert arrays["counted"][:32].all()
    np.testing.assert_array_equal(arrays["counted"][32:], unpack_labels(state["beta_ulb"][:, 0], 7).numpy())
    np.testing.assert_array_equal(arrays["pseudo_targets"], unpack_labels(state["pseudo"][:, 0], 7).numpy())


class Killed(Exception):
    pass


@pytest.mark.parametrize("algorithm", ["bbam", "cap"])
def test_a_resumed_run_keeps_the_same(
    algorithm: str, train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data_dir": features_dir, "algorithm": algorithm, **SETTINGS}
    _, straight = train(CONFIG, save_name="straight", **settings)
    save = EpochCheckpointHook.after_train_epoch
    add = FigureDataHook.after_train_epoch

    def save_and_die(self: Any, algorithm: Any) -> None:
        save(self, algorithm)
        if algorithm.epoch == 0:
            raise Killed

    def add_and_die(self: Any, algorithm: Any) -> None:
        add(self, algorithm)
        if algorithm.epoch == 1:
            raise Killed

    # Once between checkpoint and end of an epoch, once between the row and its checkpoint, whose row must be deleted.
    for hook, resume, dies in ((EpochCheckpointHook, "false", save_and_die), (FigureDataHook, "true", add_and_die)):
        with monkeypatch.context() as patch:
            patch.setattr(hook, "after_train_epoch", dies)
            with pytest.raises(Killed):
                train(CONFIG, save_name="broken", resume=resume, **settings)
    _, broken = train(CONFIG, save_name="broken", resume="true", **settings)
    first, second = ([row for row in logged(folder) if "vdfd_true" in row] for folder in (straight, broken))
    assert first == second
    assert len(first) == 3
    arrays, resumed_arrays = figure_arrays(straight), figure_arrays(broken)
    assert arrays.keys() == resumed_arrays.keys()
    assert all(np.array_equal(arrays[key], resumed_arrays[key]) for key in arrays)


def test_the_archive_is_of_the_selected_model(train: Any, features_dir: Path) -> None:
    choice = {"select_on": "validation", "val_ratio": 0.3, "num_train_iter": 60, "epoch": 6, "lr": 0.05}
    results, folder = train(CONFIG, data_dir=features_dir, **{**SETTINGS, "label_ratio": 0.4}, **choice)
    arrays = figure_arrays(folder)
    hits = ((arrays["test_scores"] >= 0.5) & (arrays["test_targets"] > 0)).sum()
    predicted = (arrays["test_scores"] >= 0.5).sum() + arrays["test_targets"].sum(dtype=int)
    assert 2 * hits / predicted == pytest.approx(results["test"]["micro_f1"])
    assert len(arrays["targets"]) == 160 - round(0.3 * 64)
