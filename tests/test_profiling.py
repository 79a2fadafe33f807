"""What a profile measures: parts, traces, operators, of which method, and that nothing stays wrapped."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from semilearn_bbam import pool_blocks
from semilearn_bbam.engine.profiling import PARTS, Section, measure, profile_algorithm
from semilearn_bbam.engine.profiling.clock import Clock
from semilearn_bbam.engine.profiling.recording import Operator, sort_events
from semilearn_bbam.engine.profiling.watching import FUNCTIONS, MODULES, PACKAGE
from tests.methods import ALGORITHMS, FITTED

SLEEP = 0.02


def pause(seconds: float) -> None:
    threading.Event().wait(timeout=seconds)


def seconds(sections: tuple[Section, ...], name: str) -> dict[str, float]:
    return next(section.parts for section in sections if section.name == name)


# ---------------------------------------------------------------------- the clock


def test_parts_within_parts_sum_to_the_whole() -> None:
    clock = Clock()
    inner = clock.timed("inner", lambda: pause(SLEEP))
    outer = clock.timed("outer", lambda: [inner(), pause(2 * SLEEP), inner()])
    clock.enter("rest")
    around = time.perf_counter()
    clock.lap()
    began = time.perf_counter()
    outer()
    ended = time.perf_counter()
    lap = clock.lap()
    assert ended - began <= lap.total() <= time.perf_counter() - around  # nothing twice
    assert min(lap["inner"], lap["outer"]) >= 2 * SLEEP
    assert clock.lap()["inner"] == 0  # of the next lap
    clock.leave()
    assert clock.open == []


def test_a_part_ends_with_an_error_and_is_of_one_thread() -> None:
    clock = Clock()
    clock.enter("rest")
    with pytest.raises(ZeroDivisionError):
        clock.timed("x", lambda: 1 / 0)()
    assert clock.open == ["rest"]
    worker = threading.Thread(target=clock.timed("other", lambda: pause(SLEEP)))
    worker.start()
    worker.join()
    assert "other" not in clock.count()


def test_a_part_within_others_only() -> None:
    clock = Clock()
    measured = clock.timed("angles", lambda: pause(SLEEP), within=["refresh"])
    measured()  # nothing is open
    for parent in ("forward", "refresh"):
        clock.enter(parent)
        measured()
        clock.leave()
    assert clock.seconds["forward"] >= SLEEP
    assert clock.seconds["angles"] >= SLEEP


def event(name: str, start: float, end: float, *, is_range: bool = False, cpu: float = 0, gpu: float = 0) -> Any:
    span = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=span, is_user_annotation=is_range, device_type=DeviceType.CPU,
                           self_cpu_time_total=cpu, self_device_time_total=gpu)  # fmt: skip


def test_operators_are_of_the_part_in_which_they_began() -> None:
    """Also those of another thread, and of a GPU those that the part launched."""
    events = [
        event("step", 0, 100, is_range=True), event("forward", 10, 40, is_range=True),
        event("backward", 50, 90, is_range=True), event("refresh", 200, 300, is_range=True),
        event("mm", 12, 20, cpu=6, gpu=30), event("mm", 60, 70, cpu=4, gpu=50), event("add", 95, 96, cpu=100),
        event("mm", 150, 151, cpu=1000), event("sort", 210, 220, cpu=7), event("hook", 1, 2, is_range=True, cpu=9),
    ]  # fmt: skip
    kernel = event("kernel", 15, 16, gpu=30)
    kernel.device_type = DeviceType.CUDA
    found = sort_events([*events[::-1], kernel], ["step", "refresh"], ["forward", "backward"])
    top = found["step"].top(1, times=2)
    assert top == (Operator("mm", 1.0, pytest.approx(5e-6), pytest.approx(40e-6)),)
    assert found["step"].device_parts(2) == {"forward": pytest.approx(15e-6), "backward": pytest.approx(25e-6)}
    assert [item.name for item in found["refresh"].top(3, times=1)] == ["sort"]


# ---------------------------------------------------------------------- a method


def wrapped_names() -> list[str]:
    """What is wrapped of the package and of torch."""
    owners = [module for name, module in list(sys.modules.items()) if name.startswith(PACKAGE)]
    owners += [torch.autograd, *(item for owner in owners for item in vars(owner).values() if isinstance(item, type))]
    codes = [(name, getattr(getattr(value, "__func__", value), "__code__", None))
             for owner in owners for name, value in vars(owner).items()]  # fmt: skip
    measured = ("measured", Clock.timed.__code__.co_filename)
    return [name for name, code in codes if isinstance(code, CodeType) and (code.co_name, code.co_filename) == measured]


@pytest.mark.parametrize(
    "algorithm",
    ["bbam", "bbam_plus", "cap", "drml", "flatmatch", "kernel_graph", "mime", "ml_fixmatch", "ml_vat",
     "supervised_bam", "supervised_kernel"],
)  # fmt: skip
def test_parts_sum_to_what_was_measured(algorithm: str, build: Callable[..., Any], tmp_path: Path) -> None:
    built = build(algorithm=algorithm, **ALGORITHMS[algorithm])
    kept, before = dict(vars(built)), wrapped_names()
    profile = profile_algorithm(built, 4, tmp_path / "trace.json")
    names = [section.name for section in profile.sections]
    if algorithm in FITTED:
        assert names == ["fit", "prediction"]
    else:
        assert names == ["warm-up step", "step", *(["refresh"] if built.refreshes else [])]
        assert {"forward", "backward", "loss", "optimiser", "EMA", "waiting for data"} <= set(
            seconds(profile.sections, "step")
        )
    for section in profile.sections:
        assert section.seconds == pytest.approx(sum(section.totals) / len(section.totals))
        assert list(section.parts) == [part for part in PARTS if part in section.parts]
        assert min(section.parts.values()) > 0
        assert section.operators or section.name == "warm-up step"
    assert profile.memory["training"] > 1
    # Nothing stays wrapped.
    assert not {"batches", "train_step", "warmup_step", "process_batch", "to_device", "read"} & vars(built).keys()
    assert built.print_fn is kept["print_fn"]
    assert before == wrapped_names() == []
    assert not any("_compiled_call_impl" in vars(net) for net in (built.model, built.ema_model))
    assert not any(key in vars(hook) for hook in built.hooks_dict.values() for key in ("after_train_step", "refresh"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    ranges = {item["name"] for item in events if item.get("cat") == "user_annotation"}
    assert {"forward", names[1]} <= ranges


def test_each_part_has_what_runs_in_it(build: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    """A pause in the net, the backward pass, the loading, the average and a function of the refresh is found there."""
    built = build(algorithm="bbam", negatives="sampled")

    def slow(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            pause(SLEEP)
            return function(*args, **kwargs)

        call.__module__, call.__name__ = function.__module__, function.__name__
        return call

    monkeypatch.setattr(built.model, "forward", slow(built.model.forward))
    next(built.model.parameters()).register_hook(lambda gradient: pause(2 * SLEEP))
    monkeypatch.setattr(built, "reduced_losses", slow(built.reduced_losses))
    monkeypatch.setattr(pool_blocks, "draw_negatives", slow(pool_blocks.draw_negatives))
    loader = built.loader_dict["train_lb"]
    monkeypatch.setattr(loader, "collate_fn", slow(loader.collate_fn))
    for name in ("EMAHook", "ParamUpdateHook", "TimerHook"):
        hook = built.hooks_dict[name]
        monkeypatch.setattr(hook, "after_train_step", slow(hook.after_train_step))
    sections = profile_algorithm(built, 3, tmp_path / "trace.json").sections
    step = seconds(sections, "step")
    pauses = {"forward": 1, "backward": 2, "loss": 1, "waiting for data": 1, "EMA": 1, "optimiser": 1, "other hooks": 1}
    for part, times in pauses.items():
        assert step[part] >= times * SLEEP, part
    refresh = seconds(sections, "refresh")
    assert refresh["negatives"] >= SLEEP
    assert {"pseudo-labels", "prototypes", "angles", "statistics", "forward"} <= refresh.keys()


def test_the_named_functions_are_there() -> None:
    for name in MODULES:
        assert f"{PACKAGE}.{name}" in sys.modules or __import__(f"{PACKAGE}.{name}")
    modules = [sys.modules[f"{PACKAGE}.{name}"] for name in MODULES]
    assert all(any(hasattr(module, name) for module in modules) for name in FUNCTIONS)


def test_more_steps_than_an_epoch_has(build: Callable[..., Any], tmp_path: Path) -> None:
    built = build(algorithm="bam")
    assert built.plan.steps == 3
    sections = profile_algorithm(built, 8, tmp_path / "trace.json").sections
    assert {section.name: len(section.totals) for section in sections if section.name != "refresh"} == {
        "warm-up step": 8,
        "step": 8,
    }


@pytest.mark.parametrize("algorithm", ["bam", "supervised_kernel"])
def test_of_a_long_pass_the_trace_has_the_end(
    algorithm: str, build: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(measure, "RECORDED_BATCHES", 2)
    built = build(algorithm=algorithm, eval_batch_size=10)
    section = profile_algorithm(built, 1, tmp_path / "trace.json").sections[-1 if algorithm == "bam" else 0]
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    outer = next(item for item in events if item["name"] == section.name)
    count = sum(item["name"] == "forward" and item["ts"] + item["dur"] <= outer["ts"] + outer["dur"] for item in events)
    assert count == 2
    assert section.overhead is None
    assert section.note
    assert section.operators
