"""Tables and figures of simulated rounds of labelling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.report.figures.names import NamedFigure
from semilearn_bbam.report.figures.style import Style, finish, grid, save
from semilearn_bbam.util.files import write_atomically

YARDSTICK, FIRST = "random", "supervised_kernel"
NOTE = (
    "Test mAP in hundredths after each round, {method}, first rows: {start}. In brackets the difference from random "
    "choice on the same seeds, mean ± standard deviation; x: how many times as many random rows have that mAP, by the "
    "mean curve of random choice (>: more than it has, which ends at {end:g} %)."
)


class Point(NamedTuple):
    """The test mAP after one round: `share` of the training rows, `labels` of them, are labelled."""

    dataset: str
    method: str
    start: str
    strategy: str
    seed: int
    share: float
    labels: int
    mAP: float

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Point:
        """The point of a line of the CSV."""
        names = (row["dataset"], row["method"], row["start"], row["strategy"])
        return cls(*names, int(row["seed"]), float(row["share"]), int(row["labels"]), float(row["mAP"]))


Curves = dict[str, dict[int, dict[float, float]]]  # strategy -> seed -> share -> mAP


def write_simulated(points: Sequence[Point], folder: Path) -> list[Path]:
    """Write `summary.md` with a table per dataset, method and start, and a figure per method and start."""
    groups: dict[tuple[str, str], dict[str, Curves]] = {}
    for point in sorted(points):
        curves = groups.setdefault((point.method, point.start), {}).setdefault(point.dataset, {})
        curves.setdefault(point.strategy, {}).setdefault(point.seed, {})[point.share] = point.mAP
    tables, written = [], []
    for method, start in sorted(groups, key=lambda group: (group[0] != FIRST, group[0], group[1] != YARDSTICK)):
        datasets = groups[method, start]
        for dataset, curves in datasets.items():
            tables.append(table(dataset, method, start, curves))
        figure = draw_rounds(datasets, method, start)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        written += save(figure, folder / "figures" / f"{method}_{start}")
    text = "\n\n".join(tables) + "\n"
    write_atomically(folder / "summary.md", lambda path: path.write_text(text, encoding="utf-8"))
    return [folder / "summary.md", *written]


def table(dataset: str, method: str, start: str, curves: Curves) -> str:
    """A Markdown table: a row per strategy, the best mean of the last share first."""
    shares = common_shares(curves)
    yardstick = curves[YARDSTICK]
    reached = common_shares({YARDSTICK: yardstick})
    mean = {share: float(np.mean([seed[share] for seed in yardstick.values()])) for share in reached}
    note = NOTE.format(method=method, start=start, end=100 * max(mean))
    head = f"| {dataset} | seeds | {' | '.join(f'{100 * share:g} %' for share in shares)} |"
    lines = [note, "", head, "| --- " * (len(shares) + 2) + "|"]
    order = sorted(curves, key=lambda name: -np.mean([[seed[s] for s in shares[1:]] for seed in curves[name].values()]))
    for name in order:
        cells = [_cell(curves[name], yardstick, mean, share, name, first=share == shares[0]) for share in shares]
        lines.append(f"| {name} | {len(curves[name])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def common_shares(curves: Curves) -> list[float]:
    """The labelled shares that every strategy has."""
    return sorted(set.intersection(*(set(seed) for seeds in curves.values() for seed in seeds.values())))


def labels_saved(value: float, share: float, mean: Mapping[float, float]) -> float:
    """How many times as many random rows have this mAP, by a curve of means; inf beyond its end.

    The curve joins its means by lines over the logarithm of the share; where it dips, what is as good with fewer labels
    counts. Below the first mean the factor is that of the first share.

    Example:
        >>> round(labels_saved(0.5, 0.01, {0.01: 0.4, 0.02: 0.5, 0.04: 0.6}), 3)
        2.0
    """
    shares = np.array(sorted(mean))
    rising = np.maximum.accumulate(np.array([mean[s] for s in shares]))
    if value > rising[-1]:
        return math.inf
    end = max(1, int(np.searchsorted(rising, value)))
    low, high = rising[end - 1], rising[end]
    part = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 1.0
    logs: NDArray[np.float64] = np.log(shares)
    return float(np.exp(logs[end - 1] + part * (logs[end] - logs[end - 1])) / share)


def _cell(
    seeds: Mapping[int, Mapping[float, float]],
    yardstick: Mapping[int, Mapping[float, float]],
    mean: Mapping[float, float],
    share: float,
    name: str,
    *,
    first: bool,
) -> str:
    values = np.array([seed[share] for seed in seeds.values()])
    words = f"{100 * values.mean():.1f}"
    if first or name == YARDSTICK:
        return words
    both = sorted(seeds.keys() & yardstick.keys())
    differences = np.array([100 * (seeds[seed][share] - yardstick[seed][share]) for seed in both])
    spread = f" ± {differences.std(ddof=1):.1f}" if len(both) > 1 else ""
    same = {s: float(np.mean([yardstick[seed][s] for seed in both])) for s in mean}
    factor = labels_saved(float(np.mean([seeds[seed][share] for seed in both])), share, same)
    saved = f"> {max(mean) / share:.1f}" if math.isinf(factor) else f"{factor:.1f}"
    return f"{words} ({differences.mean():+.1f}{spread}), {saved}x"


def draw_rounds(datasets: Mapping[str, Curves], method: str, start: str) -> NamedFigure:
    """A panel per dataset: mean and spread of the test mAP against the labelled share, a line per strategy."""
    figure = NamedFigure(figsize=(4.6 * max(len(datasets), 2), 5.0), layout="constrained")
    names = list(dict.fromkeys(name for curves in datasets.values() for name in sorted(curves, key=_rank)))
    styles = {name: Style.of(number) for number, name in enumerate(sorted(names, key=_rank))}
    axes = figure.subplots(1, len(datasets), squeeze=False)[0]
    for axis, (dataset, curves) in zip(axes, datasets.items(), strict=True):
        shares = common_shares(curves)
        for number, (name, style) in enumerate((n, s) for n, s in styles.items() if n in curves):
            values = np.array([[seed[share] for share in shares] for seed in curves[name].values()])
            offset = 0.0004 * (number - len(curves) / 2)  # so that bars next to each other can be read
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
            axis.errorbar(
                100 * (np.array(shares) + offset), values.mean(0), spread, label=name, elinewidth=0.6, **style.line
            )
        axis.set(title=dataset, xlabel="labelled share of the training part in %", ylabel="test mAP")
        axis.set_xticks([100 * share for share in shares])
        grid(axis)
    counts = sorted({len(seeds) for curves in datasets.values() for seeds in curves.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    note = f"mean over {seeds} seeds, bar: ± standard deviation; first rows: {start}"
    finish(figure, f"What is labelled next, {method}", [], note)
    return figure


def _rank(name: str) -> tuple[bool, bool, str]:
    return name != YARDSTICK, name != "gaps", name
