"""The final scores on the test set by label: average precision, and precision against recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from semilearn_bbam.errors import FigureError
from semilearn_bbam.metrics import average_precision_per_label
from semilearn_bbam.report.figures.angles import has_arrays, label_number
from semilearn_bbam.report.figures.names import METHOD_LONGEST, NamedFigure, verbatim
from semilearn_bbam.report.figures.runs import Method, comparable
from semilearn_bbam.report.figures.style import finish, grid, seeds_words, setting_words
from semilearn_bbam.runs.reader import Run

TICK_LONGEST = 36  # characters of a label below its column
NEEDED = "scores (train with --report_figures true)"


def label_shares(run: Run) -> NDArray[np.float64]:
    """Share of positives of each label [K] among all training rows whose labels are known."""
    arrays = run.arrays
    targets, rows = arrays["targets"], arrays["known"]
    if "known_cells" in arrays:
        known = arrays["known_cells"]
        partly: NDArray[np.float64] = (targets * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return partly
    shares: NDArray[np.float64] = targets[rows].mean(axis=0, dtype=np.float64)
    return shares


def _comparable(methods: Sequence[Method]) -> tuple[list[Method], list[int]]:
    """As `comparable`, of runs with the same labels in the same order; FigureError for others."""
    compared, seeds = comparable(methods, NEEDED, has_arrays)
    if len({tuple(run.arrays["label_names"].tolist()) for method in compared for run in method.runs}) > 1:
        raise FigureError("the runs have different sets of labels; give those of one")
    return compared, seeds


def draw_label_ap(methods: Sequence[Method]) -> Figure:
    """Average precision of each label on the test set, labels from the most to the least frequent.

    Markers are means over the seeds that all methods have, bars go from the least to the greatest; below, each label's
    share of positives in the training part. A label without test positives has no average precision and no marker.
    FigureError where no run kept its scores, or the runs are of several settings.
    """
    compared, seeds = _comparable(methods)
    first = compared[0].runs[0]
    names, shares = first.arrays["label_names"].tolist(), label_shares(first)
    order = np.argsort(-shares, kind="stable")
    width = (0.12 + 0.045 * len(compared)) * len(names) + 1.2
    letters = min(max(map(len, names)), TICK_LONGEST)
    height = 6.0 + 0.07 * max(0, letters - 20)
    figure = NamedFigure(figsize=(max(6.4, width), height), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    places = np.arange(len(names))
    for number, method in enumerate(compared):
        values = np.array([average_precision_per_label(*_scores(run)) for run in method.runs])[:, order]
        middle = values.mean(axis=0)
        # Side by side within the width of a label.
        shift = 0.7 * ((number + 0.5) / len(compared) - 0.5)
        ends = np.stack([middle - values.min(axis=0), values.max(axis=0) - middle])
        bars = ends.clip(min=0) if len(seeds) > 1 else None  # the mean of equal numbers may be a last digit off
        look: dict[str, Any] = {**method.style.line, "linestyle": "none"}
        top.errorbar(
            places + shift,
            middle,
            yerr=bars,
            elinewidth=0.9,
            label=verbatim(figure.shown(method.title, METHOD_LONGEST)),
            **look,
        )
    for border in places[:-1] + 0.5:
        top.axvline(border, color="0.9", linewidth=0.5)
    top.set(ylabel="average precision, test", ylim=(0, 1.02))
    bottom.bar(places, 100 * shares[order], color="0.75", edgecolor="black", linewidth=0.5)
    bottom.set(ylabel="positives in\ntraining part (%)", xlim=(-0.6, len(names) - 0.4))
    bottom.set_xticks(places, [verbatim(figure.shown(names[k], TICK_LONGEST)) for k in order], rotation=90)
    for axis in (top, bottom):
        axis.grid(axis="y", alpha=0.3, linewidth=0.6)
        axis.tick_params(labelsize=8)
    note = f"final EMA model; {seeds_words(seeds, 'bar: least to greatest')}"
    title = f"Average precision per label on {figure.shown(setting_words(first.setting))}"
    return finish(figure, title, compared, note)


def draw_precision_recall(methods: Sequence[Method], labels: Sequence[str] = ()) -> Figure:
    """Precision against recall on the test set: all entries together (micro-averaged), and single labels.

    labels: their names; the most frequent, the middle and the rarest with test positives by default. Curves
    are those of the first seed that all methods have, with their average precision; a dotted line is guessing.
    A label without test positives has no curve. FigureError where no run kept its scores, a label does not exist, or
    the runs are of several settings.
    """
    compared, seeds = _comparable(methods)
    compared = [method.only(lambda run: run.seed == seeds[0]) for method in compared]
    first = compared[0].runs[0]
    names = first.arrays["label_names"].tolist()
    columns = [label_number(first, label) for label in labels] or _typical(first)
    figure = NamedFigure(figsize=(3.9 * (1 + len(columns)), 5.0), layout="constrained")
    panels = figure.subplots(1, 1 + len(columns), squeeze=False, sharex=True, sharey=True)[0]
    for panel, column in zip(panels, [None, *columns], strict=True):
        for number, method in enumerate(compared):
            scores, targets, known = _scores(method.runs[0])
            labels_shown = slice(None) if column is None else column
            cells = known[:, labels_shown]
            look: dict[str, Any] = {**method.style.line, "markersize": 4, "markevery": (0.03 * number, 0.15)}
            look["label"] = verbatim(figure.shown(method.title, METHOD_LONGEST))
            _curve(panel, number, scores[:, labels_shown][cells], targets[:, labels_shown][cells], look)
        title = "all labels, micro-averaged" if column is None else f"label '{figure.shown(names[column], 30)}'"
        panel.set_title(verbatim(title), fontsize=10)
        panel.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        grid(panel)
        panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), handlelength=4)
    panels[0].set(ylabel="precision")
    title = f"Precision and recall on {figure.shown(setting_words(first.setting))}"
    note = f"test set, final EMA model, seed {seeds[0]}; AP: average precision; dotted grey: share of positives"
    return finish(figure, title, compared, note, legend=False)


def _scores(run: Run) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Scores and targets of the test set [M,K], and which of its labels are known."""
    targets = run.arrays["test_targets"]
    known = run.arrays["test_known"] if "test_known" in run.arrays else np.ones(targets.shape, dtype=bool)
    return run.arrays["test_scores"], targets, known


def _typical(run: Run) -> list[int]:
    """The most frequent, the middle and the rarest label of those with test positives."""
    present = np.flatnonzero(run.arrays["test_targets"].any(axis=0))
    ordered = present[np.argsort(-label_shares(run)[present], kind="stable")]
    return list(dict.fromkeys(int(ordered[place]) for place in (0, len(ordered) // 2, -1))) if len(ordered) else []


def _curve(
    panel: Axes, number: int, scores: NDArray[np.float32], targets: NDArray[np.uint8], look: dict[str, Any]
) -> None:
    if not targets.any():
        return
    precision, recall, _ = precision_recall_curve(targets, scores)
    area = average_precision_score(targets, scores)
    look = look | {"label": f"{look['label']}, AP {area:.3f}"}
    panel.plot(recall, precision, drawstyle="steps-post", **look)
    if not number:
        panel.axhline(float(targets.mean()), color="grey", linestyle=":", linewidth=1)
