"""Runs of a grid on a real Ray cluster of two nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from semilearn_bbam.__main__ import main
from semilearn_bbam.compare import Job, read_grid, run_jobs
from semilearn_bbam.compare.executors import ray_cluster, remote
from semilearn_bbam.compare.executors.ray_cluster import RayExecutor
from semilearn_bbam.compare.making import folder_of, make
from semilearn_bbam.errors import UserError
from tests.conftest import CONFIGS, has_line
from tests.processes import ROOT, free_port, wait_for

GRID = "methods: [supervised_bce, cap]\ndatasets: [ohsumed_features]\nlabel_ratios: [0.2]\nseeds: [0, 1]\n"
SHORT = "--epoch 3 --warmup_epochs 1 --warmup_iter_per_epoch 2 --num_train_iter".split()
MEMORY = 80 * 1024**2  # bytes of each node's object store, the least that Ray takes

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray (the extra ray)")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        ray_cluster.load_ray()  # which sets what Ray reads when it is imported
        from ray.cluster_utils import Cluster

        # A dead node is noticed within seconds.
        health = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "_system_config": health}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.second = made.add_node(num_cpus=1, object_store_memory=MEMORY)
        yield made
        made.shutdown()


@pytest.fixture
def jobs_of(write: Callable[..., Path], tmp_path: Path, features_dir: Path) -> Callable[[int], list[Job]]:
    """`jobs_of(steps)`: four runs with so many steps."""
    (tmp_path / "config").symlink_to(CONFIGS)
    grid = replace(read_grid(write(GRID, "grid.yaml")), configs=CONFIGS)
    data = {"ohsumed_features": str(features_dir)}
    return lambda steps: grid.jobs(data, tmp_path / "runs", (*SHORT, str(steps)))


@needs_ray
@pytest.mark.timeout(300)
def test_a_cluster_makes_the_same_runs(
    cluster: Any, jobs_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(9)
    bad = replace(jobs[1], argv=(*jobs[1].argv, "--data_dir", "nowhere"))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    executor = partial(RayExecutor, tmp_path / "runs", cluster.address)
    results, failed = run_jobs([jobs[0], bad], 1, executor=executor)
    assert list(failed) == [bad]
    assert "nowhere" in failed[bad]
    here = make(jobs[0])
    assert isinstance(here, dict)
    assert results[0]["test"] == here["test"]
    assert has_line(capsys.readouterr().err, "Ray cluster of 2 nodes with 2 CPUs and 0 GPUs", "takes 1 and 0")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not list((tmp_path / "runs").glob(".compare-*"))
    again, _ = run_jobs(jobs[:1], 1, executor=pytest.fail)  # type: ignore[arg-type]  # finished: no cluster is needed
    assert again[0]["test"] == here["test"]


@needs_ray
@pytest.mark.timeout(300)
def test_an_interrupted_command_leaves_no_run_behind(cluster: Any, jobs_of: Any, tmp_path: Path) -> None:
    jobs = jobs_of(60_000)  # more than an hour

    class Interrupting(RayExecutor):
        def next(self) -> Any:
            wait_for((folder_of(jobs[0]) / "config.yaml").is_file)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs[:1], 1, executor=partial(Interrupting, tmp_path / "runs", cluster.address))
    short = replace(jobs[0], argv=(*jobs[0].argv, "--num_train_iter", "9"))
    assert isinstance(in_place(short), dict), "its folder is free again"


def in_place(job: Job) -> Any:
    """The outcome of a run, as soon as no other process has its folder."""
    outcomes: list[Any] = []
    wait_for(lambda: outcomes.append(make(job)) or "in use" not in str(outcomes[-1]), seconds=30, pause=0.5)
    return outcomes[-1]


@needs_ray
@pytest.mark.timeout(400)
def test_a_node_that_is_killed_in_the_middle_costs_no_run(
    cluster: Any, jobs_of: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(1200)

    def unfinished() -> list[Path]:
        folders = [folder_of(job) for job in jobs]
        return [path for path in folders if (path / "config.yaml").is_file() and not (path / "results.json").is_file()]

    in_the_middle: list[Path] = []

    def kill() -> None:
        wait_for(lambda: len(unfinished()) == 2)  # one on each node
        in_the_middle.extend(unfinished())
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = Thread(target=kill, daemon=True)
    killer.start()
    results, failed = run_jobs(jobs, 1, executor=partial(RayExecutor, tmp_path / "runs", cluster.address))
    killer.join(30)
    shown = capfd.readouterr()
    assert has_line(shown.err, "it is made again")
    assert "raylet" not in shown.out
    assert len(in_the_middle) == 2
    assert not cluster.worker_nodes
    assert not failed
    assert [(run["method"], run["seed"]) for run in results] == [(job.method, job.seed) for job in jobs]
    assert all((folder / "results.json").is_file() for folder in in_the_middle)


class NodeDied(Exception):
    pass


class WorkerCrashed(Exception):
    pass


class OutOfMemory(Exception):
    pass


class Failure(Exception):
    pass


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An executor whose tasks raise themselves."""

    def get(task: Exception) -> None:
        raise task

    names = {"NodeDiedError": NodeDied, "WorkerCrashedError": WorkerCrashed, "LocalRayletDiedError": NodeDied}
    errors = SimpleNamespace(**names, OutOfMemoryError=OutOfMemory, RayError=Exception)
    made = RayExecutor.__new__(RayExecutor)
    made.ray = SimpleNamespace(get=get, exceptions=errors)
    made.lost, made.waiting, made.running = Counter(), deque(), {}
    return made


