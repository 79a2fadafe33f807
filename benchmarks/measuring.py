"""What the benchmarks share: parts that take turns, the ratios of their times, and a table with its command."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import torch

from semilearn_bbam.report.methods import fill_marks
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.progress import progress_bar

ROOT = Path(__file__).parents[1]


def take_turns(parts: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of every call of each part; the parts take turns, so that a busy machine slows all of them.

    parts: each waits for its device before it returns; warm_up: turns that are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in progress_bar(range(warm_up + repeats), "turns"):
        for name, part in parts.items():
            start = perf_counter()
            part()
            if turn >= warm_up:
                seconds[name].append(perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], part: str, base: str) -> float:
    """Median over the turns of the time of `part` by that of `base` in the same turn."""
    return statistics.median(a / b for a, b in zip(seconds[part], seconds[base], strict=True))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def machine(device: str = "cpu") -> str:
    """The machine in words: its device, the threads that torch uses, and versions."""
    if device == "cuda":
        place = torch.cuda.get_device_name()
    else:
        place = f"{os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} thread(s)"
    return f"{place}, torch {torch.__version__.partition('+')[0]}, Python {platform.python_version()}"


def report(text: str, out: Path | None, device: str = "cpu") -> None:
    """Print a table with its command and machine; with `out` also write it, and renew the pages that include it."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    command = shlex.join([f"benchmarks/{words[0]}", *words[1:]])
    text = f"{text.rstrip()}\n\n`python {command}`; {machine(device)}.\n"
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, lambda path: Path(path).write_text(text, encoding="utf-8"))
        fill_marks([], [ROOT / "docs" / "performance.md"], ROOT)
