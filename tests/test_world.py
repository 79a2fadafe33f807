"""Two processes that share a run do what one does with the same batches."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.run_folder import LATEST, RESULTS, RunFolder
from semilearn_bbam.world import World
from tests.conftest import FEATURES, arguments
from tests.processes import fork, front_door, status_of

ROOT = Path(__file__).parents[1]
# Odd numbers of rows everywhere, and nothing random in a step.
SETTINGS = {"num_labels": 31, "label_ratio": 0, "strong": "none", "eval_batch_size": 7, "epoch": 3, "num_threads": 1}
SETTINGS |= {"warmup_epochs": 1, "warmup_iter_per_epoch": 2, "num_train_iter": 9, "device": "cpu", "num_log_iter": 1}
SHARED = ("bbam", "bam", "cap", "supervised_bam", "supervised_asl", "supervised_bce")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def as_rank(rank: int, size: int, port: str, work: Callable[[], int]) -> Callable[[], int]:
    """The work in a process whose variables are as torchrun sets them."""

    def one() -> int:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        return work()

    return one


@pytest.fixture
def command(features_dir: Path, tmp_path: Path) -> Callable[..., list[str]]:
    torch.set_num_threads(1)
    return lambda **changes: arguments(
        FEATURES, **SETTINGS | {"data_dir": features_dir, "save_dir": tmp_path / "runs"} | changes
    )


def shared(argv: list[str], tmp_path: Path, size: int = 2) -> list[int]:
    """Exit statuses of a run in two processes."""
    port = free_port()
    children = [fork(as_rank(rank, size, port, front_door(argv, tmp_path / f"log{rank}.txt"))) for rank in range(size)]
    return [status_of(child) for child in children]


def assert_close(one: Any, two: Any, where: str) -> None:
    if isinstance(one, torch.Tensor) and one.is_floating_point():
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=lambda text: f"{where}: {text}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where  # pseudo-labels and masks
    elif isinstance(one, dict):
        for key in one:
            assert_close(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5), where
    elif not isinstance(one, list):
        assert one == two, where


@pytest.mark.parametrize("algorithm", SHARED)
def test_two_processes_equal_one(algorithm: str, command: Callable[..., list[str]], tmp_path: Path) -> None:
    """Losses, weights, pseudo-labels, masks, statistics and metrics; every test row counts once."""
    assert status_of(fork(front_door(command(algorithm=algorithm, save_name="one"), tmp_path / "log.txt"))) == 0
    statuses = shared(command(algorithm=algorithm, save_name="two"), tmp_path)
    assert statuses == [0, 0], (tmp_path / "log0.txt").read_text() + (tmp_path / "log1.txt").read_text()
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    first, second = (torch.load(folder / LATEST, weights_only=True) for folder in (one, two))
    for part in ("model", "ema_model", "state", "it", "epoch"):
        assert_close(first[part], second[part], part)
    for before, after in zip(RunFolder(one).read_metrics(), RunFolder(two).read_metrics(), strict=True):
        assert before.keys() == after.keys()
        assert_close({k: v for k, v in before.items() if k != "seconds"}, after, "metrics.jsonl")
    before, after = (json.loads((folder / RESULTS).read_text()) for folder in (one, two))
    for part in ("test", "test_prior"):
        assert_close(before[part], after[part], part)
    losses = [[line.split("loss ")[1].split(",")[0] for line in (folder / "log.txt").read_text().splitlines()
               if "loss " in line] for folder in (one, two)]  # fmt: skip
    assert len(losses[0]) == 3
    assert [float(x) for x in losses[0]] == pytest.approx([float(x) for x in losses[1]], abs=2e-4)


def test_a_shared_run_goes_on_from_its_checkpoint(command: Callable[..., list[str]], tmp_path: Path) -> None:
    long = {"save_name": "long", "num_train_iter": 6000, "epoch": 20, "strong": "auto"}
    port = free_port()
    children = [
        fork(as_rank(rank, 2, port, front_door(command(**long), tmp_path / f"log{rank}.txt"))) for rank in range(2)
    ]
    folder = tmp_path / "runs" / "long"
    end = time.monotonic() + 60
    while not (folder / LATEST).is_file():
        assert time.monotonic() < end
        time.sleep(0.02)
    for child in children:
        os.kill(child, signal.SIGTERM)
    assert [status_of(child) for child in children] == [130, 130]
    step = torch.load(folder / LATEST, weights_only=True)["it"]
    assert f"stopped at step {step}" in (tmp_path / "log0.txt").read_text()
    alone = front_door([*command(**long), "--resume"], tmp_path / "log.txt")
    assert status_of(fork(alone)) == 2
    assert "was made by 2 process(es), not 1" in (tmp_path / "log.txt").read_text()


def test_what_cannot_be_shared_is_said(command: Callable[..., list[str]], tmp_path: Path) -> None:
    for changes, told in (
        ({"algorithm": "ml_softmatch"}, "trains in one process"),
        ({"batch_size": 3}, "a batch of 3 cannot be shared by 2 processes"),
    ):
        port = free_port()
        argv = command(save_name="x", **changes)
        children = [fork(as_rank(rank, 2, port, front_door(argv, tmp_path / f"log{rank}.txt"))) for rank in range(2)]
        assert [status_of(child) for child in children] == [2, 2]
        assert told in (tmp_path / "log0.txt").read_text()
        assert not (tmp_path / "runs" / "x").exists()


def test_a_killed_process_ends_the_others_soon(command: Callable[..., list[str]], tmp_path: Path) -> None:
    port = free_port()
    argv = command(save_name="x", num_train_iter=60000, epoch=20)
    children = [fork(as_rank(rank, 2, port, front_door(argv, tmp_path / f"log{rank}.txt"))) for rank in range(2)]
    end = time.monotonic() + 60
    while "run folder" not in (
        (tmp_path / "runs/x/log.txt").read_text() if (tmp_path / "runs/x/log.txt").exists() else ""
    ):
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(children[1], signal.SIGKILL)
    assert status_of(children[1]) == -signal.SIGKILL
    start = time.monotonic()
    assert status_of(children[0]) == 2
    assert time.monotonic() - start < 20
    assert "heard no more of another one" in (tmp_path / "log0.txt").read_text()


@pytest.mark.slow
def test_torchrun_starts_and_ends_it(command: Callable[..., list[str]], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(ROOT / "train.py"),
    ]
    done = subprocess.run([*run, *command(save_name="x")], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| bbam ") == 1


def test_parts_are_neighbours_and_no_row_is_in_two() -> None:
    for size in (1, 2, 3, 5):
        for count in (0, 1, 2, 7, 60):
            parts = [list(World(rank, size).share(count)) for rank in range(size)]
            assert sum(parts, []) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