@pytest.mark.parametrize("error", [NodeDied, WorkerCrashed])
def test_a_run_that_is_lost_again_and_again_is_given_up(executor: Any, error: type[Exception]) -> None:
    job = Job("cap", "d", 0.1, 0, ())
    outcomes = [executor._outcome(error("gone.\nmore"), job) for _ in range(remote.LOST + 1)]
    assert outcomes[:-1] == [None] * remote.LOST
    assert outcomes[-1] == "its process or its node was lost 4 times (gone)"
    assert executor._outcome(error("gone"), Job("cap", "d", 0.1, 1, ())) is None, "each run counts for itself"


def test_what_ran_out_of_memory_or_cannot_start_is_named_at_once(executor: Any) -> None:
    job = Job("cap", "d", 0.1, 0, ())
    assert "--cpus" in executor._outcome(OutOfMemory(), job)
    reason = executor._outcome(Failure("Traceback\n  line 3\nModuleNotFoundError: No module named 'x'\n"), job)
    assert reason == "Ray could not make it: ModuleNotFoundError: No module named 'x'"


def test_a_limit_holds_runs_back(executor: Any) -> None:
    executor.limit, executor.mark, executor.gpus = 2, "", 0
    executor.task = SimpleNamespace(remote=lambda job, *_: job.seed)
    jobs = [Job("cap", "d", 0.1, seed, ()) for seed in range(5)]
    executor.submit(*jobs)
    assert list(executor.running) == [0, 1]
    executor.running.pop(0)
    executor._fill()
    assert list(executor.running) == [1, 2]


@needs_ray
@pytest.mark.parametrize("place", ["auto", "typed"])
def test_without_a_cluster_the_command_says_so(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    if place == "auto":
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"--ray_address .*refused.*ray start --head") as error:
        RayExecutor(tmp_path / "runs", "auto" if place == "auto" else address)
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_package_is_named_with_its_cure(
    tmp_path: Path, features_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(CONFIGS)
    grid = CONFIGS / "compare" / "ablation.yaml"
    words = ["compare", str(grid), "--data_dir", f"ohsumed_features={features_dir}", "corel5k_features=x"]
    assert main([*words, "--executor", "ray"]) == 2
    error = capsys.readouterr().err
    assert 'pip install "semilearn-bbam[ray]"' in error
    assert len(error.splitlines()) == 1


def test_a_folder_that_is_not_shared_is_named(jobs_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs_of(9)[0]
    monkeypatch.setattr(remote, "UNTIL_VISIBLE", 0.0)
    monkeypatch.chdir(tmp_path)
    away = remote.make_there(job, str(tmp_path / "away"))
    assert all(word in away for word in (str(tmp_path / "away"), socket.gethostname(), "start the command in"))
    other = remote.make_there(job, str(tmp_path), str(tmp_path / "runs" / ".compare-x"))
    assert all(word in other for word in (str(tmp_path / "runs"), "--save_dir"))
    assert not folder_of(job).exists()
    assert "--save_dir" in str(remote.results_of(job))


def test_a_run_waits_for_the_folder_that_a_lost_machine_had(jobs_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs_of(9)[0]
    tries: list[Job] = []

    def locked_once(job: Job) -> None:
        tries.append(job)
        if len(tries) == 1:
            raise remote.FolderInUse("in use by another process")

    monkeypatch.setattr(remote, "make_or_raise", locked_once)
    monkeypatch.setattr(remote, "sleep", lambda seconds: None)
    assert remote.make_there(job, os.getcwd()) == ""
    assert len(tries) == 2
    tries.clear()
    monkeypatch.setattr(remote, "UNTIL_UNLOCKED", -1.0)
    assert "in use" in remote.make_there(job, os.getcwd())


def test_a_run_without_gpus_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "make_there", lambda *_: os.environ.get("CUDA_VISIBLE_DEVICES"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    job = Job("cap", "d", 0.1, 0, ())
    assert ray_cluster.make_in_task(job, "", "", 0.5) == "3"
    assert ray_cluster.make_in_task(job, "", "", 0) == ""
