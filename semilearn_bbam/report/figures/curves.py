"""The course of runs: learning curves, and the angle variances of positives and negatives (VDFD)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semilearn_bbam.report.figures.names import METHOD_LONGEST, NamedFigure, verbatim
from semilearn_bbam.report.figures.runs import Method, comparable
from semilearn_bbam.report.figures.style import finish, grid, metric_words, seeds_words, setting_words
from semilearn_bbam.report.variances import READINGS
from semilearn_bbam.runs.reader import Run

BAND = "band: least to greatest"


def has_metric(metric: str) -> Callable[[Run], bool]:
    """Whether a run was evaluated during training."""
    return lambda run: bool(run.series("it", metric))


def has_vdfd(run: Run) -> bool:
    """Whether a run logged its angle variances."""
    return bool(run.series("epoch", "vdfd_true"))


def draw_learning_curves(methods: Sequence[Method], metrics: Sequence[str] = ("test/mAP",)) -> Figure:
    """Metrics such as `test/mAP` per optimiser step, a panel each, of the EMA model during training.

    A line is the mean over the seeds that all methods have, its band goes from the least to the greatest of them. The
    curves show the course of a run; no choice is made by them. FigureError where no run was evaluated, or the runs are
    of several settings.
    """
    compared, seeds = comparable(methods, f"rows with {metrics[0]}", has_metric(metrics[0]))
    figure = NamedFigure(figsize=(5.4 * len(metrics), 4.2), layout="constrained")
    for panel, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, method in enumerate(compared):
            label = verbatim(figure.shown(method.title, METHOD_LONGEST))
            _line(panel, method, number, label, partial(Run.series, column="it", key=metric))
        panel.set(xlabel="optimiser steps", ylabel=metric_words(metric))
        grid(panel)
    title = f"Learning curves on {figure.shown(setting_words(compared[0].runs[0].setting))}"
    return finish(figure, title, compared, f"EMA model; {seeds_words(seeds, BAND)}")


def draw_vdfd(methods: Sequence[Method]) -> Figure:
    """VDFD per epoch: variance of the label angles of positives less that of negatives, the mean over labels.

    Left with the true labels of labelled and unlabelled rows (supervised), right with labels and pseudo-labels
    (semi-supervised), where a method has any; below, the ratio M of the two variances, which does not depend on how
    wide the angles are spread. Lines and bands as in `draw_learning_curves`; a dotted line marks the end of a warm-up
    that all share. FigureError where no run logged its variances, or the runs are of several settings.
    """
    compared, seeds = comparable(methods, "rows of angle variances (train with --report_figures true)", has_vdfd)
    readings = [
        name for name in READINGS if any(run.series("epoch", f"vdfd_{name}") for m in compared for run in m.runs)
    ]
    figure = NamedFigure(figsize=(5.4 * len(readings), 7.0), layout="constrained")
    panels = figure.subplots(2, len(readings), squeeze=False, sharex=True, sharey="row")
    warmups = {run.settings.get("warmup_epochs", 0) for method in compared for run in method.runs}
    for column, reading in enumerate(readings):
        for number, method in enumerate(compared):
            label = verbatim(figure.shown(method.title, METHOD_LONGEST))
            for row, series in enumerate((_vdfd, _ratio)):
                _line(panels[row, column], method, number, label, partial(series, reading=reading))
        panels[0, column].set_title(READINGS[reading], fontsize=10)
        panels[0, column].axhline(0, color="black", linewidth=0.8)
        panels[1, column].axhline(1, color="black", linewidth=0.8)
        panels[1, column].set(xlabel="epochs done")
        for panel in panels[:, column]:
            grid(panel)
            if len(warmups) == 1 and (end := warmups.copy().pop()):
                panel.axvline(end, color="grey", linestyle=":", linewidth=1)
    panels[0, 0].set(ylabel=r"VDFD  $\sigma_p^2 - \sigma_n^2$  (rad$^2$)")
    panels[1, 0].set(ylabel=r"variance ratio  $M = \sigma_p^2 / \sigma_n^2$")
    title = f"Variances of label angles on {figure.shown(setting_words(compared[0].runs[0].setting))}"
    note = f"EMA model, mean over labels; {seeds_words(seeds, BAND)}"
    if len(warmups) == 1 and max(warmups):
        note += "; dotted: end of the warm-up"
    return finish(figure, title, compared, note)


def _vdfd(run: Run, reading: str) -> dict[float, float]:
    return run.series("epoch", f"vdfd_{reading}")


def _ratio(run: Run, reading: str) -> dict[float, float]:
    positive, negative = (run.series("epoch", f"var_{side}_{reading}") for side in ("pos", "neg"))
    return {epoch: value / negative[epoch] for epoch, value in positive.items() if negative.get(epoch)}


def _line(panel: Axes, method: Method, number: int, label: str, series: Callable[[Run], dict[float, float]]) -> None:
    """Mean over the runs of a method where all of them have a value, with the band from the least to the greatest."""
    curves = [series(run) for run in method.runs]
    steps = [step for step in curves[0] if all(step in values for values in curves)]
    if not steps:
        return
    values = np.array([[curve[step] for step in steps] for curve in curves])
    # A marker on some points only, and on others for each method, so that they do not hide one another.
    every = max(1, len(steps) // 8)
    options: dict[str, Any] = {**method.style.line, "markevery": (number % every, every)}
    panel.plot(steps, values.mean(axis=0), label=label, **options)
    if len(curves) > 1:
        panel.fill_between(
            steps, values.min(axis=0), values.max(axis=0), color=method.style.color, alpha=0.15, linewidth=0
        )
