"""Two processes that share a run do what one does with the same batches."""

from __future__ import annotations

import contextlib
import json
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

from semilearn_bbam.algorithms.lifted_states import MLVAT
from semilearn_bbam.run_folder import LATEST, RESULTS, RunFolder
from semilearn_bbam.world import World
from tests.conftest import FEATURES, arguments
from tests.methods import CASE_IDS, CASES
from tests.processes import as_rank, fork, free_port, front_door, status_of
from tests.test_resume import assert_same_run, die_at

ROOT = Path(__file__).parents[1]
# Odd numbers of rows everywhere, and nothing random in a step.
SETTINGS = {"num_labels": 31, "label_ratio": 0, "strong": "none", "eval_batch_size": 7, "epoch": 3, "num_threads": 1}
SETTINGS |= {"warmup_epochs": 1, "warmup_iter_per_epoch": 2, "num_train_iter": 9, "device": "cpu", "num_log_iter": 1}
# A net with batch normalisation; AdamW would make steps of one size of gradients that are no more than rounding.
IMAGES = {"config": "bbam_digits.yaml", "num_labels": 41, "optim": "SGD"}
# What a method draws in a step, and each process for itself; `without_noise` stills the rest.
STILL: dict[str, dict[str, Any]] = {
    "bbam_plus": {"mixup": 0},
    "ml_mixmatch": {"mixup_alpha": 0},
    "ml_remixmatch": {"mixup_alpha": 0},
}
# Short memories and low thresholds, so that few steps leave traces in both.
LIVELY = {"ema_p": 0.5, "p_cutoff": 0.6}


