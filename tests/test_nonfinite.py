"""Losses, scores and states that are infinite or undefined are named before they do harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.algorithms.bbam import BBAM
from semilearn_bbam.algorithms.dicap import DiCaP
from semilearn_bbam.engine.hooks import check_finite
from semilearn_bbam.engine.hooks.nonfinite import GuardedUpdateHook
from semilearn_bbam.errors import NonFiniteError
from semilearn_bbam.runs.folder import LATEST
from tests.conftest import FEATURES, has_line, naming
from tests.methods import STEPPING


def spoil(patch: pytest.MonkeyPatch, steps: set[int], value: float = float("nan")) -> None:
    """Let the loss of these steps (counted from 1) be `value`."""
    update = GuardedUpdateHook.after_train_step

    def spoiled(self: Any, algorithm: Any) -> None:
        if algorithm.it + 1 in steps:
            algorithm.out_dict["loss"] = algorithm.out_dict["loss"] * value
        update(self, algorithm)

    patch.setattr(GuardedUpdateHook, "after_train_step", spoiled)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_loss_ends_the_run_before_it_reaches_the_weights(
    value: float, train: Any, features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {4}, value)
    cure = (str(value), "labelled rows", "--resume --on_nonfinite skip")
    with pytest.raises(NonFiniteError, match=naming("epoch 2, step 4", "loss", *cure)):
        train(FEATURES, data_dir=features_dir, label_ratio=0.2, num_save_iter=1)
    folder = tmp_path / "runs" / "run"
    report = json.loads((folder / "nonfinite.json").read_text())
    split = json.loads((folder / "split.json").read_text())
    assert set(report["rows"]["lb"]) <= set(split["labeled"])
    assert set(report["rows"]["ulb"]) <= set(split["unlabeled"])
    assert report["weights"] == report["labels"] == []
    checkpoint = torch.load(folder / LATEST, weights_only=True)
    assert checkpoint["it"] == 3
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values())
    results, _ = train(FEATURES, data_dir=features_dir, label_ratio=0.2, resume="true", on_nonfinite="skip")
    assert results["steps"] == 8  # as the sentence says
    assert torch.load(folder / LATEST, weights_only=True)["nonfinite_steps"] == 1


@pytest.mark.parametrize(
    ("step", "parts"), [(1, {"lb"}), (4, {"lb", "ulb"}), (7, {"lb"})], ids=["warm-up", "both", "fine-tuning"]
)
def test_the_rows_named_are_those_of_the_batch(
    step: int, parts: set[str], train: Any, features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in DiCaP's last epochs, whose batches are of the labelled rows that it holds out before."""
    spoil(monkeypatch, {step})
    batches: dict[int, dict[str, Any]] = {}
    process = DiCaP.process_batch

    def keep(self: Any, *args: Any, **batch: Any) -> Any:
        batches[self.it + 1] = batch
        return process(self, *args, **batch)

    monkeypatch.setattr(DiCaP, "process_batch", keep)
    with pytest.raises(NonFiniteError):
        train(FEATURES, algorithm="dicap", data_dir=features_dir, label_ratio=0.2, strong="none")
    rows = json.loads((tmp_path / "runs" / "run" / "nonfinite.json").read_text())["rows"]
    vectors = np.load(features_dir / "ohsumed_minilm.npz")["train_x"].astype(np.float32)
    assert set(rows) == parts
    for part in parts:
        assert np.allclose(vectors[rows[part]], batches[step][f"x_{part}_s"].numpy(), atol=1e-6)


def test_weights_and_labels_are_named(train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = BBAM.train_step

    @wraps(step)  # whose arguments name what the step needs
    def poison(self: Any, *args: Any, **batch: Any) -> Any:
        with torch.no_grad():
            self.model.head.weight[2] = float("nan")
        return step(self, *args, **batch)

    monkeypatch.setattr(BBAM, "train_step", poison)
    with pytest.raises(NonFiniteError, match=naming("weights head.weight", "not finite", "label(s) label 2;")):
        train(FEATURES, data_dir=features_dir, label_ratio=0.2)


@pytest.mark.parametrize(("algorithm", "options"), STEPPING)
def test_a_bad_batch_can_be_left_out_by_every_method(
    algorithm: str, options: dict[str, Any], train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {1, 5})
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": algorithm, **options}
    results, folder = train(FEATURES, on_nonfinite="skip", **settings)
    assert results["steps"] == 8
    checkpoint = torch.load(folder / LATEST, weights_only=True)
    assert checkpoint["nonfinite_steps"] == 2
    assert has_line((folder / "log.txt").read_text(), "left out", "epoch 1, step 1")
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values() if value.is_floating_point())


def test_not_more_than_a_few_are_left_out(train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, set(range(1, 9)))
    with pytest.raises(NonFiniteError, match=naming("step 3", "max_nonfinite (2)")):
        train(FEATURES, data_dir=features_dir, label_ratio=0.2, on_nonfinite="skip", max_nonfinite=2)


def test_where_a_loss_is_read_late_its_step_is_known_and_no_checkpoint_follows(
    train: Any, features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, on a CPU."""
    spoil(monkeypatch, {4, 5})
    begin = GuardedUpdateHook.__init__

    def lazily(self: Any, *args: Any) -> None:
        begin(self, *args)
        self.at_once = False

    monkeypatch.setattr(GuardedUpdateHook, "__init__", lazily)
    with pytest.raises(NonFiniteError, match=naming("loss of step 4", "--on_nonfinite skip")):
        train(FEATURES, data_dir=features_dir, label_ratio=0.2)
    assert torch.load(tmp_path / "runs" / "run" / LATEST, weights_only=True)["it"] == 2


def test_bad_scores_are_named(train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = BBAM.warmup_step

    @wraps(step)
    def poison(self: Any, *args: Any, **batch: Any) -> Any:
        with torch.no_grad():
            self.ema_model.head.weight[5] = float("nan")
        return step(self, *args, **batch)

    monkeypatch.setattr(BBAM, "warmup_step", poison)
    with pytest.raises(NonFiniteError, match=naming("epoch 1, step 2", "outputs on test", "row 0", "'label 5'")):
        train(FEATURES, data_dir=features_dir, label_ratio=0.2)


def test_what_is_named_in_a_state(build: Callable[..., Any]) -> None:
    algorithm = build(refresh=True)
    check_finite(algorithm, algorithm.get_state(), "x")
    bad = torch.zeros(4, 7)
    bad[3, 6] = float("inf")
    with pytest.raises(NonFiniteError, match=naming("x: a is", "row 3", "'label 6'")):
        check_finite(algorithm, {"a": bad}, "x")
    with pytest.raises(NonFiniteError, match=naming("x: s.var is", "'label 1'")):
        check_finite(algorithm, {"s": {"var": torch.tensor([0, float("nan"), 0, 0, 0, 0, 0])}}, "x")
    with pytest.raises(NonFiniteError, match=naming("x: feat is", "row 3;")):
        check_finite(algorithm, {"feat": bad}, "x")
    check_finite(algorithm, {"count": torch.tensor([1]), "word": "nan"}, "x")
    check_finite(algorithm, {"thresholds": torch.tensor([float("inf")])}, "x", infinite=True)
    with pytest.raises(NonFiniteError):
        check_finite(algorithm, {"thresholds": torch.tensor([float("nan")])}, "x", infinite=True)
