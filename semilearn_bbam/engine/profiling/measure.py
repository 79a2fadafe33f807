"""A profile of a method: its steps and refresh by the clock, their operators by torch's profiler."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.profiling.clock import Clock, Seconds
from semilearn_bbam.engine.profiling.recording import Operator, Recorded, sort_events
from semilearn_bbam.engine.profiling.watching import (
    FIT,
    FORWARD_PASS,
    PARTS,
    PREDICTION,
    REFRESH,
    REST,
    SECTIONS,
    STEP,
    WARM_UP_STEP,
    Watch,
    watching,
)
from semilearn_bbam.engine.schedule import build_scheduler, unlabeled_batch_size

UNCOUNTED, RECORDED_STEPS, RECORDED_BATCHES = 3, 5, 40
QUICK, REPEATS = 1.0, 5  # what takes fewer seconds is measured several times
OPERATORS = 10
SMALL = 5e-4  # share of a section below which a part is of its rest


@dataclass(frozen=True)
class Section:
    """A step, a refresh, a fit or a prediction.

    Attributes:
        name: what it is.
        parts: mean seconds by part, in the order of the work; they sum to `seconds`.
        totals: seconds of each that was measured.
        recorded: how many of them the trace has.
        overhead: times as long as they took while the profiler recorded them, None if only a part was recorded.
        on_device: seconds of kernels on the GPU by part, of those in the trace; empty on a CPU.
        operators: those that take most, of those in the trace.
        note: what the trace has of it, empty where it is all.
    """

    name: str
    parts: dict[str, float]
    totals: tuple[float, ...]
    recorded: int = 0
    overhead: float | None = None
    on_device: dict[str, float] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    note: str = ""

    @property
    def seconds(self) -> float:
        """Mean seconds of all parts."""
        return sum(self.parts.values())

    @property
    def forward_pass(self) -> float | None:
        """Of a refresh, the seconds of its pass over the pools; None of others."""
        return sum(self.parts.get(part, 0.0) for part in FORWARD_PASS) if self.name == REFRESH else None


@dataclass(frozen=True)
class Profile:
    """The sections of a method, the peaks of memory as in `results.json`, and what was profiled."""

    facts: dict[str, Any]
    sections: tuple[Section, ...]
    memory: dict[str, Any]


def profile_algorithm(algorithm: MultiLabelAlgorithm, steps: int, trace: Path) -> Profile:
    """Profile an algorithm that has not begun; it is trained for some steps and cannot be used for a run afterwards.

    Args:
        algorithm: of a single process.
        steps: to measure, at least 1, after some that do not count.
        trace: file for the trace of a few more steps and another refresh, in Chrome's format.

    Returns:
        Each section by the clock, without the profiler, whose cost per operator would distort it.
    """
    algorithm.results_hook.memory.start(algorithm.device)
    _lengthen_schedule(algorithm, steps)
    with watching(algorithm, Clock()) as watch:
        measured = _measure(watch, steps)
        algorithm.results_hook.memory.end()
        memory = algorithm.results_hook.memory.summary()
        times, recorded, note = _record(watch, steps, trace)
    sections = [_section(name, laps, times.get(name, []), recorded.get(name), note) for name, laps in measured.items()]
    return Profile(_facts(algorithm), tuple(sections), memory)


def _lengthen_schedule(algorithm: MultiLabelAlgorithm, steps: int) -> None:
    """Let the learning rate's schedule have as many steps as are measured, which a short run does not have."""
    if algorithm.scheduler is None:
        return
    for group in algorithm.optimizer.param_groups:  # as before the schedule
        group["lr"] = group.get("max_lr", group["initial_lr"])
    # An epoch of one step is passed over twice for each that counts; each stage is trained anew.
    total = algorithm.plan.total + 4 * (steps + UNCOUNTED + RECORDED_STEPS)
    algorithm.scheduler = build_scheduler(algorithm.optimizer, algorithm.args, total)


def _measure(watch: Watch, steps: int) -> dict[str, list[Seconds]]:
    """Seconds of each section by the clock."""
    algorithm, plan = watch.algorithm, watch.algorithm.plan
    if watch.step_name == FIT:
        fits: list[Seconds] = []
        _repeat(lambda: _fit(watch, fits), fits)
        predictions: list[Seconds] = []
        if algorithm.evaluated:
            _repeat(lambda: predictions.append(watch.predict(algorithm.evaluated[-1])), predictions)
        return {FIT: fits, **({PREDICTION: predictions} if predictions else {})}
    measured = {}
    if plan.warmup_epochs:
        watch.train(0, steps, UNCOUNTED)
        measured[WARM_UP_STEP] = list(watch.steps)
    if plan.warmup_epochs < plan.epochs:
        watch.train(plan.warmup_epochs, steps, UNCOUNTED)
        measured[STEP] = list(watch.steps)
    if watch.refreshes:
        _repeat(watch.refresh, watch.refreshes)
        # The first one also allocates for the first time.
        measured[REFRESH] = watch.refreshes[1:] or list(watch.refreshes)
    return measured


