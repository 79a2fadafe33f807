"""A run may end at any moment, in any way: the files on the disk are complete, and the run continues from them."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

import train as train_script
from semilearn_bbam.engine.loop import TrainingLoop
from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import LATEST, RunFolder
from tests.conftest import FEATURES, arguments, has_line, short_run
from tests.processes import (
    fork,
    front_door,
    never_end,
    pass_some_time,
    send,
    status_of,
    wait_for,
    wait_for_text,
)
from tests.test_resume import Killed, assert_same, die_at

KILLS = 50
LONG = {"epoch": 20, "warmup_epochs": 2, "warmup_iter_per_epoch": 20, "num_train_iter": 4000, "num_save_iter": 1}
LONG |= {"num_eval_iter": 150, "num_threads": 1, "save_name": "run"}


@pytest.fixture
def command(features_dir: Path, tmp_path: Path) -> Callable[..., list[str]]:
    torch.set_num_threads(1)

    def make_argv(**changes: Any) -> list[str]:
        settings = {"data_dir": features_dir, "save_dir": tmp_path / "runs", "label_ratio": 0.2, **LONG, **changes}
        return arguments(FEATURES, **settings)

    return make_argv


def latest(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / LATEST, weights_only=True))


def identity(path: Path) -> tuple[int, int] | None:
    """Another value after each time that a file was replaced; None without one."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns


def wait_for_saves(path: Path, count: int, child: ForkServerProcess) -> None:
    """Return as soon as the child has replaced this file so many times, or some more."""
    for _ in range(count):
        before = identity(path)
        wait_for(lambda before=before: identity(path) not in (before, None), child.is_alive, pause=0.001)