def lively(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a method's test row with which a step shows, and draws nothing by itself."""
    known = {argument.name.removeprefix("--") for argument in ALGORITHMS[name].get_argument()}
    return {key: value for key, value in LIVELY.items() if key in known} | options | STILL.get(name, {})


# One for each way to share: means over rows; running means; a term over a whole batch; own optimisers; a perturbation.
FAST = ("bbam", "cap", "supervised_bam", "ml_freematch", "dicap", "drml", "flatmatch")
SHARED = [
    *(
        pytest.param(name, lively(name, options), id=id, marks=[] if id in FAST else pytest.mark.slow)
        for (name, options), id in zip(CASES, CASE_IDS, strict=True)
    ),
    pytest.param("cap", IMAGES, id="cap, images"),
    # All negatives: which of two equally near ones is a candidate hangs on a last digit.
    pytest.param("bbam", IMAGES | {"negatives": "all"}, id="bbam, images", marks=pytest.mark.slow),
    *(
        pytest.param(name, IMAGES, id=f"{name}, images", marks=pytest.mark.slow)
        for name in ("ml_softmatch", "ml_meanteacher", "flatmatch", "d2l")
    ),
]


@pytest.fixture
def command(features_dir: Path, tmp_path: Path) -> Callable[..., list[str]]:
    torch.set_num_threads(1)

    def one(config: str = FEATURES, **changes: Any) -> list[str]:
        data = {"data_dir": features_dir} if config == FEATURES else {}
        return arguments(config, **SETTINGS | data | {"save_dir": tmp_path / "runs"} | changes)

    return one


def shared(argv: list[str], tmp_path: Path, door: Any = front_door) -> list[int]:
    """Exit statuses of a run in two processes."""
    port = free_port()
    children = [fork(as_rank(rank, 2, port, door(argv, tmp_path / f"log{rank}.txt"))) for rank in range(2)]
    return [status_of(child) for child in children]


def without_noise(door: Any) -> Any:
    """The same front door to a process in which no step draws noise, or learns from what is rounded."""

    def opened(argv: list[str], log: Path) -> Callable[[], int]:
        def work() -> int:
            patch = pytest.MonkeyPatch()
            patch.setattr(torch, "randn_like", torch.ones_like)
            patch.setattr(torch.distributions.normal, "_standard_normal", torch.ones)
            # VAT's first step is so short that float32 leaves noise of the difference that it makes.
            patch.setattr(MLVAT.vat_loss, "__defaults__", (0.1, 6, 1))
            return door(argv, log)()

        return work

    return opened


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


def assert_same_runs(one: Path, two: Path, steps_logged: int) -> None:
    """Losses, weights, averages, pseudo-labels, masks, statistics and metrics."""
    first, second = (torch.load(folder / LATEST, weights_only=True) for folder in (one, two))
    assert list(first) == list(second)
    for part in first.keys() - {"optimizer", "seconds", "random", "random_at_epoch"}:
        assert_close(first[part], second[part], part)
    for before, after in zip(RunFolder(one).read_metrics(), RunFolder(two).read_metrics(), strict=True):
        assert before.keys() == after.keys()
        assert_close({k: v for k, v in before.items() if k != "seconds"}, after, "metrics.jsonl")
    before, after = (json.loads((folder / RESULTS).read_text()) for folder in (one, two))
    for part in ("test", "test_prior"):
        assert_close(before[part], after[part], part)
    losses = [[line.split("loss ")[1].split(",")[0] for line in (folder / "log.txt").read_text().splitlines()
               if "loss " in line] for folder in (one, two)]  # fmt: skip
    assert len(losses[0]) == steps_logged
    assert [float(x) for x in losses[0]] == pytest.approx([float(x) for x in losses[1]], abs=2e-4)


@pytest.mark.parametrize(("algorithm", "changes"), SHARED)
def test_two_processes_equal_one(
    algorithm: str, changes: dict[str, Any], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Every test row counts once; layers that look at a whole batch see all of it."""
    alone = command(algorithm=algorithm, save_name="one", **changes)
    quiet = without_noise(front_door)
    assert status_of(fork(quiet(alone, tmp_path / "log.txt"))) == 0, (tmp_path / "log.txt").read_text()
    statuses = shared(command(algorithm=algorithm, save_name="two", **changes), tmp_path, quiet)
    assert statuses == [0, 0], (tmp_path / "log0.txt").read_text() + (tmp_path / "log1.txt").read_text()
    assert_same_runs(tmp_path / "runs" / "one", tmp_path / "runs" / "two", 3)


@pytest.mark.parametrize(("algorithm", "step"), [("bbam", 2), ("bbam", 4), ("ml_flexmatch", 4)])
def test_a_shared_run_that_goes_on_equals_a_straight_one(
    algorithm: str, step: int, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Bit for bit, with the random views that each process draws by itself; after an epoch and within one."""
    random = {"algorithm": algorithm, "strong": "auto", "num_save_iter": 1}

    def dying(argv: list[str], log: Path) -> Callable[[], int]:
        def work() -> int:
            die_at(step, pytest.MonkeyPatch())
            return front_door(argv, log)()

        return work

    assert shared(command(save_name="straight", **random), tmp_path) == [0, 0]
    assert shared(command(save_name="broken", **random), tmp_path, dying) == [99, 99]
    broken = tmp_path / "runs" / "broken"
    assert torch.load(broken / LATEST, weights_only=True)["it"] == step
    statuses = shared(command(save_name="broken", resume="true", **random), tmp_path)
    assert statuses == [0, 0], (tmp_path / "log0.txt").read_text() + (tmp_path / "log1.txt").read_text()
    assert_same_run(tmp_path / "runs" / "straight", broken)


def test_a_shared_run_that_is_asked_to_stop_saves(command: Callable[..., list[str]], tmp_path: Path) -> None:
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
        ({"loss_reduction": "sum"}, "shares no batches between processes with loss_reduction: sum; set mean, or"),
        ({"batch_size": 3}, "a batch of 3 cannot be shared by 2 processes"),
        ({"num_labels": 1}, "1 row(s) cannot be read by 2 processes"),
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
def test_torchrun_equals_one_process(torchrun: Any, command: Callable[..., list[str]], tmp_path: Path) -> None:
    assert status_of(fork(front_door(command(save_name="one"), tmp_path / "log.txt"))) == 0
    job = torchrun(command(save_name="two"))
    said, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    assert said.count("| bbam ") == 1
    assert_same_runs(tmp_path / "runs" / "one", tmp_path / "runs" / "two", 3)


@pytest.mark.slow
def test_torchrun_ends_where_a_process_is_killed(
    torchrun: Any, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    job, log = torchrun(command(save_name="x", num_train_iter=600000, epoch=20)), tmp_path / "runs" / "x" / "log.txt"
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
        mine = (rows @ weight)[world.rank :: world.size]
        found = world.whole(mine)
        mask = world.whole(kept[world.rank :: world.size])
        assert mask.equal(kept)
        seen = (found.unsqueeze(2) * start[:, :3].T[0, :4]).transpose(0, 1)  # [4,6,4]
        similar = (seen @ seen.transpose(1, 2)).logsumexp(2)[:, mask].mean()
        loss = similar + found.cumsum(0).square().mean() + world.total(mine.sum()).exp() / 1e3
        (loss + world.average(mine.square().mean()).sqrt()).backward()
        assert weight.grad is not None
        return found.detach(), world.average(weight.grad)

    def work() -> None:
        world = World.join("cpu")
        torch.save(gradient(world), tmp_path / f"{world.rank}.pt")
        World.leave()

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
            parts = [list(World(rank, size).share(count)) for rank in range(size)]
            assert sum(parts, []) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
