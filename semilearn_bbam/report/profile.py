"""A profile as a table, a picture and JSON."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from semilearn_bbam.engine.profiling import PARTS, Profile, Section
from semilearn_bbam.report.figures.style import COLORS
from semilearn_bbam.runs.folder import finite

TEXT, DATA, PICTURE, TRACE = "profile.md", "profile.json", "profile.png", "trace.json"
HATCHES = ("", "///", "...")  # the same colours again
NAMED, DRAWN = 0.09, 0.005  # least share of a bar that has its name in the picture, and that is in the legend
OTHER = "#bbbbbb"


def write_profile(profile: Profile, folder: Path, command: str) -> None:
    """Write the table, the numbers and the picture into a folder."""
    (folder / TEXT).write_text(profile_text(profile, command), encoding="utf-8")
    numbers = {"command": command, **profile.facts, "memory": profile.memory}
    sections = [{"seconds": section.seconds, **asdict(section)} for section in profile.sections]
    text = json.dumps(finite({**numbers, "sections": sections}), indent=2)
    (folder / DATA).write_text(f"{text}\n", encoding="utf-8")
    draw_profile(profile).savefig(folder / PICTURE, dpi=150)


def profile_text(profile: Profile, command: str) -> str:
    """The profile in Markdown: what was profiled, a table of parts and of operators per section, an epoch, memory."""
    lines = [f"# {title(profile)}", "", f"`{command}`", "", _facts(profile.facts), ""]
    for section in profile.sections:
        lines += [*_section(section), ""]
    lines += [*_epoch(profile), _memory(profile.memory)]
    return "\n".join(lines) + "\n"


def title(profile: Profile) -> str:
    """What was profiled, in a line."""
    facts = profile.facts
    return f"{facts['algorithm']} on {facts['dataset']}: where its time goes"


def _facts(facts: Mapping[str, Any]) -> str:
    labeled, unlabeled = facts["batch"]
    batch = f"batches of {labeled} labelled and {unlabeled} unlabelled rows" if unlabeled else f"batches of {labeled}"
    rows = f"{facts['labeled_rows']:,} labelled and {facts['unlabeled_rows']:,} unlabelled rows"
    return (
        f"{rows}, {facts['labels']} labels; net {facts['net']}; {batch}, loaded by {facts['num_workers']} workers; "
        f"{facts['device']}, {facts['threads']} CPU thread(s), torch {facts['torch'].partition('+')[0]}."
    )


def _section(section: Section) -> Iterator[str]:
    """Heading and tables of a section."""
    yield f"## {section.name.capitalize()}: {time_words(section.seconds)}"
    yield ""
    yield _measured(section)
    yield ""
    scale, unit = (1.0, "s") if section.seconds >= 10 else (1e3, "ms")
    device = bool(section.on_device)
    head = ["part", unit, "share", *([f"{unit} of kernels on the GPU"] if device else [])]
    rows = [
        [
            part,
            _number(scale * seconds),
            f"{100 * seconds / section.seconds:.1f} %",
            *([_number(scale * section.on_device.get(part, 0.0))] if device else []),
        ]
        for part, seconds in section.parts.items()
    ]
    total = [["all", _number(scale * section.seconds), "100 %", *([""] if device else [])]]
    yield from _table(head, [*rows, *total])
    if section.operators:
        yield ""
        where = ["on the GPU"] if device else []
        head = ["operator", "calls", unit, *(f"{unit} {words}" for words in where)]
        yield from _table(
            head,
            [
                [
                    f"`{item.name}`",
                    f"{item.calls:.4g}",
                    _number(scale * item.seconds),
                    *([_number(scale * item.device_seconds)] if device else []),
                ]
                for item in section.operators
            ],
        )


def _measured(section: Section) -> str:
    """How often it was measured, and what else is to be known of the numbers."""
    count = len(section.totals)
    least, median, most = (time_words(f(section.totals)) for f in (min, statistics.median, max))
    words = "Measured once" if count == 1 else f"Mean of {count}; median {median}, from {least} to {most}"
    pool = section.forward_pass
    if pool is not None:
        share = 100 * pool / section.seconds
        words += f"; the pass over the pools takes {share:.0f} %, what follows {100 - share:.0f} %"
    if section.operators:
        words += f"; operators: mean of {section.recorded} under the profiler"
        words += f", with which it takes {section.overhead:.2f} times as long" if section.overhead is not None else ""
        words += f"; {section.note}" if section.note else ""
    return f"{words}."


def _epoch(profile: Profile) -> list[str]:
    """What an epoch of these steps takes."""
    by_name = {section.name: section for section in profile.sections}
    step, refresh, count = by_name.get("step"), by_name.get("refresh"), profile.facts["steps_per_epoch"]
    if step is None:
        return []
    words = f"An epoch of {count:,} steps takes {time_words(count * step.seconds)}"
    if refresh is not None:
        share = refresh.seconds / (refresh.seconds + count * step.seconds)
        words += f" and its refresh {time_words(refresh.seconds)}, {100 * share:.0f} % of both"
    return [f"{words}; evaluations and checkpoints are not in it.", ""]


def _memory(memory: Mapping[str, Any]) -> str:
    values = [f"{name} {memory[name]:,.0f}" for name in ("before", "training", "refresh") if memory[name] is not None]
    if not values:
        return "Peaks of memory are not known on this device."
    of = "the process" if memory["of"] == "process" else "the GPU"
    return f"Peaks of memory of {of} in {memory['unit']}: {', '.join(values)}."


def time_words(seconds: float) -> str:
    """A duration with its unit."""
    return f"{_number(seconds)} s" if seconds >= 1 else f"{_number(1e3 * seconds)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value >= 0.01 or value == 0 else "< 0.01"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        yield "| " + " | ".join(map(str.ljust, line, widths)) + " |"


def draw_profile(profile: Profile) -> Figure:
    """A bar per section, whose pieces are the shares of its parts; pieces too small to see are one at its end."""
    sections = profile.sections
    figure = Figure(figsize=(9, 1.5 + 0.75 * len(sections)), layout="constrained")
    axis = figure.subplots()
    drawn = [
        part for part in PARTS if any(section.parts.get(part, 0.0) >= DRAWN * section.seconds for section in sections)
    ]
    looks = {part: (COLORS[i % len(COLORS)], HATCHES[i // len(COLORS) % len(HATCHES)]) for i, part in enumerate(drawn)}
    labeled: set[str] = set()
    for row, section in enumerate(sections):
        left = 0.0
        for part in looks:
            share = section.parts.get(part, 0.0) / section.seconds
            if share < DRAWN:
                continue
            color, hatch = looks[part]
            label = "" if part in labeled else part
            axis.barh(row, share, left=left, color=color, hatch=hatch, edgecolor="white", height=0.62, label=label)
            labeled.add(part)
            if share >= NAMED:
                words = f"{textwrap.fill(part, int(130 * share), break_long_words=False)}\n{100 * share:.0f} %"
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
                axis.text(left + share / 2, row, words, ha="center", va="center", fontsize=7.5, bbox=box)
            left += share
        if left < 1:
            axis.barh(row, 1 - left, left=left, color=OTHER, height=0.62)
    names = [f"{section.name}\n{time_words(section.seconds)}" for section in sections]
    axis.set_yticks(range(len(sections)), names, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title(profile), fontsize=11)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    return figure
