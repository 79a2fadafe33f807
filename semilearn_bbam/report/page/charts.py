"""The charts of a page: curves, precision and recall, histograms of scores and of angles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semilearn_bbam.report.figures.angles import LabelAngles
from semilearn_bbam.report.figures.style import DASHES
from semilearn_bbam.report.page.model import Chart
from semilearn_bbam.report.page.svg import INK, MUTED, NEGATIVE, POSITIVE, SERIES, page_style, to_svg

SIZE, NARROW = (4.3, 2.8), (3.4, 2.5)  # inches; the second for four charts in a row
BINS = 40
MAX_POINTS = 150  # of a curve
MARKED = 30  # points of a curve that has a marker at each
Series = Mapping[float, float]


def draw_course(
    series: Mapping[int, Sequence[Series]],
    title: str,
    prefix: str,
    *,
    caption: str = "",
    zero: bool = False,
    narrow: bool = False,
) -> Chart:
    """A value over the epochs of runs.

    Args:
        series: for the number of a run its lines, epoch -> value; of several the later ones are dashed.
        title: of the chart.
        prefix: of the identifiers in its SVG, unique on the page.
        caption: a sentence below the title.
        zero: whether a line marks 0.
        narrow: whether it is one of four in a row.

    Returns:
        The chart.
    """
    ends = []
    with page_style():
        figure, axis = _chart("epochs done", size=NARROW if narrow else SIZE)
        if zero:
            axis.axhline(0, color=MUTED, linewidth=0.9)
        for run, lines in series.items():
            for number, line in enumerate(lines):
                x, y = np.array(list(line)), np.array(list(line.values()), float)
                marker = "o" if len(x) <= MARKED and not number else ""
                axis.plot(x, y, marker=marker, markersize=3, **_line(run, DASHES[number]))
                word = f"{_name(run)}{', dashed,' if number else ''}"
                ends.append(f"{word} from {_number(y[0])} to {_number(y[-1])}, highest {_number(y.max())}")
        _legend_of_runs(axis, list(series))
        svg = to_svg(figure, prefix)
    return Chart(title, svg, f"Lines of {title} over epochs: {'; '.join(ends)}.", caption)


def draw_precision_recall(
    parts: Mapping[int, tuple[NDArray[Any], NDArray[Any]]], title: str, prefix: str, *, narrow: bool = False
) -> Chart:
    """Precision against recall, a line for each run.

    Args:
        parts: for the number of a run the scores [n] and targets [n] of the cells that count, at least one positive.
        title: of the chart.
        prefix: of the identifiers in its SVG.
        narrow: whether it is one of four in a row.

    Returns:
        The chart; its text has the average precisions.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    areas = []
    with page_style():
        figure, axis = _chart("recall", "precision", NARROW if narrow else SIZE)
        for run, (scores, targets) in parts.items():
            axis.plot(*_steps(*precision_recall_curve(targets, scores)[:2]), drawstyle="steps-pre", **_line(run))
            areas.append((run, float(average_precision_score(targets, scores)), float(np.mean(targets))))
        axis.axhline(areas[0][2], color=MUTED, linestyle=":", linewidth=1)
        axis.set(xlim=(0, 1), ylim=(0, 1.02))
        _legend_of_runs(axis, list(parts))
        svg = to_svg(figure, prefix)
    several = len(areas) > 1
    words = "AP " + ", ".join(f"{_letter(run)} {area:.3f}" if several else f"{area:.3f}" for run, area, _ in areas)
    shown = f"Precision against recall of {title}: {words}; {areas[0][2]:.1%} of the cells are positive."
    return Chart(title, svg, shown, f"{words}.")


def draw_scores(
    scores: NDArray[Any], targets: NDArray[Any], thresholds: Mapping[str, float], title: str, prefix: str
) -> Chart:
    """Histograms of the scores of a label's positives and negatives, with its thresholds.

    Args:
        scores: [n], of the rows whose label is known.
        targets: [n], 0 or 1.
        thresholds: protocol -> threshold; one above 1 is not drawn.
        title: of the chart.
        prefix: of the identifiers in its SVG.

    Returns:
        The chart.
    """
    drawn = {name: value for name, value in thresholds.items() if value <= 1}
    positive = np.asarray(targets) > 0
    with page_style():
        figure, axis = _chart("score", "share (%, square-root scale)")
        _two_histograms(axis, np.asarray(scores, float), positive, np.linspace(0, 1, BINS + 1))
        for number, (name, value) in enumerate(drawn.items()):
            axis.axvline(value, color=INK, linestyle=DASHES[number % len(DASHES)], linewidth=1.2, label=f"at {name}")
        axis.set(xlim=(0, 1))
        axis.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        top = axis.get_ylim()[1]
        axis.set_yticks([tick for tick in (0, 1, 5, 10, 20, 40, 60, 80, 100) if tick <= top])
        axis.set_ylim(0, top)
        _legend_above(axis, 2 + len(drawn))
        svg = to_svg(figure, prefix)
    lines = ", ".join(name if name == "0.5" else f"{name} {value:.3f}" for name, value in drawn.items())
    caption = f"{positive.sum():,} positives, {(~positive).sum():,} negatives. Thresholds: {lines}."
    medians = [
        f"median of the {word} {np.median(scores[mask]):.3f}"
        for word, mask in (("positives", positive), ("negatives", ~positive))
        if mask.any()
    ]
    return Chart(title, svg, f"Histograms of the scores of {title}: {'; '.join(medians)}. {caption}", caption)


