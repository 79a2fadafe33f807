"""Peaks of memory by phase: of a process, of a GPU, where they cannot be reset, and in results.json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.run import read_settings, run
from semilearn_bbam.runs.folder import LATEST, RESULTS
from semilearn_bbam.util import memory
from semilearn_bbam.util.memory import MIB, PeakMemory, process_peak, reset_process_peak
from tests.conftest import FEATURES, short_run

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
can_reset = pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="the system resets no peaks")


def fill(mib: int) -> None:
    """Allocate this much for a moment."""
    assert np.ones(mib * MIB, np.uint8).all()


# In a process of which no other test, garbage or thread changes the memory in between.
PHASES = """
import json
import torch
from semilearn_bbam.util.memory import PeakMemory
from tests.test_memory import fill

fill(300)  # before the run
peaks = PeakMemory()
peaks.start(torch.device("cpu"))
fill(100)
for mib in (200, 10):  # the largest refresh counts
    with peaks.during("refresh"):
        fill(mib)
fill(10)
peaks.end()
print(json.dumps(peaks.summary()))
"""


@can_reset
def test_each_phase_has_the_peak_of_what_ran_in_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PHASES], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["unit"], found["of"]) == ("MiB", "process")
    assert found["refresh"] - found["training"] == pytest.approx(100, abs=15)
    assert found["before"] >= found["refresh"] + 85


@can_reset
def test_a_phase_that_fails_is_ended() -> None:
    peaks = PeakMemory()
    peaks.start(CPU)
    with pytest.raises(ValueError, match="x"), peaks.during("refresh"):
        raise ValueError("x")
    assert peaks.phase == "training"
    assert peaks.peaks["refresh"] > 0


def test_a_step_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not begun costs nothing and has no peaks."""
    monkeypatch.setattr(memory, "process_peak", lambda: pytest.fail("read"))
    peaks = PeakMemory()
    with peaks.during("refresh"):
        pass
    assert peaks.summary() == {"unit": "MiB", "of": None, "before": None, "training": None, "refresh": None}


@pytest.mark.parametrize("reason", ["absent", "read-only"])
def test_without_a_reset_the_peak_so_far_is_that_of_training(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path if reason == "read-only" else tmp_path / "none")
    peaks = PeakMemory()
    peaks.start(CPU)
    with peaks.during("refresh"):
        pass
    peaks.end()
    found = peaks.summary()
    assert found["training"] > 1
    assert found["before"] is found["refresh"] is None


def test_without_proc_the_system_call_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = process_peak()
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    other = process_peak()
    assert exact is not None
    assert other is not None
    assert other >= 0.9 * exact
    assert memory.CLEAR_REFS.exists() == reset_process_peak()


def test_on_a_gpu_its_allocations_count(monkeypatch: pytest.MonkeyPatch) -> None:
    values, resets = iter([5, 40, 90, 30]), []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(values) * MIB)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: resets.append(device))
    peaks, device = PeakMemory(), torch.device("cuda", 1)
    peaks.start(device)
    with peaks.during("refresh"):
        pass
    peaks.end()
    assert peaks.summary() == {"unit": "MiB", "of": "cuda", "before": 5.0, "training": 40.0, "refresh": 90.0}
    assert resets == [device] * 4


def test_of_mps_no_peak_is_known() -> None:
    peaks = PeakMemory()
    peaks.start(torch.device("mps"))
    peaks.end()
    assert set(peaks.summary().values()) == {"MiB", None}


@can_reset
@pytest.mark.parametrize(("algorithm", "refreshes"), [("bbam", True), ("supervised_bam", False)])
def test_results_have_the_peaks(algorithm: str, refreshes: bool, train: Any, features_dir: Path) -> None:
    results, folder = train(FEATURES, algorithm=algorithm, data_dir=features_dir, label_ratio=0.2, device="cpu")
    found = results["memory"]
    assert found == json.loads((folder / RESULTS).read_text())["memory"]
    assert found["training"] > 50
    assert (found["refresh"] is not None) == refreshes


@can_reset
def test_a_resumed_run_keeps_the_larger_peaks(train: Any, features_dir: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {"data_dir": features_dir, "label_ratio": 0.2, "device": "cpu"}
    _, folder = train(FEATURES, **data)
    checkpoint = torch.load(folder / LATEST, weights_only=True)
    assert [set(peaks) for peaks in checkpoint["memory"]] == [{"before", "training", "refresh"}]
    checkpoint["memory"] = [{"before": 1.0, "training": 1e6, "refresh": 3e6}, {"training": 2e6}]  # of two processes
    torch.save(checkpoint, folder / LATEST)
    found = run(read_settings(short_run(FEATURES, tmp_path / "runs", resume="true", **data)))["memory"]
    assert (found["training"], found["refresh"]) == (2e6, 3e6)
    assert 1 < found["before"] < 1e6


@can_reset
def test_of_several_processes_the_largest_counts(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = build(refresh=True)
    algorithm.call_hook("before_run")
    algorithm.epoch_began = 0.0
    others = [{"training": 3e6, "refresh": 7.0}]
    world = SimpleNamespace(all_gather_objects=lambda value: [value, *others], all_gather_rows=lambda rows: rows)
    monkeypatch.setattr(algorithm, "world", world)
    algorithm.results_hook.after_run(algorithm)
    found = algorithm.results_dict["memory"]
    assert (found["training"], found["refresh"]) == (3e6, 7.0)
