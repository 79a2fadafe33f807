"""The most memory that a process, or what it keeps on its GPU, took in each phase of its work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

MIB = 2**20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # of the peak resident set, as proc(5) has it


class Meter(NamedTuple):
    """What is measured, its peak since the last reset in bytes (None: not known), and the reset, false if impossible.

    of: "process", the resident set of this process, or "cuda", what torch has allocated on its GPU.
    """

    of: str
    read: Callable[[], int | None]
    reset: Callable[[], bool]


def meter_of(device: torch.device) -> Meter | None:
    """The meter of the memory that work on this device fills; None for MPS, of which torch has no peak."""
    if device.type == "cuda":
        return Meter("cuda", lambda: int(torch.cuda.max_memory_allocated(device)), lambda: _reset_cuda(device))
    return Meter("process", process_peak, reset_process_peak) if device.type == "cpu" else None


def _reset_cuda(device: torch.device) -> bool:
    torch.cuda.reset_peak_memory_stats(device)
    return True


def process_peak() -> int | None:
    """Bytes of the largest resident set of this process since its start, or the last reset; None on other systems."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def reset_process_peak() -> bool:
    """Let `process_peak` begin at the current resident set; false where the system cannot, all but Linux.

    What `getrusage` and `/usr/bin/time` report as the maximum begins anew with it.
    """
    if not CLEAR_REFS.exists():
        return False
    try:
        CLEAR_REFS.write_text(RESET_PEAK, encoding="utf-8")
    except OSError:  # a container that has it read-only
        return False
    return True


class PeakMemory:
    """Peaks in MiB of `before` (the process up to `start`), `training` and phases within, such as `refresh`.

    Nothing is read between the ends of phases, so that a step costs nothing. Where a peak cannot be reset, that of
    `training` is the peak of the process so far, and phases within have none.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.meter: Meter | None = None
        self.separate = False  # whether a peak can be reset
        self.phase = "training"

    def start(self, device: torch.device) -> None:
        """Begin the phase `training`."""
        self.meter, self.phase = meter_of(device), "training"
        if self.meter is None:
            return
        before = self.meter.read()
        self.separate = self.meter.reset()
        if self.separate:
            self.merge({} if before is None else {"before": before / MIB})

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """What runs within is of this phase, not of the one around it."""
        if not self.separate:
            yield
            return
        around = self.phase
        self.end()
        self.phase = phase
        try:
            yield
        finally:
            self.end()
            self.phase = around

    def end(self) -> None:
        """Count the current phase up to here, and begin anew."""
        self.merge(self.so_far())
        if self.separate and self.meter is not None:
            self.meter.reset()

    def so_far(self) -> dict[str, float]:
        """The peaks, the current phase included."""
        value = None if self.meter is None else self.meter.read()
        if value is None:
            return dict(self.peaks)
        return {**self.peaks, self.phase: max(self.peaks.get(self.phase, 0.0), value / MIB)}

    def merge(self, peaks: Mapping[str, float]) -> None:
        """Take the larger of each peak, for those of another process of the run."""
        for phase, value in peaks.items():
            self.peaks[phase] = max(self.peaks.get(phase, 0.0), float(value))

    def summary(self) -> dict[str, Any]:
        """What `results.json` has: the unit, what was measured, and each peak, None where there is none."""
        rounded = {phase: round(value, 1) for phase, value in self.peaks.items()}
        of = None if self.meter is None else self.meter.of
        return {"unit": "MiB", "of": of, **dict.fromkeys(("before", "training", "refresh")), **rounded}
