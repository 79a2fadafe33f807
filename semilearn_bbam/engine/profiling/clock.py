"""Seconds by part of the work, parts within parts, and their names in a trace."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import torch
from torch.profiler import record_function

Seconds = Counter[str]


class Clock:
    """Seconds of each part of one thread's work; those of a part are its own, without the parts within.

    Every moment between two laps belongs to one part, so that their seconds sum to the whole. The parts are ranges of
    torch's profiler too once `record` was called.
    """

    def __init__(self) -> None:
        self.seconds: Seconds = Counter()
        self.open: list[str] = []
        self.ranges: list[record_function] = []
        self.recording = False
        self.thread = threading.get_ident()
        self.since = perf_counter()
        self.at_lap: Seconds = Counter()

    def count(self) -> Seconds:
        """Seconds of each part up to now."""
        now = perf_counter()
        if self.open:
            self.seconds[self.open[-1]] += now - self.since
        self.since = now
        return Counter(self.seconds)

    def lap(self) -> Seconds:
        """Seconds of each part since the last lap."""
        now = self.count()
        lap = now - self.at_lap
        self.at_lap = now
        return lap

    def enter(self, part: str) -> None:
        now = perf_counter()
        if self.open:
            self.seconds[self.open[-1]] += now - self.since
        self.since = now
        self.open.append(part)
        if self.recording:
            self._begin(part)

    def leave(self) -> None:
        if self.recording:
            self.ranges.pop().__exit__(None, None, None)
        now = perf_counter()
        self.seconds[self.open.pop()] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable[..., Any], within: Iterable[str] = ()) -> Callable[..., Any]:
        """The function, whose calls count as this part; within: only where one of these parts is the current one."""
        parents = frozenset(within)

        @functools.wraps(function)  # a step's arguments are read off its signature
        def measured(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not self.open:
                return function(*args, **kwargs)
            if (parents and self.open[-1] not in parents) or threading.get_ident() != self.thread:
                return function(*args, **kwargs)
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return measured

    def record(self) -> None:
        """From now on parts are ranges of the profiler that runs, those that are open already too."""
        self.recording = True
        for part in self.open:
            self._begin(part)

    def stop_recording(self) -> None:
        while self.ranges:
            self.ranges.pop().__exit__(None, None, None)
        self.recording = False

    def _begin(self, part: str) -> None:
        self.ranges.append(record_function(part))
        self.ranges[-1].__enter__()
