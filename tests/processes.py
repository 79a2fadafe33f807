"""Runs in processes of their own, forked so that nothing has to be imported again."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import train


def fork(work: Callable[[], Any]) -> int:
    """The id of a child that does this work and ends with its number, 0 for None."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        os._exit(work() or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def front_door(argv: list[str], log: Any) -> Callable[[], int]:
    """`train.py` with these arguments, what it says in a file."""

    def work() -> int:
        file = open(log, "w", buffering=1)  # open until the process ends
        sys.stdout = sys.stderr = file
        os.dup2(file.fileno(), 2)  # for what does not go through Python's streams
        return train.main(argv)

    return work


def status_of(child: int) -> int:
    """Exit status of a child, -N where signal N ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def as_rank(rank: int, size: int, port: str, work: Callable[[], Any]) -> Callable[[], Any]:
    """The work in a process whose variables are as torchrun sets them."""

    def one() -> Any:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        return work()

    return one


def shared(argv: list[str], folder: Path, door: Any = front_door) -> list[int]:
    """Exit statuses of a run in two processes."""
    port = free_port()
    children = [fork(as_rank(rank, 2, port, door(argv, folder / f"log{rank}.txt"))) for rank in range(2)]
    return [status_of(child) for child in children]
