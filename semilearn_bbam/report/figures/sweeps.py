"""Final metrics against what was varied between runs: the labelled share, or an option of a method."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semilearn_bbam.errors import FigureError
from semilearn_bbam.report.figures.names import METHOD_LONGEST, NamedFigure, verbatim
from semilearn_bbam.report.figures.runs import (
    Method,
    common_seeds,
    comparable,
    differing_options,
    having,
    plain,
    settings_of,
)
from semilearn_bbam.report.figures.style import (
    Style,
    finish,
    grid,
    metric_words,
    seeds_words,
    setting_words,
)
from semilearn_bbam.runs.reader import Run

METRICS = ("test/mAP", "test/macro_f1")
DEVIATION = "bar: ± standard deviation"


def has_results(run: Run) -> bool:
    """Whether a run has ended."""
    return bool(run.results)


def draw_ratios(methods: Sequence[Method], metrics: Sequence[str] = METRICS) -> Figure:
    """Final metrics against the labelled share, a panel each: means over the seeds that all have, and deviations.

    FigureError where no run has ended, the runs are of several datasets, or all have the same labelled share.
    """
    compared = having(methods, has_results)
    data = sorted({setting[0] for setting in settings_of(compared)})
    if len(data) > 1:
        raise FigureError(f"the runs are of several datasets ({', '.join(data)}); give those of one")
    shares = sorted({run.share for method in compared for run in method.runs})
    if len(shares) < 2:
        raise FigureError("all runs have the same labelled share")
    compared, seeds = common_seeds(compared)
    figure = NamedFigure(figsize=(4.8 * len(metrics), 4.4), layout="constrained")
    gap = min(b - a for a, b in zip(shares, shares[1:], strict=False))
    for panel, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, method in enumerate(compared):
            values: dict[float, list[float]] = {}
            for run in sorted(method.runs, key=lambda run: run.share):
                values.setdefault(run.share, []).append(run.value(metric))
            # Side by side, so that bars do not hide one another.
            shift = 0.15 * gap * ((number + 0.5) / len(compared) - 0.5)
            _bars(
                panel,
                {share + shift: metric_values for share, metric_values in values.items()},
                method.style,
                verbatim(figure.shown(method.title, METHOD_LONGEST)),
            )
        panel.set(xlabel="labelled share of the training part (%)", ylabel=metric_words(metric))
        panel.set_xticks(shares, [f"{share:g}" for share in shares])
        grid(panel)
    note = f"final EMA model; {seeds_words(seeds, DEVIATION)}; points are moved sideways to be seen"
    return finish(figure, f"Labelled share on {figure.shown(data[0])}", compared, note)


def draw_sensitivity(methods: Sequence[Method], metrics: Sequence[str] = METRICS) -> Figure:
    """Final metrics of one algorithm against its options, a column of panels for each option that was varied.

    The runs' own `config.yaml` says what was varied. A panel holds the runs that agree with the base in everything but
    its option; the base, the settings from which most others differ in one option alone, is in every panel. Points are
    means over the seeds that all these runs have, bars standard deviations. FigureError where no run has ended, the
    runs are of several settings or algorithms, or no number was varied.
    """
    compared = having(methods, has_results)
    runs = [run for method in compared for run in method.runs]
    algorithms = sorted({run.algorithm for run in runs})
    if len(algorithms) > 1:
        raise FigureError(f"the runs are of several algorithms ({', '.join(algorithms)}); give those of one")
    columns, base = sweeps(runs)
    if not columns:
        raise FigureError("no run differs from another of its algorithm in one option that is a number")
    used = {run for column in columns.values() for group in column.values() for run in group}
    compared, seeds = comparable(having(compared, used.__contains__), "results", has_results)
    figure = NamedFigure(figsize=(max(4.2, 3.6 * len(columns)), 3.0 * len(metrics) + 0.8), layout="constrained")
    panels = figure.subplots(len(metrics), len(columns), squeeze=False, sharex="col", sharey="row")
    for row, metric in enumerate(metrics):
        for panel, (option, column) in zip(panels[row], columns.items(), strict=True):
            values = {x: [run.value(metric) for run in group if run.seed in seeds] for x, group in column.items()}
            _bars(panel, values, Style.of(0))
            _ticks(panel, list(values))
            grid(panel)
            panel.axvline(float(base[option]), color="grey", linestyle=":", linewidth=1)
        panels[row, 0].set(ylabel=metric_words(metric))
    for panel, option in zip(panels[-1], columns, strict=True):
        panel.set(xlabel=verbatim(option))
    first = compared[0].runs[0]
    fixed = ", ".join(f"{option} {plain(base[option])}" for option in columns)
    note = f"dotted: the base ({fixed}); final EMA model; {seeds_words(seeds, DEVIATION)}"
    title = f"Sensitivity of {first.algorithm} on {figure.shown(setting_words(first.setting))}"
    return finish(figure, title, [], note, legend=False)


def sweeps(runs: Sequence[Run]) -> tuple[dict[str, dict[float, list[Run]]], Mapping[str, Any]]:
    """Runs by the value of each number that was varied alone, and the settings of the base.

    The base is the variant from which most others differ in at most one option; of several such, the first.
    """
    options = differing_options(runs)
    variants: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        variants.setdefault(tuple(str(run.settings.get(option)) for option in options), []).append(run)

    def apart(first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
        return [option for option, a, b in zip(options, first, second, strict=True) if a != b]

    if not variants:
        return {}, {}
    center = max(variants, key=lambda first: sum(len(apart(first, other)) <= 1 for other in variants))
    base = variants[center][0].settings
    groups: dict[str, dict[float, list[Run]]] = {}
    for option in options:
        groups[option] = {}
        near = [group for key, group in variants.items() if not {*apart(center, key)} - {option}]
        for group in near:
            value = group[0].settings.get(option)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                groups[option][float(value)] = group
    groups = {option: dict(sorted(column.items())) for option, column in groups.items() if len(column) > 1}
    return groups, base


def _bars(panel: Axes, values: Mapping[float, Sequence[float]], style: Style, label: str | None = None) -> None:
    """Means with standard deviations of the sample; a point without a bar where there is one value only."""
    means = [statistics.mean(group) for group in values.values()]
    spread = [statistics.stdev(group) if len(group) > 1 else 0.0 for group in values.values()]
    bars = spread if any(spread) else None
    look: dict[str, Any] = style.line
    panel.errorbar(list(values), means, yerr=bars, label=label, capsize=3, elinewidth=1, **look)


def _ticks(panel: Axes, values: Sequence[float]) -> None:
    """A tick at each tested value; a logarithmic axis where they span more than a decade."""
    if min(values) > 0 and max(values) / min(values) >= 10:
        panel.set_xscale("log")
    panel.set_xticks(list(values), [f"{value:g}" for value in values])
    panel.minorticks_off()
