"""How far each method goes from the best method with labelled rows alone to the best one with all labels."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from semilearn_bbam.report.columns import (
    HEADLINE,
    Place,
    best_of,
    columns,
    compared,
    contenders,
    heading,
    metric_of,
    place_words,
)
from semilearn_bbam.report.render import short, to_rows
from semilearn_bbam.report.tables import Metric, Run, validation_note


@dataclass(frozen=True)
class Gap:
    """A column: its best floor and best ceiling, their means over the seeds, and what each other method closes."""

    floor: str
    ceiling: str
    floor_mean: float
    ceiling_mean: float
    closed: Mapping[str, tuple[float, ...]]


def gap_closed(
    column: Mapping[str, Mapping[int, float]], metric: Metric, floors: Collection[str], ceilings: Collection[str]
) -> Gap | None:
    """Share of the way from the best floor to the best ceiling that each method goes, per seed.

        gap = (method - floor) / (ceiling - floor)

    each on the same seed's split; the floor and the ceiling are those with the best mean over the seeds. column: values
    by method and seed. 0 is as good as the best floor, 1 as good as all labels; a seed that lacks either end, or on
    which the ceiling is no better than the floor, is left out. None for a column without a floor or a ceiling.
    """
    floor, ceiling = best_of(floors, column, metric), best_of(ceilings, column, metric)
    if floor is None or ceiling is None:
        return None
    low, high = column[floor], column[ceiling]
    seeds = [seed for seed in low if seed in high and metric.better(high[seed], low[seed])]
    closed = {
        method: tuple((values[seed] - low[seed]) / (high[seed] - low[seed]) for seed in seeds if seed in values)
        for method, values in column.items()
        if method not in ceilings
    }
    means = (statistics.mean(low.values()), statistics.mean(high.values()))
    return Gap(floor, ceiling, *means, {method: values for method, values in closed.items() if values})


def gap_text(
    results: Sequence[Run], floors: Collection[str], ceilings: Collection[str], names: Mapping[str, str]
) -> str:
    """The gap as Markdown, a table per metric of the headline: how far each method comes, in percent."""
    metrics = {heading(title, protocol): (metric_of(title), protocol) for title, protocol in HEADLINE}
    runs = compared(results, floors, ceilings)
    runs = [*contenders(runs, ceilings), *(run for run in runs if run["method"] in ceilings)]
    tables = []
    for title, (metric, protocol) in metrics.items():
        gaps = {place: gap_closed(column, metric, floors, ceilings)
                for place, column in columns(runs, metric, protocol).items()}  # fmt: skip
        tables.append(_table(title, {place: gap for place, gap in gaps.items() if gap}, names))
    caption = (
        "Gap closed, in percent: (method - floor) / (ceiling - floor) of the same seed, mean and standard deviation "
        "over the seeds that all methods of the table have. Floor and ceiling are in each column the methods with the "
        f"best mean of those that train on the labelled rows alone ({_listed(floors, names)}) and of those that have "
        f"the labels of all rows ({_listed(ceilings, names)}). 0: as good as the best floor, below 0: a loss, 100: as "
        "good as with all labels. Bold: highest mean of a column. Other methods to which hidden labels were given away "
        f"are left out. {validation_note(results)}"
    )
    return "\n\n".join([caption.strip(), *tables]) + "\n"


def _table(title: str, gaps: Mapping[Place, Gap], names: Mapping[str, str]) -> str:
    means = {place: {m: statistics.mean(values) for m, values in gap.closed.items()} for place, gap in gaps.items()}
    methods = dict.fromkeys(method for gap in gaps.values() for method in gap.closed)
    average = {m: statistics.mean(column[m] for column in means.values() if m in column) for m in methods}
    lines = [
        [title, "seeds", *map(place_words, gaps)],
        ["best floor", "", *(f"{names.get(gap.floor, gap.floor)} {short(gap.floor_mean)}" for gap in gaps.values())],
        ["best ceiling", "", *(f"{names.get(gap.ceiling, gap.ceiling)} {short(gap.ceiling_mean)}"
                               for gap in gaps.values())],
    ]  # fmt: skip
    for method in sorted(methods, key=lambda m: -average[m]):
        seeds = sorted({len(gap.closed[method]) for gap in gaps.values() if method in gap.closed})
        cells = [_cell(method, gap, means[place]) for place, gap in gaps.items()]
        lines.append([names.get(method, method), "-".join(map(str, seeds)), *cells])
    return to_rows(lines)


def _cell(method: str, gap: Gap, means: Mapping[str, float]) -> str:
    if method not in gap.closed:
        return "-"
    best = means[method] == max(means.values())
    if method == gap.floor:
        return "**floor**" if best else "floor"
    values = [100 * value for value in gap.closed[method]]
    mean = f"{statistics.mean(values):.0f}"
    spread = f" ± {statistics.stdev(values):.0f}" if len(values) > 1 else ""
    return (f"**{mean}**" if best else mean) + spread


def _listed(methods: Collection[str], names: Mapping[str, str]) -> str:
    return ", ".join(names.get(method, method) for method in methods)
