"""Runs in several processes: operations between ranks, and the end of all of them when one stops."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.runs.folder import LATEST
from semilearn_bbam.util.distributed import World
from tests.conftest import has_line
from tests.processes import (
    LIMIT,
    fork,
    fork_shared,
    fork_two,
    front_door,
    send,
    shared,
    status_of,
    statuses_of,
    wait_for,
    wait_for_text,
)
from tests.test_resume import assert_same_run, die_at
from tests.test_world_methods import assert_same_runs

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("algorithm", "step"), [("bbam", 2), ("bbam", 4), ("ml_flexmatch", 4)])
def test_a_shared_run_that_goes_on_equals_a_straight_one(
    algorithm: str, step: int, shareable: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Bit for bit, with the random views that each process draws by itself; after an epoch and within one."""
    random = {"algorithm": algorithm, "strong": "auto", "num_save_iter": 1}

    assert shared(shareable(save_name="straight", **random), tmp_path) == [0, 0]
    assert shared(shareable(save_name="broken", **random), tmp_path, partial(die_at, step)) == [99, 99]
    broken = tmp_path / "runs" / "broken"
    assert torch.load(broken / LATEST, weights_only=True)["it"] == step
    statuses = shared(shareable(save_name="broken", resume="true", **random), tmp_path)
    assert statuses == [0, 0], (tmp_path / "log0.txt").read_text() + (tmp_path / "log1.txt").read_text()
    assert_same_run(tmp_path / "runs" / "straight", broken)


def test_a_shared_run_that_is_asked_to_stop_saves(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    long = {"save_name": "long", "num_train_iter": 6000, "epoch": 20, "strong": "auto"}
    children = fork_shared(shareable(**long), tmp_path)
    folder = tmp_path / "runs" / "long"
    wait_for((folder / LATEST).is_file, children[0].is_alive)
    for child in children:
        send(child, signal.SIGTERM)
    assert statuses_of(children) == [130, 130]
    step = torch.load(folder / LATEST, weights_only=True)["it"]
    assert f"stopped at step {step}" in (tmp_path / "log0.txt").read_text()
    single_process = front_door([*shareable(**long), "--resume"], tmp_path / "log.txt")
    assert status_of(fork(single_process)) == 2
    assert has_line((tmp_path / "log.txt").read_text(), "2 process(es)", "not 1")


def test_what_cannot_be_shared_is_named(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    for changes, words in (
        ({"loss_reduction": "sum"}, ("loss_reduction: sum", "set mean")),
        ({"batch_size": 3}, ("a batch of 3", "2 processes", "a multiple")),
        ({"num_labels": 1}, ("1 row(s)", "2 processes", "start fewer")),
    ):
        assert shared(shareable(save_name="x", **changes), tmp_path) == [2, 2]
        message = (tmp_path / "log0.txt").read_text()
        assert all(word in message for word in words), message
        assert not (tmp_path / "runs" / "x").exists()


def share_nothing() -> None:
    pytest.MonkeyPatch().setattr(MultiLabelAlgorithm, "shares_batches", False)
    pytest.MonkeyPatch().delattr(ALGORITHMS["bbam"], "shares_batches")


def test_a_method_that_shares_nothing_is_refused(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    assert shared(shareable(save_name="x"), tmp_path, share_nothing) == [2, 2]
    message = (tmp_path / "log0.txt").read_text()
    assert all(words in message for words in ("bbam ", "several processes", "without torchrun")), message


def test_a_killed_process_ends_the_others_soon(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    children = fork_shared(shareable(save_name="x", num_train_iter=60000, epoch=20), tmp_path)
    wait_for_text(tmp_path / "runs" / "x" / "log.txt", "step ", children[0])
    send(children[1], signal.SIGKILL)
    assert status_of(children[1]) == -signal.SIGKILL
    assert status_of(children[0], seconds=60) == 2  # gloo's own limit is ten minutes
    assert "--resume" in (tmp_path / "log0.txt").read_text()


@pytest.fixture
def torchrun() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`torchrun(argv)`: train.py in two processes, as the README starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    jobs: list[subprocess.Popen[str]] = []

    def start_job(argv: list[str]) -> subprocess.Popen[str]:
        command = [*launcher, str(ROOT / "train.py"), *argv]
        job = subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True)
        jobs.append(job)
        return job

    yield start_job
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)


@pytest.mark.slow
def test_torchrun_equals_one_process(torchrun: Any, shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    assert status_of(fork(front_door(shareable(save_name="one"), tmp_path / "log.txt"))) == 0
    job = torchrun(shareable(save_name="two"))
    output, errors = job.communicate(timeout=3 * LIMIT)
    assert job.returncode == 0, errors
    assert output.count("| bbam ") == 1
    assert_same_runs(tmp_path / "runs" / "one", tmp_path / "runs" / "two", 3)


@pytest.mark.slow
def test_torchrun_ends_where_a_process_is_killed(
    torchrun: Any, shareable: Callable[..., list[str]], tmp_path: Path
) -> None:
    job, log = torchrun(shareable(save_name="x", num_train_iter=600000, epoch=20)), tmp_path / "runs" / "x" / "log.txt"
    wait_for(lambda: log.exists() and "run folder" in log.read_text(), lambda: job.poll() is None)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, errors = job.communicate(timeout=LIMIT)
    assert job.returncode != 0
    assert "SIGKILL" in errors


def whole_batch_gradient(world: World) -> tuple[torch.Tensor, torch.Tensor]:
    """Gathered rows, and the gradient of a loss that gets it back in many ways, in float64."""
    generator = torch.Generator().manual_seed(0)
    rows, start = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    mask_rows = torch.tensor([True, False, True, True, False, True])
    weight = start[:4].clone().requires_grad_()
    part = (rows @ weight)[world.rank :: world.world_size]
    gathered = world.gather_batch(part)
    mask = world.gather_batch(mask_rows[world.rank :: world.world_size])
    assert mask.equal(mask_rows)
    products = (gathered.unsqueeze(2) * start[:, :3].T[0, :4]).transpose(0, 1)  # [4,6,4]
    similar = (products @ products.transpose(1, 2)).logsumexp(2)[:, mask].mean()
    loss = similar + gathered.cumsum(0).square().mean() + world.all_reduce(part.sum()).exp() / 1e3
    (loss + world.all_reduce_mean(part.square().mean()).sqrt()).backward()
    assert weight.grad is not None
    return gathered.detach(), world.all_reduce_mean(weight.grad)


def save_gradient(folder: Path) -> None:
    world = World.init("cpu")
    torch.save(whole_batch_gradient(world), folder / f"{world.rank}.pt")
    World.destroy()


def test_a_loss_of_the_whole_batch_has_the_gradients_of_one_process(tmp_path: Path) -> None:
    """However the gradients come back: in the order of the rows, transposed, or of numbers of them only."""
    assert statuses_of(fork_two([partial(save_gradient, tmp_path)] * 2)) == [0, 0]
    single = whole_batch_gradient(World())
    for rank in range(2):
        for expected, actual in zip(single, torch.load(tmp_path / f"{rank}.pt", weights_only=True), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_shards_are_consecutive_and_no_row_is_in_two() -> None:
    for size in (1, 2, 3, 5):
        for count in (0, 1, 2, 7, 60):
            parts = [list(World(rank, size).shard(count)) for rank in range(size)]
            assert sum(parts, []) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