def _fit(watch: Watch, fits: list[Seconds]) -> None:
    watch.train(0, 1)
    fits += watch.steps


def _repeat(work: Callable[[], object], laps: list[Seconds]) -> None:
    """Do it once at least, and some times more where it is quick; it adds to `laps`."""
    while not laps or (len(laps) < REPEATS and sum(lap.total() for lap in laps) < QUICK):
        work()


def _record(watch: Watch, steps: int, trace: Path) -> tuple[dict[str, list[Seconds]], dict[str, Recorded], str]:
    """Seconds of each recorded section under the profiler, its events, and what of a long refresh was recorded."""
    algorithm, plan, clock = watch.algorithm, watch.algorithm.plan, watch.clock
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it reports on stderr that a machine has no GPU
    on_gpu = [ProfilerActivity.CUDA] if algorithm.device.type == "cuda" else []
    recorder = profile(activities=[ProfilerActivity.CPU, *on_gpu], acc_events=True)
    first, note = watch.read - RECORDED_BATCHES, ""
    epoch = plan.warmup_epochs if plan.warmup_epochs < plan.epochs else 0

    def begin() -> None:
        if not clock.recording:
            recorder.start()
            clock.record()

    if first > 0:  # a trace of all would be too large to open
        note = f"the trace has the last {RECORDED_BATCHES} of its {watch.read} batches, and all that follows"
        watch.at_batch = lambda: begin() if watch.batches > first else None
        watch.at_step = begin if watch.step_name == STEP else watch.at_step
    else:
        begin()
    watch.refreshes.clear()
    watch.train(epoch, min(steps, RECORDED_STEPS) if watch.step_name == STEP else 1)
    times = {watch.step_name: list(watch.steps), REFRESH: list(watch.refreshes)}
    if watch.step_name == FIT and algorithm.evaluated:
        begin()
        times[PREDICTION] = [watch.predict(algorithm.evaluated[-1])]
    clock.stop_recording()
    recorder.stop()
    recorder.export_chrome_trace(str(trace))
    return times, sort_events(recorder.events(), SECTIONS, PARTS), note


def _section(
    name: str, laps: Sequence[Seconds], times: Sequence[Seconds], recorded: Recorded | None, note: str
) -> Section:
    """Means over the laps; the rest of a section is under its name there."""
    own = STEP if name == WARM_UP_STEP else name
    sums = sum(laps, Seconds())
    sums[REST] += sums.pop(own, 0.0)
    for part in [part for part in sums if part != REST and sums[part] < SMALL * sums.total()]:
        sums[REST] += sums.pop(part)
    parts = {part: sums[part] / len(laps) for part in PARTS if sums[part] > 0}
    section = Section(name, parts, tuple(lap.total() for lap in laps))
    if recorded is None or not times:
        return section
    note = note if name in (REFRESH, FIT) else ""
    recorded_seconds = sum(lap.total() for lap in times) / len(times)
    return Section(
        name,
        parts,
        section.totals,
        len(times),
        None if note else recorded_seconds / section.seconds,
        recorded.device_parts(len(times)),
        recorded.top(OPERATORS, len(times)),
        note,
    )


def _facts(algorithm: MultiLabelAlgorithm) -> dict[str, Any]:
    """What was profiled, and where."""
    args, plan, device = algorithm.args, algorithm.plan, algorithm.device
    pools = algorithm.dataset_dict
    return {
        "algorithm": args.algorithm,
        "dataset": args.dataset,
        "net": args.net,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "labels": args.num_classes,
        "labeled_rows": len(pools["train_lb"]),
        "unlabeled_rows": len(pools["train_ulb"]),
        "batch": [args.batch_size, unlabeled_batch_size(vars(args)) if algorithm.uses_unlabeled else 0],
        "warmup_batch": args.warmup_batch_size,
        "num_workers": args.num_workers,
        "steps_per_epoch": plan.steps,
        "torch": torch.__version__,
    }
