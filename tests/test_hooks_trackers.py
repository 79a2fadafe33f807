"""TensorBoard, Weights & Biases and Aim get every evaluation at its step; a missing login costs no run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aim
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train as front_door
from semilearn_bbam.runs.folder import RunFolder
from tests.conftest import FEATURES, has_line, short_run


class Recorder:
    """Replaces a run of either service."""

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
    fake_run = Recorder()
    monkeypatch.setattr(wandb, "login", lambda: True)
    monkeypatch.setattr(wandb, "init", lambda **settings: fake_run)
    monkeypatch.setattr(aim, "Run", lambda **settings: fake_run, raising=False)
    return fake_run


def events(folder: Path) -> dict[int, dict[str, float]]:
    """The content of TensorBoard's files: step -> name -> value; every value once."""
    files = EventAccumulator(str(folder / "tensorboard")).Reload()
    rows: dict[int, dict[str, float]] = {}
    for name in files.Tags()["scalars"]:
        for event in files.Scalars(name):
            assert name not in rows.setdefault(event.step, {}), (name, event.step)
            rows[event.step][name] = event.value
    return rows


# Of 2, 3 and 3 steps: when the run is evaluated, by default at the ends of epochs.
@pytest.mark.parametrize(("every", "evaluated"), [(0, {2, 5, 8}), (1, set(range(1, 9))), (3, {3, 6})])
@pytest.mark.parametrize("service", ["use_wandb", "use_aim", "use_tensorboard"])
def test_losses_and_evaluations_are_tracked(
    service: str, every: int, evaluated: set[int], recorder: Recorder, train: Any, features_dir: Path
) -> None:
    """Each evaluation at its own step, also where nothing else is logged."""
    settings = {"num_log_iter": 2, "num_eval_iter": every, "select_on": "validation", "val_ratio": 0.3, service: "true"}
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.4, report_pseudo_label_quality="true", **settings)
    rows, tracked = RunFolder(folder).read_metrics(), recorder.rows
    if service == "use_tensorboard":
        tracked = events(folder)
    for part, steps in (("test", evaluated), ("validation", evaluated | {2, 5, 8})):  # the selection evaluates as well
        evaluations = [row for row in rows if f"{part}/mAP" in row]
        assert {row["it"] for row in evaluations} == steps
        for row in evaluations:
            values = {key: value for key, value in row.items() if key.startswith(f"{part}/")}
            assert values == pytest.approx({key: tracked[row["it"]][key] for key in values}, rel=1e-6)
        assert {it for it, values in tracked.items() if f"{part}/mAP" in values} == steps
    # Every second step, and the ends of the epochs.
    assert {it for it, values in tracked.items() if "train/total_loss" in values} == {2, 4, 5, 6, 8}
    assert "train/unsup_loss" in tracked[8]
    for it in (2, 5):
        assert {"refresh/vdfd_mean", "epoch/train/total_loss"} <= set(tracked[it])
    assert {it for it, values in tracked.items() if "refresh/pseudo_micro_f1" in values} <= {2, 5}
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
    assert has_line(capsys.readouterr().err, "use_wandb", "No API key configured", "wandb login")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
