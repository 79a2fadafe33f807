"""Weights & Biases and Aim are told what the log is told, and a missing login costs nobody a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aim
import pytest
import wandb

import train as front_door
from semilearn_bbam.runs.folder import RunFolder
from tests.conftest import FEATURES, short_run


class Recorder:
    """Stands in for a run of either service."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.hash = "f" * 24
        self.finished = False

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.setdefault(step, {}).update(values)

    def track(self, value: float, name: str, step: int) -> None:
        self.log({name: value}, step)

    def add_tag(self, tag: str) -> None:
        assert tag

    def __setitem__(self, name: str, value: Any) -> None:
        assert (name, value["algorithm"]) == ("hparams", "bbam")

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(wandb, "login", lambda: True)
    monkeypatch.setattr(wandb, "init", lambda **settings: found)
    monkeypatch.setattr(aim, "Run", lambda **settings: found, raising=False)
    return found


@pytest.mark.parametrize("service", ["use_wandb", "use_aim"])
def test_losses_and_evaluations_are_tracked(service: str, recorder: Recorder, train: Any, features_dir: Path) -> None:
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, num_log_iter=2, **{service: "true"})
    evaluations = {row["it"]: row["test/mAP"] for row in RunFolder(folder).read_metrics() if "test/mAP" in row}
    assert set(evaluations) == {2, 5, 8}
    for it, value in evaluations.items():
        assert recorder.rows[it]["test/mAP"] == value
    assert all("train/total_loss" in row for row in recorder.rows.values())
    assert "train/unsup_loss" in recorder.rows[8]
    assert set(recorder.rows) == {1, 2, 3, 5, 7, 8}  # every second step, and the ends of the epochs
    assert recorder.finished == (service == "use_wandb")


def test_no_login_is_a_sentence_and_costs_no_run(
    train: Any,
    features_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2}
    _, folder = train(FEATURES, **settings)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refuse() -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "login", refuse)
    command = short_run(FEATURES, tmp_path / "runs", **settings, use_wandb="true", overwrite="true")
    assert front_door.main(command) == 2
    assert "use_wandb: No API key configured; run wandb login" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
