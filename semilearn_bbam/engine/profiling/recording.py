"""What torch's profiler recorded, by the parts of steps and refreshes: operators, and seconds on the device."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.autograd import DeviceType

MICRO = 1e-6


@dataclass(frozen=True)
class Operator:
    """An operator in one step or refresh: calls, and seconds without those of operators that it calls."""

    name: str
    calls: float
    seconds: float
    device_seconds: float


@dataclass
class Recorded:
    """The events of a kind of section: per operator, and seconds on the device by part."""

    calls: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    on_device: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)

    def top(self, count: int, times: int) -> tuple[Operator, ...]:
        """The operators that take most, on the device where there is one; means over `times` sections."""
        order = self.on_device if any(self.on_device.values()) else self.seconds
        names = [name for name, _ in order.most_common(count)]
        return tuple(
            Operator(
                name, self.calls[name] / times, MICRO * self.seconds[name] / times, MICRO * self.on_device[name] / times
            )
            for name in names
        )

    def device_parts(self, times: int) -> dict[str, float]:
        """Seconds on the device by part; means over `times` sections."""
        return {part: MICRO * value / times for part, value in self.parts.items() if value}


def sort_events(events: Iterable[Any], sections: Sequence[str], parts: Sequence[str]) -> dict[str, Recorded]:
    """The operators of each section by its name.

    An operator is of the innermost part in which it began, on whichever thread it ran: the main one waits for those of
    the backward pass.
    """
    on_cpu = [event for event in events if event.device_type == DeviceType.CPU]
    ranges = [event for event in on_cpu if event.is_user_annotation and event.name in {*sections, *parts}]
    times, states = _timeline(ranges, set(sections))
    found = {section: Recorded() for section in sections}
    for event in on_cpu:
        place = bisect_right(times, event.time_range.start) - 1
        if event.is_user_annotation or place < 0:
            continue
        section, part = states[place]
        if section is None:
            continue
        recorded = found[section]
        recorded.calls[event.name] += 1
        recorded.seconds[event.name] += event.self_cpu_time_total
        recorded.on_device[event.name] += event.self_device_time_total
        recorded.parts[part] += event.self_device_time_total
    return found


def _timeline(ranges: Sequence[Any], sections: set[str]) -> tuple[list[float], list[tuple[str | None, str]]]:
    """Moments at which the innermost section and part change, and both from each of them on."""
    changes = [(event.time_range.start, 1, -event.time_range.end, event.name) for event in ranges]
    changes += [(event.time_range.end, 0, -event.time_range.start, event.name) for event in ranges]
    times: list[float] = []
    states: list[tuple[str | None, str]] = []
    stack: list[str] = []
    for time, begins, _, name in sorted(changes):
        if begins:
            stack.append(name)
        elif name in stack:
            del stack[len(stack) - 1 - stack[::-1].index(name)]
        section = next((item for item in reversed(stack) if item in sections), None)
        times.append(time)
        states.append((section, stack[-1] if stack else ""))
    return times, states
