"""`--resume --epoch N` with a larger N: another cycle after the last epoch of a finished run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import train as front_door
from semilearn_bbam.config import load_yaml
from semilearn_bbam.engine.schedule import build_scheduler
from semilearn_bbam.run import read_settings
from semilearn_bbam.runs.folder import CONFIG, LATEST, RESULTS, RunFolder
from semilearn_bbam.runs.resume import record_cycle
from tests.conftest import has_line, short_run
from tests.test_resume import CONFIG as FEATURES
from tests.test_resume import Killed, assert_same_run, die_at
from tests.test_resume_refused import contents, refused

# The run has 2, 3 and 3 steps, the other cycle 3 and 3.
LONGER = {"epoch": 5, "num_train_iter": 15, "resume": "true"}


@pytest.fixture
def settings(features_dir: Path) -> dict[str, Any]:
    return {"data_dir": features_dir, "label_ratio": 0.2}


@pytest.fixture
def finished(train: Any, settings: dict[str, Any]) -> Callable[..., Path]:
    """`finished(*names, **changes)`: the folder of a run of one cycle; the others are copies of it."""

    def make(first: str, *names: str, **changes: Any) -> Path:
        folder: Path = train(FEATURES, save_name=first, **settings | changes)[1]
        for name in names:
            shutil.copytree(folder, folder.with_name(name))
        return folder

    return make


def rates(folder: Path) -> list[float]:
    return [row["lr"] for row in RunFolder(folder).read_metrics() if "lr" in row]


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_another_cycle_has_a_schedule_of_its_own(
    scheduler: str, finished: Any, train: Any, settings: dict[str, Any]
) -> None:
    folder = finished("run", scheduler=scheduler)
    first = {name: (folder / name).read_bytes() for name in (RESULTS, "metrics.jsonl")}
    before = torch.load(folder / LATEST, weights_only=True)
    results, _ = train(FEATURES, scheduler=scheduler, **settings | LONGER)
    assert (results["epochs"], results["cycles"], results["steps"]) == (5, [3, 5], 14)
    assert json.loads((folder / RESULTS).read_text())["cycles"] == [3, 5]
    assert (folder / "results_epoch3.json").read_bytes() == first[RESULTS]
    assert (folder / "metrics.jsonl").read_bytes().startswith(first["metrics.jsonl"])
    config = load_yaml(folder / CONFIG)
    assert (config["epoch"].value, config["num_train_iter"].value) == (5, 15)
    args = read_settings(short_run(FEATURES, folder.parent, scheduler=scheduler, **settings))
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), args.lr)
    schedule, expected = build_scheduler(optimizer, args, 6), []
    for _ in range(6):
        optimizer.step()
        schedule.step()
        expected.append(schedule.get_last_lr()[0])
    assert rates(folder)[-2:] == [expected[2], expected[5]]
    after = torch.load(folder / LATEST, weights_only=True)
    # The optimiser's moments go on: they count the steps of both cycles.
    steps = [{float(state["step"]) for state in c["optimizer"]["state"].values()} for c in (before, after)]
    assert steps == [{8.0}, {14.0}]
    assert (before["cycles"], after["cycles"], after["epoch"]) == ([3], [3, 5], 5)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("bbam", {"scheduler": "cosine"}),
        ("drml", {}),
        ("dicap", {}),
        ("cap", {"threshold_source": "queue"}),
        ("ml_freematch", {"optim": "SGD", "select_on": "validation", "val_ratio": 0.3, "label_ratio": 0.4}),
    ],
)
def test_an_interrupted_cycle_equals_a_straight_one(
    algorithm: str,
    options: dict[str, Any],
    finished: Any,
    train: Any,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"algorithm": algorithm, **options}
    folder = finished("straight", "broken9", "broken11", **options)
    train(FEATURES, save_name="straight", **settings | LONGER | options)
    for step in (9, 11):  # within the first added epoch, and at its end
        name = f"broken{step}"
        with monkeypatch.context() as patch:
            die_at(step, patch)
            with pytest.raises(Killed):
                train(FEATURES, save_name=name, num_save_iter=1, **settings | LONGER | options)
        assert not (folder.with_name(name) / RESULTS).exists()
        train(FEATURES, save_name=name, **settings | LONGER | options)
        assert_same_run(folder, folder.with_name(name))


def test_a_process_killed_before_the_first_save_of_the_cycle(
    finished: Any, train: Any, settings: dict[str, Any]
) -> None:
    folder = finished("straight", "broken")
    train(FEATURES, save_name="straight", **settings | LONGER)
    argv = short_run(FEATURES, folder.parent, save_name="broken", **settings | LONGER)
    record_cycle(RunFolder(folder.with_name("broken")), read_settings(argv))
    assert not (folder.with_name("broken") / RESULTS).exists()
    train(FEATURES, save_name="broken", **settings | LONGER)
    assert_same_run(folder, folder.with_name("broken"))


def test_a_third_cycle(finished: Any, train: Any, settings: dict[str, Any]) -> None:
    folder = finished("run")
    train(FEATURES, **settings | LONGER)
    results, _ = train(FEATURES, **settings | LONGER | {"epoch": 6, "num_train_iter": 18})
    assert (results["cycles"], results["steps"]) == ([3, 5, 6], 17)
    assert {"results_epoch3.json", "results_epoch5.json", RESULTS} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epoch": 2, "num_train_iter": 6}, ("--resume", "3 epochs", "--epoch 2")),
        ({"epoch": 5, "num_train_iter": 20}, ("--resume", "15 steps", "--num_train_iter 15")),
        ({"epoch": 5, "num_train_iter": 15, "lr": 0.5}, ("--resume", "lr 0.001 -> 0.5")),
    ],
)
def test_what_another_cycle_cannot_change(
    changes: dict[str, Any],
    expected: tuple[str, ...],
    finished: Any,
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finished("run")
    before = contents(folder)
    assert has_line(refused([*short_run(FEATURES, folder.parent, **settings | changes), "--resume"], capsys), *expected)
    assert contents(folder) == before


def test_an_unfinished_run_ends_first(
    train: Any,
    settings: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        die_at(5, patch)
        with pytest.raises(Killed):
            train(FEATURES, **settings)
    argv = short_run(FEATURES, tmp_path / "runs", **settings | LONGER)
    before = contents(tmp_path / "runs" / "run")
    assert has_line(refused(argv, capsys), LATEST, "2 of 3 epochs", "--epoch 3")
    assert contents(tmp_path / "runs" / "run") == before
    assert front_door.main([*short_run(FEATURES, tmp_path / "runs", **settings), "--resume"]) == 0
    assert front_door.main(argv) == 0
