"""Ctrl-C and SIGTERM before training ends as they do during training: exit code 130, a sentence, and nothing lost."""

from __future__ import annotations

import os
import pkgutil
import random
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train as train_script
from semilearn_bbam.util.signals import BEFORE_TRAINING as BEFORE
from semilearn_bbam.util.signals import CAUGHT, ExitAtSignal, StopSignals, exit_at_signals, interruptible
from tests.conftest import FEATURES, short_run
from tests.processes import LIMIT, ROOT, fork, front_door, never_end, pass_some_time, send, status_of, wait_for

# A package that takes long to import, within another one that goes on without it.
SLOW_IMPORT = """
import pathlib, time
try:
    pathlib.Path({mark!r}).touch()
    time.sleep({seconds})
except BaseException:
    pass
raise ImportError("it was not interrupted")
"""
TRIES = 10


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def older(features_dir: Path, tmp_path: Path) -> dict[str, bytes]:
    """What `save_dir` holds, a finished run, when another one is to replace that."""
    assert train_script.main(short_run(FEATURES, tmp_path / "runs", data_dir=features_dir, label_ratio=0.2)) == 0
    return content(tmp_path / "runs")


@pytest.fixture
def replacing(features_dir: Path, tmp_path: Path) -> list[str]:
    """The command line of a run that takes the place of the older one."""
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "seed": 1, "num_train_iter": 1500, "epoch": 20}
    return [*short_run(FEATURES, tmp_path / "runs", **settings), "--overwrite"]


@pytest.mark.parametrize("number", CAUGHT)
@pytest.mark.parametrize("program", [["train.py"], ["-m", "semilearn_bbam", "train"]], ids=["train.py", "package"])
def test_in_the_imports(program: list[str], number: signal.Signals, replacing: list[str], tmp_path: Path) -> None:
    mark = tmp_path / "importing"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "semilearn.py").write_text(SLOW_IMPORT.format(mark=str(mark), seconds=2 * LIMIT))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'slow'}{os.pathsep}{ROOT}"}
    command = [sys.executable, *program, *replacing]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(mark.is_file, lambda: process.poll() is None)
            process.send_signal(number)
            _, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (process.returncode, errors.count(BEFORE)) == (130, 1), errors
    assert "Traceback" not in errors


def hold_in_loading(mark: Path, swallow: bool) -> None:
    """Let the reading of data wait, and go on without an exception that a signal raises there if it is swallowed."""
    load = np.load

    def wait_and_load(*args: Any, **options: Any) -> Any:
        mark.touch()
        try:
            never_end()
        except BaseException:
            if not swallow:
                raise
        return load(*args, **options)

    pytest.MonkeyPatch().setattr(np, "load", wait_and_load)


