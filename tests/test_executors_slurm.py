"""Runs of a grid by Slurm: with submitit's own local jobs, and with commands that act as Slurm's."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from semilearn_bbam.__main__ import main
from semilearn_bbam.compare import Job, read_grid, run_jobs
from semilearn_bbam.compare.executors import slurm
from semilearn_bbam.compare.executors.slurm import SlurmExecutor, minutes, parameters_of
from semilearn_bbam.compare.making import folder_of, make
from semilearn_bbam.errors import UserError
from tests import fake_slurm
from tests.conftest import CONFIGS, has_line
from tests.processes import ROOT, wait_for

GRID = "methods: [supervised_bce]\ndatasets: [ohsumed_features]\nlabel_ratios: [0.2]\nseeds: [0, 1]\n"
SHORT = "--epoch 3 --warmup_epochs 1 --warmup_iter_per_epoch 2 --num_train_iter 9".split()

needs_submitit = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("submitit") is None, reason="needs submitit (the extra slurm)"
)


@pytest.fixture
def jobs(write: Callable[..., Path], tmp_path: Path, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Two short runs; their processes find the package as this one does."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setattr(slurm, "PAUSE", 0.2)
    (tmp_path / "config").symlink_to(CONFIGS)
    grid = replace(read_grid(write(GRID, "grid.yaml")), configs=CONFIGS)
    return grid.jobs({"ohsumed_features": str(features_dir)}, tmp_path / "runs", tuple(SHORT))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Slurm with one node."""
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    monkeypatch.setenv("PATH", str(fake_slurm.install(tmp_path)), prepend=os.pathsep)
    return tmp_path


@needs_submitit
@pytest.mark.timeout(300)
def test_jobs_of_submitit_make_the_same_runs(jobs: list[Job], tmp_path: Path) -> None:
    bad = replace(jobs[1], argv=(*jobs[1].argv, "--data_dir", "nowhere"))
    results, failed = run_jobs([jobs[0], bad], 1, executor=partial(SlurmExecutor, tmp_path / "runs", cluster="local"))
    assert list(failed) == [bad]
    assert "nowhere" in failed[bad]
    here = make(jobs[0])
    assert isinstance(here, dict)
    assert results[0]["test"] == here["test"]
    assert results[0]["folder"] == here["folder"]


