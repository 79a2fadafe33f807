"""Runs in processes that a clean fork server starts, and waits for them that have a limit.

The server imports the package once. It has one thread, has not touched a GPU and holds nothing of the test process;
each child has a write lock of tqdm that it shares with no other process, so that one that is killed blocks no other.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from tqdm import tqdm

import train
from semilearn_bbam.util.signals import BEFORE_TRAINING, exit_at_signals

ROOT = Path(__file__).parents[1]
LIMIT = 240.0  # seconds that a test waits for a state or for the end of a process; a busy machine needs a minute
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.conftest", "tests.processes"])
running: list[ForkServerProcess] = []


def fork(work: Callable[[], Any]) -> ForkServerProcess:
    """A child of the server that does this work, which can be pickled, and exits with its number, 0 for None."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # the server takes it from nowhere else
        forkserver.ensure_running()
    child = CONTEXT.Process(
        target=run_and_exit, args=(work, torch.get_num_threads(), multiprocessing.get_start_method())
    )
    child.start()
    running.append(child)
    return child


def run_and_exit(work: Callable[[], Any], threads: int, start_method: str) -> None:
    """End this process with the number that the work returns, 99 where it raises."""
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(threads)
    multiprocessing.set_start_method(start_method, force=True)  # of workers: the server's children have another one
    try:
        os._exit(work() or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def front_door(argv: list[str], log: Path, patch: Callable[[], object] | None = None) -> Callable[[], int]:
    """`train.py` with these arguments, its output in a file; `patch` is called first.

    It can be interrupted as soon as the file exists.
    """
    return partial(open_front_door, argv, log, patch)


def open_front_door(argv: list[str], log: Path, patch: Callable[[], object] | None) -> int:
    exit_at_signals(f"train.py: {BEFORE_TRAINING}")  # as train.py begins
    if patch is not None:
        patch()
    file = open(log, "w", buffering=1)  # open until the process ends
    sys.stdout = sys.stderr = file
    os.dup2(file.fileno(), 2)  # for what does not go through Python's streams
    return train.main(argv)


def status_of(child: ForkServerProcess, seconds: float = LIMIT) -> int:
    """Exit status of a child, -N where signal N ended it; the test fails where it does not end in time."""
    child.join(seconds)
    if child.exitcode is None:
        child.kill()
        pytest.fail(f"process {child.pid} did not end within {seconds} s")
    return child.exitcode


def statuses_of(children: Iterable[ForkServerProcess]) -> list[int]:
    return [status_of(child) for child in children]


def send(child: ForkServerProcess, number: signal.Signals) -> None:
    """Send a signal to a child, which must have started."""
    assert child.pid is not None
    os.kill(child.pid, number)


def wait_for(
    condition: Callable[[], object],
    alive: Callable[[], bool] = lambda: True,
    seconds: float = LIMIT,
    pause: float = 0.005,
) -> None:
    """Return as soon as a condition holds; the test fails after the limit, or where what makes it true has ended."""
    end = time.monotonic() + seconds
    while not condition():
        if not alive() and not condition():
            pytest.fail("the process ended before it was in the state that the test waits for")
        if time.monotonic() > end:
            pytest.fail(f"the state that the test waits for did not come within {seconds} s")
        time.sleep(pause)


def never_end() -> None:
    """Work that takes longer than the limit of those that wait for it."""
    time.sleep(2 * LIMIT)


def pass_some_time(seconds: float, rng: random.Random) -> None:
    """Let up to so many seconds pass, so that the next step comes at a random moment."""
    time.sleep(rng.uniform(0, seconds))


def wait_for_text(path: Path, text: str, child: ForkServerProcess) -> None:
    """Return as soon as a file of the child contains a text."""
    wait_for(lambda: path.is_file() and text in path.read_text(), child.is_alive)


def kill_all() -> None:
    """End the children that a test left."""
    while running:
        child = running.pop()
        if child.exitcode is None:
            child.kill()
            child.join(LIMIT)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def as_rank(rank: int, size: int, port: str, work: Callable[[], Any]) -> Callable[[], Any]:
    """The work in a process whose variables are as torchrun sets them."""
    return partial(work_as_rank, rank, size, port, work)


def work_as_rank(rank: int, size: int, port: str, work: Callable[[], Any]) -> Any:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    return work()


def fork_two(works: Iterable[Callable[[], Any]]) -> list[ForkServerProcess]:
    """Two processes that share a run, each with its work."""
    port = free_port()
    return [fork(as_rank(rank, 2, port, work)) for rank, work in enumerate(works)]


def fork_shared(argv: list[str], folder: Path, patch: Callable[[], object] | None = None) -> list[ForkServerProcess]:
    """Two processes that share a run, with their output in `log0.txt` and `log1.txt`."""
    return fork_two(front_door(argv, folder / f"log{rank}.txt", patch) for rank in range(2))


def shared(argv: list[str], folder: Path, patch: Callable[[], object] | None = None) -> list[int]:
    """Exit statuses of a run in two processes."""
    return statuses_of(fork_shared(argv, folder, patch))
