"""The best floor against the labelled share, and how far along it each method comes with fewer labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from semilearn_bbam.errors import FigureError
from semilearn_bbam.report.columns import contenders, metric_of
from semilearn_bbam.report.figures.names import METHOD_LONGEST, NamedFigure, verbatim
from semilearn_bbam.report.figures.style import Style, finish, grid, metric_words, save, seeds_words
from semilearn_bbam.report.headline import saved_tables
from semilearn_bbam.report.labels_saved import LabelsSaved, Point, factor_words
from semilearn_bbam.report.tables import PROTOCOLS, Run

FLOOR = "#777777"
MARGIN = 0.08  # at either side of the points, of their width
MAX_METHODS = 8  # more of them cannot be distinguished in one picture


@dataclass(frozen=True)
class Drawn:
    """A method of the picture: its printed name and its style."""

    name: str
    style: Style


def draw_labels_saved(tables: Sequence[LabelsSaved], methods: Mapping[str, Drawn], rows: Mapping[float, int]) -> Figure:
    """A panel per metric of one dataset: the floor's curve, and each method with a line to where the floor is as good.

    The number at the end of a line says how many times as many labels the floor needs; an arrow leaves the picture
    where the floor does not get there. The best method of a share alone has the number. methods: by their names in the
    tables; rows: labelled rows of each share. FigureError where none of these methods has a point.
    """
    points = [point for saved in tables for method in methods for point in saved.points.get(method, {}).values()]
    if not points:
        raise FigureError("no method has a labelled share to be compared with the floor")
    figure = NamedFigure(figsize=(5.4 * len(tables), 4.6), layout="constrained")
    drawn = {method: Drawn(verbatim(figure.shown(look.name, METHOD_LONGEST)), look.style)
             for method, look in methods.items()}  # fmt: skip
    for panel, saved in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        _draw_floor(panel, saved)
        shares = sorted({*saved.curve.shares, *(point.ratio for point in points)})
        panel.set_xscale("log")
        margin = (shares[-1] / shares[0]) ** MARGIN
        panel.set_xlim(shares[0] / margin, shares[-1] * margin)
        panel.margins(y=MARGIN)
        for method, look in drawn.items():
            _draw_method(panel, saved, method, look)
        ticks = _spaced(shares)
        panel.set_xticks(ticks, [f"{100 * share:g} %\n{rows[share]}" if share in rows else f"{100 * share:g} %"
                                 for share in ticks])  # fmt: skip
        panel.xaxis.set_minor_locator(NullLocator())
        metric = f"{PROTOCOLS[saved.protocol][0]}/{metric_of(saved.title).key}"
        panel.set(xlabel="labelled share of the training part, and rows", ylabel=metric_words(metric))
        grid(panel)
    first = tables[0]
    spread = "band: ± standard deviation of the floor" if len(first.seeds) > 1 else ""
    note = (
        f"{seeds_words(first.seeds, spread)}; a line leads from a method to where the best floor is as good, for the "
        "best method of a share with how many times as many labels that takes (>: more than the floor was given)"
    )
    return finish(figure, f"Labels saved on {figure.shown(first.dataset)}", [], note)


def write_labels_saved(
    results: Sequence[Run],
    folder: Path,
    *,
    floors: Collection[str],
    ceilings: Collection[str],
    methods: Collection[str],
    names: Mapping[str, str],
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write `<dataset>_labels_saved.png` and `.svg` of each dataset on which floors have a curve; returns the paths.

    methods: those that are drawn, floors and ceilings aside; of more than `MAX_METHODS` on a dataset the best in the
    first metric. `log` gets a line where methods are left out.
    """
    styles = {
        m: Style.of(i) for i, m in enumerate(dict.fromkeys(r["method"] for r in results if r["method"] in methods))
    }
    compared_methods = [method for method in styles if method not in {*floors, *ceilings}]
    tables: dict[str, list[LabelsSaved]] = {}
    for saved in saved_tables(results, floors, ceilings, compared_methods) if compared_methods else ():
        tables.setdefault(saved.dataset, []).append(saved)
    written = []
    for dataset, dataset_tables in tables.items():
        first = dataset_tables[0]
        ranked = sorted(first.points, key=first.mean, reverse=True)
        if ranked[MAX_METHODS:]:
            log(f"left out of labels saved of {dataset}: {', '.join(ranked[MAX_METHODS:])}")
        drawn = {method: Drawn(names.get(method, method), styles[method])
                 for method in styles if method in ranked[:MAX_METHODS]}  # fmt: skip
        rows = {run["grid_ratio"]: run["num_labels"] for run in contenders(results, ceilings)
                if run["grid_dataset"] == dataset}  # fmt: skip
        figure = draw_labels_saved(dataset_tables, drawn, rows)
        written += save(figure, folder / f"{dataset}_labels_saved")
    return written


def _draw_floor(panel: Axes, saved: LabelsSaved) -> None:
    curve = saved.curve
    means = curve.means
    panel.plot(curve.shares, means, color=FLOOR, marker="o", markersize=3, linewidth=2, label="best floor", zorder=1)
    if len(saved.seeds) > 1:
        deviations = curve.values.std(axis=0, ddof=1)
        panel.fill_between(curve.shares, means - deviations, means + deviations, color=FLOOR, alpha=0.2, linewidth=0)
    rising = np.maximum.accumulate(means)
    if (rising > means).any():  # what the lines lead to, where the measured curve dips
        panel.plot(curve.shares, rising, color=FLOOR, linestyle=":", linewidth=1, zorder=1)


def _draw_method(panel: Axes, saved: LabelsSaved, method: str, look: Drawn) -> None:
    points = saved.points.get(method, {})
    if not points:
        return
    style: dict[str, Any] = look.style.line | {"linestyle": "none"}
    panel.plot(list(points), [point.mean for point in points.values()], label=look.name, zorder=3, **style)
    left, right = panel.get_xlim()
    for ratio, point in points.items():
        end = right if math.isinf(point.share) else point.share or left
        beyond = end in (left, right)
        panel.annotate(
            "", (end, point.mean), (ratio, point.mean), zorder=2,
            arrowprops={"arrowstyle": "->" if beyond else "-|>", "color": look.style.color, "linewidth": 0.9,
                        "alpha": 0.8, "shrinkA": 3, "shrinkB": 0, "mutation_scale": 8},
        )  # fmt: skip
        if saved.is_best(method, ratio) and point.share > ratio:
            _write_factor(panel, saved, point, end, look)


def _write_factor(panel: Axes, saved: LabelsSaved, point: Point, end: float, look: Drawn) -> None:
    words = f"{factor_words(point.share, point.ratio, saved.curve)}x"
    # A line from the last share is too short for it, so that it ends where the line does.
    place, side = (end, "right") if point.ratio >= saved.curve.shares[-1] else (math.sqrt(point.ratio * end), "center")
    text = panel.annotate(words, (place, point.mean), (0, 2), textcoords="offset points", ha=side, va="bottom",
                          fontsize=8, color=look.style.color)  # fmt: skip
    text.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _spaced(shares: Sequence[float]) -> list[float]:
    """Those shares whose labels fit side by side, the first one and every next that is far enough to the right."""
    width = math.log(shares[-1] / shares[0]) / 8
    kept = [shares[0]]
    for share in shares[1:]:
        if math.log(share / kept[-1]) >= width:
            kept.append(share)
    return kept
