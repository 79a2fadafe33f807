"""A run may end at any moment, by any means: what is on the disk is whole, and the run goes on from it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train as train_script
from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import LATEST, RunFolder
from tests.conftest import FEATURES, arguments, short_run
from tests.processes import fork, front_door, status_of
from tests.test_resume import Killed, assert_same, die_at

KILLS = 50
LONG = {"epoch": 20, "warmup_epochs": 2, "warmup_iter_per_epoch": 20, "num_train_iter": 4000, "num_save_iter": 1}
LONG |= {"num_eval_iter": 150, "num_threads": 1, "save_name": "run"}


@pytest.fixture
def command(features_dir: Path, tmp_path: Path) -> Callable[..., list[str]]:
    torch.set_num_threads(1)

    def one(**changes: Any) -> list[str]:
        settings = {"data_dir": features_dir, "save_dir": tmp_path / "runs", "label_ratio": 0.2, **LONG, **changes}
        return arguments(FEATURES, **settings)

    return one


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def wait_until_it_trains(folder: Path) -> None:
    said = folder / "log.txt"
    wait_for(lambda: said.is_file() and "run folder" in said.read_text())
    time.sleep(0.3)


def latest(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / LATEST, weights_only=True))


def test_killed_at_any_moment_the_latest_checkpoint_is_whole_and_the_run_goes_on(
    command: Callable[..., list[str]],
    train: Any,
    features_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """kill -9 at random moments of a run that saves after every step."""
    folder, rng = tmp_path / "runs" / "run", np.random.default_rng(0)
    steps = [0]
    while len(steps) <= KILLS:
        going_on = (folder / LATEST).is_file()
        extra = {"resume": "true"} if going_on else {"overwrite": "true"}
        child = fork(front_door(command(**extra), tmp_path / "log.txt"))
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
        assert status_of(child) == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
        if (folder / LATEST).is_file():
            steps.append(latest(folder)["it"])
            assert steps[-1] >= steps[-2]
            RunFolder(folder).read_metrics()
    assert steps[-1] > steps[1]
    # Fifty lives later the run is where a quiet one would be.
    with monkeypatch.context() as patch:
        die_at(steps[-1], patch)
        with pytest.raises(Killed):
            train(FEATURES, **{**LONG, "save_name": "quiet"}, data_dir=features_dir, label_ratio=0.2)
    assert_same(latest(tmp_path / "runs" / "quiet"), latest(folder))
    record_property("kills survived", KILLS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_wish_to_stop_saves_and_says_how_to_go_on(
    number: signal.Signals, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder, log = tmp_path / "runs" / "run", tmp_path / "log.txt"
    quick = {"num_save_iter": 0, "num_workers": 1, "num_train_iter": 1500, "epoch": 4}
    child = fork(front_door(command(**quick), log))
    wait_until_it_trains(folder)
    os.kill(child, number)
    assert status_of(child) == 130
    step = latest(folder)["it"]
    assert step > 0
    assert f"stopped at step {step} of" in log.read_text()
    assert "--resume" in log.read_text()
    assert status_of(fork(front_door(command(**quick, resume="true"), log))) == 0


def test_a_second_wish_ends_it_at_once(command: Callable[..., list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"

    def deaf() -> int:
        torch.Tensor.backward = lambda *args, **kwargs: time.sleep(60)  # a step that never ends
        return front_door(command(), log)()

    child = fork(deaf)
    wait_until_it_trains(tmp_path / "runs" / "run")
    os.kill(child, signal.SIGINT)
    wait_for(lambda: "once more stops at once" in log.read_text())
    os.kill(child, signal.SIGINT)
    assert status_of(child) == -signal.SIGINT


def test_two_processes_do_not_share_a_folder(command: Callable[..., list[str]], tmp_path: Path) -> None:
    log, other = tmp_path / "log.txt", tmp_path / "other.txt"
    child = fork(front_door(command(), log))
    try:
        wait_for(lambda: (tmp_path / "runs" / "run" / LATEST).is_file())
        for extra in ({"resume": "true"}, {"overwrite": "true"}):
            assert status_of(fork(front_door(command(**extra), other))) == 2
            assert "in use by another process" in other.read_text()
            assert "Traceback" not in other.read_text()
    finally:
        os.kill(child, signal.SIGKILL)
        status_of(child)
    again = fork(front_door(command(resume="true"), other))  # a killed process keeps nobody out
    wait_for(lambda: "resumed at step" in (tmp_path / "runs" / "run" / "log.txt").read_text())
    os.kill(again, signal.SIGTERM)
    assert status_of(again) == 130


def test_a_file_that_cannot_grow_leaves_the_older_one(command: Callable[..., list[str]], tmp_path: Path) -> None:
    """As on a full disk: the system refuses to write on, for real."""
    folder, log = tmp_path / "runs" / "run", tmp_path / "log.txt"
    child = fork(front_door(command(), log))
    wait_for(lambda: (folder / LATEST).is_file())
    os.kill(child, signal.SIGTERM)
    status_of(child)
    before = (folder / LATEST).read_bytes()

    def cramped() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
        return front_door(command(resume="true"), log)()

    assert status_of(fork(cramped)) == 2
    said = log.read_text()
    assert f"'{folder / LATEST}' cannot be written" in said
    assert "Traceback" not in said
    assert (folder / LATEST).read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp.pth")]


def test_a_log_that_cannot_grow_ends_it_in_a_sentence(
    command: Callable[..., list[str]], train: Any, features_dir: Path, tmp_path: Path
) -> None:
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, save_name="run")
    with open(folder / "log.txt", "a") as log:
        log.write("#" * 1_000_000)
    before, said = (folder / LATEST).read_bytes(), tmp_path / "said.txt"

    def cramped() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        argv = short_run(FEATURES, tmp_path / "runs", data_dir=features_dir, label_ratio=0.2, resume="true")
        return front_door(argv, said)()

    assert status_of(fork(cramped)) == 2
    assert f"'{folder / 'log.txt'}' cannot be written (File too large)" in said.read_text()
    assert "Traceback" not in said.read_text()
    assert (folder / LATEST).read_bytes() == before


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_a_fault_in_somebody_elses_file_is_a_sentence(
    fault: int, features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(fault, os.strerror(fault), "events.out")

    monkeypatch.setattr("semilearn_bbam.run.TBLog", refuse)
    argv = short_run(FEATURES, tmp_path / "runs", data_dir=features_dir, label_ratio=0.2, use_tensorboard="true")
    assert train_script.main(argv) == 2
    assert f"the disk refuses ([Errno {fault}] {os.strerror(fault)}: 'events.out')" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_a_fault_of_the_disk_is_a_sentence(
    fault: int, train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2}
    _, folder = train(FEATURES, **settings)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refuse(*_: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(RunError, match=os.strerror(fault)):
        train(FEATURES, resume="true", **settings)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: after[name] for name in before if name != "log.txt"} == {
        name: content for name, content in before.items() if name != "log.txt"
    }
    assert after.keys() == before.keys()
