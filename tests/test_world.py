"""Processes that share a run: what they tell each other, and what becomes of them when one of them stops."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.runs.folder import LATEST
from semilearn_bbam.util.distributed import World
from tests.processes import as_rank, fork, free_port, front_door, shared, status_of
from tests.test_resume import assert_same_run, die_at
from tests.test_world_methods import assert_same_runs

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("algorithm", "step"), [("bbam", 2), ("bbam", 4), ("ml_flexmatch", 4)])
def test_a_shared_run_that_goes_on_equals_a_straight_one(
    algorithm: str, step: int, shareable: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Bit for bit, with the random views that each process draws by itself; after an epoch and within one."""
    random = {"algorithm": algorithm, "strong": "auto", "num_save_iter": 1}

    def dying(argv: list[str], log: Path) -> Callable[[], int]:
        def work() -> int:
            die_at(step, pytest.MonkeyPatch())
            return front_door(argv, log)()

        return work

    assert shared(shareable(save_name="straight", **random), tmp_path) == [0, 0]
    assert shared(shareable(save_name="broken", **random), tmp_path, dying) == [99, 99]
    broken = tmp_path / "runs" / "broken"
    assert torch.load(broken / LATEST, weights_only=True)["it"] == step
    statuses = shared(shareable(save_name="broken", resume="true", **random), tmp_path)
    assert statuses == [0, 0], (tmp_path / "log0.txt").read_text() + (tmp_path / "log1.txt").read_text()
    assert_same_run(tmp_path / "runs" / "straight", broken)


def test_a_shared_run_that_is_asked_to_stop_saves(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    long = {"save_name": "long", "num_train_iter": 6000, "epoch": 20, "strong": "auto"}
    port = free_port()
    children = [
        fork(as_rank(rank, 2, port, front_door(shareable(**long), tmp_path / f"log{rank}.txt"))) for rank in range(2)
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
    alone = front_door([*shareable(**long), "--resume"], tmp_path / "log.txt")
    assert status_of(fork(alone)) == 2
    assert "was made by 2 process(es), not 1" in (tmp_path / "log.txt").read_text()


def test_what_cannot_be_shared_is_said(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    for changes, told in (
        ({"loss_reduction": "sum"}, "loss_reduction: sum is not shared between processes; set mean, or"),
        ({"batch_size": 3}, "a batch of 3 cannot be shared by 2 processes"),
        ({"num_labels": 1}, "1 row(s) cannot be read by 2 processes"),
    ):
        port = free_port()
        argv = shareable(save_name="x", **changes)
        children = [fork(as_rank(rank, 2, port, front_door(argv, tmp_path / f"log{rank}.txt"))) for rank in range(2)]
        assert [status_of(child) for child in children] == [2, 2]
        assert told in (tmp_path / "log0.txt").read_text()
        assert not (tmp_path / "runs" / "x").exists()


def test_a_method_that_shares_nothing_says_so(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    def door(argv: list[str], log: Path) -> Callable[[], int]:
        def work() -> int:
            pytest.MonkeyPatch().setattr(MultiLabelAlgorithm, "shares_batches", False)
            pytest.MonkeyPatch().delattr(ALGORITHMS["bbam"], "shares_batches")
            return front_door(argv, log)()

        return work

    assert shared(shareable(save_name="x"), tmp_path, door) == [2, 2]
    assert "bbam shares no batches between processes; start it without torchrun" in (tmp_path / "log0.txt").read_text()


def test_a_killed_process_ends_the_others_soon(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    port = free_port()
    argv = shareable(save_name="x", num_train_iter=60000, epoch=20)
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


@pytest.fixture
def torchrun(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`torchrun(argv)`: train.py in two processes, as the README starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

    def one(argv: list[str]) -> subprocess.Popen[str]:
        command = [*start, str(ROOT / "train.py"), *argv]
        return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True)

    return one


@pytest.mark.slow
def test_torchrun_equals_one_process(torchrun: Any, shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    assert status_of(fork(front_door(shareable(save_name="one"), tmp_path / "log.txt"))) == 0
    job = torchrun(shareable(save_name="two"))
    said, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    assert said.count("| bbam ") == 1
    assert_same_runs(tmp_path / "runs" / "one", tmp_path / "runs" / "two", 3)


@pytest.mark.slow
def test_torchrun_ends_where_a_process_is_killed(
    torchrun: Any, shareable: Callable[..., list[str]], tmp_path: Path
) -> None:
    job, log = torchrun(shareable(save_name="x", num_train_iter=600000, epoch=20)), tmp_path / "runs" / "x" / "log.txt"
    try:
        end = time.monotonic() + 120
        while not (log.exists() and "run folder" in log.read_text()):
            assert time.monotonic() < end
            time.sleep(0.1)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        start = time.monotonic()
        _, errors = job.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode != 0
    assert "SIGKILL" in errors
    assert time.monotonic() - start < 60


def test_a_loss_of_the_whole_batch_has_the_gradients_of_one_process(tmp_path: Path) -> None:
    """However the gradients come back: in the order of the rows, transposed, or of numbers of them only."""
    generator = torch.Generator().manual_seed(0)
    rows, start = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    kept = torch.tensor([True, False, True, True, False, True])

    def gradient(world: World) -> tuple[torch.Tensor, torch.Tensor]:
        weight = start[:4].clone().requires_grad_()
        mine = (rows @ weight)[world.rank :: world.world_size]
        found = world.gather_batch(mine)
        mask = world.gather_batch(kept[world.rank :: world.world_size])
        assert mask.equal(kept)
        seen = (found.unsqueeze(2) * start[:, :3].T[0, :4]).transpose(0, 1)  # [4,6,4]
        similar = (seen @ seen.transpose(1, 2)).logsumexp(2)[:, mask].mean()
        loss = similar + found.cumsum(0).square().mean() + world.all_reduce(mine.sum()).exp() / 1e3
        (loss + world.all_reduce_mean(mine.square().mean()).sqrt()).backward()
        assert weight.grad is not None
        return found.detach(), world.all_reduce_mean(weight.grad)

    def work() -> None:
        world = World.init("cpu")
        torch.save(gradient(world), tmp_path / f"{world.rank}.pt")
        World.destroy()

    port = free_port()
    children = [fork(as_rank(rank, 2, port, work)) for rank in range(2)]
    assert [status_of(child) for child in children] == [0, 0]
    alone = gradient(World())
    for rank in range(2):
        for one, two in zip(alone, torch.load(tmp_path / f"{rank}.pt", weights_only=True), strict=True):
            torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-12)


def test_parts_are_neighbours_and_no_row_is_in_two() -> None:
    for size in (1, 2, 3, 5):
        for count in (0, 1, 2, 7, 60):
            parts = [list(World(rank, size).shard(count)) for rank in range(size)]
            assert sum(parts, []) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