@pytest.mark.parametrize("swallow", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("number", CAUGHT)
def test_in_data_loading(
    number: signal.Signals, swallow: bool, older: dict[str, bytes], replacing: list[str], tmp_path: Path
) -> None:
    mark, log = tmp_path / "loading", tmp_path / "log.txt"
    child = fork(front_door(replacing, log, partial(hold_in_loading, mark, swallow)))
    wait_for(mark.is_file, child.is_alive)
    send(child, number)
    assert status_of(child) == 130
    assert BEFORE in log.read_text()
    assert "Traceback" not in log.read_text()
    assert content(tmp_path / "runs") == older


def interrupt_after(function: str) -> None:
    """Let the process get SIGTERM as soon as a function has returned for the first time."""
    original, numbers = pkgutil.resolve_name(function), [signal.SIGTERM]

    def interrupted(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        if numbers:
            os.kill(os.getpid(), numbers.pop())
        return result

    pytest.MonkeyPatch().setattr(function, interrupted)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("semilearn_bbam.run.resolve_device", BEFORE),
        ("semilearn_bbam.runs.folder.FileLock.acquire", BEFORE),
        ("os.replace", BEFORE),  # the older run has made way
        ("semilearn_bbam.runs.folder.RunFolder.prepare", BEFORE),
        ("semilearn_bbam.run.seed_everything", BEFORE),
        ("semilearn_bbam.runs.folder.RunFolder.keep", "stopped at step 1 of"),
    ],
    ids=["device", "lock", "older run moved", "folder", "seed", "older run deleted"],
)
def test_between_two_steps_of_the_start(
    function: str, sentence: str, older: dict[str, bytes], replacing: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    assert status_of(fork(front_door(replacing, log, partial(interrupt_after, function)))) == 130
    assert sentence in log.read_text()
    assert "Traceback" not in log.read_text()
    assert ".run.replaced" not in {path.name for path in (tmp_path / "runs").iterdir()}
    assert (content(tmp_path / "runs") == older) == (sentence == BEFORE)


def test_at_any_moment(older: dict[str, bytes], replacing: list[str], tmp_path: Path) -> None:
    """From the first line on; a run that has begun has taken the place of the older one, and can go on."""
    log, rng = tmp_path / "log.txt", random.Random(0)
    for _ in range(TRIES):
        log.unlink(missing_ok=True)
        child = fork(front_door(replacing, log))
        wait_for(log.is_file, child.is_alive)
        pass_some_time(0.3, rng)
        send(child, signal.SIGTERM)
        assert status_of(child) == 130, log.read_text()
        if BEFORE in log.read_text():
            assert content(tmp_path / "runs") == older
        else:
            assert "stopped at step" in log.read_text()
            older = content(tmp_path / "runs")
        assert "run/latest_model.pth" in older


def test_after_the_last_step_nothing_is_lost(features_dir: Path, tmp_path: Path) -> None:
    argv = short_run(FEATURES, tmp_path / "runs", data_dir=features_dir, label_ratio=0.2)
    log = tmp_path / "log.txt"
    child = fork(front_door(argv, log, partial(interrupt_after, "semilearn_bbam.util.signals.StopSignals.__exit__")))
    assert status_of(child) == 130
    assert BEFORE not in log.read_text()
    assert "what was saved" in log.read_text()
    assert (tmp_path / "runs" / "run" / "results.json").is_file()


def test_handlers_are_as_before_afterwards() -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in CAUGHT]

    before = handlers()
    try:
        with interruptible():
            assert handlers() != before
            with StopSignals():
                pass
        assert handlers() == before
        exit_at_signals("a sentence")
        assert all(isinstance(handler, ExitAtSignal) for handler in handlers())
        with interruptible():
            pass
        assert handlers() == [signal.default_int_handler, signal.SIG_DFL]
    finally:
        for number, handler in zip(CAUGHT, before, strict=True):
            signal.signal(number, handler)


def test_another_thread_takes_no_handlers() -> None:
    before, done = [signal.getsignal(number) for number in CAUGHT], []

    def work() -> None:
        exit_at_signals("a sentence")
        with interruptible(), StopSignals():
            done.append([signal.getsignal(number) for number in CAUGHT])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LIMIT)
    assert done == [before]


def test_a_process_that_does_not_end_fails_its_test() -> None:
    child = fork(never_end)
    with pytest.raises(pytest.fail.Exception, match="did not end within 0.1 s"):
        status_of(child, 0.1)
    with pytest.raises(pytest.fail.Exception, match="did not come within 0.1 s"):
        wait_for(lambda: False, seconds=0.1)
    child.join(LIMIT)
    assert child.exitcode == -signal.SIGKILL
    with pytest.raises(pytest.fail.Exception, match="ended before"):
        wait_for(lambda: False, child.is_alive)


def hold_the_lock_of_tqdm(mark: Path) -> None:
    from tqdm import tqdm

    with tqdm.get_lock():
        mark.touch()
        never_end()


def take_the_lock_of_tqdm() -> None:
    from tqdm import tqdm

    with tqdm.get_lock():
        pass


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """tqdm's own lock is one for a process and all that are forked from it."""
    take_the_lock_of_tqdm()  # it exists from here on
    child = fork(partial(hold_the_lock_of_tqdm, tmp_path / "held"))
    wait_for((tmp_path / "held").is_file, child.is_alive)
    send(child, signal.SIGKILL)
    assert status_of(child) == -signal.SIGKILL
    assert status_of(fork(take_the_lock_of_tqdm)) == 0
    take_the_lock_of_tqdm()