def test_killed_at_any_moment_the_latest_checkpoint_is_whole_and_the_run_goes_on(
    command: Callable[..., list[str]],
    train: Any,
    features_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """kill -9 at random moments of a run that saves after every step: in its start, and after some steps."""
    folder, log, rng = tmp_path / "runs" / "run", tmp_path / "log.txt", random.Random(0)
    steps = [0]
    for number in range(KILLS):
        log.unlink(missing_ok=True)
        extra = {"resume": "true"} if number else {"overwrite": "true"}
        child = fork(front_door(command(**extra), log))
        wait_for(log.is_file, child.is_alive)
        saves = rng.randrange(5) if number else 1
        wait_for_saves(folder / LATEST, saves, child)
        pass_some_time(0.02 if saves else 0.3, rng)
        send(child, signal.SIGKILL)
        assert status_of(child) == -signal.SIGKILL, log.read_text()
        steps.append(latest(folder)["it"])
        assert steps[-1] >= steps[-2] + saves
        RunFolder(folder).read_metrics()
    assert steps[-1] > KILLS
    # After fifty kills the run is where an uninterrupted one would be.
    with monkeypatch.context() as patch:
        die_at(steps[-1], patch)
        with pytest.raises(Killed):
            train(FEATURES, **{**LONG, "save_name": "quiet"}, data_dir=features_dir, label_ratio=0.2)
    assert_same(latest(tmp_path / "runs" / "quiet"), latest(folder))
    record_property("kills survived", KILLS)


def hold_at(step: int) -> None:
    """Let the run wait after this step until it is asked to stop."""
    must_stop = TrainingLoop.must_stop

    def wait_and_ask(self: TrainingLoop) -> bool:
        if self.it == step:
            wait_for(self.stop_requested)
        return must_stop(self)

    pytest.MonkeyPatch().setattr(TrainingLoop, "must_stop", wait_and_ask)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_request_to_stop_saves_and_names_resume(
    number: signal.Signals, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder, log = tmp_path / "runs" / "run", tmp_path / "log.txt"
    quick = {"num_save_iter": 0, "num_workers": 1, "num_train_iter": 60, "epoch": 4}
    child = fork(front_door(command(**quick), log, partial(hold_at, 3)))
    wait_for_text(folder / "log.txt", "run folder", child)
    send(child, number)
    assert status_of(child) == 130
    step = latest(folder)["it"]
    assert 0 < step <= 3
    assert f"stopped at step {step} of" in log.read_text()
    assert "--resume" in log.read_text()
    assert status_of(fork(front_door(command(**quick, resume="true"), log))) == 0


def never_end_a_step() -> None:
    torch.Tensor.backward = lambda *args, **kwargs: never_end()


def test_a_second_request_ends_it_at_once(command: Callable[..., list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    child = fork(front_door(command(), log, never_end_a_step))
    wait_for_text(tmp_path / "runs" / "run" / "log.txt", "run folder", child)
    send(child, signal.SIGINT)
    wait_for_text(log, "once more stops at once", child)
    send(child, signal.SIGINT)
    assert status_of(child) == -signal.SIGINT


def test_two_processes_do_not_share_a_folder(command: Callable[..., list[str]], tmp_path: Path) -> None:
    log, other = tmp_path / "log.txt", tmp_path / "other.txt"
    child = fork(front_door(command(), log))
    wait_for((tmp_path / "runs" / "run" / LATEST).is_file, child.is_alive)
    for extra in ({"resume": "true"}, {"overwrite": "true"}):
        assert status_of(fork(front_door(command(**extra), other))) == 2
        assert "in use by another process" in other.read_text()
        assert "Traceback" not in other.read_text()
    send(child, signal.SIGKILL)
    assert status_of(child) == -signal.SIGKILL
    again = fork(front_door(command(resume="true"), other))  # a killed process holds no lock
    wait_for_text(tmp_path / "runs" / "run" / "log.txt", "resumed at step", again)
    send(again, signal.SIGTERM)
    assert status_of(again) == 130


def limit_file_size(size: int) -> None:
    """As on a full disk: the system refuses to write more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_file_that_cannot_grow_leaves_the_older_one(command: Callable[..., list[str]], tmp_path: Path) -> None:
    folder, log = tmp_path / "runs" / "run", tmp_path / "log.txt"
    child = fork(front_door(command(), log))
    wait_for((folder / LATEST).is_file, child.is_alive)
    send(child, signal.SIGTERM)
    assert status_of(child) == 130
    before = (folder / LATEST).read_bytes()
    child = fork(front_door(command(resume="true"), log, partial(limit_file_size, len(before) // 2)))
    assert status_of(child) == 2
    output = log.read_text()
    assert f"'{folder / LATEST}' cannot be written" in output
    assert "Traceback" not in output
    assert (folder / LATEST).read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp.pth")]


def test_a_log_that_cannot_grow_ends_it_in_a_sentence(
    command: Callable[..., list[str]], train: Any, features_dir: Path, tmp_path: Path
) -> None:
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, save_name="run")
    with open(folder / "log.txt", "a") as log:
        log.write("#" * 1_000_000)
    before, output = (folder / LATEST).read_bytes(), tmp_path / "output.txt"
    argv = short_run(FEATURES, tmp_path / "runs", data_dir=features_dir, label_ratio=0.2, resume="true")
    assert status_of(fork(front_door(argv, output, partial(limit_file_size, 1_000_000)))) == 2
    assert has_line(output.read_text(), f"'{folder / 'log.txt'}'", "cannot be written", "File too large")
    assert "Traceback" not in output.read_text()
    assert (folder / LATEST).read_bytes() == before


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_a_fault_in_a_file_of_another_package_is_a_sentence(
    fault: int, features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(fault, os.strerror(fault), "events.out")

    monkeypatch.setattr("semilearn_bbam.run.TBLog", refuse)
    argv = short_run(FEATURES, tmp_path / "runs", data_dir=features_dir, label_ratio=0.2, use_tensorboard="true")
    assert train_script.main(argv) == 2
    assert f"([Errno {fault}] {os.strerror(fault)}: 'events.out')" in capsys.readouterr().err


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
