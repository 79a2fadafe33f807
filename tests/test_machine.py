"""Processors and memory that a process may use, from made-up /proc and /sys of containers and jobs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from semilearn_bbam.util.machine import free_memory, usable_cpus
from semilearn_bbam.util.progress import in_threads

GB = 10**9
MEMINFO = f"MemTotal: {64 * GB // 1024} kB\nMemFree: 1 kB\nMemAvailable: {16 * GB // 1024} kB\n"
NO_LIMIT = 9223372036854771712  # of version 1


def machine(root: Path, **files: str | int) -> Path:
    """A root with /proc/meminfo, and files by their path with `__` for `/`."""
    for name, text in {"proc__meminfo": MEMINFO, **files}.items():
        path = root.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.fixture(autouse=True)
def _many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64, of which the process may run on all."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__cpu.max": "max 100000"}, 64),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__cpu.max": "200000 100000"}, 2),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__cpu.max": "50000 100000"}, 1),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__cpu.max": "250000 100000"}, 3),
        ({"proc__self__cgroup": "0::/job/step", "sys__fs__cgroup__job__cpu.max": "400000 100000",
          "sys__fs__cgroup__job__step__cpu.max": "max 100000"}, 4),
        ({"proc__self__cgroup": "4:cpu,cpuacct:/", "sys__fs__cgroup__cpu__cpu.cfs_quota_us": -1,
          "sys__fs__cgroup__cpu__cpu.cfs_period_us": 100000}, 64),
        ({"proc__self__cgroup": "4:cpu,cpuacct:/docker/of_the_host", "sys__fs__cgroup__cpu__cpu.cfs_quota_us": 300000,
          "sys__fs__cgroup__cpu__cpu.cfs_period_us": 100000}, 3),
        ({"proc__self__cgroup": "4:cpu,cpuacct:/\n0::/", "sys__fs__cgroup__cpu,cpuacct__cpu.cfs_quota_us": 100000,
          "sys__fs__cgroup__cpu,cpuacct__cpu.cfs_period_us": 50000}, 2),
        ({"proc__self__cgroup": "0::/../other", "sys__fs__cgroup__cpu.max": "200000 100000"}, 2),
    ],
)  # fmt: skip
def test_a_quota_limits_the_processors(tmp_path: Path, files: dict[str, str | int], expected: int) -> None:
    assert usable_cpus(machine(tmp_path, **files)) == expected


def test_affinity_limits_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    assert usable_cpus(machine(tmp_path)) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(machine(tmp_path)) == 64
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert usable_cpus(machine(tmp_path)) == 3


def test_threads_are_as_many_as_usable_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    assert len(set(in_threads(lambda number: threading.get_ident(), 50, "work"))) == 1


V1 = "sys__fs__cgroup__memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16 * GB),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__memory.max": "max",
          "sys__fs__cgroup__memory.current": 3 * GB}, 16 * GB),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__memory.max": 8 * GB,
          "sys__fs__cgroup__memory.current": 3 * GB}, 5 * GB),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__memory.max": 8 * GB,
          "sys__fs__cgroup__memory.current": 3 * GB,
          "sys__fs__cgroup__memory.stat": f"anon {GB}\nfile {2 * GB}\ninactive_file {GB}"}, 6 * GB),
        ({"proc__self__cgroup": "0::/job/step", "sys__fs__cgroup__job__memory.max": 4 * GB,
          "sys__fs__cgroup__job__memory.current": GB, "sys__fs__cgroup__job__step__memory.max": "max",
          "sys__fs__cgroup__job__step__memory.current": GB}, 3 * GB),
        ({"proc__self__cgroup": "5:memory:/", f"{V1}__memory.limit_in_bytes": NO_LIMIT,
          f"{V1}__memory.usage_in_bytes": GB}, 16 * GB),
        ({"proc__self__cgroup": "5:memory:/docker/of_the_host", f"{V1}__memory.limit_in_bytes": 4 * GB,
          f"{V1}__memory.usage_in_bytes": 2 * GB, f"{V1}__memory.stat": f"cache 1\ntotal_inactive_file {GB}"}, 3 * GB),
        ({"proc__self__cgroup": "0::/", "sys__fs__cgroup__memory.max": GB,
          "sys__fs__cgroup__memory.current": 2 * GB}, 0),
    ],
)  # fmt: skip
def test_a_limit_less_what_is_used_is_free(tmp_path: Path, files: dict[str, str | int], expected: int) -> None:
    assert free_memory(machine(tmp_path, **files)) == pytest.approx(expected, abs=1024)


def test_without_any_of_these_files_it_is_the_machine_s_memory(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_this_machine_has_some() -> None:
    assert usable_cpus() >= 1
    assert free_memory() > 0
