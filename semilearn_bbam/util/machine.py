"""Processors and memory that this process may use, within the limits of its container or job."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cpus(root: Path = ROOT) -> int:
    """Processors that this process may use: those that it may run on, at most the CPU quota of its control groups.

    A quota of half a processor counts as one. `root` is the folder of `proc` and `sys`.
    """
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):  # not on macOS
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    return max(1, min([cpus, *map(math.ceil, _cpu_quotas(root))]))


def free_memory(root: Path = ROOT) -> int:
    """Bytes that this process can still allocate: the free ones of the machine, at most those of its control groups.

    Cached files count as free, since they can be dropped. If neither is known, the machine's whole memory.
    """
    limits = list(_memory_left(root))
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            limits.append(1024 * int(line.split()[1]))
    return max(0, min(limits)) if limits else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Processors that each control group of this process allows, where it sets a limit."""
    for folder in _groups(root, "cpu"):
        for line in _lines(folder / "cpu.max"):  # version 2: quota and period, or "max" and period
            quota, _, period = line.partition(" ")
            if quota != "max":
                yield int(quota) / int(period or 100_000)
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota_us and period_us and quota_us > 0:  # version 1, where -1 is no limit
            yield quota_us / period_us


def _memory_left(root: Path) -> Iterator[int]:
    """Bytes that each control group of this process has left, where it sets a limit."""
    for folder in _groups(root, "memory"):
        for limit_in, usage_in, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _number(folder / limit_in), _number(folder / usage_in)
            if limit is not None and usage is not None:  # version 1 has a number beyond all memory for no limit
                words = (line.split() for line in _lines(folder / "memory.stat"))
                yield limit - usage + sum(int(value) for key, value in words if key == cached)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control groups that have a controller, in versions 1 and 2, from its own to the root.

    A container often has its own group as the root, while the path in `proc` is that of the host.
    """
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mounts = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            mounts = [mount / controllers, mount / controller]
        else:
            continue
        group_path = PurePosixPath(path.lstrip("/"))
        for mount_point in mounts:
            yield from (mount_point / group for group in (group_path, *group_path.parents) if ".." not in group.parts)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # of another system or version
        return []


def _number(file: Path) -> int | None:
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].lstrip("-").isdigit() else None