def draw_angles(shown: LabelAngles, title: str, prefix: str, limits: tuple[float, float], word: str = "angle") -> Chart:
    """Histograms of a label's angles, of positives and of negatives, with their Gaussians.

    Args:
        shown: angles, targets and Gaussians.
        title: of the chart.
        prefix: of the identifiers in its SVG.
        limits: of the horizontal axis, in radians.
        word: what the horizontal axis is called.

    Returns:
        The chart; its caption has means, variances and VDFD = var_pos - var_neg (squared radians).
    """
    (mean_pos, var_pos), (mean_neg, var_neg) = shown.side(True), shown.side(False)
    with page_style():
        figure, axis = _chart(f"{word} (rad)", "density (1/rad)")
        edges = np.linspace(limits[0], limits[1] + 1e-3, BINS + 1)
        _two_histograms(axis, shown.angles.astype(float), shown.targets > 0, edges, density=True)
        x = np.linspace(edges[0], edges[-1], 120)
        for mean, variance, color, dash in ((mean_neg, var_neg, NEGATIVE, "--"), (mean_pos, var_pos, POSITIVE, "-")):
            if variance > 0:
                density = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
                axis.plot(x, density, color=color, linestyle=dash, linewidth=1.6)
        axis.set(xlim=limits)
        _legend_above(axis, 2)
        svg = to_svg(figure, prefix)
    values = f"positives: mean {mean_pos:.3f}, variance {var_pos:.4f}; negatives: mean {mean_neg:.3f}, "
    values += f"variance {var_neg:.4f}"
    if np.isfinite([var_pos, var_neg]).all():
        values += f"; VDFD {_signed(var_pos - var_neg)} rad²"
    return Chart(title, svg, f"Histograms of {word}s, {title}. {values}.", f"{values[0].upper()}{values[1:]}.")


def _chart(x: str, y: str = "", size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=x, ylabel=y)
    axis.grid(True, axis="y")
    axis.grid(False, axis="x")
    return figure, axis


def _line(run: int, dash: Any = "-") -> dict[str, Any]:
    return {"color": SERIES[run - 1], "linestyle": dash, "linewidth": 1.7, "label": "" if dash != "-" else _letter(run)}


def _steps(precision: NDArray[Any], recall: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Recall and precision of steps whose area is the average precision, but for points left out between others."""
    recall, first = np.unique(recall[::-1], return_index=True)  # where a recall is first reached
    precision = precision[::-1][first]
    precision[0] = precision[1]  # in place of the 1 at recall 0
    keep = np.unique(np.linspace(0, len(recall) - 1, MAX_POINTS).round().astype(int))
    return recall[keep], precision[keep]


def _letter(run: int) -> str:
    return chr(ord("A") + run - 1)


def _name(run: int) -> str:
    return f"run {_letter(run)}"


def _legend_of_runs(axis: Axes, runs: Sequence[int]) -> None:
    if len(runs) > 1:
        _legend_above(axis, len(runs))


def _legend_above(axis: Axes, columns: int) -> None:
    axis.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=min(columns, 4),
        handlelength=1.8,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _two_histograms(
    axis: Axes, values: NDArray[Any], positive: NDArray[Any], edges: NDArray[Any], *, density: bool = False
) -> None:
    """Negatives filled, positives as a line with a light filling: each differs in more than colour."""
    looks: tuple[tuple[str, NDArray[Any], dict[str, Any]], ...] = (
        ("negatives", ~positive, {"histtype": "stepfilled", "facecolor": NEGATIVE, "alpha": 0.35}),
        ("positives", positive, {"histtype": "step", "edgecolor": POSITIVE, "linewidth": 1.3}),
    )
    for word, mask, look in looks:
        selected = values[mask]
        weights = None if density else np.full(len(selected), 100 / max(len(selected), 1))
        if len(selected):
            axis.hist(selected, list(edges), weights=weights, density=density, label=word, **look)


def _signed(value: float) -> str:
    return "0" if abs(value) < 5e-5 else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def _number(value: float) -> str:
    return f"{value:.3g}"