@needs_submitit
@pytest.mark.timeout(300)
def test_a_command_that_is_started_again_waits_for_the_jobs_of_the_first(
    jobs: list[Job], cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = partial(
        SlurmExecutor, cluster / "runs", parameters_of(["partition=long", "time=1:30:00", "gpu-bind=none"]), 1
    )

    def interrupt(self: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SlurmExecutor, "next", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, 1, executor=executor)
    assert has_line(capsys.readouterr().err, "2 runs stay in Slurm's queue")
    results, failed = run_jobs(jobs, 1, executor=executor)
    assert not failed
    assert [run["seed"] for run in results] == [0, 1]
    assert "2 of them by an earlier command" in capsys.readouterr().err
    assert sorted(path.name for path in (cluster / "states").iterdir()) == ["1_0", "1_1"], "submitted once"
    script = (cluster / "1.sh").read_text()
    for line in ("partition=long", "time=90", "array=0-1%1", "cpus-per-task=1", "gpu-bind=none"):
        assert f"#SBATCH --{line}\n" in script
    before = [(folder_of(job) / "results.json").stat().st_mtime_ns for job in jobs]
    monkeypatch.setenv("PATH", "")  # for finished runs no Slurm is needed
    assert run_jobs(jobs, 1, executor=executor)[1] == {}
    assert [(folder_of(job) / "results.json").stat().st_mtime_ns for job in jobs] == before


@needs_submitit
@pytest.mark.timeout(300)
def test_a_run_whose_node_is_lost_is_submitted_again(
    jobs: list[Job], cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "UNTIL_REQUEUED", 0.0)
    monkeypatch.setattr(slurm, "PAUSE", 1.0)

    def lose() -> None:
        wait_for((cluster / "1.pid").is_file)
        (cluster / "states" / "1").write_text("NODE_FAIL")
        os.killpg(int((cluster / "1.pid").read_text()), signal.SIGKILL)

    killer = Thread(target=lose, daemon=True)
    killer.start()
    results, failed = run_jobs(jobs[:1], 1, executor=partial(SlurmExecutor, cluster / "runs"))
    killer.join(10)
    assert not failed
    assert 0 < results[0]["test"]["mAP"] < 1
    assert sorted(path.name for path in (cluster / "states").iterdir()) == ["1", "2"]


def ended(state: str, folder: Path, done: bool = True) -> Any:
    """A job without a result, as submitit gives it."""
    paths = SimpleNamespace(result_pickle=folder / "none.pkl", stderr=folder / "1_0_log.err")
    return SimpleNamespace(
        state=state, done=lambda: done, paths=paths, job_id="1_0", watcher=SimpleNamespace(clear=lambda: None)
    )


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An executor without Slurm; `again` has what it submits again."""
    made = SlurmExecutor.__new__(SlurmExecutor)
    made.jobs, made.ended, made.lost, made.lost_since, made.folder = {}, deque(), Counter(), {}, tmp_path
    again: list[Job] = []
    monkeypatch.setattr(made, "submit", again.append, raising=False)
    monkeypatch.setattr(slurm, "results_of", lambda job: "no results")
    monkeypatch.setattr(slurm, "UNTIL_REQUEUED", -1.0)
    return SimpleNamespace(made=made, again=again)


def test_a_job_that_ended_without_a_result_is_named_with_its_state(executor: Any, tmp_path: Path) -> None:
    job = Job("cap", "d", 0.1, 0, ())
    outcome = executor.made._outcome(job, ended("TIMEOUT", tmp_path))
    assert all(word in outcome for word in ("1_0", "TIMEOUT", "log.err", "time="))
    assert executor.made._outcome(job, ended("RUNNING", tmp_path, done=False)) is None
    assert not executor.again


@pytest.mark.parametrize("state", slurm.NODE_LOST)
def test_a_job_whose_node_is_lost_again_and_again_is_given_up(executor: Any, tmp_path: Path, state: str) -> None:
    job = Job("cap", "d", 0.1, 0, ())
    outcomes = [executor.made._outcome(job, ended(state, tmp_path)) for _ in range(slurm.LOST + 1)]
    assert outcomes[:-1] == [None] * slurm.LOST
    assert "lost 4 times" in outcomes[-1]
    assert executor.again == [job] * slurm.LOST


def test_slurm_itself_may_start_a_job_again(executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, known = Job("cap", "d", 0.1, 0, ()), ended("PREEMPTED", tmp_path, done=False)
    known.watcher.clear = lambda: setattr(known, "state", "PENDING")
    assert executor.made._outcome(job, known) is None
    assert not executor.again
    monkeypatch.setattr(slurm, "UNTIL_REQUEUED", 60.0)
    assert executor.made._outcome(job, ended("PREEMPTED", tmp_path)) is None
    assert not executor.again


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("1:30", 2), ("01:00:00", 60), ("2-0", 2880), ("1-1:1", 1501), ("1-01:01:01", 1502)],
)
def test_times_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("word", ["time=", "partition", "=3", "time=soon", "time=0", "time=1:2:3:4", "time=1-2:3:4:5"])
def test_mistakes_in_parameters_are_named(word: str) -> None:
    with pytest.raises(UserError, match=f"--slurm {word}"):
        parameters_of([word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--executor", "slurm", "--gpus", "0.5"], "--gpus 0.5"),
        (["--executor", "slurm", "--ray_address", "auto"], "--ray_address belongs to --executor ray"),
        (["--slurm", "time=5"], "--slurm belongs to --executor slurm"),
        (["--cpus", "2"], "--cpus belongs to --executor ray or slurm"),
        (["--executor", "ray", "--cpus", "0"], "--cpus 0"),
        (["--executor", "ray", "--gpus", "1.5"], "--gpus 1.5"),
    ],
)
def test_options_of_another_executor_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "grid.yaml", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_arguments_reach_the_executor(tmp_path: Path, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stop(*given: Any) -> None:
        seen.extend(given)
        raise UserError("seen")

    monkeypatch.setattr(slurm, "SlurmExecutor", stop)
    monkeypatch.chdir(tmp_path)
    folders = [f"{name}={features_dir}" for name in ("ohsumed_features", "corel5k_features")]
    words = ["--executor", "slurm", "--cpus", "3", "--gpus", "2", "--jobs", "7", "--slurm", "qos=low", "time=1:00:00"]
    assert main(["compare", str(CONFIGS / "compare" / "ablation.yaml"), "--data_dir", *folders, *words]) == 2
    expected = {"job_name": "semilearn-bbam", "time": 60, "cpus_per_task": 3, "gpus_per_node": 2, "qos": "low"}
    assert seen == [Path("runs"), expected, 7]


@needs_submitit
def test_without_slurm_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"srun.*sbatch") as error:
        SlurmExecutor(tmp_path / "runs")
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_package_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r'pip install "semilearn-bbam\[slurm\]"'):
        SlurmExecutor(tmp_path / "runs")
